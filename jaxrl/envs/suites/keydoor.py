"""Key to door: what is done in the first room decides what can be earned in the last one.

Three rooms of 3 × 3 cells, for 6, 4 and 6 steps: one with a key, an empty one, one with a door. Who
has picked up the key and then reaches the door earns 1; nothing else pays, and no step between the
two tells anything. After the task of Mesnard et al. (2021), arXiv 2011.09464, as decision
transformers were tested on it (Chen et al. 2021, arXiv 2106.01345), small and without pixels.

Data of random actions succeed in 13 % of their episodes: what imitates them does no better.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.api import Environment
from jaxrl.envs.registry import construct
from jaxrl.types import Array, Box, Discrete, Key, Space, Timestep

SUITE = "keydoor"
IDS = ("keydoor/16",)

SIDE = 3
CELLS = SIDE * SIDE
CENTRE = CELLS // 2
ROOMS = (6, 4, 6)  # steps in each
BEGINNINGS = np.cumsum((0, *ROOMS[:-1]))  # the step at which each is entered
STEPS = sum(ROOMS)
KEY_ROOM, DOOR_ROOM = 0, 2
MOVES = np.array([(0, -1), (1, 0), (0, 1), (-1, 0)])  # left, down, right, up: rows and columns


class Walk(NamedTuple):
    """Where an episode stands; int32 [] but for has_key."""

    time: Array  # steps taken
    cell: Array  # of the agent, in the room that it is in
    key_cell: Array
    door_cell: Array
    has_key: Array  # bool []


class KeyToDoor(Environment):
    """Four moves; every room is entered in its centre, where neither the key nor the door is.

    The key is picked up, and the door opened, by walking onto it; opening it ends the episode, and
    so do 16 steps. The observation, float32 [23], is all that matters: the agent's cell, the cell
    of the key (until it is taken) or of the door, the room, each one-hot; whether the agent has the
    key; the share of the steps that are taken.
    """

    @property
    def observation_space(self) -> Space:
        """Two cells, a room, the key and the time."""
        return Box(0.0, 1.0, (2 * CELLS + len(ROOMS) + 2,))

    @property
    def action_space(self) -> Space:
        """Left, down, right, up."""
        return Discrete(len(MOVES))

    @property
    def horizon(self) -> int:
        """The steps in all rooms, after which an episode has ended by itself."""
        return STEPS

    @property
    def reference_scores(self) -> tuple[float, float]:
        """Exact expected returns of uniformly random actions and of the best ones."""
        return _chance_of_finding(ROOMS[KEY_ROOM]) * _chance_of_finding(ROOMS[DOOR_ROOM]), 1.0

    def reset(self, key: Key) -> tuple[Walk, Array]:
        """Hide the key and the door, each in one of the cells around the centre."""
        beside = jax.random.randint(key, (2,), 0, CELLS - 1, jnp.int32)
        key_cell, door_cell = beside + (beside >= CENTRE)
        time, cell = jnp.zeros((), jnp.int32), jnp.full((), CENTRE, jnp.int32)
        walk = Walk(time, cell, key_cell, door_cell, jnp.zeros((), bool))
        return walk, self.observe(walk)

    def step(self, key: Key, state: Walk, action: Array) -> tuple[Walk, Timestep]:
        """Move, pick up the key or open the door, and go on to the next room when it is time."""
        room = _room(state.time)
        row, column = jnp.asarray(MOVES, jnp.int32)[action]
        row = jnp.clip(state.cell // SIDE + row, 0, SIDE - 1)
        column = jnp.clip(state.cell % SIDE + column, 0, SIDE - 1)
        cell = row * SIDE + column
        opened = (room == DOOR_ROOM) & state.has_key & (cell == state.door_cell)
        time = state.time + 1
        walk = Walk(
            time=time,
            cell=jnp.where(_room(time) == room, cell, CENTRE),
            key_cell=state.key_cell,
            door_cell=state.door_cell,
            has_key=state.has_key | ((room == KEY_ROOM) & (cell == state.key_cell)),
        )
        ended = opened | (time >= STEPS)
        return walk, Timestep(self.observe(walk), opened.astype(jnp.float32), ended)

    def observe(self, walk: Walk) -> Array:
        """The observation of a state, float32 [23]."""
        room = _room(walk.time)
        key_there = (room == KEY_ROOM) & ~walk.has_key
        is_sought = jnp.stack([key_there, room == DOOR_ROOM]).astype(jnp.float32)
        sought = is_sought @ jax.nn.one_hot(jnp.stack([walk.key_cell, walk.door_cell]), CELLS)
        numbers = jnp.stack([walk.has_key.astype(jnp.float32), walk.time / STEPS])
        rooms = jax.nn.one_hot(room, len(ROOMS))
        return jnp.concatenate([jax.nn.one_hot(walk.cell, CELLS), sought, rooms, numbers])


def _room(time: Array) -> Array:
    """The room in which the step after `time` steps is taken, int32 []."""
    return jnp.sum(time >= jnp.asarray(BEGINNINGS), dtype=jnp.int32) - 1


def _chance_of_finding(num_steps: int) -> float:
    """That a random walk from the centre visits one of the other cells, drawn uniformly, in time.

    For each cell, the walk's matrix with that cell made absorbing, to the power of the steps.
    """
    chances = []
    for sought in (cell for cell in range(CELLS) if cell != CENTRE):
        walk = np.zeros((CELLS, CELLS))
        for cell in range(CELLS):
            for move in MOVES:
                row, column = np.clip(np.add(divmod(cell, SIDE), move), 0, SIDE - 1)
                walk[cell, row * SIDE + column] += 1 / len(MOVES)
        walk[sought] = np.eye(CELLS)[sought]
        chances.append(np.linalg.matrix_power(walk, num_steps)[CENTRE, sought])
    return float(np.mean(chances))


def make(environment_id: str, **kwargs: Any) -> Environment:
    """Build by id; there are no options."""
    return construct(environment_id, KeyToDoor, kwargs)
