"""IQL against updates in NumPy float64 with gradients by hand, and what it finds in a dataset."""

import functools
from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.iql import IQL, IQLConfig, iql, iql_agent, make_networks
from jaxrl.algos.td3 import make_networks as twin_networks
from jaxrl.algos.td3_bc import TD3BC, TD3BCConfig, td3_bc_agent
from jaxrl.envs import registry
from jaxrl.errors import JaxrlError
from jaxrl.nn.q_networks import Critic
from jaxrl.types import View
from tests.algos.offline import (
    BANDIT,
    BETTER,
    SMALL,
    acted,
    assert_same_bits,
    reaching,
    run,
    two_actions,
)
from tests.algos.reach import CHEAP, Reach, a_batch, first, forward, layers, numpy64

LEARNS = SMALL | {"total_updates": 2000, "updates_per_iteration": 1000, "batch_size": 64}
LEARNS |= {"learning_rate": 1e-2, "critic_learning_rate": 3e-3}
# Weights that reach their maximum in some rows, and steps of three different lengths.
TRIED = {"inverse_temperature": 4.0, "maximum_weight": 5.0, "total_updates": 4, "expectile": 0.8}
TRIED |= {"tau": 0.1, "learning_rate": 1e-3, "critic_learning_rate": 2e-3, "num_critics": 2}


class Adam:
    """Kingma & Ba's algorithm 1 on a list of arrays, in place."""

    def __init__(self, arrays):
        self.arrays, self.time = arrays, 0
        self.mean = [np.zeros_like(array) for array in arrays]
        self.square = [np.zeros_like(array) for array in arrays]

    def descend(self, gradients, rate):
        self.time += 1
        for array, m, v, gradient in zip(
            self.arrays, self.mean, self.square, gradients, strict=True
        ):
            m += 0.1 * (gradient - m)
            v += 0.001 * (gradient**2 - v)
            hat = np.sqrt(v / (1 - 0.999**self.time))
            array -= rate * m / (1 - 0.9**self.time) / (hat + 1e-8)


def flat(network):
    """The arrays of a network, layer after layer."""
    return [array for pair in network for array in pair]


def backward(network, x, of_output):
    """Gradients by the arrays of a network of ReLU layers, of a loss whose slope by the output
    is `of_output`."""
    inputs = [x]
    for w, b in network[:-1]:
        inputs.append(np.maximum(inputs[-1] @ w + b, 0.0))
    found = []
    for (w, _), given in zip(reversed(network), reversed(inputs), strict=True):
        found += [of_output.sum(0), given.T @ of_output]
        of_output = (of_output @ w.T) * (given > 0)
    return found[::-1]


def actor_layers(actor):
    """The layers of the actor, without its standard deviation."""
    return layers({"params": {"QLayers_0": actor["params"]["QLayers_0"]}})


class InNumPy:
    """IQL as the paper has it, on float64 arrays."""

    def __init__(self, learner):
        policy = learner.policy
        self.value, self.actor = layers(policy.value), actor_layers(policy.actor)
        self.log_std = np.asarray(policy.actor["params"]["log_std"], np.float64)
        self.critics = [layers(first(policy.critic, index)) for index in range(2)]
        self.targets = [layers(first(learner.target_critic, index)) for index in range(2)]
        self.of_value = Adam(flat(self.value))
        self.of_actor = Adam([*flat(self.actor), self.log_std])
        self.of_critics = [Adam(flat(critic)) for critic in self.critics]

    def update(self, rows, share):
        """One gradient step of everything; `share` is what is left of the actor's step size."""
        rate, size = 2e-3, len(rows.reward)
        pairs = np.concatenate([rows.observation, rows.action], 1)
        q = np.minimum(*(forward(target, pairs)[:, 0] for target in self.targets))
        error = q - forward(self.value, rows.observation)[:, 0]
        weight = np.where(error < 0, 0.2, 0.8)
        of_value = (-2 * weight * error / size)[:, None]
        self.of_value.descend(backward(self.value, rows.observation, of_value), rate)

        advantage = q - forward(self.value, rows.observation)[:, 0]
        weight = np.minimum(np.exp(4.0 * advantage), 5.0)[:, None]
        mean, std = np.tanh(forward(self.actor, rows.observation)), np.exp(self.log_std)
        z = (rows.action - mean) / std
        of_mean = -weight * z / std * (1 - mean**2) / size
        gradients = backward(self.actor, rows.observation, of_mean)
        of_std = -(weight * (z**2 - 1)).sum(0) / size
        self.of_actor.descend([*gradients, of_std], 1e-3 * share)

        goal = rows.reward + rows.discount * forward(self.value, rows.next_observation)[:, 0]
        for critic, adam in zip(self.critics, self.of_critics, strict=True):
            of_q = 2 * (forward(critic, pairs)[:, 0] - goal)[:, None] / size
            adam.descend(backward(critic, pairs, of_q), rate)
        for target, critic in zip(self.targets, self.critics, strict=True):
            for old, new in zip(flat(target), flat(critic), strict=True):
                old += 0.1 * (new - old)
        return np.mean(weight == 5.0)


