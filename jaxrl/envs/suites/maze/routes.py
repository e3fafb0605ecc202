"""Shortest ways between the free cells of a maze, and a guide along them.

F free cells are numbered in the order of `free_cells`.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.types import Array


def free_cells(walls: np.ndarray) -> np.ndarray:
    """(row, column) of every cell without a wall, int64 [F, 2]."""
    return np.argwhere(~walls)


def distances(walls: np.ndarray) -> np.ndarray:
    """Cells that one walks from each free cell to each other one, int64 [F, F]; F: no way.

    Breadth first: after k rounds all cells within k of a cell are known.
    """
    near = _neighbours(walls)
    found = np.where(np.eye(len(near), dtype=bool), 0, len(near))
    for length in range(1, len(near)):
        reached = (found < length) @ near & (found > length)
        found[reached] = length
    return found


def _neighbours(walls: np.ndarray) -> np.ndarray:
    """Which free cells share a side, bool [F, F]."""
    cells = free_cells(walls)
    return np.abs(cells[:, None] - cells).sum(-1) == 1


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Guide:
    """What knows the way from any position of a maze to any of its cells."""

    centres: Array  # (x, y) of the free cells, float32 [F, 2]
    following: Array  # from cell j to cell i, the next cell on a shortest way: int32 [i, j]
    number: Array  # of the free cell at (row, column), int32; 0 in walls
    step_size: Array  # of the environment, float32 []

    @classmethod
    def of(cls, walls: np.ndarray, step_size: Array) -> Guide:
        """The guide of a maze, computed on the host."""
        cells, away, near = free_cells(walls), distances(walls), _neighbours(walls)
        here = np.eye(len(cells), dtype=bool)  # one who is there stays
        beyond = np.where((near | here)[None], away[:, None, :], len(cells) + 1)
        number = np.zeros(walls.shape, np.int32)
        number[tuple(cells.T)] = np.arange(len(cells))
        return cls(
            centres=jnp.asarray(cells[:, ::-1], jnp.float32),
            following=jnp.asarray(np.argmin(beyond, axis=-1), jnp.int32),
            number=jnp.asarray(number),
            step_size=step_size,
        )

    def act(self, position: Array, goal: Array) -> Array:
        """The action, float32 [2], towards the next cell on the way from a position [2].

        It is of length 1 at most: as long as a step goes, straight to the centre of the next cell
        (two neighbours are one rectangle, so no wall is in between), or of the goal's. `goal` is
        the number of a free cell, int32 [].
        """
        column, row = jnp.floor(position + 0.5).astype(jnp.int32)
        target = self.centres[self.following[goal, self.number[row, column]]]
        action = (target - position) / self.step_size
        return action / jnp.maximum(jnp.linalg.norm(action), 1.0)
