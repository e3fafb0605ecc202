"""Walks through the large point maze, from anywhere to anywhere, recorded for one goal.

200 steps each, from a random place to a random cell, and on to another one as soon as it is
reached; along shortest ways, with noise of deviation 0.5 on each action. Rewards and terminations
are those of the maze's own task, whatever a walk had in mind: a walk that reaches its goal goes on.
In every corridor actions point in both directions, so that their mean points nowhere.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.recorded import Recorded
from jaxrl.train.datasets.parts import mazes
from jaxrl.train.datasets.parts.playing import play_steps, whole_episodes
from jaxrl.types import Array, Key, View

NAME = "pointmaze-large-navigate"
LENGTH = 200


def build(small: bool = False, seed: int = 0) -> Recorded:
    """Record the walks."""
    maze = mazes.large_maze()
    num_cells = len(maze.distances)

    def act(goal: Array, view: View, key: Key) -> tuple[Array, Array]:
        key_goal, key_noise = jax.random.split(key)
        another = jax.random.randint(key_goal, (), 0, num_cells, jnp.int32)
        goal = jnp.where(maze.is_near(view.observation, goal), another, goal)
        return maze.guided(view.observation, goal, key_noise), goal

    total = mazes.FEW_STEPS if small else mazes.STEPS
    num_walks = total // LENGTH
    cells = np.random.default_rng(seed).integers(num_cells, size=(2, num_walks))
    steps = play_steps(
        maze.env,
        act,
        num_walks,
        LENGTH,
        jax.random.key(seed),
        start=maze.positions(cells[0], seed + 1),
        memory=jnp.asarray(cells[1], jnp.int32),
    )
    source = "guided walks between random cells, recorded for the task's goal"
    about = mazes.about(NAME, source, seed=seed, small=small)
    return whole_episodes(steps, np.full(num_walks, LENGTH), about)