def made(**settings):
    """(rules, learner before its first gradient step), with target critics of their own."""
    config = IQLConfig(**SMALL | settings)
    rules, agent = IQL(config, make_networks(Reach(), config)), iql_agent(Reach(), config)
    begun = rules.begin(agent.init(jax.random.key(0)))
    other = rules.begin(agent.init(jax.random.key(1)))
    return rules, replace(begun, target_critic=other.target_critic)


@jax.jit
def updated(config, learner, batch):
    """A gradient step; numbers of the configuration are traced."""
    rules = IQL(config, make_networks(Reach(), config))
    return rules.update(learner, batch, jax.random.key(0))


def some_batch(seed):
    return a_batch(jax.random.split(jax.random.key(seed), 4))


def assert_close(params, network):
    for found, expected in zip(flat(layers(params)), flat(network), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=2e-5)


def test_three_updates_are_those_in_float64():
    rules, learner = made(**TRIED)
    expected, at_maximum = InNumPy(learner), []
    for step in range(3):
        batch = some_batch(step)
        learner, seen = updated(rules.config, learner, batch)
        share = 0.5 * (1 + np.cos(np.pi * step / 4))
        at_maximum.append(expected.update(numpy64(batch), share))
        np.testing.assert_allclose(seen["weight_at_maximum"], at_maximum[-1], atol=1e-6)
    assert 0.0 < np.mean(at_maximum) < 1.0
    assert_close(learner.policy.value, expected.value)
    assert_close({"params": {"it": learner.policy.actor["params"]["QLayers_0"]}}, expected.actor)
    np.testing.assert_allclose(
        learner.policy.actor["params"]["log_std"], expected.log_std, rtol=1e-3, atol=2e-6
    )
    for index in range(2):
        assert_close(first(learner.policy.critic, index), expected.critics[index])
        assert_close(first(learner.target_critic, index), expected.targets[index])


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ({"expectile": 0.5}, ("value",)),
        ({"inverse_temperature": 0.0}, ("actor",)),
        ({"maximum_weight": 1.0}, ("actor",)),
        ({"anneal_learning_rate": False}, ("actor",)),
    ],
    ids=str,
)
def test_each_setting_moves_its_own_part(setting, parts):
    learners = []
    for settings in (TRIED, TRIED | setting):
        rules, learner = made(**settings)
        for step in range(2):
            learner, _ = updated(rules.config, learner, some_batch(step))
        learners.append(learner.policy)
    for part in parts:
        one, other = (jax.tree.leaves(getattr(policy, part)) for policy in learners)
        assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_all_actions_count_alike_without_a_temperature():
    rules, learner = made(**TRIED | {"inverse_temperature": 0.0})
    _, seen = updated(rules.config, learner, some_batch(0))
    assert float(seen["weight"]) == 1.0


def test_recorded_actions_are_held_within_the_bounds_by_a_hair():
    rules, learner = made(**TRIED)
    batch = some_batch(0)
    sign = jnp.sign(batch.action)
    found = [
        updated(rules.config, learner, replace(batch, action=size * sign))
        for size in (1.0, np.float32(1.0 - 1e-5))
    ]
    assert_same_bits(*found)
    inside = updated(rules.config, learner, replace(batch, action=np.float32(1.0 - 2e-5) * sign))
    assert float(inside[1]["behavior_loss"]) != float(found[0][1]["behavior_loss"])


