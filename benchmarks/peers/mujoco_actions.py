"""What all that step MuJoCo tasks alone share: random actions made beforehand,
and the steps of an iteration."""

from __future__ import annotations

from typing import Any

ROWS = 4096  # environment steps of an iteration: enough to hide what a call costs
LONGEST = 256


def random_actions(num_envs: int, low: Any, high: Any) -> Any:
    """Uniform actions for an iteration, float32 [T, N, A]."""
    import numpy as np

    steps = max(1, min(LONGEST, ROWS // num_envs))
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    return (
        np.random.default_rng(0)
        .uniform(low, high, (steps, num_envs, *low.shape))
        .astype(np.float32)
    )
