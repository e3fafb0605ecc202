"""TD3+BC against NumPy in float64, and what it finds in a dataset."""

import functools
from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxrl.algos.td3 import make_networks
from jaxrl.algos.td3_bc import TD3BC, TD3BCConfig, td3_bc, td3_bc_agent
from jaxrl.envs import registry
from jaxrl.errors import JaxrlError
from tests.algos.offline import (
    BANDIT,
    SMALL,
    acted,
    assert_same_bits,
    reaching,
    run,
    steps,
    two_actions,
)
from tests.algos.reach import (
    Reach,
    a_batch,
    assert_first_gradient,
    first,
    forward,
    layers,
    numpy64,
    q_values,
    slope,
)

LEARNS = SMALL | {"total_updates": 2000, "updates_per_iteration": 1000, "batch_size": 64}
LEARNS |= {"learning_rate": 3e-3, "critic_learning_rate": 3e-3, "target_noise": 0.0}


@functools.cache
def one_update(**settings):
    """(learner, batch, the learner after one gradient step, numbers)."""
    config = TD3BCConfig(**SMALL | settings)
    rules = TD3BC(config, make_networks(Reach(), config))
    keys = jax.random.split(jax.random.key(5), 6)
    agent = td3_bc_agent(Reach(), config)
    begun = rules.begin(agent.init(keys[0]))
    begun = replace(begun, targets=rules.begin(agent.init(keys[1])).targets)
    batch = a_batch(keys[2:])
    return begun, batch, *jax.jit(rules.update)(begun, batch, jax.random.key(9))


def test_the_critics_learn_td3_s_target():
    begun, batch, _, seen = one_update()
    rows = numpy64(batch)
    noise = np.asarray(jax.random.normal(jax.random.key(9), (16, 3)), np.float64)
    action = np.tanh(forward(layers(begun.targets.actor), rows.next_observation))
    action = np.clip(action + np.clip(0.2 * noise, -0.5, 0.5), -1.0, 1.0)
    next_q = q_values(begun.targets.critic, rows.next_observation, action)
    goal = rows.reward + rows.discount * next_q.min(0)
    q = q_values(begun.policy.critic, rows.observation, rows.action)
    np.testing.assert_allclose(seen["critic_loss"], np.square(q - goal).mean(1).sum(), rtol=1e-5)
    np.testing.assert_allclose(seen["q"], q.mean(), rtol=1e-5)


@pytest.mark.parametrize("alpha", [2.5, 0.0])
def test_the_actor_climbs_scaled_values_and_clones(alpha):
    """The scale is that of the first policy throughout: it carries no gradient."""
    begun, batch, learner, seen = one_update(policy_delay=1, alpha=alpha)
    rows, critic = numpy64(batch), layers(first(learner.policy.critic, 0))

    def terms(actor):
        action = np.tanh(forward(actor, rows.observation))
        q = forward(critic, np.concatenate([rows.observation, action], 1))[:, 0]
        return q, np.square(action - rows.action).mean()

    network = layers(begun.policy.actor)
    q, cloning = terms(network)
    scale = alpha / np.abs(q).mean()
    np.testing.assert_allclose(seen["behavior_loss"].sum, cloning, rtol=1e-5)
    np.testing.assert_allclose(seen["policy_q"].sum, q.mean(), rtol=1e-4)

    def loss(actor):
        q, cloning = terms(actor)
        return cloning - scale * q.mean()

    assert_first_gradient(learner.actor_optimizer, None, slope(loss, network))


def test_the_actor_waits_for_the_second_gradient_step_and_moves_no_critic():
    begun, _, once, _ = one_update()
    *_, learner, _ = one_update(policy_delay=1)
    assert_same_bits((begun.policy.actor, begun.targets), (once.policy.actor, once.targets))
    assert_same_bits(
        (once.policy.critic, once.critic_optimizer),
        (learner.policy.critic, learner.critic_optimizer),
    )
    _, state, _ = run(td3_bc, Reach(), TD3BCConfig(**SMALL), reaching(), 2)
    assert int(state.learner.critic_optimizer.count) == int(state.learner.gradient_steps) == 8
    assert int(state.learner.actor_optimizer.count) == 4


def test_numbers_of_the_actor_are_means_over_its_own_gradient_steps():
    *_, waiting = one_update()
    *_, every = one_update(policy_delay=1)
    for name in ("behavior_loss", "policy_q"):
        assert tuple(map(float, waiting[name])) == (0.0, 0.0)
        assert float(every[name].count) == 1.0
    # Of the 4 gradient steps of an iteration, every second one is the actor's too.
    _, metrics = steps(td3_bc, Reach(), TD3BCConfig(**SMALL), reaching(), 2)
    assert (float(metrics["critic_loss"].count), float(metrics["policy_q"].count)) == (4.0, 2.0)


def test_the_better_of_two_recorded_actions_is_found():
    config = TD3BCConfig(**LEARNS)
    algorithm, state, seen = run(td3_bc, BANDIT, config, two_actions(), 2)
    assert acted(algorithm, state, BANDIT)[0, 0] > 0.4
    assert seen["q"] == pytest.approx(0.3, abs=0.05)
    assert list(algorithm.agent.modes) == ["deterministic"]


def test_without_values_it_clones():
    config = TD3BCConfig(**LEARNS, alpha=0.0)
    algorithm, state, _ = run(td3_bc, BANDIT, config, two_actions(), 2)
    assert acted(algorithm, state, BANDIT)[0, 0] == pytest.approx(-0.24, abs=0.07)


def test_the_units_of_the_actions_change_no_bit():
    states = [
        run(td3_bc, Reach(*bounds), TD3BCConfig(**SMALL), reaching(*bounds), 3)[1]
        for bounds in [(-1.0, 1.0), (-10.0, 10.0)]
    ]
    assert_same_bits(states[0].learner, states[1].learner)


def test_observations_are_standardised_by_the_dataset_s_statistics():
    dataset = reaching()
    _, state, _ = run(td3_bc, Reach(), TD3BCConfig(**SMALL), dataset, 2)
    assert_same_bits(state.learner.policy.observation_moments, dataset.moments)


def test_discrete_actions_are_refused():
    with pytest.raises(JaxrlError, match="td3_bc needs continuous actions"):
        td3_bc_agent(registry.make("CartPole-v1"), TD3BCConfig())
