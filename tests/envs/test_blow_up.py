import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs.blow_up import INFO, all_finite, guard

BEFORE = {"q": jnp.zeros(2), "count": jnp.int32(3), "key": jax.random.key(0)}
AFTER = {"q": jnp.ones(2), "count": jnp.int32(4), "key": jax.random.key(1)}
BAD = [jnp.nan, jnp.inf, -jnp.inf]


@pytest.fixture(autouse=True)
def keys_may_be_reused():
    """The keys here are parts of states, from which nothing is drawn."""
    with jax.debug_key_reuse(False):
        yield


def step(q=1.0, observation=2.0, reward=3.0, terminated=False):
    after = AFTER | {"q": jnp.array([1.0, q])}
    return guard(
        BEFORE, after, jnp.array([2.0, observation]), jnp.float32(reward), jnp.bool_(terminated)
    )


def test_a_sound_step_passes_through():
    for terminated in (False, True):
        state, timestep = step(terminated=terminated)
        np.testing.assert_array_equal(state["q"], AFTER["q"])
        np.testing.assert_array_equal(timestep.observation, [2.0, 2.0])
        assert state["count"] == 4 and state["key"] == jax.random.key(1)
        assert timestep.reward == 3.0 and timestep.terminated == terminated
        assert tuple(timestep.info) == INFO and timestep.info["blow_up"] == 0.0


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize("where", ["q", "observation", "reward"])
def test_whatever_is_not_finite_ends_the_episode(where, value):
    state, timestep = step(**{where: value})
    np.testing.assert_array_equal(state["q"], BEFORE["q"])
    np.testing.assert_array_equal(timestep.observation, [0.0, 0.0])
    assert state["count"] == 3 and state["key"] == jax.random.key(0)
    assert timestep.reward == 0.0 and timestep.terminated
    assert timestep.info["blow_up"] == 1.0


def test_rows_of_a_batch_blow_up_alone():
    _, timesteps = jax.jit(jax.vmap(step))(jnp.array([1.0, jnp.nan, 1.0]))
    np.testing.assert_array_equal(timesteps.terminated, [False, True, False])
    np.testing.assert_array_equal(timesteps.info["blow_up"], [0.0, 1.0, 0.0])
    np.testing.assert_array_equal(timesteps.reward, [3.0, 0.0, 3.0])


def test_types_are_kept():
    state, timestep = jax.eval_shape(step)
    leaves = jax.tree.leaves((state, timestep))
    assert not any(leaf.weak_type for leaf in leaves)
    assert (timestep.reward.dtype, timestep.terminated.dtype) == (jnp.float32, jnp.bool_)
    assert timestep.info["blow_up"].dtype == jnp.float32


def test_whole_numbers_and_keys_are_always_finite():
    assert all_finite({"whole": jnp.arange(3), "key": jax.random.key(0), "float": jnp.ones(())})
    assert not all_finite({"whole": jnp.arange(3), "float": jnp.float32(jnp.inf)})
