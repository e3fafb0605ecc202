"""ReBRAC against NumPy in float64, against TD3 where nothing is penalised, and what it finds."""

import functools
from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxrl.algos.rebrac import ReBRAC, ReBRACConfig, rebrac, rebrac_agent
from jaxrl.algos.td3 import TwinDelayed, make_networks
from jaxrl.envs import registry
from jaxrl.errors import JaxrlError
from tests.algos.offline import (
    BANDIT,
    BETTER,
    SMALL,
    acted,
    assert_same_bits,
    of_episodes,
    reaching,
    recorded_batch,
    run,
    two_actions,
)
from tests.algos.reach import (
    Reach,
    assert_first_gradient,
    first,
    forward,
    layers,
    numpy64,
    q_values,
    slope,
)

PLAIN = SMALL | {"layer_norm": False}
LEARNS = SMALL | {"total_updates": 2000, "updates_per_iteration": 1000, "batch_size": 64}
LEARNS |= {"learning_rate": 3e-3, "critic_learning_rate": 3e-3}


@functools.cache
def begun_with(**settings):
    """(rules, learner, batch) before the first gradient step, with targets of their own."""
    config = ReBRACConfig(**PLAIN | settings)
    rules = ReBRAC(config, make_networks(Reach(), config))
    keys = jax.random.split(jax.random.key(5), 6)
    agent = rebrac_agent(Reach(), config)
    begun = rules.begin(agent.init(keys[0]))
    begun = replace(begun, targets=rules.begin(agent.init(keys[1])).targets)
    return rules, begun, recorded_batch(keys[2:])


@functools.cache
def one_update(**settings):
    """(learner, batch, the learner after one gradient step, numbers)."""
    rules, begun, batch = begun_with(**settings)
    return begun, batch, *jax.jit(rules.update)(begun, batch, jax.random.key(9))


def test_the_critics_learn_a_target_less_the_distance_to_the_next_recorded_action():
    begun, batch, learner, seen = one_update(critic_penalty=0.5)
    rows = numpy64(batch)
    noise = np.asarray(jax.random.normal(jax.random.key(9), (16, 3)), np.float64)
    action = np.tanh(forward(layers(begun.targets.actor), rows.next_observation))
    action = np.clip(action + np.clip(0.2 * noise, -0.5, 0.5), -1.0, 1.0)
    next_q = q_values(begun.targets.critic, rows.next_observation, action).min(0)
    distance = np.square(action - rows.next_action).sum(1) * rows.next_acted
    assert (distance == 0).sum() == 6  # no action was recorded after these
    goal = rows.reward + rows.discount * (next_q - 0.5 * distance)
    q = q_values(begun.policy.critic, rows.observation, rows.action)
    np.testing.assert_allclose(seen["critic_loss"], np.square(q - goal).mean(1).sum(), rtol=1e-5)
    x = np.concatenate([rows.observation, rows.action], 1)
    for index in range(2):
        network = layers(first(begun.policy.critic, index))
        expected = slope(lambda net: np.square(forward(net, x)[:, 0] - goal).mean(), network)
        assert_first_gradient(learner.critic_optimizer, index, expected)


def test_without_a_penalty_the_target_is_td3_s():
    rules, begun, batch = begun_with(critic_penalty=0.0)
    found = rules.goal(begun.targets, batch, jax.random.key(3))
    plain = TwinDelayed(rules.config, rules.networks).goal(begun.targets, batch, jax.random.key(3))
    np.testing.assert_array_equal(found, plain)
    penalised, *_ = begun_with(critic_penalty=0.5)
    assert np.all(penalised.goal(begun.targets, batch, jax.random.key(3)) <= plain)


def test_the_actor_climbs_the_least_of_scaled_values_and_clones():
    begun, batch, learner, seen = one_update(policy_delay=1, actor_penalty=0.3)
    rows = numpy64(batch)
    critics = [layers(first(learner.policy.critic, index)) for index in range(2)]

    def terms(actor):
        action = np.tanh(forward(actor, rows.observation))
        x = np.concatenate([rows.observation, action], 1)
        q = np.minimum(*(forward(critic, x)[:, 0] for critic in critics))
        return q, np.square(action - rows.action).sum(1).mean()

    network = layers(begun.policy.actor)
    q, cloning = terms(network)
    scale = 1.0 / np.abs(q).mean()
    np.testing.assert_allclose(seen["behavior_loss"].sum, cloning, rtol=1e-5)
    np.testing.assert_allclose(seen["policy_q"].sum, q.mean(), rtol=1e-4)

    def loss(actor):
        q, cloning = terms(actor)
        return 0.3 * cloning - scale * q.mean()

    assert_first_gradient(learner.actor_optimizer, None, slope(loss, network))


