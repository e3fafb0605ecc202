"""TD3 against NumPy loops in float64, on probes with known answers, and under a change of units."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.td3 import (
    TD3,
    TD3Config,
    make_networks,
    state_values,
    td3,
    td3_agent,
    with_noise,
)
from jaxrl.envs import registry
from jaxrl.errors import JaxrlError
from jaxrl.types import View
from tests.algos.reach import (
    CHEAP,
    SMALL,
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

REACH = Reach()
KEY = 9
BOUNDS = {"exploration_noise": 0.3, "target_noise": 0.4, "target_noise_clip": 0.45, "tau": 0.25}


@functools.cache
def made(environment=REACH, **settings):
    return td3(environment, TD3Config(**SMALL | settings))


@functools.cache
def compiled(environment=REACH, **settings):
    algorithm = made(environment, **settings)

    def run(key, iterations):
        return jax.lax.fori_loop(
            0, iterations, lambda _, state: algorithm.step(state)[0], algorithm.init(key)
        )

    return jax.jit(run, compiler_options=CHEAP)


@functools.cache
def one_update(**settings):
    """(learner, batch, learner after one gradient step, numbers)."""
    config = TD3Config(**SMALL | BOUNDS | settings)
    learner = TD3(config, make_networks(Reach(), config))
    keys = jax.random.split(jax.random.key(5), 6)
    begun = learner.begin(td3_agent(Reach(), config).init(keys[0]))
    # Targets of their own, or a target that is taken for the trained network would not show.
    other = learner.begin(td3_agent(Reach(), config).init(keys[1]))
    begun = replace(begun, targets=other.targets)
    batch = a_batch(keys[2:])
    return begun, batch, *jax.jit(learner.update)(begun, batch, jax.random.key(KEY))


def test_the_critics_descend_to_the_least_target_at_a_smoothed_action():
    begun, batch, learner, seen = one_update()
    rows = numpy64(batch)
    noise = np.asarray(jax.random.normal(jax.random.key(KEY), (16, 3)), np.float64)
    action = np.tanh(forward(layers(begun.targets.actor), rows.next_observation))
    action = np.clip(action + np.clip(0.4 * noise, -0.45, 0.45), -1.0, 1.0)
    next_q = q_values(begun.targets.critic, rows.next_observation, action)
    goal = rows.reward + rows.discount * next_q.min(0)
    q = q_values(begun.policy.critic, rows.observation, rows.action)
    np.testing.assert_allclose(seen["critic_loss"], np.square(q - goal).mean(1).sum(), rtol=1e-5)
    np.testing.assert_allclose(seen["q"], q.mean(), rtol=1e-5)
    x = np.concatenate([rows.observation, rows.action], 1)
    for index in range(2):
        network = layers(first(begun.policy.critic, index))
        expected = slope(lambda net: np.square(forward(net, x)[:, 0] - goal).mean(), network)
        assert_first_gradient(learner.critic_optimizer, index, expected)


def test_the_actor_climbs_the_first_critic_at_every_second_gradient_step():
    begun, batch, once, _ = one_update()
    for leaf, same in zip(
        jax.tree.leaves((begun.policy.actor, begun.targets)),
        jax.tree.leaves((once.policy.actor, once.targets)),
        strict=True,
    ):
        np.testing.assert_array_equal(leaf, same)
    *_, learner, _ = one_update(policy_delay=1)
    rows = numpy64(batch)
    critic = layers(first(learner.policy.critic, 0))

    def loss(actor):
        action = np.tanh(forward(actor, rows.observation))
        return -forward(critic, np.concatenate([rows.observation, action], 1)).mean()

    expected = slope(loss, layers(begun.policy.actor))
    assert_first_gradient(learner.actor_optimizer, None, expected)
    # The critics are those of the delayed update, bit for bit: nothing of the actor's loss moves
    # them.
    for delayed, same in zip(
        jax.tree.leaves((once.policy.critic, once.critic_optimizer)),
        jax.tree.leaves((learner.policy.critic, learner.critic_optimizer)),
        strict=True,
    ):
        np.testing.assert_array_equal(delayed, same)
    for old, new, target in zip(
        jax.tree.leaves((begun.targets.actor, begun.targets.critic)),
        jax.tree.leaves((learner.policy.actor, learner.policy.critic)),
        jax.tree.leaves((learner.targets.actor, learner.targets.critic)),
        strict=True,
    ):
        np.testing.assert_allclose(target, 0.75 * old + 0.25 * new, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "optimizer", "part"),
    [
        ("learning_rate", "actor_optimizer", "actor"),
        ("critic_learning_rate", "critic_optimizer", "critic"),
    ],
)
def test_each_network_has_a_learning_rate_of_its_own(name, optimizer, part):
    begun, _, learner, _ = one_update(policy_delay=1)
    *_, twice, _ = one_update(policy_delay=1, **{name: 6e-4})

    def largest(found, part):
        """The largest move of a parameter: Adam's first step is as long as the learning rate."""
        old, new = getattr(begun.policy, part), getattr(found.policy, part)
        moves = jax.tree.map(lambda x, y: np.abs(x - y).max(), old, new)
        return max(jax.tree.leaves(moves))

    other = {"actor": "critic", "critic": "actor"}[part]
    assert largest(learner, part) == pytest.approx(3e-4, rel=1e-2)
    assert largest(twice, part) == pytest.approx(6e-4, rel=1e-2)
    assert largest(twice, other) == pytest.approx(3e-4, rel=1e-2)


