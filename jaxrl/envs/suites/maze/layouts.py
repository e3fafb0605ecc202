"""The mazes: walls, and where their task begins and ends.

A cell is (row, column), row 0 at the top. Layouts and tasks are those of D4RL (Fu et al. 2020,
arXiv 2004.07219) and OGBench (Park et al. 2025, arXiv 2410.20092), task 1.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

Cell = tuple[int, int]


class Layout(NamedTuple):
    """A maze: '#' is a wall; the border is all walls, and the free cells hang together."""

    rows: tuple[str, ...]
    start: Cell
    goal: Cell


LAYOUTS = {
    "umaze": Layout(
        rows=(
            "#####",
            "#...#",
            "###.#",
            "#...#",
            "#####",
        ),
        start=(1, 1),
        goal=(3, 1),
    ),
    "medium": Layout(
        rows=(
            "########",
            "#..##..#",
            "#..#...#",
            "##...###",
            "#..#...#",
            "#.#..#.#",
            "#...#..#",
            "########",
        ),
        start=(1, 1),
        goal=(6, 6),
    ),
    "large": Layout(
        rows=(
            "############",
            "#....#.....#",
            "#.##.#.#.#.#",
            "#......#...#",
            "#.####.###.#",
            "#..#.#.....#",
            "##.#.#.#.###",
            "#..#...#...#",
            "############",
        ),
        start=(1, 1),
        goal=(7, 10),
    ),
}


@functools.cache
def walls_of(layout: str) -> np.ndarray:
    """Where the walls are, bool [rows, columns]."""
    walls = np.array([[mark == "#" for mark in row] for row in LAYOUTS[layout].rows])
    walls.flags.writeable = False
    return walls
