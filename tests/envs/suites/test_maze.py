"""Point mazes: walls hold, goals pay, guides know the way, and exact values are those of walks."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs.api import Drawable
from jaxrl.envs.registry import make
from jaxrl.envs.suites.maze.exact import ACTIONS, action_gap, action_values
from jaxrl.envs.suites.maze.layouts import LAYOUTS, walls_of
from jaxrl.envs.suites.maze.point import GOAL, PIXELS, POINT, WALL
from jaxrl.envs.suites.maze.routes import Guide, distances, free_cells
from jaxrl.errors import JaxrlError


@pytest.fixture(scope="module")
def env():
    return make("maze/point-large")


@functools.cache
def moves():
    """Many moves at once, for environments of any layout."""
    return jax.jit(jax.vmap(lambda env, at, action: env.move(at, action), (None, 0, 0)))


@pytest.mark.parametrize(("layout", "cells"), [("umaze", 6), ("medium", 10), ("large", 15)])
def test_layouts_are_closed_and_their_tasks_as_long_as_they_should_be(layout, cells):
    walls = walls_of(layout)
    assert walls[0].all() and walls[-1].all() and walls[:, 0].all() and walls[:, -1].all()
    free, away = free_cells(walls).tolist(), distances(walls)
    assert away.max() < len(free)  # every cell is reached from every other
    assert away[free.index([*LAYOUTS[layout].start]), free.index([*LAYOUTS[layout].goal])] == cells
    assert make(f"maze/point-{layout}").horizon == 4 * cells * 2.5


def test_distances_are_counted_along_the_corridors():
    walls = np.array([[mark == "#" for mark in row] for row in ("###", "...", "#.#", "#.#")])
    # Cells: (1, 0), (1, 1), (1, 2), (2, 1), (3, 1); and one apart, which nothing reaches.
    np.testing.assert_array_equal(distances(walls)[0], [0, 1, 2, 2, 3])
    apart = np.array([[False, True, False]])
    np.testing.assert_array_equal(distances(apart), [[0, 2], [2, 0]])


def test_a_step_goes_two_fifths_of_a_cell_and_walls_stop_each_axis(env):
    starts = jnp.array([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [4.3, 1.0], [4.3, 2.8], [1.8, 1.4]])
    actions = jnp.array([[1.0, 0], [0.0, 0.5], [5.0, -1], [1, 1], [1, -1], [-1, 1]])
    expected = [
        [1.4, 1.0],
        [1.0, 1.2],  # into the cell below
        [1.4, 0.6],  # clipped to 1; up, inside of the cell
        [4.49, 1.4],  # column 5 is a wall here; down goes on
        [4.7, 2.51],  # not here, and above column 5 there is one
        [1.4, 1.8],  # first along x, past the corner; so y finds no wall
    ]
    np.testing.assert_allclose(moves()(env, starts, actions), expected, atol=1e-6)


def test_nobody_gets_into_a_wall(env):
    rng = np.random.default_rng(0)
    at = jnp.asarray(free_cells(env.walls)[:, ::-1], jnp.float32)
    for _ in range(200):
        actions = np.sign(rng.normal(size=at.shape)) * rng.choice([1.0, 0.37], size=at.shape)
        at = moves()(env, at, jnp.asarray(actions, jnp.float32))
        column, row = np.floor(np.asarray(at) + 0.5).astype(int).T
        assert not env.walls[row, column].any()


def test_only_the_goal_pays_and_ends(env):
    key = jax.random.key(0)
    near, far = jnp.array([9.3, 7.0]), jnp.array([8.9, 7.0])
    _, there = env.step(key, near, jnp.array([1.0, 0.0]))  # 9.7: within half a cell of (10, 7)
    _, short = env.step(key, far, jnp.array([1.0, 0.0]))  # 9.3
    assert (float(there.reward), bool(there.terminated)) == (0.0, True)
    assert (float(short.reward), bool(short.terminated)) == (-1.0, False)
    np.testing.assert_allclose(there.observation, [9.7, 7.0], atol=1e-6)


def test_episodes_begin_near_the_start():
    env = make("maze/point-large", start=[3, 10])
    _, first = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 200))
    assert np.abs(first - np.array([[10.0, 3.0]])).max() <= 0.1 and np.std(first, axis=0).min() > 0


def test_goal_and_size_of_steps_are_options():
    env = make("maze/point-large", goal=[1, 4], steps_per_cell=10)
    assert env.goal.tolist() == [4.0, 1.0] and env.horizon == 4 * 3 * 10
    assert float(env.step_size) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"goal": [0, 0]}, r"goal is \[0, 0\], which is a wall. The nearest cell: \[1, 1\]"),
        ({"start": [9, 40]}, r"start is \[9, 40\], which is outside of the maze"),
        ({"goal": "7,10"}, "goal is '7,10', but must be a row and a column"),
        ({"goal": [7.5, 10]}, "must be a row and a column"),
        ({"goal": [1, 1]}, r"start and goal are both \[1, 1\]"),
        ({"steps_per_cell": 0.5}, r"steps_per_cell is 0.5, but must lie in \[1, inf\)"),
        ({"gaol": [1, 1]}, "unknown option of maze/point-large 'gaol'. Did you mean goal"),
    ],
)
def test_bad_options_are_refused(options, words):
    with pytest.raises(JaxrlError, match=words):
        make("maze/point-large", **options)


def test_the_guide_walks_the_shortest_way_from_everywhere(env):
    guide = Guide.of(env.walls, env.step_size)
    away, centres = distances(env.walls), guide.centres
    goal = guide.number[7, 10]
    act = jax.jit(jax.vmap(guide.act, (0, None)))
    at, steps = centres, np.zeros(len(centres))
    for _ in range(70):
        steps += ~np.asarray(jax.vmap(env.at_goal)(at))
        at = moves()(env, at, act(at, goal))
    ideal = (away[int(goal)] - 0.5) * 2.5  # to the goal's edge
    walked = away[int(goal)] > 0
    assert np.all(steps[walked] <= ideal[walked] + 1) and np.all(
        steps[walked] >= 0.7 * ideal[walked]
    )
    np.testing.assert_allclose(at, np.tile([10.0, 7.0], (len(centres), 1)), atol=1e-5)  # and stays


def test_exact_values_are_the_returns_of_the_best_walk():
    env = make("maze/point-umaze")
    found = action_values(env, gamma=0.9)
    best = np.asarray(found.value.max(-1))
    # Every value is that of some number of steps with −1, before one with 0.
    steps = np.log(1 + best * 0.1) / np.log(0.9)
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-3)
    for cell in ([1.0, 1.0], [3.0, 1.0], [3.0, 3.0]):
        here = np.argmin(np.abs(found.position - np.array([cell])).sum(-1))
        assert steps[here] + 1 == pytest.approx(fewest_steps(env, tuple(cell)), abs=1e-3)
    still = ACTIONS.tolist().index([0.0, 0.0])
    np.testing.assert_allclose(found.value[:, still], -1 + 0.9 * best, rtol=1e-5)


def fewest_steps(env, first):
    """Steps to the goal, by searching breadth first."""
    seen, front, steps = {first}, [first], 0
    while True:
        steps += 1
        reached = {slow_move(env, at, action) for at in front for action in ACTIONS.tolist()}
        if any(np.hypot(*(np.array(at) - env.goal)) <= 0.5 for at in reached):
            return steps
        front = sorted(reached - seen)
        seen |= reached


def slow_move(env, at, action):
    """Where an action leads, in float64, one coordinate after the other."""
    at = list(at)
    for axis in (0, 1):
        ahead = list(at)
        ahead[axis] += float(env.step_size) * max(-1.0, min(1.0, action[axis]))
        column, row = (int(np.floor(each + 0.5)) for each in ahead)
        if env.walls[row, column]:
            ahead[axis] = np.floor(at[axis] + 0.5) + np.sign(action[axis]) * 0.49
        at = ahead
    return round(at[0], 4), round(at[1], 4)


def test_moves_are_those_of_a_slow_loop(env):
    rng = np.random.default_rng(1)
    cells = free_cells(env.walls)[:, ::-1].repeat(8, axis=0)
    at = (cells + rng.uniform(-0.48, 0.48, cells.shape)).astype(np.float32)
    actions = rng.normal(size=cells.shape).astype(np.float32)
    expected = [slow_move(env, *each) for each in zip(at.tolist(), actions.tolist(), strict=True)]
    np.testing.assert_allclose(
        moves()(env, jnp.asarray(at), jnp.asarray(actions)), expected, atol=2e-4
    )


def test_the_finer_the_steps_the_less_an_action_matters(env):
    assert action_gap(env) == pytest.approx(0.109, abs=0.002)
    assert action_gap(make("maze/point-large", steps_per_cell=10)) == pytest.approx(
        0.025, abs=0.001
    )


def test_it_is_drawn_where_it_is(env):
    assert isinstance(env, Drawable)
    with env.painter() as paint:
        image = paint(np.array([3.0, 1.0], np.float32))
    assert image.shape == (9 * PIXELS, 12 * PIXELS, 3) and image.dtype == np.uint8
    middle = PIXELS // 2
    for colour, (row, column) in {POINT: (1, 3), GOAL: (7, 10), WALL: (0, 0)}.items():
        assert tuple(image[row * PIXELS + middle, column * PIXELS + middle].tolist()) == colour
