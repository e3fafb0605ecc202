"""Which setting of a sweep is best: one number for tables, figures and what commands take.

The score of a member is its mean return in the last evaluation, acting in the first of the modes
that are evaluated; that of a setting is the interquartile mean over its seeds. Not the best of all
evaluations: the highest of many noisy numbers flatters whatever is most unsteady.
"""

from __future__ import annotations

import numpy as np

from jaxrl.analysis.statistics import bootstrap_interval, interquartile_mean, mean_interval


def member_scores(returns: np.ndarray) -> np.ndarray:
    """The mean over episodes of returns [..., E], float64 [...]; NaN for a member that diverged."""
    return np.asarray(returns).mean(axis=-1, dtype=np.float64)


def setting_score(scores: np.ndarray) -> float:
    """The interquartile mean of one setting's members [S]; NaN where one of them diverged."""
    return interquartile_mean(scores) if np.all(np.isfinite(scores)) else float("nan")


def interval(returns: np.ndarray) -> tuple[float, float]:
    """A 95 % bootstrap interval of one setting's score, from its returns [S, E].

    NaN where a member diverged. Over seeds where there are several, whose episodes are not
    independent draws; else over the episodes of the one.
    """
    scores = member_scores(returns)
    if not np.all(np.isfinite(scores)):
        return float("nan"), float("nan")
    return bootstrap_interval(scores) if len(scores) > 1 else mean_interval(returns[0])


def order(scores: np.ndarray) -> list[int]:
    """Settings by their members' scores [H, S], the best first.

    Those with seeds that diverged come last, the fewest of them first.
    """

    def key(index: int) -> tuple[int, float, int]:
        finite = scores[index][np.isfinite(scores[index])]
        diverged = len(scores[index]) - finite.size
        loss = -interquartile_mean(finite) if finite.size else 0.0
        return diverged, loss, index

    return sorted(range(len(scores)), key=key)


def best_member(scores: np.ndarray) -> tuple[int, int]:
    """(setting, seed) of the best seed of the best setting, by their indices in scores [H, S]."""
    setting = order(scores)[0]
    seeds = np.where(np.isfinite(scores[setting]), scores[setting], -np.inf)
    return setting, int(np.argmax(seeds))
