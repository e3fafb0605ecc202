"""The returns of random and of expert policies that make scores of different tasks comparable.

D4RL's table (d4rl/infos.py; its values are the same for every kind of data of a task, v0, v1 and
v2 alike) and its time limits (the registration of its environments). Its returns were measured in
mujoco-py; Gymnasium's newer robots are not strictly comparable.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Reference(NamedTuple):
    """What D4RL says of a task."""

    random: float  # return of a random policy
    expert: float
    steps: int | None  # its time limit; None where no source says

    @property
    def scores(self) -> tuple[float, float]:
        """Both returns."""
        return self.random, self.expert


# By the words that names of its files begin with, "-" and "_" taken for the same.
D4RL = {
    "halfcheetah": Reference(-280.178953, 12135.0, 1000),
    "hopper": Reference(-20.272305, 3234.3, 1000),
    "walker2d": Reference(1.629008, 4592.3, 1000),
    "walker": Reference(1.629008, 4592.3, 1000),
    "ant": Reference(-325.6, 3879.7, 1000),
    "antmaze umaze": Reference(0.0, 1.0, 700),
    "antmaze": Reference(0.0, 1.0, 1000),
    "ant maze u maze": Reference(0.0, 1.0, 700),
    "ant maze": Reference(0.0, 1.0, 1000),
    "kitchen": Reference(0.0, 4.0, 280),
    "mini kitchen": Reference(0.0, 4.0, 280),
    "pen": Reference(96.262799, 3076.8331017826877, 100),
    "hammer": Reference(-274.856578, 12794.134825156867, 200),
    "door": Reference(-56.512833, 2880.5693087298737, 200),
    "relocate": Reference(-6.425911, 4233.877797728884, 200),
    "maze2d open": Reference(0.01, 20.66, None),
    "maze2d umaze": Reference(23.85, 161.86, 300),
    "maze2d medium": Reference(13.13, 277.39, 600),
    "maze2d large": Reference(6.7, 273.99, 800),
    "maze2d open dense": Reference(11.17817, 27.166538620695782, None),
    "maze2d umaze dense": Reference(68.537689, 193.66285642381482, 300),
    "maze2d medium dense": Reference(44.264742, 297.4552547777125, 600),
    "maze2d large dense": Reference(30.569041, 303.4857382709002, 800),
}


def d4rl(name: str) -> Reference | None:
    """D4RL's row for a dataset or a file of its, as "hopper-medium-v2"; None where it has none."""
    words = re.split(r"[-_ ]", name.lower())
    for count in range(min(4, len(words)), 0, -1):
        if (found := D4RL.get(" ".join(words[:count]))) is not None:
            return found
    return None


def normalized(returns: np.ndarray | float, scores: Sequence[float]) -> np.ndarray:
    """100 · (return − random) / (expert − random), as papers write D4RL's score.

    d4rl and Minari themselves give a hundredth of it.
    """
    random, expert = scores
    return 100 * (np.asarray(returns, np.float64) - random) / (expert - random)
