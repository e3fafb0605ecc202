"""Start distributions: where episodes begin, and that they begin in different places."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs.api import Environment
from jaxrl.envs.starts.api import Draw
from jaxrl.envs.starts.fresh import Fresh
from jaxrl.envs.starts.pool import Pool
from jaxrl.envs.vector import VectorEnv
from jaxrl.errors import JaxrlError
from jaxrl.types import Box, Discrete, Progress, Timestep

HORIZON = 7
POOL = 16
PROGRESS = Progress(np.int32(1), 64)


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
    draw = jax.vmap(
        lambda *arguments: starts.draw(*arguments, None, None)[1], in_axes=(None, 0, None)
    )
    return jax.jit(functools.partial(starts.init, n=0)), jax.jit(starts.refresh), jax.jit(draw)


@functools.cache
def draws(n, count=200):
    """`count` draws of `n` from one pool, leaves [count, n, ...], and the pool's observations."""
    init, _, draw = pool()
    state = init(jax.random.key(0))
    return jax.device_get(
        (draw(state, jax.random.split(jax.random.key(1), count), np.ones(n, bool)), state[1])
    )


def test_the_start_of_an_episode_is_the_environments_own_reset_whenever_it_is_made():
    """Rows end now and then, some of them twice in a row;
    every start is reset(fold_in(row's key, its number))."""
    starts, n, steps = Fresh(Anywhere()), 5, 40
    ended = np.random.default_rng(0).random((steps, n)) < np.array([0.0, 0.05, 0.3, 0.9, 1.0])
    first = jax.jit(starts.init, static_argnums=1)(jax.random.key(0), n)
    draw = jax.jit(lambda bank, ended: starts.draw(bank, jax.random.key(9), ended, None, None))
    keys, bank, number = np.asarray(jax.random.key_data(first.key)), first, np.zeros(n, int)
    for now in ended:
        bank, drawn = draw(bank, now)
        for row in np.flatnonzero(now):
            key = jax.random.fold_in(jax.random.wrap_key_data(keys[row]), number[row])
            state, observation = Anywhere().reset(key)
            np.testing.assert_array_equal(drawn.state["point"][row], state["point"])
            np.testing.assert_array_equal(drawn.observation[row], observation)
        number += now
    assert number[0] == 0 and number[4] == steps


def test_starts_of_a_population_are_those_of_its_members():
    """A bank is renewed when any member needs it; what it holds does not depend on when."""
    starts, n = Fresh(Anywhere()), 4
    ended = np.random.default_rng(1).random((30, 3, n)) < 0.4

    def run(key, ended):
        def step(bank, now):
            bank, drawn = starts.draw(bank, jax.random.key(0), now, None, None)
            return bank, drawn.observation

        return jax.lax.scan(step, starts.init(key, n), ended)[1]

    keys = jax.random.split(jax.random.key(2), 3)
    with jax.debug_key_reuse(False):
        together = np.asarray(jax.jit(jax.vmap(run, in_axes=(0, 1)))(keys, ended))
    for member in range(3):
        alone = np.asarray(jax.jit(run)(keys[member], ended[:, member]))
        np.testing.assert_array_equal(together[member][ended[:, member]], alone[ended[:, member]])


def test_banks_of_a_population_are_renewed_together():
    starts = Fresh(Anywhere())

    @jax.jit
    @jax.vmap
    @jax.vmap
    def used(key, ended):
        bank = starts.init(key, len(ended))
        for now in (ended, jnp.zeros_like(ended), ended & (jnp.arange(len(ended)) == 2)):
            bank, _ = starts.draw(bank, jax.random.key(0), now, None, None)
        return bank.used

    ended = np.zeros((2, 3, 4), bool)
    ended[0, 1, 2] = ended[1, 0, :] = ended[1, 2, 3] = (
        True  # rows of index 2 end again: in (0, 1) and in (1, 0)
    )
    expected = np.zeros_like(ended)
    expected[0, 1, 2] = expected[1, 0, 2] = (
        True  # (1, 2) is renewed with them, though its own row waited
    )
    keys = jax.random.split(jax.random.key(0), (2, 3))
    with jax.debug_key_reuse(False):
        np.testing.assert_array_equal(used(keys, ended), expected)


def test_an_episode_count_beyond_2_to_the_31_still_gives_fresh_starts():
    starts = Fresh(Anywhere())
    bank = replace(starts.init(jax.random.key(0), 3), episode=jnp.full(3, 2**31 - 2, jnp.uint32))
    seen = []
    for _ in range(4):
        bank, drawn = starts.draw(bank, jax.random.key(1), jnp.ones(3, bool), None, None)
        seen.append(np.asarray(drawn.observation))
    assert len(np.unique(np.concatenate(seen), axis=0)) == 12 and int(bank.episode[0]) == 2**31 + 1


