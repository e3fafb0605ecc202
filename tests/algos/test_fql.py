"""FQL against NumPy in float64: each of its four losses, and its use; and on a bandit."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.fql import FQL, FQLConfig, fql, fql_agent, one_step_policy
from jaxrl.envs import registry
from jaxrl.errors import JaxrlError
from jaxrl.nn.q_networks import Critic
from jaxrl.types import View
from tests.algos.generative import (
    BATCH,
    REACH,
    SMALL,
    Bandit,
    forward,
    gelu,
    learned,
    shares_of_modes,
    stack_of,
)
from tests.algos.reach import CHEAP, assert_first_gradient, first, numpy64, slope

KEY = 9
OWN = SMALL | {"flow_steps": 4, "alpha": 3.0, "tau": 0.25, "layer_norm": False}


def rules_of(config, environment=REACH):
    critic = Critic(config.network, len(environment.observation_space.shape))
    return FQL(config, one_step_policy(environment, config), critic)


@functools.cache
def one_update(**settings):
    """(learner, the same after one gradient step, numbers)."""
    config = FQLConfig(**OWN | settings)
    rules, agent = rules_of(config), fql_agent(REACH, config)
    other, policy = (agent.init(jax.random.key(seed)) for seed in (0, 1))
    learner = rules.begin(replace(policy, critic=other.critic))
    learner = replace(learner, critic=policy.critic)
    return learner, *jax.jit(rules.update, compiler_options=CHEAP)(
        learner, BATCH(), jax.random.key(KEY)
    )


def q_values(params, observation, action):
    x = np.concatenate([observation, action], 1)
    return np.stack([forward(stack_of(first(params, k)), x, gelu)[:, 0] for k in range(2)])


def acted(network, observation, noise):
    """μ(s, z)."""
    return forward(network, np.concatenate([noise, observation], 1), gelu)


def velocity(network, observation, point, time):
    time = np.broadcast_to(time, (len(point),))
    return forward(network, np.concatenate([point, observation, time[:, None]], 1), gelu)


def after_the_flow(network, observation, noise, steps=4):
    point = noise
    for index in range(steps):
        point = point + velocity(network, observation, point, index / steps) / steps
    return np.clip(point, -1, 1)


@functools.cache
def random_numbers():
    """(noise of the next actions, noise and times of the flow, noise of the actor)."""
    key_next, key_flow, key_actor = jax.random.split(jax.random.key(KEY), 3)
    key_noise, key_time = jax.random.split(key_flow)
    drawn = (
        jax.random.normal(key_next, (1, 16, 3))[0],
        jax.random.normal(key_noise, (16, 3)),
        jax.random.uniform(key_time, (16,)),
        jax.random.normal(key_actor, (16, 3)),
    )
    return tuple(np.asarray(each, np.float64) for each in drawn)


@pytest.mark.parametrize("of_targets", ["mean", "least"])
def test_critics_descend_to_the_target_critics_mean_or_least(of_targets):
    learner, after, seen = one_update(target_critics=of_targets)
    rows = numpy64(BATCH())
    noise = random_numbers()[0]
    action = acted(stack_of(learner.policy.actor.one_step), rows.next_observation, noise)
    next_q = q_values(learner.policy.critic, rows.next_observation, np.clip(action, -1, 1))
    next_q = next_q.mean(0) if of_targets == "mean" else next_q.min(0)
    goal = rows.reward + rows.discount * next_q
    q = q_values(learner.critic, rows.observation, rows.action)
    np.testing.assert_allclose(seen["critic_loss"], np.square(q - goal).mean(1).sum(), rtol=1e-4)
    x = np.concatenate([rows.observation, rows.action], 1)
    for index in range(2):
        expected = slope(
            lambda net: np.square(forward(net, x, gelu)[:, 0] - goal).mean(),
            stack_of(first(learner.critic, index)),
        )
        kept = after.optimizer._replace(mu=after.optimizer.mu.critic)
        assert_first_gradient(kept, index, expected)
    for old, new, target in zip(
        jax.tree.leaves(learner.policy.critic),
        jax.tree.leaves(after.critic),
        jax.tree.leaves(after.policy.critic),
        strict=True,
    ):
        np.testing.assert_allclose(target, 0.75 * old + 0.25 * new, rtol=1e-5, atol=1e-6)


def test_the_flow_clones_alone():
    learner, after, seen = one_update()
    rows = numpy64(BATCH())
    _, noise, time, _ = random_numbers()
    point = (1 - time[:, None]) * noise + time[:, None] * rows.action

    def loss(network):
        found = velocity(network, rows.observation, point, time)
        return np.square(found - (rows.action - noise)).mean()

    network = stack_of(learner.policy.actor.flow)
    np.testing.assert_allclose(seen["behavior_loss"], loss(network), rtol=1e-4)
    # Neither the distance of the actor to it, nor the critics, move the flow.
    kept = after.optimizer._replace(mu=after.optimizer.mu.actors.flow)
    assert_first_gradient(kept, None, slope(loss, network))


@pytest.mark.parametrize("normalize", [False, True])
def test_the_actor_stays_near_the_flow_and_climbs_the_critics(normalize):
    learner, after, seen = one_update(normalize_q=normalize)
    rows = numpy64(BATCH())
    noise = random_numbers()[3]
    goal = after_the_flow(stack_of(learner.policy.actor.flow), rows.observation, noise)

    def q_of(network):
        action = np.clip(acted(network, rows.observation, noise), -1, 1)
        return q_values(learner.critic, rows.observation, action).mean(0)

    network = stack_of(learner.policy.actor.one_step)
    scale = np.abs(q_of(network)).mean() if normalize else 1.0

    def distance(network):
        return np.square(acted(network, rows.observation, noise) - goal).mean()

    def loss(network):
        return 3.0 * distance(network) - q_of(network).mean() / scale

    kept = after.optimizer._replace(mu=after.optimizer.mu.actors.one_step)
    assert_first_gradient(kept, None, slope(loss, network))
    np.testing.assert_allclose(seen["distillation_loss"], distance(network), rtol=1e-4)
    np.testing.assert_allclose(seen["policy_q"], q_of(network).mean(), rtol=1e-4, atol=1e-6)
    clipped = np.abs(acted(network, rows.observation, noise)) >= 1.0
    np.testing.assert_allclose(seen["clipped_actions"], clipped.mean())


def test_critics_are_asked_for_no_action_beyond_the_bounds():
    learner, *_ = one_update()
    rules, rows = rules_of(FQLConfig(**OWN)), numpy64(BATCH())
    actors = learner.policy.actor
    actors = replace(actors, one_step=jax.tree.map(lambda leaf: 3.0 * leaf, actors.one_step))
    noise = np.asarray(jax.random.normal(jax.random.key(2), (16, 3)), np.float64)
    action = acted(stack_of(actors.one_step), rows.observation, noise)
    assert 0.1 < (np.abs(action) > 1.0).mean() < 0.9
    expected = q_values(learner.critic, rows.observation, np.clip(action, -1, 1)).mean()
    _, seen = rules._actor_loss(actors, learner, BATCH(), jax.random.key(2))
    np.testing.assert_allclose(seen["policy_q"], expected, rtol=1e-4)
    # Those of the next actions likewise.
    made = rules.model.make(actors, BATCH().observation, jnp.asarray(noise[None], jnp.float32))
    np.testing.assert_allclose(made, np.clip(action, -1, 1), atol=1e-4)


def test_modes_draw_once_or_take_no_noise():
    agent = fql_agent(REACH, FQLConfig(**OWN))
    policy = agent.init(jax.random.key(0))
    observation = np.array([[0.3, -0.2, 0.1]])
    view = View.at_start(jnp.asarray(observation[0], jnp.float32), REACH.action_space)
    network = stack_of(policy.actor.one_step)
    noise = np.asarray(jax.random.normal(jax.random.key(4), (1, 1, 3)), np.float64)[0]
    found, _ = agent.modes["stochastic"].act(policy, (), view, jax.random.key(4))
    expected = np.clip(acted(network, observation, noise), -1, 1)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    found, _ = agent.modes["deterministic"].act(policy, (), view, jax.random.key(5))
    expected = np.clip(acted(network, observation, 0.0 * noise), -1, 1)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_layers_are_normalised_in_the_critics_alone():
    shapes = jax.eval_shape(fql_agent(REACH, FQLConfig()).init, jax.random.key(0))
    assert "LayerNorm_3" in shapes.critic["params"]["QLayers_0"]
    for actor in (shapes.actor.one_step, shapes.actor.flow):
        assert sorted(actor["params"]["QLayers_0"]) == [f"Dense_{index}" for index in range(5)]


BANDIT = {"hidden_sizes": (64, 64), "learning_rate": 3e-3, "tau": 0.05, "normalize_q": True}


@functools.cache
def on_the_bandit(alpha, updates):
    config = FQLConfig(**BANDIT | {"alpha": alpha})
    agent = fql_agent(Bandit(), config)
    learner = learned(rules_of, config, agent.init(jax.random.key(0)), updates)
    return agent, learner.policy


@pytest.mark.slow
def test_modes_are_cloned():
    agent, policy = on_the_bandit(1000.0, 600)
    assert (shares_of_modes(agent, policy) > 0.1).all()


@pytest.mark.slow
def test_the_rewarded_mode_is_found():
    agent, policy = on_the_bandit(0.3, 600)
    assert shares_of_modes(agent, policy)[0] > 0.9


def test_what_makes_no_sense_is_refused():
    with pytest.raises(JaxrlError, match="fql needs continuous actions"):
        fql_agent(registry.make("CartPole-v1"), FQLConfig())
    alone = FQLConfig(**OWN | {"target_critics": "least", "num_critics": 1})
    with pytest.raises(JaxrlError, match="target_critics is least, which has no effect"):
        fql(REACH, alone, dataset=None)
    with pytest.raises(JaxrlError, match="time_width is 3"):
        fql(REACH, FQLConfig(**OWN | {"time_width": 3}), dataset=None)