def test_the_actor_waits_for_the_second_gradient_step_and_moves_no_critic():
    begun, _, once, _ = one_update()
    *_, learner, _ = one_update(policy_delay=1)
    assert_same_bits((begun.policy.actor, begun.targets), (once.policy.actor, once.targets))
    assert_same_bits(
        (once.policy.critic, once.critic_optimizer),
        (learner.policy.critic, learner.critic_optimizer),
    )


def test_its_critics_alone_are_normalised_and_three_layers_deep():
    network = ReBRACConfig().network
    assert network.layer_norm and network.hidden_sizes == (256, 256, 256)
    policy = rebrac_agent(Reach(), ReBRACConfig(**SMALL)).init(jax.random.key(0))
    assert any("LayerNorm" in name for name in policy.critic["params"]["QLayers_0"])
    assert not any("LayerNorm" in name for name in policy.actor["params"]["QLayers_0"])


def test_the_next_recorded_action_is_the_next_row_s_and_none_follows_the_last():
    action = np.linspace(-1.0, 1.0, 6)[:, None].astype(np.float32)
    observation = np.arange(6.0)[:, None]
    dataset = of_episodes(BANDIT, observation, action, np.zeros(6), [2, 3, 1])
    batch = dataset.sample(jax.random.key(0), 200, 0.9, BANDIT.action_space)
    row = np.asarray(batch.observation)[:, 0].astype(int)
    np.testing.assert_array_equal(batch.next_acted, np.isin(row, [0, 2, 3]))
    kept = np.asarray(batch.next_acted)
    np.testing.assert_allclose(
        np.asarray(batch.next_action)[kept, 0], action[row[kept] + 1, 0], rtol=1e-6
    )


@pytest.mark.slow
def test_the_better_of_two_recorded_actions_is_found():
    config = ReBRACConfig(**LEARNS, actor_penalty=0.1)
    algorithm, state, seen = run(rebrac, BANDIT, config, two_actions(), 2)
    assert acted(algorithm, state, BANDIT)[0, 0] > 0.4
    assert seen["q"] == pytest.approx(0.3, abs=0.05)
    assert list(algorithm.agent.modes) == ["deterministic"]


def test_a_penalty_in_the_actor_s_loss_holds_it_to_the_data():
    config = ReBRACConfig(**LEARNS, actor_penalty=100.0)
    algorithm, state, _ = run(rebrac, BANDIT, config, two_actions(), 2)
    assert acted(algorithm, state, BANDIT)[0, 0] == pytest.approx(-0.24, abs=0.1) != BETTER


def test_a_penalty_in_the_target_lowers_values():
    """Episodes of two steps that earn nothing: only the penalty makes a value."""
    action = np.tile(np.float32([-1.0, 1.0]), 20)[:, None]
    observation = np.tile([0.0, 1.0], 20)[:, None]
    dataset = of_episodes(BANDIT, observation, action, np.zeros(40), [2] * 20)
    values = {}
    for penalty in (0.0, 1.0):
        config = ReBRACConfig(**LEARNS, actor_penalty=1.0, critic_penalty=penalty)
        values[penalty] = run(rebrac, BANDIT, config, dataset, 1)[2]["q"]
    assert values[1.0] < values[0.0] - 0.01


@pytest.mark.slow
def test_the_units_of_the_actions_change_no_bit():
    states = [
        run(rebrac, Reach(*bounds), ReBRACConfig(**SMALL), reaching(*bounds), 3)[1]
        for bounds in [(-1.0, 1.0), (-10.0, 10.0)]
    ]
    assert_same_bits(states[0].learner, states[1].learner)


def test_discrete_actions_are_refused():
    with pytest.raises(JaxrlError, match="rebrac needs continuous actions"):
        rebrac_agent(registry.make("CartPole-v1"), ReBRACConfig())
