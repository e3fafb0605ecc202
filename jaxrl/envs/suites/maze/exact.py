"""Optimal values of a point maze, and how much an action matters in it."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.deterministic import normalized_action_gap, optimal_action_values
from jaxrl.envs.suites.maze.point import PointMaze
from jaxrl.envs.suites.maze.routes import free_cells
from jaxrl.types import Array

# Still, and the eight ways along the axes and the diagonals: no other action goes further.
ACTIONS = np.array(list(itertools.product((-1.0, 0.0, 1.0), repeat=2)), np.float32)
FINEST = 8  # squares that an action may cross
LEAST = 5  # squares along a cell's side


class MazeValues(NamedTuple):
    """Q* at S positions and for the nine ACTIONS."""

    position: Array  # float32 [S, 2]
    value: Array  # float32 [S, 9]


def action_values(env: PointMaze, gamma: float = 0.99) -> MazeValues:
    """Exact values on a grid of squares, for positions outside of the goal.

    A position is that of its square's centre. The squares are so small that an action crosses whole
    ones, k of them along each axis, and leads from centre to centre but for walls, where it ends in
    the square beside them. (Where no k ≤ 8 fits `steps_per_cell`, it is an approximation.)
    """
    per_cell = _squares_per_cell(env)
    centres, number = _squares(env.walls, per_cell)

    @jax.jit
    def values(env: PointMaze, centres: Array) -> tuple[Array, Array]:
        outcomes = jax.vmap(jax.vmap(env.move, (None, 0)), (0, None))(centres, jnp.asarray(ACTIONS))
        column, row = jnp.moveaxis(jnp.floor((outcomes + 0.5) * per_cell), -1, 0).astype(jnp.int32)
        ended = jax.vmap(jax.vmap(env.at_goal))(outcomes)
        reward = ended.astype(jnp.float32) - 1.0
        found = optimal_action_values(jnp.asarray(number)[row, column], reward, ended, gamma)
        return found, jax.vmap(env.at_goal)(centres)

    found, inside = values(env, centres)
    return MazeValues(centres[~inside], found[~inside])


def action_gap(env: PointMaze, gamma: float = 0.99) -> float:
    """(best − worst action's value) / mean |Q|, over the maze; see `normalized_action_gap`."""
    return float(normalized_action_gap(action_values(env, gamma).value))


def _squares_per_cell(env: PointMaze) -> int:
    """Squares along a cell's side: as many as make an action cross whole squares, if any do."""
    steps = 1.0 / float(env.step_size)
    for crossed in range(1, FINEST + 1):
        squares = round(steps * crossed)
        if squares >= LEAST and abs(squares - steps * crossed) < 1e-3:
            return squares
    return round(FINEST * steps)


def _squares(walls: np.ndarray, per_cell: int) -> tuple[np.ndarray, np.ndarray]:
    """(centres of the S free squares, float32 [S, 2]; the number of the one at [row, column])."""
    walls = np.kron(walls, np.ones((per_cell, per_cell), bool))
    free = free_cells(walls)
    number = np.zeros(walls.shape, np.int32)
    number[tuple(free.T)] = np.arange(len(free))
    return ((free[:, ::-1] + 0.5) / per_cell - 0.5).astype(np.float32), number
