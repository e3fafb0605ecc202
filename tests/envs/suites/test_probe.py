import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import registry
from jaxrl.envs.suites import probe
from jaxrl.errors import JaxrlError

GAMMA = 0.9
STEPS = 12
KEYS = jax.random.split(jax.random.key(0), 16)


@pytest.fixture(autouse=True)
def keys_may_be_reused():
    """The same key must give the same start and the same step, here and in the reference."""
    with jax.debug_key_reuse(False):
        yield


@functools.cache
def optimal_play(environment_id):
    """Optimal episodes: observations [N, T+1, d], rewards [N, T], terminated [N, T]."""
    environment = registry.make(environment_id)

    @jax.jit
    @jax.vmap
    def play(key):
        state, first = environment.reset(key)
        action = environment.optimal_action(first)

        def step(state, key):
            state, timestep = environment.step(key, state, action)
            return state, timestep

        _, timesteps = jax.lax.scan(step, state, jax.random.split(key, STEPS))
        observations = jnp.concatenate([first[None], timesteps.observation])
        return observations, timesteps.reward, timesteps.terminated

    return environment, *jax.device_get(play(KEYS))


@pytest.mark.parametrize("environment_id", probe.IDS)
def test_optimal_value_solves_the_bellman_equation(environment_id):
    environment, observations, rewards, terminated = optimal_play(environment_id)
    values = np.asarray(environment.optimal_value(jnp.asarray(observations), GAMMA))
    targets = rewards + GAMMA * np.where(terminated, 0.0, values[:, 1:])
    alive = np.cumsum(terminated, axis=1) - terminated == 0
    assert values.shape == observations.shape[:-1]
    np.testing.assert_allclose(values[:, :-1][alive], targets[alive], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("environment_id", probe.IDS)
def test_only_never_ending_reaches_its_horizon(environment_id):
    environment, _, _, terminated = optimal_play(environment_id)
    never = {"probe/never-ending": 10, "probe/continuous-never-ending": 5}
    if environment_id in never:
        assert environment.horizon == never[environment_id] < STEPS and not terminated.any()
    else:
        lengths = np.argmax(terminated, axis=1) + 1
        assert terminated.any(axis=1).all() and lengths.max() < environment.horizon


def test_values_by_hand():
    def value(environment_id, observation, gamma=GAMMA):
        return float(
            registry.make(environment_id).optimal_value(jnp.array(observation, jnp.float32), gamma)
        )

    assert value("probe/constant-reward", [0]) == 1.0
    assert value("probe/never-ending", [0]) == pytest.approx(10.0)
    assert value("probe/observation-reward", [-1]) == -1.0
    assert value("probe/two-step", [0]) == pytest.approx(0.9)
    assert value("probe/two-step", [1]) == 1.0
    assert value("probe/continuous-action", [0]) == 0.0
    assert value("probe/two-lengths", [-1, 0.2], 0.5) == pytest.approx(1.5)
    assert value("probe/two-lengths", [1, 1.0], 0.5) == pytest.approx(2 - 0.5**9)
    assert value("probe/memory", [1, 1.0]) == pytest.approx(0.81)


@pytest.mark.parametrize(
    ("environment_id", "action", "reward"),
    [
        ("probe/action-reward", 0, 0.0),
        ("probe/action-reward", 1, 1.0),
        ("probe/continuous-action", [0.5], 0.0),
        ("probe/continuous-action", [-0.5], -1.0),
    ],
)
def test_rewards_of_single_actions(environment_id, action, reward):
    environment = registry.make(environment_id)
    state, _ = environment.reset(KEYS[0])
    _, timestep = environment.step(
        KEYS[0], state, jnp.asarray(action, environment.action_space.dtype)
    )
    assert timestep.reward == reward and timestep.terminated


def test_wrong_names_of_the_coin_cost_one():
    for environment_id, steps in (("probe/observation-action", 1), ("probe/memory", 3)):
        environment = registry.make(environment_id)
        state, first = environment.reset(KEYS[0])
        rewards = []
        for _ in range(steps):
            state, timestep = environment.step(
                KEYS[0], state, 1 - environment.optimal_action(first)
            )
            rewards.append(float(timestep.reward))
        assert rewards == [0.0] * (steps - 1) + [-1.0] and timestep.terminated


def test_multi_discrete_reward_counts_matches():
    environment = registry.make("probe/multi-discrete-action")
    target, observation = environment.reset(KEYS[3])
    np.testing.assert_array_equal(environment.optimal_action(observation), target)
    for change, reward in (([0, 0], 1.0), ([1, 0], 0.5), ([0, 1], 0.5), ([1, 1], 0.0)):
        action = (target + jnp.array(change)) % jnp.array([2, 3])
        assert environment.step(KEYS[0], target, action)[1].reward == reward


def test_two_lengths_have_both_lengths_and_returns():
    _, observations, rewards, terminated = optimal_play("probe/two-lengths")
    lengths = np.argmax(terminated, axis=1) + 1
    assert set(lengths) == {2, 10}
    np.testing.assert_array_equal(lengths, np.where(observations[:, 0, 0] > 0, 10, 2))
    alive = np.cumsum(terminated, axis=1) - terminated == 0
    np.testing.assert_array_equal((rewards * alive).sum(axis=1), lengths)


def test_memory_shows_the_coin_once():
    _, observations, _, _ = optimal_play("probe/memory")
    assert set(observations[:, 0, 0]) == {-1.0, 1.0}
    assert not observations[:, 1:, 0].any()


def test_takes_no_options():
    with pytest.raises(JaxrlError, match="takes no options"):
        registry.make("probe/two-step", length=3)
