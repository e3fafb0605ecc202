"""The environment: a point in a maze."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxrl.envs.api import Environment
from jaxrl.envs.suites.maze.layouts import LAYOUTS, Cell, walls_of
from jaxrl.envs.suites.maze.routes import distances, free_cells
from jaxrl.errors import JaxrlError, check_range
from jaxrl.types import Array, Box, Key, Space, Timestep

RADIUS = 0.5  # of the goal; lengths are in cells
SPREAD = 0.1  # of first positions, to either side of the start in each coordinate
MARGIN = 0.01  # how far before a wall the point is stopped, so that rounding puts it in no wall
PATIENCE = 4  # shortest ways that fit into the time limit

PIXELS = 32  # of a cell's side, in pictures
FLOOR, WALL, GOAL, POINT = (251, 251, 251), (60, 60, 60), (0, 158, 115), (213, 94, 0)


class PointMaze(Environment):
    """Walk to the goal: −1 per step, 0 for the step that reaches it, which ends the episode.

    The state is the position (x, y), float32 [2], and is observed whole: the centre of cell (row,
    column) is at (column, row). An action in [-1, 1]² moves by `step_size` times itself, first
    along x and then along y; a wall stops each of the two.
    """

    step_size: Array  # float32 []
    start: Array  # float32 [2], the centre of the cell
    goal: Array  # float32 [2]
    layout: str = struct.field(pytree_node=False)
    limit: int = struct.field(pytree_node=False)

    @property
    def walls(self) -> np.ndarray:
        """Which cells are walls, bool [rows, columns]."""
        return walls_of(self.layout)

    @property
    def observation_space(self) -> Space:
        """The position: within the maze."""
        rows, columns = self.walls.shape
        return Box(-0.5, (columns - 0.5, rows - 0.5), (2,))

    @property
    def action_space(self) -> Space:
        """The direction."""
        return Box(-1.0, 1.0, (2,))

    @property
    def horizon(self) -> int:
        """Time for the shortest way between the cells of start and goal, four times."""
        return self.limit

    def reset(self, key: Key) -> tuple[Array, Array]:
        """A position near the centre of the start's cell."""
        position = self.start + jax.random.uniform(key, (2,), minval=-SPREAD, maxval=SPREAD)
        return position, position

    def step(self, key: Key, state: Array, action: Array) -> tuple[Array, Timestep]:
        """Move; the end, if the goal is reached."""
        position = self.move(state, action)
        reached = self.at_goal(position)
        return position, Timestep(position, reached.astype(jnp.float32) - 1.0, reached)

    def move(self, position: Array, action: Array) -> Array:
        """Where an action leads from a position, float32 [2]."""
        shift = self.step_size * jnp.clip(action, -1.0, 1.0)
        for axis in (0, 1):
            ahead = position.at[axis].add(shift[axis])
            middle = jnp.floor(position[axis] + 0.5)  # of the cell
            stopped = middle + jnp.sign(shift[axis]) * (0.5 - MARGIN)
            position = position.at[axis].set(
                jnp.where(self.is_wall(ahead), stopped, ahead[axis]),
            )
        return position

    def is_wall(self, position: Array) -> Array:
        """Whether a position [2] is in a wall, bool []."""
        column, row = jnp.floor(position + 0.5).astype(jnp.int32)
        return jnp.asarray(self.walls)[row, column]

    def at_goal(self, position: Array) -> Array:
        """Whether a position [2] is within half a cell of the goal, bool []."""
        return jnp.sum(jnp.square(position - self.goal)) <= RADIUS**2

    @property
    def seconds(self) -> float:
        """Of a film, per step."""
        return 0.1

    @contextmanager
    def painter(self) -> Iterator[Callable[[Array], np.ndarray]]:
        """A function that draws a position: the point, the goal and the walls from above."""
        walls = np.kron(self.walls, np.ones((PIXELS, PIXELS), bool))
        empty = _with_disc(np.where(walls[..., None], WALL, FLOOR), self.goal, RADIUS, GOAL)

        def paint(state: Array) -> np.ndarray:
            return _with_disc(empty, state, 0.2, POINT).astype(np.uint8)

        yield paint


def _with_disc(
    image: np.ndarray, centre: Array, radius: float, colour: tuple[int, int, int]
) -> np.ndarray:
    """An image [height, width, 3] with a disc on it, whose edge is smooth; in units of cells."""
    height, width, _ = image.shape
    x = (np.arange(width) + 0.5) / PIXELS - 0.5
    y = (np.arange(height) + 0.5) / PIXELS - 0.5
    column, row = np.asarray(centre)
    away = np.hypot(x[None, :] - column, y[:, None] - row)
    cover = np.clip((radius - away) * PIXELS + 0.5, 0.0, 1.0)[..., None]
    return image + cover * (np.asarray(colour) - image)


def point_maze(
    layout: str, start: Any = None, goal: Any = None, steps_per_cell: float = 2.5
) -> PointMaze:
    """A point in the maze of a layout's name.

    start, goal:    cells, [row, column]; those of the layout's task unless given.
    steps_per_cell: how many actions it takes to cross a cell along x or y, at least 1.
    """
    walls = walls_of(layout)
    first = _free_cell("start", start, walls, LAYOUTS[layout].start)
    last = _free_cell("goal", goal, walls, LAYOUTS[layout].goal)
    if first == last:
        raise JaxrlError(f"start and goal are both {list(first)}, but must be two cells.")
    check_range("steps_per_cell", steps_per_cell, 1.0, finite=True)
    cells = free_cells(walls).tolist()
    away = distances(walls)[cells.index(list(first)), cells.index(list(last))]
    return PointMaze(
        step_size=jnp.asarray(1.0 / steps_per_cell, jnp.float32),
        start=jnp.asarray(first[::-1], jnp.float32),
        goal=jnp.asarray(last[::-1], jnp.float32),
        layout=layout,
        limit=round(PATIENCE * int(away) * float(steps_per_cell)),
    )


def _free_cell(name: str, given: Any, walls: np.ndarray, usual: Cell) -> Cell:
    """The cell that was given, or the usual one; refused if there is a wall, or nothing."""
    if given is None:
        return usual
    cell = np.asarray(given) if not isinstance(given, str) else np.zeros(0)
    rows, columns = walls.shape
    if cell.shape != (2,) or cell.dtype.kind not in "iu":
        raise JaxrlError(f"{name} is {given!r}, but must be a row and a column: [1, 1], say.")
    row, column = (int(number) for number in cell)
    if not (0 <= row < rows and 0 <= column < columns) or walls[row, column]:
        free = free_cells(walls)
        near = free[np.argmin(np.abs(free - cell).sum(-1))].tolist()
        where = "a wall" if 0 <= row < rows and 0 <= column < columns else "outside of the maze"
        raise JaxrlError(f"{name} is {[row, column]}, which is {where}. The nearest cell: {near}.")
    return row, column
