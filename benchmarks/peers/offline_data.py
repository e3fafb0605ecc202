"""Data of Hopper's shape for the benchmark of offline learning, random: NumPy alone."""

from __future__ import annotations

import numpy as np

OBSERVATION, ACTIONS = 11, 3  # Hopper-v5's
ROWS, LENGTH = 100_000, 1000


def rows() -> dict[str, np.ndarray]:
    """Episodes of `LENGTH` steps, back to back; the last of each is the end of a time limit."""
    generator = np.random.default_rng(0)
    episodes = ROWS // LENGTH
    truncated = np.zeros(ROWS, bool)
    truncated[LENGTH - 1 :: LENGTH] = True
    return {
        "observation": generator.standard_normal((ROWS, OBSERVATION), np.float32),
        "action": generator.uniform(-1.0, 1.0, (ROWS, ACTIONS)).astype(np.float32),
        "reward": generator.standard_normal(ROWS, np.float32),
        "terminated": generator.uniform(size=ROWS) < 0.01,
        "truncated": truncated,
        "final_observation": generator.standard_normal((episodes, OBSERVATION), np.float32),
        "length": np.full(episodes, LENGTH, np.int32),
    }


def next_observations(found: dict[str, np.ndarray]) -> np.ndarray:
    """What each row's action led to, [ROWS, OBSERVATION]."""
    following = np.roll(found["observation"], -1, axis=0)
    following[LENGTH - 1 :: LENGTH] = found["final_observation"]
    return following
