"""Key to door: the key decides, chance finds both in 13 % of the episodes, nothing else pays."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs.registry import make
from jaxrl.envs.suites.keydoor import CELLS, MOVES, STEPS, Walk

LEFT, DOWN, RIGHT, UP = range(4)


@pytest.fixture(scope="module")
def env():
    return make("keydoor/16")


@functools.cache
def stepped():
    return jax.jit(make("keydoor/16").step)


def walk(time=0, cell=4, key_cell=0, door_cell=8, has_key=False):
    numbers = (jnp.asarray(each, jnp.int32) for each in (time, cell, key_cell, door_cell))
    return Walk(*numbers, jnp.asarray(has_key))


def after(state, *actions):
    """(state, timestep) after some actions."""
    for action in actions:
        state, timestep = stepped()(jax.random.key(0), state, jnp.int32(action))
    return state, timestep


def seen(timestep):
    """(the agent's cell, the cell that is marked, the room, has key, share of the time)."""
    cells, marks, rooms, numbers = np.split(np.asarray(timestep.observation), [9, 18, 21])
    marked = int(marks.argmax()) if marks.any() else None
    return int(cells.argmax()), marked, int(rooms.argmax()), bool(numbers[0]), float(numbers[1])


def test_the_key_is_picked_up_and_then_no_longer_shown():
    state, timestep = after(walk(key_cell=1), LEFT)
    assert seen(timestep) == (3, 1, 0, False, 1 / 16)
    state, timestep = after(state, UP, RIGHT)
    assert seen(timestep) == (1, None, 0, True, 3 / 16)


def test_rooms_follow_each_other_and_are_entered_in_the_centre():
    state, timestep = after(walk(time=5, cell=6, has_key=True), LEFT)  # a wall
    assert seen(timestep) == (4, None, 1, True, 6 / 16)
    state, timestep = after(state, LEFT, LEFT, UP)
    assert seen(timestep) == (0, None, 1, True, 9 / 16)
    _, timestep = after(state, UP)
    assert seen(timestep) == (4, 8, 2, True, 10 / 16)


@pytest.mark.parametrize("has_key", [True, False])
def test_the_door_opens_for_who_has_the_key(has_key):
    _, timestep = after(walk(time=10, cell=7, has_key=has_key), RIGHT)
    assert (float(timestep.reward), bool(timestep.terminated)) == (float(has_key), has_key)


def test_an_episode_ends_after_sixteen_steps():
    state, timestep = after(walk(time=14), LEFT)
    assert not timestep.terminated
    _, timestep = after(state, LEFT)
    assert timestep.terminated and float(timestep.reward) == 0.0


def test_neither_the_key_nor_the_door_opens_anything_in_another_room():
    state, timestep = after(walk(time=6, key_cell=3, door_cell=3), LEFT)
    assert not state.has_key and not timestep.terminated
    _, timestep = after(walk(time=0, door_cell=3, has_key=True), LEFT)
    assert not timestep.terminated and float(timestep.reward) == 0.0


def test_chance_succeeds_as_often_as_the_reference_says(env):
    random, best = env.reference_scores
    assert (random, best) == (pytest.approx(0.1328, abs=1e-4), 1.0)

    @jax.jit
    @jax.vmap
    def episode(key):
        key_reset, key_steps = jax.random.split(key)

        def step(carry, key):
            state, running = carry
            key_action, key_step = jax.random.split(key)
            state, timestep = env.step(key_step, state, env.action_space.sample(key_action))
            return (state, running & ~timestep.terminated), timestep.reward * running

        first, _ = env.reset(key_reset)
        _, rewards = jax.lax.scan(
            step, (first, jnp.ones((), bool)), jax.random.split(key_steps, STEPS)
        )
        return rewards.sum()

    with jax.debug_key_reuse(False):  # a scan over keys under vmap
        returns = np.asarray(episode(jax.random.split(jax.random.key(0), 20_000)))
    assert set(returns.tolist()) == {0.0, 1.0}
    assert returns.mean() == pytest.approx(random, abs=3 * np.sqrt(0.1328 * 0.8672 / 20_000))


def test_who_walks_to_what_is_shown_always_succeeds(env):
    for seed in range(4):
        state, observation = env.reset(jax.random.key(seed))
        reward = 0.0
        for _ in range(STEPS):
            cell = int(observation[:CELLS].argmax())
            marked = observation[CELLS : 2 * CELLS]
            away = np.subtract(divmod(int(marked.argmax()), 3), divmod(cell, 3)) * marked.any()
            action = int(np.argmax(MOVES @ away))  # any, where nothing is shown
            state, timestep = after(state, action)
            observation, reward = timestep.observation, float(timestep.reward)
            if timestep.terminated:
                break
        assert reward == 1.0


def test_keys_and_doors_are_beside_the_centre(env):
    state, _ = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 500))
    for cells in (state.key_cell, state.door_cell):
        assert sorted(set(cells.tolist())) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert np.corrcoef(state.key_cell, state.door_cell)[0, 1] == pytest.approx(0.0, abs=0.15)
