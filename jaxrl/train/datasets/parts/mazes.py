"""Walks through the large point maze, and what a dataset of them says of itself."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.recorded import describe
from jaxrl.envs.registry import make
from jaxrl.envs.suites.maze.point import RADIUS, PointMaze
from jaxrl.envs.suites.maze.routes import Guide, distances
from jaxrl.train.datasets.parts.playing import mean_return, random_action
from jaxrl.types import Array, Key

ENVIRONMENT = "maze/point-large"
STEPS, FEW_STEPS = 200_000, 10_000  # rows of a dataset, and of a small one
# By the exact values (envs/suites/maze/exact.py): 22 steps, which cut corners. The guide, who walks
# from centre to centre, needs 33.
OPTIMUM = -21.0
NOISE = 0.5  # deviation of the noise on the guide's actions
INSIDE = 0.4  # how far from the centre of a cell a walk begins, along x and along y


class Maze(NamedTuple):
    """The environment, who knows its ways, and the distances of its F free cells, int64 [F, F]."""

    env: PointMaze
    guide: Guide
    distances: np.ndarray

    def positions(self, cells: np.ndarray, seed: int) -> tuple[Array, Array]:
        """Where walks begin: a state and an observation in each cell of `cells`, [E, 2]."""
        offsets = np.random.default_rng(seed).uniform(-INSIDE, INSIDE, (len(cells), 2))
        position = self.guide.centres[cells] + jnp.asarray(offsets, jnp.float32)
        return position, position

    def is_near(self, position: Array, cell: Array) -> Array:
        """Whether a position [2] is within half a cell of the centre of a cell, bool []."""
        return jnp.sum(jnp.square(position - self.guide.centres[cell])) <= RADIUS**2

    def guided(self, position: Array, cell: Array, key: Key) -> Array:
        """The guide's action towards a cell, with noise, clipped to [-1, 1]."""
        action = self.guide.act(position, cell)
        return jnp.clip(action + NOISE * jax.random.normal(key, (2,)), -1.0, 1.0)


def large_maze() -> Maze:
    """The large maze with its usual task."""
    env = make(ENVIRONMENT)
    assert isinstance(env, PointMaze)
    return Maze(env, Guide.of(env.walls, env.step_size), distances(env.walls))


def about(name: str, source: str, *, seed: int, small: bool) -> dict[str, Any]:
    """What a dataset of walks says of itself."""
    return describe(
        name,
        source,
        environment=ENVIRONMENT,
        reference_scores=reference_scores(seed),
        seed=seed,
        small=small,
    )


@functools.cache
def reference_scores(seed: int) -> tuple[float, float]:
    """Returns of uniformly random actions, measured, and of an optimal policy."""
    env = large_maze().env
    return mean_return(env, lambda seen, key: random_action(env, seen, key), seed), OPTIMUM