def test_fresh_grants_the_horizon_and_has_no_origin():
    starts = Fresh(Anywhere())
    assert starts.shortest == HORIZON
    bank = starts.init(jax.random.key(0), 3)
    after, draw = starts.draw(bank, jax.random.key(0), np.ones(3, bool), None, None)
    np.testing.assert_array_equal(draw.limit, [HORIZON] * 3)
    np.testing.assert_array_equal(draw.origin, [-1] * 3)
    assert draw.limit.dtype == draw.origin.dtype == jnp.int32
    assert starts.refresh(after, jax.random.key(1), PROGRESS) is after


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
    after = refresh(before, jax.random.key(1), PROGRESS)
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
        return starts.draw(starts.init(key_pool, 4), key_draw, jnp.ones(4, bool), None, None)[
            1
        ].observation

    seen = np.asarray(iteration(jax.random.split(jax.random.key(4), 100))).reshape(-1, 2)
    np.testing.assert_allclose(seen.mean(0), 0.5, atol=0.1)
    np.testing.assert_allclose(seen.var(0), 1 / 12, rtol=0.25)


@pytest.mark.parametrize("size", [0, -3, 2.5])
def test_a_pool_without_rows_is_refused(size):
    with pytest.raises(
        JaxrlError, match=f"pool_size is {size}, but must be a whole number of at least 1"
    ):
        Pool(Anywhere(), size).init(jax.random.key(0), 4)


class Walls(Environment):
    """Goes where it is told along a line, from `reset`'s place 0; ends at 3.
    The state is the place, twice."""

    observation_space = Box(-10.0, 10.0, ())
    action_space = Box(-10.0, 10.0, ())
    horizon = HORIZON

    def reset(self, key):
        return {"place": jnp.zeros(())}, jnp.zeros(())

    def step(self, key, state, action):
        place = state["place"] + action
        return {"place": place}, Timestep(place, 10.0 * action, place >= 3.0)


class Remembering(Fresh):
    """Begins where the last episode ended, at most at 2, and counts the origins;
    keeps what `draw` was told."""

    shortest = 2
    sharded = True

    def init(self, key, n):
        nothing = {name: jnp.zeros(n) for name in ("return", "length", "ended_at", "final")}
        return nothing | {"origin": jnp.full(n, -2, jnp.int32), "draws": jnp.zeros(n, jnp.int32)}

    def draw(self, state, key, ended, seen, reached):
        n = len(ended)
        place, told = jnp.zeros(n), state
        if seen is not None:
            place = jnp.minimum(reached["place"], 2.0)
            told = {
                "return": seen.episode_return,
                "length": seen.episode_length.astype(jnp.float32),
                "ended_at": reached["place"],
                "final": seen.final_observation,
                "origin": seen.origin,
                "draws": state["draws"],
            }
            told = jax.tree.map(lambda new, old: jnp.where(ended, new, old), told, state)
        told["draws"] = state["draws"] + ended
        return told, Draw({"place": place}, place, jnp.full(n, 2, jnp.int32), told["draws"])


def test_a_distribution_is_told_how_the_episode_that_ended_went_and_where():
    """Rows 0 and 1 walk by 0.5 and 2 a step: time ends the one, its place the other.
    Two steps are granted."""
    vector = VectorEnv(Walls(), Remembering(Walls()), 2)
    state = jax.jit(vector.init)(jax.random.key(0))
    np.testing.assert_array_equal(
        state.starts["origin"], -2
    )  # of the first episodes nothing is told
    told, origins = [], []
    for key in jax.random.split(jax.random.key(1), 4):
        state, seen = jax.jit(vector.step)(state, jnp.array([0.5, 2.0]), key)
        told.append(jax.device_get(state.starts))
        origins.append(np.asarray(seen.origin))
    # Row 0: 0, 0.5, 1 | 1, 1.5, 2.    Row 1: 0, 2, 4 | 2, 4 | 2, 4.
    np.testing.assert_array_equal(told[0]["draws"], [1, 1])
    np.testing.assert_array_equal(
        [each["draws"] for each in told], [[1, 1], [2, 2], [2, 3], [3, 4]]
    )
    np.testing.assert_array_equal(told[1]["return"], [10.0, 40.0])
    np.testing.assert_array_equal(told[1]["length"], [2, 2])
    np.testing.assert_array_equal(
        told[1]["ended_at"], [1.0, 4.0]
    )  # before the reset, as is what follows
    np.testing.assert_array_equal(told[1]["final"], [1.0, 4.0])
    np.testing.assert_array_equal(told[3]["return"], [10.0, 20.0])
    np.testing.assert_array_equal(told[3]["length"], [2, 1])
    np.testing.assert_array_equal(told[3]["ended_at"], [2.0, 4.0])
    # The origin is that of the episode that ended, and stays with all its transitions.
    np.testing.assert_array_equal(told[1]["origin"], [1, 1])
    np.testing.assert_array_equal(told[3]["origin"], [2, 3])
    np.testing.assert_array_equal(origins, [[1, 1], [1, 1], [2, 2], [2, 3]])
    np.testing.assert_array_equal(state.observation, [2.0, 2.0])
