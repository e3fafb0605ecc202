"""Means over the members of a population, some of which may have nothing to report."""

from __future__ import annotations

from typing import Any

import numpy as np


def mean_of_pair(pair: Any) -> np.ndarray:
    """sum / count, NaN where nothing was counted."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pair.count > 0, np.divide(pair.sum, pair.count), np.nan)


def finite_mean(values: np.ndarray | None) -> float | None:
    """The mean over the members that have a finite value; None if none has."""
    if values is None or not np.any(np.isfinite(values)):
        return None
    return float(np.mean(values[np.isfinite(values)]))


def improved(scores: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Which members [H, S] are at least as good as ever before: a tie counts, NaN never does."""
    return np.isfinite(scores) & ~(scores < best)