class OfRecordedActions(nn.Module):
    """A critic that does not know any action but those of ±½."""

    critic: Critic

    @nn.compact
    def __call__(self, observation, action):
        known = jnp.all(jnp.abs(action) == 0.5, axis=-1)
        return jnp.where(known, self.critic(observation, action), jnp.nan)


def known_batch():
    batch = some_batch(0)
    return replace(batch, action=jnp.where(batch.action > 0, 0.5, -0.5))


def test_no_action_is_valued_that_was_not_recorded():
    def is_finite(rules, learner):
        update = jax.jit(rules.update, compiler_options=CHEAP)
        for step in range(2):
            learner, _ = update(learner, known_batch(), jax.random.key(step))
        return all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(learner.policy))

    def wrapped(rules, policy):
        critic = OfRecordedActions(rules.networks.critic)
        params = {"params": {"critic": policy.critic["params"]}}
        rules = replace(rules, networks=rules.networks._replace(critic=critic))
        return rules, rules.begin(replace(policy, critic=params))

    rules, learner = made()
    assert is_finite(*wrapped(rules, learner.policy))
    config = TD3BCConfig(**SMALL)  # which asks for its own actions
    rules = TD3BC(config, twin_networks(Reach(), config))
    assert not is_finite(*wrapped(rules, td3_bc_agent(Reach(), config).init(jax.random.key(0))))


def test_the_actor_s_step_size_falls_to_nothing_along_half_a_cosine():
    rules, learner = made(total_updates=100, learning_rate=2e-3)
    for step, share in [
        (0, 1.0),
        (25, 0.5 * (1 + np.sqrt(0.5))),
        (50, 0.5),
        (100, 0.0),
        (200, 0.0),
    ]:
        at = replace(learner, gradient_steps=jnp.int32(step))
        np.testing.assert_allclose(rules.learning_rate(at), 2e-3 * share, atol=1e-9)
    rules, learner = made(anneal_learning_rate=False, learning_rate=2e-3)
    at = replace(learner, gradient_steps=jnp.int32(30))
    np.testing.assert_allclose(rules.learning_rate(at), 2e-3, rtol=1e-6)


@functools.cache
def learned(**settings):
    """(algorithm, state, numbers) after all gradient steps on two recorded actions."""
    return run(iql, BANDIT, IQLConfig(**LEARNS | settings), two_actions(), 2)


def test_the_better_of_two_recorded_actions_is_cloned():
    algorithm, state, _ = learned(inverse_temperature=10.0)
    assert acted(algorithm, state, BANDIT)[0, 0] == pytest.approx(BETTER, abs=0.05)
    assert list(algorithm.agent.modes) == ["deterministic", "stochastic"]


def test_without_a_temperature_it_clones_all_of_them():
    algorithm, state, _ = learned(inverse_temperature=0.0)
    assert acted(algorithm, state, BANDIT)[0, 0] == pytest.approx(-0.24, abs=0.07)
    keys = jax.random.split(jax.random.key(5), 4000)
    actions = acted(algorithm, state, BANDIT, "stochastic", keys)
    assert np.abs(actions).max() <= 1.0
    assert actions.std() == pytest.approx(0.6 * np.sqrt(1 - 0.4**2), abs=0.08)


@pytest.mark.parametrize(("expectile", "value"), [(0.5, 0.3), (0.7, 0.5)])
def test_the_value_is_the_expectile_of_what_recorded_actions_earn(expectile, value):
    """Of 1 in three rows of ten, else 0: τ · 0.3 (1 − v) = (1 − τ) · 0.7 v."""
    algorithm, state, _ = learned(expectile=expectile)
    view = View.at_start(jnp.zeros(1), BANDIT.action_space)
    found = algorithm.agent.value(algorithm.policy(state), (), view, jax.random.key(0))
    assert float(found) == pytest.approx(value, abs=0.06)


def test_the_units_of_the_actions_change_no_bit():
    states = [
        run(iql, Reach(*bounds), IQLConfig(**SMALL), reaching(*bounds), 3)[1]
        for bounds in [(-1.0, 1.0), (-10.0, 10.0)]
    ]
    assert_same_bits(states[0].learner, states[1].learner)


def test_discrete_actions_are_refused():
    with pytest.raises(JaxrlError, match="iql needs continuous actions"):
        iql_agent(registry.make("CartPole-v1"), IQLConfig())
