"""Means over the members of a population, some of which may have nothing to report."""

from __future__ import annotations

from typing import Any

import numpy as np


def mean(pair: Any) -> np.ndarray:
    """sum / count, NaN where nothing was counted."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pair.count > 0, np.divide(pair.sum, pair.count), np.nan)


def finite_mean(values: np.ndarray | None) -> float | None:
    """The mean over the members that have a finite value; None if none has."""
    if values is None or not np.any(np.isfinite(values)):
        return None
    return float(np.mean(values[np.isfinite(values)]))


def last_is_best(returns: np.ndarray) -> bool:
    """Whether the last of K evaluations [K, H, S] has the best mean over the members that are still finite in it.

    All K are compared over the same members: one that diverges must not raise the mean of the others.
    """
    alive = np.isfinite(returns[-1])
    scores = returns[:, alive].mean(-1) if alive.any() else np.zeros(len(returns))
    return bool(scores[-1] >= np.max(scores))
