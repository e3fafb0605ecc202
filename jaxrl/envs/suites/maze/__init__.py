"""Point mazes: a point finds its way through corridors, and is paid for nothing but the goal.

Pure JAX, so that datasets are made and policies evaluated inside of compiled programs. The layouts
are those of D4RL and OGBench (umaze, medium, large), the dynamics of OGBench's pointmaze without
its physics engine: an action moves the point at once, along x and then along y, until a wall stops
it. `steps_per_cell` says how many actions a cell takes: 20 in OGBench, 2.5 here, at which a
decision is worth enough for a learner to see it (see `exact.action_gap`).

    point.py     the environment
    layouts.py   the mazes
    routes.py    shortest ways between cells, and a guide along them
    exact.py     optimal values
"""

from __future__ import annotations

from functools import partial
from typing import Any

from jaxrl.envs.api import Environment
from jaxrl.envs.registry import construct
from jaxrl.envs.suites.maze.layouts import LAYOUTS
from jaxrl.envs.suites.maze.point import point_maze

SUITE = "maze"
IDS = tuple(f"maze/point-{layout}" for layout in LAYOUTS)


def make(environment_id: str, **kwargs: Any) -> Environment:
    """Build by id; `kwargs` are `start`, `goal` and `steps_per_cell` (see `point_maze`)."""
    layout = environment_id.removeprefix("maze/point-")
    return construct(environment_id, partial(point_maze, layout), kwargs)
