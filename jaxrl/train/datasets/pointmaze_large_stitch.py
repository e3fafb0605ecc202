"""Short walks through the large point maze: none of them covers the way from start to goal.

From a random place to a cell that is four cells away, along a shortest way, with noise of deviation
0.5 on each action; a walk ends where it arrives, or after 20 steps. The task's way is 15 cells
long: whoever only imitates does not find it, and whoever learns values puts pieces together.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.recorded import Recorded
from jaxrl.envs.suites.maze.point import RADIUS
from jaxrl.train.datasets.parts import mazes
from jaxrl.train.datasets.parts.playing import Steps, play_steps, whole_episodes
from jaxrl.types import Array, Key, View

NAME = "pointmaze-large-stitch"
CELLS = 4
LENGTH = 20  # at most
SHORTEST = 5  # steps of a walk on average are more


def build(small: bool = False, seed: int = 0) -> Recorded:
    """Record the walks."""
    maze = mazes.large_maze()

    def act(goal: Array, view: View, key: Key) -> tuple[Array, Array]:
        return maze.guided(view.observation, goal, key), goal

    total = mazes.FEW_STEPS if small else mazes.STEPS
    num_walks = total // SHORTEST
    pairs = np.argwhere(maze.distances == CELLS)
    first, last = pairs[np.random.default_rng(seed).integers(len(pairs), size=num_walks)].T
    steps = play_steps(
        maze.env,
        act,
        num_walks,
        LENGTH,
        jax.random.key(seed),
        start=maze.positions(first, seed + 1),
        memory=jnp.asarray(last, jnp.int32),
    )
    source = f"guided walks over {CELLS} cells, recorded for the task's goal"
    about = mazes.about(NAME, source, seed=seed, small=small)
    length = _until_arrival(steps, np.asarray(maze.guide.centres)[last])
    return whole_episodes(steps, length, about, total)


def _until_arrival(steps: Steps, target: np.ndarray) -> np.ndarray:
    """Steps until each walk is within half a cell of its target [E, 2], int64 [E]."""
    away = np.linalg.norm(steps["next_observation"] - target[:, None], axis=-1)
    arrived = away <= RADIUS
    return np.where(arrived.any(axis=1), arrived.argmax(axis=1) + 1, LENGTH)
