"""Random walks through the large point maze: directions at random, held for ten steps each.

200 steps each, from a random place, with noise of deviation 1 on each action. Nobody wants to get
anywhere; rewards and terminations are those of the maze's own task.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.recorded import Recorded
from jaxrl.train.datasets.parts import mazes
from jaxrl.train.datasets.parts.playing import play_steps, whole_episodes
from jaxrl.types import Array, Key, View

NAME = "pointmaze-large-explore"
LENGTH = 200
HELD = 10  # steps that a direction is held
NOISE = 1.0

Heading = tuple[Array, Array]  # the direction, float32 [2], and the steps taken, int32 []


def act(heading: Heading, view: View, key: Key) -> tuple[Array, Heading]:
    """The direction, which is drawn anew when it is time, with noise, clipped to [-1, 1]."""
    del view
    direction, time = heading
    key_direction, key_noise = jax.random.split(key)
    angle = jax.random.uniform(key_direction, (), maxval=2.0 * np.pi)
    drawn = jnp.stack([jnp.cos(angle), jnp.sin(angle)])
    direction = jnp.where(time % HELD == 0, drawn, direction)
    noise = NOISE * jax.random.normal(key_noise, (2,))
    return jnp.clip(direction + noise, -1.0, 1.0), (direction, time + 1)


def build(small: bool = False, seed: int = 0) -> Recorded:
    """Record the walks."""
    maze = mazes.large_maze()
    num_walks = (mazes.FEW_STEPS if small else mazes.STEPS) // LENGTH
    cells = np.random.default_rng(seed).integers(len(maze.distances), size=num_walks)
    steps = play_steps(
        maze.env,
        act,
        num_walks,
        LENGTH,
        jax.random.key(seed),
        start=maze.positions(cells, seed + 1),
        memory=(jnp.zeros((num_walks, 2)), jnp.zeros(num_walks, jnp.int32)),
    )
    source = f"directions at random, held for {HELD} steps, recorded for the task's goal"
    about = mazes.about(NAME, source, seed=seed, small=small)
    return whole_episodes(steps, np.full(num_walks, LENGTH), about)
