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
    _check_interval(confidence, repetitions)
    if len(scores) == 1:
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    values = [
        statistic(_resampled(generator, scores, count).reshape(count, -1), axis=-1)
        for count in _chunks(repetitions, scores.size)
    ]
    return _percentiles(np.concatenate(values), confidence)


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


def performance_profile(
    scores: Any, thresholds: Any, repetitions: int = 2000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The share of runs whose score is above each threshold, with pointwise 95 % intervals.

    Every task counts alike. It is the run-score distribution of Agarwal et al., equation 4.

    Args:
        scores: [runs] or [runs, tasks], on one scale.
        thresholds: [T].
        repetitions, seed: those of `bootstrap_interval`.

    Returns:
        (share, low, high), each [T]; low and high are NaN for a single run.
    """
    scores, thresholds = _runs_by_tasks(scores), np.asarray(thresholds, np.float64)
    bounds = np.array(
        [
            bootstrap_interval(scores > threshold, np.mean, repetitions=repetitions, seed=seed)
            for threshold in thresholds
        ]
    )
    share = (scores[..., None] > thresholds).mean(axis=(0, 1))
    return share, bounds[:, 0], bounds[:, 1]


def probability_of_improvement(first: Any, second: Any) -> float:
    """P(a run of `first` scores more than one of `second`), as the mean over tasks; ties are half.

    For each task it is the Mann-Whitney statistic U / (m n) (Agarwal et al., section 4.3).

    Args:
        first, second: [m] and [n], or [m, tasks] and [n, tasks].
    """
    first, second = _same_tasks(first, second)
    return float(_improvement(first[None], second[None])[0])


def improvement_interval(
    first: Any, second: Any, confidence: float = 0.95, repetitions: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """A percentile bootstrap interval of `probability_of_improvement`, stratified by task.

    Both sides are drawn again; NaN where either is a single run.
    """
    first, second = _same_tasks(first, second)
    _check_interval(confidence, repetitions)
    if min(len(first), len(second)) == 1:
        return float("nan"), float("nan")
    generator = np.random.default_rng(seed)
    values = [
        _improvement(_resampled(generator, first, count), _resampled(generator, second, count))
        for count in _chunks(repetitions, first.size * len(second))
    ]
    return _percentiles(np.concatenate(values), confidence)


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


def _improvement(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Probabilities of improvement [R] of R pairs [R, m, tasks] and [R, n, tasks]."""
    left, right = first[:, :, None], second[:, None]
    return ((left > right) + 0.5 * (left == right)).mean(axis=(1, 2, 3))


def _same_tasks(first: Any, second: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two sets of scores of the same tasks."""
    first, second = _runs_by_tasks(first), _runs_by_tasks(second)
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"the first scores are of {first.shape[1]} tasks, the second of {second.shape[1]}."
        )
    return first, second


def _check_interval(confidence: float, repetitions: int) -> None:
    if not 0 < confidence < 1:
        raise ValueError(
            f"confidence is {confidence:g}, but must lie between 0 and 1, for example 0.95."
        )
    if repetitions < 1:
        raise ValueError(f"repetitions is {repetitions}, but must be at least 1.")


def _chunks(repetitions: int, size: int) -> list[int]:
    """How many samples to draw at once, until all are drawn: each takes `size` numbers."""
    chunk = max(1, CHUNK // size)
    return [min(chunk, repetitions - start) for start in range(0, repetitions, chunk)]


def _resampled(generator: np.random.Generator, scores: np.ndarray, count: int) -> np.ndarray:
    """Bootstrap samples [count, runs, tasks]: runs drawn with replacement, in each task."""
    draws = generator.integers(0, len(scores), (count, *scores.shape))
    return np.take_along_axis(scores[None], draws, axis=1)


def _percentiles(values: np.ndarray, confidence: float) -> tuple[float, float]:
    """The interval that holds `confidence` of the values, with equal tails."""
    tail = 50 * (1 - confidence)
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


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
