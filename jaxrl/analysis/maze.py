"""Trajectories in a maze, one picture of it for each method: `plot_maze(walls, paths, file)`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Circle

from jaxrl.analysis.style import FAINT, INK, PALETTE, headline, new_figure, save_figure, styled

GOAL = "#F0E442"  # which no method has
WIDTH = 3.4  # inches of a maze
COLUMNS = 3


def plot_maze(
    walls: np.ndarray,
    paths: Mapping[str, Sequence[np.ndarray]],
    path: str | Path,
    *,
    goal: Sequence[float] | np.ndarray | None = None,
    goal_radius: float = 0.5,
    notes: Mapping[str, str] | None = None,
) -> Path:
    """Draw what each method did in a maze, in the method's colour; a dot is where a path begins.

    walls: bool [rows, columns].
    paths: of each method, arrays [T, 2] of positions (x, y) with the centre of the cell (row,
           column) at (column, row).
    notes: of a method, a line below its name: its success, say.
    """
    if not paths:
        raise ValueError("there is nothing to draw: no method has paths.")
    if len(paths) > len(PALETTE):
        raise ValueError(
            f"{len(paths)} methods are given, but only {len(PALETTE)} colours can be told apart."
        )
    num_rows, num_columns = math.ceil(len(paths) / COLUMNS), min(COLUMNS, len(paths))
    rows, columns = walls.shape
    with styled():
        height = WIDTH * rows / columns + 0.45  # the headline
        figure = new_figure(WIDTH * num_columns, height * num_rows)
        grid = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
        for axes in grid:
            axes.set_axis_off()
        for axes, colour, (name, walks) in zip(grid, PALETTE, paths.items(), strict=False):
            draw_walls(axes, walls)
            if goal is not None:
                axes.add_patch(
                    Circle(
                        (float(goal[0]), float(goal[1])),
                        goal_radius,
                        facecolor=GOAL,
                        lw=0,
                        zorder=1,
                    )
                )
            draw_paths(axes, walks, colour)
            headline(axes, name, (notes or {}).get(name, ""))
        return save_figure(figure, path)


def draw_walls(axes: Axes, walls: np.ndarray) -> None:
    """The walls from above, row 0 at the top; the axes show the maze and nothing else."""
    rows, columns = walls.shape
    edges = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    shades = np.where(walls[..., None], _colour(FAINT), _colour("#FFFFFF"))
    axes.imshow(shades, extent=edges, interpolation="nearest", zorder=0)
    axes.set(xlim=edges[:2], ylim=edges[2:])
    axes.set_aspect("equal")


def draw_paths(axes: Axes, walks: Sequence[np.ndarray], colour: str) -> None:
    """Paths, arrays [T, 2]: the more there is to see, the fainter each."""
    opacity = float(np.clip(1200 / max(sum(map(len, walks)), 1), 0.15, 0.8))
    lines = LineCollection(list(walks), colors=colour, linewidths=0.9, alpha=opacity, zorder=2)
    axes.add_collection(lines)
    starts = np.array([walk[0] for walk in walks]).reshape(-1, 2)
    axes.scatter(*starts.T, s=5, color=INK, alpha=0.8, lw=0, zorder=3)


def _colour(text: str) -> np.ndarray:
    """Red, green and blue, 0 to 1, of #RRGGBB."""
    return np.array([int(text[place : place + 2], 16) for place in (1, 3, 5)]) / 255
