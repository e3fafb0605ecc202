"""MuJoCo's tasks on MJX: the same first states, observations,
rewards and ends as on the C library, near enough.

Batches are small: jaxlib 0.10.0 to 0.10.2 can hang on two CPU cores in large batched
factorisations. A hang fails the run by pytest's own time limit (pyproject.toml).
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import registry

pytest.importorskip("mujoco.mjx")

ROWS = 4
# The humanoids have another solver, and Ant's legs meet the ground a little sooner or later.
SLOW = {
    "HalfCheetah-v5": 1e-3,
    "Swimmer-v5": 1e-4,
    "Reacher-v5": 1e-4,
    "Ant-v5": 1e-2,
    "Humanoid-v5": 0.3,
}
CASES = [
    ("InvertedPendulum-v5", 1e-4),
    *(pytest.param(*case, marks=pytest.mark.slow) for case in SLOW.items()),
]


@functools.cache
def pair(environment_id):
    return registry.make(environment_id), registry.make(environment_id, backend="mjx")


@functools.cache
def compiled(environment_id, side):
    env = pair(environment_id)[side]
    return jax.jit(jax.vmap(env.reset)), jax.jit(jax.vmap(env.step, in_axes=(None, 0, 0)))


def keys(seed):
    return jax.random.split(jax.random.key(seed), ROWS)


def doubles(state):
    return np.asarray(state).reshape(len(state), -1).view(np.float64)


@pytest.mark.parametrize(("environment_id", "tolerance"), CASES)
def test_a_step_is_the_c_librarys_but_for_precision(environment_id, tolerance):
    exact, _ = pair(environment_id)
    (reset, step), (other_reset, other_step) = (compiled(environment_id, side) for side in (0, 1))
    state, first = reset(keys(0))
    other_state, other_first = other_reset(keys(0))
    np.testing.assert_allclose(other_first, first, atol=1e-4)
    size = 1 + exact.SIZES[0] + exact.SIZES[1]
    np.testing.assert_allclose(other_state[:, :size], doubles(state)[:, :size], atol=1e-6)

    action = jax.vmap(exact.action_space.sample)(keys(1))
    state, seen = step(jax.random.key(2), state, action)
    found_state, found = other_step(jax.random.key(2), other_state, action)
    assert found_state.shape == other_state.shape == (ROWS, doubles(state).shape[1])
    scale = 1.0 + jnp.abs(seen.observation).max()
    np.testing.assert_allclose(found.observation / scale, seen.observation / scale, atol=tolerance)
    np.testing.assert_allclose(found.reward, seen.reward, rtol=tolerance, atol=10 * tolerance)
    np.testing.assert_array_equal(found.terminated, seen.terminated)
    other_step(jax.random.key(3), found_state, action)
    assert other_step._cache_size() == 1


def test_a_blow_up_ends_the_episode():
    reset, step = compiled("InvertedPendulum-v5", 1)
    state, _ = reset(keys(4))
    following, seen = step(jax.random.key(5), state.at[1, 3:5].set(1e20), jnp.zeros((ROWS, 1)))
    np.testing.assert_array_equal(seen.info["blow_up"], [0.0, 1.0, 0.0, 0.0])
    assert (
        bool(seen.terminated[1])
        and np.isfinite(seen.observation).all()
        and np.isfinite(following).all()
    )