@pytest.mark.parametrize(("num_envs", "ratio"), [(1, 1.0), (4, 0.5), (8, 2.0)])
def test_the_actor_s_steps_are_counted_in_gradient_steps_across_iterations(num_envs, ratio):
    settings = {"num_envs": num_envs, "updates_per_transition": ratio, "policy_delay": 3}
    state = compiled(**settings)(jax.random.key(0), 3)
    learner = state.learner
    taken = int(learner.gradient_steps)
    assert taken == round((3 * 8 * num_envs - max(8, num_envs) + num_envs) * ratio) > 10
    assert int(learner.critic_optimizer.count) == taken
    assert int(learner.actor_optimizer.count) == taken // 3


@pytest.mark.parametrize("bounds", [(-10.0, 10.0), (0.0, 10.0), (-0.4, 0.4)])
def test_the_units_of_the_actions_change_no_bit(bounds):
    run = jax.device_get(compiled()(jax.random.key(1), 4))
    scaled = jax.device_get(compiled(Reach(*bounds))(jax.random.key(1), 4))
    for one, other in zip(
        jax.tree.leaves((run.learner, run.experience.log)),
        jax.tree.leaves((scaled.learner, scaled.experience.log)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    actions = run.experience.log.rows.action
    assert np.abs(actions).max() <= 1.0 and actions.std() > 0.2


def test_actions_are_explored_with_clipped_noise():
    config = TD3Config(**SMALL | {"exploration_noise": 0.5})
    agent = td3_agent(Reach(0.0, 10.0), config)
    policy = agent.init(jax.random.key(0))
    view = View.at_start(jnp.array([0.3, -0.2, 0.1]), Reach(0.0, 10.0).action_space)
    keys = jax.random.split(jax.random.key(1), 4000)
    act = jax.vmap(lambda key: agent.modes["stochastic"].act(policy, (), view, key)[0])
    actions = np.asarray(act(keys)) / 5.0 - 1.0
    mean, _ = agent.modes["deterministic"].act(policy, (), view, jax.random.key(2))
    mean = np.asarray(mean) / 5.0 - 1.0
    noise = 0.5 * np.random.default_rng(0).normal(size=(100_000, 3))
    clipped = np.clip(mean + noise, -1.0, 1.0)
    np.testing.assert_allclose(actions.mean(0), clipped.mean(0), atol=0.03)
    np.testing.assert_allclose(actions.std(0), clipped.std(0), atol=0.03)


def test_noise_takes_no_action_beyond_its_bounds():
    action = jnp.tile(jnp.array([-0.9, 0.0, 0.9]), (100, 1))
    noise = 0.3 * np.asarray(jax.random.normal(jax.random.key(3), (100, 3)))
    found = with_noise(action, 0.3, jax.random.key(3))
    np.testing.assert_allclose(found, np.clip(action + noise, -1.0, 1.0), atol=1e-6)
    assert (np.abs(found) == 1.0).any(0).tolist() == [True, False, True]


def test_the_value_is_the_least_of_the_critics_at_the_actor_s_action():
    config = TD3Config(**SMALL | {"normalize_observations": True})
    networks, agent = make_networks(Reach(), config), td3_agent(Reach(), config)
    policy = agent.init(jax.random.key(0))
    kept = policy.observation_moments
    policy = replace(
        policy, observation_moments=kept._replace(mean=jnp.full(3, 0.5), variance=jnp.full(3, 4.0))
    )
    observation = jnp.array([[0.3, -0.2, 0.1]])
    view = View.at_start(observation[0], Reach().action_space)
    read = (np.asarray(observation, np.float64) - 0.5) / 2.0
    action = np.tanh(forward(layers(policy.actor), read))
    expected = q_values(policy.critic, read, action).min()
    found = agent.value(policy, (), view, jax.random.key(0))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    np.testing.assert_allclose(
        state_values(networks, policy, jnp.asarray(read, jnp.float32))[0], expected, rtol=1e-5
    )
    acted, _ = agent.modes["deterministic"].act(policy, (), view, jax.random.key(0))
    np.testing.assert_allclose(acted, action[0], rtol=1e-5)


LEARNS = {
    "total_steps": 6000,
    "batch_size": 64,
    "replay_capacity": 6000,
    "warm_up": 200,
    "num_steps": 50,
    "gamma": 0.9,
    "tau": 0.05,
    "learning_rate": 3e-3,
    "critic_learning_rate": 3e-3,
    "hidden_sizes": (32,),
}


@functools.cache
def learned(environment_id):
    """The environment and the policy after 6,000 transitions."""
    environment = registry.make(environment_id)
    state = compiled(environment, **LEARNS)(jax.random.key(0), jnp.int32(30))
    return environment, td3_agent(environment, TD3Config(**SMALL | LEARNS)), state.learner.policy


def test_a_time_limit_is_no_end():
    environment, agent, policy = learned("probe/continuous-never-ending")
    view = View.at_start(jnp.zeros(1), environment.action_space)
    value = float(agent.value(policy, (), view, jax.random.key(0)))
    mistaken = (1 - 0.9**5) / 0.1  # were the limit of 5 a termination
    assert mistaken < 5.0
    assert value == pytest.approx(10.0, rel=0.03)


def test_the_best_continuous_action_is_found():
    environment, agent, policy = learned("probe/continuous-action")
    view = View.at_start(jnp.zeros(1), environment.action_space)
    action, _ = agent.modes["deterministic"].act(policy, (), view, jax.random.key(0))
    assert float(action[0]) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("environment_id", "words"),
    [
        ("CartPole-v1", r"td3 needs continuous actions .* has Discrete\(2\)"),
        ("probe/multi-discrete-action", "td3 needs continuous actions"),
    ],
)
def test_actions_of_another_kind_are_refused(environment_id, words):
    environment = registry.make(environment_id)
    with pytest.raises(JaxrlError, match=words):
        td3(environment, TD3Config())
    with pytest.raises(JaxrlError, match=words):
        td3_agent(environment, TD3Config())


def test_actions_without_bounds_are_refused():
    with pytest.raises(JaxrlError, match="between finite bounds"):
        td3(Reach(-np.inf, np.inf), TD3Config())
