"""A bank of snapshots: states of an environment that somebody has been in, to begin episodes at."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from jaxrl.types import Array, PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SnapshotBank:
    """R states of recorded episodes, in their order; every leaf has R rows.

    An input of start distributions, read by `jaxrl.data.snapshots.read_bank`.
    """

    state: PyTree  # the whole state of the environment
    observation: PyTree  # what it shows
    action: Array  # what was done there
    next_observation: PyTree  # and what that led to, before any reset
    value: Array  # float32, what is expected from here on
    step: Array  # int32, of its episode, counted from 0
    episode: Array  # int32
    return_to_go: Array  # float32, what the recorded episode earned from here on

    @property
    def rows(self) -> int:
        """How many there are, R."""
        return int(self.step.shape[0])
