"""The MuJoCo tasks against Gymnasium v5 itself: single steps, whole trajectories, first states."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxrl.envs import registry

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")

IDS = registry.suites()["mujoco"].IDS
# Numbers of one step, relative to the largest of their kind: float32 carries 6e-8 of what float64
# physics found.
TOLERANCE = 1e-6


@functools.cache
def theirs(environment_id):
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # that a newer version exists, that MuJoCo will drop an attribute of a model
        return gymnasium.make(environment_id).unwrapped


def random_run(environment_id, steps):
    """Gymnasium under random actions: its states before, the actions, and what it made of them."""
    env, ours = theirs(environment_id), registry.make(environment_id)
    physics, longest = ours.physics, min(200, ours.horizon)
    env.reset(seed=0)
    env.action_space.seed(0)
    seen = []
    for step in range(steps):
        before, action = physics.pack(env.data), env.action_space.sample()
        if step % 7 == 0:
            action = 1.5 * action  # beyond the bounds: MuJoCo clamps, and the cost counts it whole
        observation, reward, terminated, _, _ = env.step(action)
        seen.append((before, action, observation, reward, terminated, physics.pack(env.data)))
        if terminated or step % longest == longest - 1:
            env.reset()
    return [np.stack(column) for column in zip(*seen, strict=True)]


@pytest.mark.parametrize("environment_id", IDS)
def test_one_step_from_a_thousand_states_is_gymnasiums(environment_id):
    before, action, observation, reward, terminated, after = random_run(environment_id, 1000)
    env = registry.make(environment_id)
    stepped = jax.jit(jax.vmap(env.step, in_axes=(None, 0, 0)))(jax.random.key(0), before, action)
    state, seen = jax.device_get(stepped)
    np.testing.assert_array_equal(np.asarray(state), after)  # to the last bit of float64
    scale = np.abs(observation).max(axis=0) + 1e-3
    np.testing.assert_allclose(
        seen.observation / scale, observation / scale, rtol=TOLERANCE, atol=TOLERANCE
    )
    np.testing.assert_allclose(
        seen.reward, reward, rtol=TOLERANCE, atol=TOLERANCE * np.abs(reward).max()
    )
    np.testing.assert_array_equal(seen.terminated, terminated)
    assert not np.asarray(seen.info["blow_up"]).any()


@pytest.mark.parametrize("environment_id", IDS)
def test_a_trajectory_of_a_thousand_steps_is_gymnasiums(environment_id):
    gym, env = theirs(environment_id), registry.make(environment_id)
    gym.reset(seed=1)
    gym.action_space.seed(1)
    state = jnp.asarray(env.physics.pack(gym.data))
    actions = np.stack([gym.action_space.sample() for _ in range(1000)])

    def step(state, action):
        state, seen = env.step(jax.random.key(0), state, action)
        return state, (seen.observation, seen.reward)

    state, (observations, rewards) = jax.jit(lambda *run: jax.lax.scan(step, *run))(state, actions)
    expected = [gym.step(action)[:2] for action in actions]
    np.testing.assert_array_equal(np.asarray(state), env.physics.pack(gym.data))
    last = expected[-1][0]
    np.testing.assert_allclose(
        observations[-1], last, rtol=TOLERANCE, atol=TOLERANCE * (1 + np.abs(last).max())
    )
    theirs_rewards = np.asarray([reward for _, reward in expected])
    np.testing.assert_allclose(
        rewards, theirs_rewards, rtol=TOLERANCE, atol=TOLERANCE * np.abs(theirs_rewards).max()
    )


@pytest.mark.parametrize("environment_id", IDS)
def test_first_states_are_distributed_as_gymnasiums(environment_id):
    gym, env, draws = theirs(environment_id), registry.make(environment_id), 400
    expected = np.stack([gym.reset(seed=seed)[0] for seed in range(draws)])
    _, observed = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), draws))
    observed = np.asarray(observed, np.float64)
    fixed = np.ptp(expected, axis=0) < 1e-9
    np.testing.assert_allclose(observed[:, fixed], expected[:, fixed], atol=1e-6)
    levels = [
        stats.ks_2samp(*pair).pvalue
        for pair in zip(observed[:, ~fixed].T, expected[:, ~fixed].T, strict=True)
    ]
    # One in ten thousand for the least of so many independent coordinates, were the two the same.
    assert min(levels) > 1e-4 / len(levels)
    correlated = np.corrcoef(expected[:, ~fixed].T) - np.corrcoef(observed[:, ~fixed].T)
    assert np.abs(correlated).max() < 6 * np.sqrt(2 / draws)
