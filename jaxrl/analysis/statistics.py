"""Aggregates of a few noisy runs, with intervals that say how little a few runs tell.

Definitions follow Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical
Precipice" (NeurIPS 2021), and agree with their library rliable. Scores are [runs] or
[runs, tasks].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

# Resampled scores held at once: bounds memory, whatever the number of runs and repetitions.
CHUNK = 1 << 22


class Summary(NamedTuple):
    """The mean and the interquartile mean of `runs` runs; [low, high] is the latter's interval."""

    mean: float
    iqm: float
    low: float
    high: float
    runs: int


def interquartile_mean(scores: Any, axis: int | None = None) -> Any:
    """The mean of the middle half: the lowest and the highest ⌊n/4⌋ of n scores are left out.

    As robust to outliers as the median nearly is, and with a fraction of its variance.

    Args:
        scores: any shape.
        axis: the axis to reduce, or None for all scores, runs and tasks alike.

    Returns:
        A float, or an array that lacks `axis`.
    """
    scores = _finite(scores)
    trimmed = stats.trim_mean(scores, 0.25, axis=axis)
    return float(trimmed) if axis is None else trimmed


def bootstrap_interval(
    scores: Any,
    statistic: Callable[..., Any] = interquartile_mean,
    confidence: float = 0.95,
    repetitions: int = 2000,
    seed: int = 0,
) -> tuple[float, float]:
    """A percentile bootstrap interval of `statistic`, stratified by task.

    Every repetition draws, within each task by itself, as many runs as there are, with replacement.

    Args:
        scores: [runs] or [runs, tasks].
        statistic: reduces all runs and tasks together; called as `statistic(array, axis=-1)`, like
            `np.mean`.
        confidence: the probability that the interval is meant to hold.
        repetitions: bootstrap samples.
        seed: of the interval's own generator; the same scores and seed give the same interval.

    Returns:
        (low, high). Both are NaN for a single run: one run says nothing about the spread of runs.
    """
    scores = _runs_by_tasks(scores)
    if not 0 < confidence < 1:
        raise ValueError(
            f"confidence is {confidence:g}, but must lie between 0 and 1, for example 0.95."
        )
    if repetitions < 1:
        raise ValueError(f"repetitions is {repetitions}, but must be at least 1.")
    runs, tasks = scores.shape
    if runs == 1:
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    chunk = max(1, CHUNK // scores.size)
    values = []
    for start in range(0, repetitions, chunk):
        count = min(chunk, repetitions - start)
        draws = generator.integers(0, runs, (count, runs, tasks))
        resampled = np.take_along_axis(scores[None], draws, axis=1)
        values.append(statistic(resampled.reshape(count, -1), axis=-1))
    tail = 50 * (1 - confidence)
    low, high = np.percentile(np.concatenate(values), [tail, 100 - tail])
    return float(low), float(high)


def mean_interval(
    scores: Any, confidence: float = 0.95, repetitions: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """`bootstrap_interval` of the mean, for example of the returns [episodes] of one policy."""
    return bootstrap_interval(scores, np.mean, confidence, repetitions, seed)


def summarize(
    scores: Any, confidence: float = 0.95, repetitions: int = 2000, seed: int = 0
) -> Summary:
    """Mean, interquartile mean and the latter's bootstrap interval, of [runs] or [runs, tasks]."""
    scores = _runs_by_tasks(scores)
    low, high = bootstrap_interval(scores, interquartile_mean, confidence, repetitions, seed)
    return Summary(float(scores.mean()), interquartile_mean(scores), low, high, scores.shape[0])


def normalised(score: Any, random: float, expert: float) -> Any:
    """100 (score − random) / (expert − random): 0 for random actions, 100 for an expert.

    Args:
        score: returns of any shape; NaN stays NaN.
        random, expert: the two returns that fix the scale, in the units of `score`.

    Returns:
        A float, or an array of the shape of `score`; NaN where random and expert earn the same.
    """
    gap = expert - random
    scaled = 100.0 * (np.asarray(score, np.float64) - random) / (gap if gap else np.nan)
    return float(scaled) if scaled.ndim == 0 else scaled


def _runs_by_tasks(scores: Any) -> np.ndarray:
    """Finite scores as float64 [runs, tasks]."""
    scores = _finite(scores)
    if scores.ndim == 1:
        scores = scores[:, None]
    if scores.ndim != 2:
        raise ValueError(f"scores have shape {scores.shape}, but must be [runs] or [runs, tasks].")
    return scores


def _finite(scores: Any) -> np.ndarray:
    """Scores as float64, refused when there are none or when some are not numbers."""
    scores = np.asarray(scores, np.float64)
    if scores.size == 0:
        raise ValueError(f"there are no scores to aggregate: the array has shape {scores.shape}.")
    bad = int(np.count_nonzero(~np.isfinite(scores)))
    if bad:
        raise ValueError(
            f"{bad} of {scores.size} scores are NaN or infinite. Leaving them out would flatter "
            "the rest: give a run that failed the score that it deserves."
        )
    return scores
