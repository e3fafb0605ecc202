"""What a dataset is like before anybody learns from it: two numbers of Schweighofer et al. (2022).

"A Dataset Perspective on Offline Reinforcement Learning", section 3:

    TQ   = (ḡ(D) − ḡ(random)) / (ḡ(expert) − ḡ(random))     ḡ: mean return of the episodes
    SACo = u(D) / u(reference)                              u: different pairs of state and action

TQ says what cloning could reach, SACo how much of the task was tried. The paper's reference is the
whole replay of an online run; pairs of continuous spaces are the same where every bit is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from jaxrl.data.recorded import Recorded
from jaxrl.data.reference_scores import normalized


def trajectory_quality(recorded: Recorded, scores: Sequence[float]) -> float:
    """TQ: 0 for the returns of a random policy, 1 for those of an expert, `scores` being both."""
    return float(normalized(recorded.episode_returns.mean(), scores)) / 100


def distinct_pairs(recorded: Recorded) -> int:
    """u(D): the number of different pairs of observation and action."""
    columns = [_bytes(recorded.observation), _bytes(recorded.action)]
    rows = np.ascontiguousarray(np.concatenate(columns, axis=1))
    return len(np.unique(rows.view(np.dtype((np.void, rows.shape[1])))))


def coverage(recorded: Recorded, reference: Recorded) -> float:
    """SACo of a dataset, relative to another one."""
    return distinct_pairs(recorded) / distinct_pairs(reference)


def _bytes(array: np.ndarray) -> np.ndarray:
    """The bytes of each row, uint8 [N, size], the two zeros of floats as one."""
    rows = array.reshape(len(array), -1)
    if rows.dtype.kind == "f":
        rows = rows + 0.0
    return np.ascontiguousarray(rows).view(np.uint8)
