"""Start distributions: where episodes begin, and that they begin in different places."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs.api import Environment
from jaxrl.envs.starts import Fresh, Pool
from jaxrl.errors import JaxrlError
from jaxrl.types import Box, Discrete, Timestep

HORIZON = 7
POOL = 16


class Anywhere(Environment):
    """Begins at a random point, which is both its state and its observation."""

    @property
    def observation_space(self):
        return Box(0.0, 1.0, (2,))

    @property
    def action_space(self):
        return Discrete(2)

    @property
    def horizon(self):
        return HORIZON

    def reset(self, key):
        point = jax.random.uniform(key, (2,))
        return {"point": point}, point

    def step(self, key, state, action):
        return state, Timestep(state["point"], jnp.zeros(()), jnp.zeros((), bool))


@functools.cache
def pool():
    """A compiled pool of 16: init, refresh, and draws under many keys at once."""
    starts = Pool(Anywhere(), POOL)
    draw = jax.vmap(starts.draw, in_axes=(None, 0, None))
    return jax.jit(starts.init), jax.jit(starts.refresh), jax.jit(draw)


@functools.cache
def draws(n, count=200):
    """`count` draws of `n` from one pool, leaves [count, n, ...], and the pool's observations."""
    init, _, draw = pool()
    state = init(jax.random.key(0))
    return jax.device_get((draw(state, jax.random.split(jax.random.key(1), count), np.ones(n, bool)), state[1]))


def test_fresh_is_the_environments_own_reset_bit_for_bit():
    starts = Fresh(Anywhere())
    draw = starts.draw(starts.init(jax.random.key(0)), jax.random.key(5), np.ones(4, bool))
    for row, key in enumerate(jax.random.split(jax.random.key(5), 4)):
        state, observation = Anywhere().reset(key)
        np.testing.assert_array_equal(draw.state["point"][row], state["point"])
        np.testing.assert_array_equal(draw.observation[row], observation)


def test_fresh_grants_the_horizon_and_has_no_origin():
    starts = Fresh(Anywhere())
    assert starts.shortest == HORIZON
    draw = starts.draw((), jax.random.key(0), np.ones(3, bool))
    np.testing.assert_array_equal(draw.limit, [HORIZON] * 3)
    np.testing.assert_array_equal(draw.origin, [-1] * 3)
    assert draw.limit.dtype == draw.origin.dtype == jnp.int32
    assert starts.refresh((), jax.random.key(1)) == ()


@pytest.mark.parametrize("n", [4, POOL, POOL + 8])
def test_draws_are_rows_of_the_pool_named_by_their_origin(n):
    draw, observations = draws(n)
    assert draw.observation.shape == (200, n, 2) and draw.origin.dtype == np.int32
    np.testing.assert_array_equal(draw.observation, observations[draw.origin])
    np.testing.assert_array_equal(draw.state["point"], draw.observation)
    np.testing.assert_array_equal(draw.limit, HORIZON)


@pytest.mark.parametrize("n", [4, POOL])
def test_no_row_is_drawn_twice_in_a_step(n):
    draw, _ = draws(n)
    assert all(len(set(origin.tolist())) == n for origin in draw.origin)


def test_no_row_is_drawn_twice_however_large_the_vector_while_few_episodes_end():
    init, _, draw = pool()
    ended = np.zeros(10 * POOL, bool)
    ended[::10] = True
    drawn = draw(init(jax.random.key(0)), jax.random.split(jax.random.key(1), 50), ended)
    assert all(len(set(origin.tolist())) == POOL for origin in np.asarray(drawn.origin)[:, ended])


def test_more_draws_than_rows_use_every_row():
    draw, _ = draws(POOL + 8)
    assert all(len(set(origin.tolist())) == POOL for origin in draw.origin)


def test_every_row_of_the_pool_is_handed_out_to_every_environment():
    draw, _ = draws(4)
    for environment in range(4):
        assert set(draw.origin[:, environment].tolist()) == set(range(POOL))


def test_refresh_replaces_every_row():
    init, refresh, _ = pool()
    before = init(jax.random.key(0))
    after = refresh(before, jax.random.key(1))
    assert jax.tree.structure(before) == jax.tree.structure(after)
    old, new = np.asarray(before[1]), np.asarray(after[1])
    assert new.shape == old.shape == (POOL, 2)
    assert not set(old.ravel().tolist()) & set(new.ravel().tolist())


def test_the_rows_of_a_pool_are_independent_resets():
    observations = np.asarray(pool()[0](jax.random.key(3))[1])
    assert len(np.unique(observations, axis=0)) == POOL


def test_pooled_starts_are_as_diverse_as_fresh_ones():
    starts = Pool(Anywhere(), POOL)

    @jax.jit
    @jax.vmap
    def iteration(key):
        key_pool, key_draw = jax.random.split(key)
        return starts.draw(starts.init(key_pool), key_draw, jnp.ones(4, bool)).observation

    seen = np.asarray(iteration(jax.random.split(jax.random.key(4), 100))).reshape(-1, 2)
    np.testing.assert_allclose(seen.mean(0), 0.5, atol=0.1)
    np.testing.assert_allclose(seen.var(0), 1 / 12, rtol=0.25)


@pytest.mark.parametrize("size", [0, -3, 2.5])
def test_a_pool_without_rows_is_refused(size):
    with pytest.raises(JaxrlError, match=f"pool_size is {size}, but must be a whole number of at least 1"):
        Pool(Anywhere(), size).init(jax.random.key(0))
