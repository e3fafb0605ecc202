"""The best policy of each member of a population, from whichever evaluation it was best in."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from jaxrl.errors import RunWarning
from jaxrl.train import resuming
from jaxrl.train.devices import distributed
from jaxrl.train.files import state_arrays
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.scores import improved
from jaxrl.types import PyTree


class Best:
    """What `checkpoints/best-…` holds: the best policy per member, its score and its iteration.

    It is read when a run goes on, so that which policy is best depends on no other file. `shape` is
    (H, S); the leaves of `abstract_policies` are [H, S, ...], or [...] for a single member.
    """

    def __init__(
        self, checkpoints: Checkpoints, shape: tuple[int, int], abstract_policies: PyTree
    ) -> None:
        state_arrays.refuse_logs(abstract_policies)
        self.checkpoints = checkpoints
        self.shape = shape
        self.scores = np.full(shape, -np.inf)
        self.iterations = np.zeros(shape, np.int64)
        self._policies: list[np.ndarray] | None = None  # on the host, keys as their data
        kept = checkpoints.best()
        if kept is not None:
            metadata, (rows, values) = kept
            scores = np.asarray(metadata.get("scores", ()), np.float64)
            differs = state_arrays.mismatch(rows, abstract_policies)
            if scores.shape != shape:
                differs = f"it holds {scores.shape} members, where this run has {shape}"
            if differs:
                text = (
                    f"{checkpoints.path}/best-… is of another run ({differs}); a new one is begun"
                )
                warnings.warn(text, RunWarning, stacklevel=2)
                distributed.on_first_process(checkpoints.set_aside_best)
            else:
                self.scores = np.where(np.isfinite(scores), scores, -np.inf)
                self._policies = values
                self.iterations = np.asarray(metadata["iterations"], np.int64).reshape(shape)
        resuming.check_seen(int(self.iterations.sum()), "best checkpoints")

    def offer(
        self, iteration: int, scores: np.ndarray, policies: PyTree, description: dict[str, Any]
    ) -> None:
        """Save the policies of members whose scores [H, S] are at least as good as ever before."""
        better = improved(scores, self.scores)
        if self._policies is None:
            # Something must be kept, even of members that diverged at once.
            better = np.ones(self.shape, bool)
        if not better.any():
            return
        rows, values = state_arrays.host_leaves(policies)
        if self._policies is not None:
            values = [
                self._choose(better, new, old)
                for new, old in zip(values, self._policies, strict=True)
            ]
        self.scores = np.where(better, scores, self.scores)
        self.iterations = np.where(better, iteration, self.iterations)
        self._policies = values
        described = {"description": resuming.fixed(description)}
        found = {"scores": self.scores.tolist(), "iterations": self.iterations.tolist()}
        self.checkpoints.save_best(iteration, (rows, values), found | described)

    def _choose(self, better: np.ndarray, new: np.ndarray, old: np.ndarray) -> np.ndarray:
        """Members' rows of `new` where it is better, of `old` elsewhere."""
        if self.shape == (1, 1):
            return new
        return np.where(better.reshape(self.shape + (1,) * (new.ndim - 2)), new, old)
