"""Snapshots: episodes that begin at states of a bank, for a part of the training.

S3RL (Zhao et al. 2024, arXiv 2403.00673) and its relatives, which differ in how rows of the bank
are chosen (core/row_logits.py), how many steps an episode is granted, and until when the bank is
used. An episode that its budget cuts is truncated, never terminated. One that is under way when the
bank is left goes on to its end.

    --starts snapshots --bank BANK --snapshot-limit 100        S3RL
    --starts snapshots --bank BANK --snapshot-selection backward --snapshot-schedule constant
                                                               the backward algorithm
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxrl.config import configuration, number, option, size
from jaxrl.core import row_logits
from jaxrl.core.kmeans import kmeans
from jaxrl.core.shards import Shards
from jaxrl.core.tree import select_rows, strip_weak_types
from jaxrl.envs.api import Environment
from jaxrl.envs.bank import SnapshotBank
from jaxrl.envs.starts import outcomes
from jaxrl.envs.starts.api import Draw, Starts, StartsConfig, Training
from jaxrl.envs.starts.fresh import Fresh
from jaxrl.envs.starts.outcomes import Outcomes
from jaxrl.errors import JaxrlError, check_whole_number
from jaxrl.types import Array, Key, Progress, PyTree, Transition

# Part of the training for which the bank is used unless something else is asked for: S3RL's.
USUAL_PART = 10
# Florensa's band of success, and the share of the episodes that begin there.
BAND = (0.1, 0.9)
BAND_SHARE = 0.9
# Salimans & Chen's share of the episodes that begin at the frontier itself.
FRONTIER_SHARE = 0.8
# What a share of the environments may lose that is written with some six digits.
SHARE_ROUNDING = 1e-5


@configuration
class SnapshotsConfig(StartsConfig):
    """Starts at states that a teacher, or a demonstration, has been in."""

    bank: str = option("")
    """File of states that jaxrl snapshot wrote (.npz)."""
    snapshot_selection: Literal[
        "clusters", "uniform", "values", "time", "visits", "success", "backward"
    ] = option("clusters")
    """Which rows: clusters of the value, equally often; all alike; those of the highest values
    first; the last of their episodes first; those rarely begun at; those that succeed now and then;
    or back along one demonstration, as episodes succeed."""
    clusters: int = size(6)
    """Clusters of the value, K; or parts into which values or time are divided."""
    snapshot_limit: int | None = option(None)
    """Steps granted to an episode from the bank (student trajectory truncation); the horizon unless
    given. Where successes are counted (selection=success or backward, schedule=success) it is what
    the recorded episode had left of the horizon, and cannot be given."""
    snapshot_schedule: Literal["switch", "constant", "decay", "environments", "success"] = option(
        "switch"
    )
    """How the share of starts from the bank develops: constant until snapshot_steps; constant;
    linear to 0 at snapshot_steps; the share of the environments that begin nowhere else; or until
    snapshot_success of the episodes earn what the recorded ones did."""
    snapshot_steps: int | None = option(None)
    """Transitions for which the bank is used; a tenth of the training unless given."""
    snapshot_share: float = number(1.0, 0, 1)
    """Share of the episodes, or of the environments, that begin in the bank."""
    snapshot_success: float = number(
        0.2, 0, 1, needs={"snapshot_schedule": "success", "snapshot_selection": "backward"}
    )
    """Share of successes at which a frontier moves back, or schedule=success ends."""

    def for_training(self, training: Training) -> Self:
        """With the transitions for which the bank is used."""
        if self.snapshot_schedule == "environments":
            _check_share(self.snapshot_share, training.num_envs)
        steps = self.snapshot_steps
        if self.snapshot_schedule == "constant":
            if steps is not None:
                raise JaxrlError(
                    f"snapshot_steps is {steps}, which has no effect: with "
                    "snapshot_schedule=constant the bank is used throughout."
                )
            return replace(self, snapshot_steps=training.total)
        if steps is None:
            usual = max(training.total // USUAL_PART, training.per_iteration)
            return replace(self, snapshot_steps=usual)
        check_whole_number("snapshot_steps", steps, 1)
        if steps > training.total:
            raise JaxrlError(
                f"snapshot_steps is {steps}, but the training ends after {training.total} "
                "transitions: choose fewer, or snapshot_schedule=constant."
            )
        if steps < training.per_iteration:
            raise JaxrlError(
                f"snapshot_steps is {steps}, less than one iteration of {training.per_iteration} "
                f"transitions: choose at least {training.per_iteration}."
            )
        return self

    @property
    def judges(self) -> bool:
        """Whether anything asks which episodes from the bank succeed."""
        by_success = self.snapshot_selection in ("success", "backward")
        return by_success or self.snapshot_schedule == "success"

    def make(  # type: ignore[override]
        self, env: Environment, shards: Shards, *, bank: SnapshotBank
    ) -> Starts:
        """The same choice of rows on every device."""
        if self.snapshot_limit is not None:
            check_whole_number("snapshot_limit", self.snapshot_limit, 1)
            if self.judges:
                judge = f"snapshot_selection={self.snapshot_selection}"
                if self.snapshot_schedule == "success":
                    judge = "snapshot_schedule=success"
                raise JaxrlError(
                    f"snapshot_limit is {self.snapshot_limit}, but with {judge} an episode is "
                    "compared with the recorded one, and has the steps that this one had left: "
                    "leave it out."
                )
            if self.snapshot_limit > env.horizon:
                raise JaxrlError(
                    f"snapshot_limit is {self.snapshot_limit}, but episodes have {env.horizon} "
                    "steps at most: leave it out for all of them."
                )
        if self.snapshot_selection == "backward" and self.snapshot_schedule == "success":
            raise JaxrlError(
                "snapshot_schedule=success has no effect with snapshot_selection=backward, which "
                "leaves the bank once the first row of the demonstration has succeeded: choose "
                "snapshot_schedule=constant."
            )
        divides = self.snapshot_selection in ("clusters", "values", "time")
        if not divides and self.clusters != SnapshotsConfig.clusters:
            raise JaxrlError(
                f"clusters is {self.clusters}, which has no effect: it is read only with "
                "snapshot_selection=clusters, values or time, and snapshot_selection is "
                f"{self.snapshot_selection!r}."
            )
        if divides and self.clusters > bank.rows:
            raise JaxrlError(
                f"clusters is {self.clusters}, but the bank has only {bank.rows} rows: choose "
                f"{bank.rows} or less."
            )
        return Snapshots(env, Fresh(env), bank, self, shards)


def _check_share(share: Any, num_envs: int) -> None:
    """Refuse a share, of one member or of each, that is no whole number of the environments.

    A traced one passes: it was checked before it was traced.
    """
    if isinstance(share, jax.core.Tracer):
        return
    for each in np.ravel(share):
        wanted = float(each) * num_envs
        nearest = round(wanted)
        is_possible = 0 < nearest < num_envs or each in (0, 1)
        if not is_possible or abs(wanted - nearest) > SHARE_ROUNDING * num_envs:
            choices = [
                f"{choice / num_envs:g} ({choice} of them)"
                for choice in (math.floor(wanted), math.ceil(wanted))
            ]
            raise JaxrlError(
                f"snapshot_share is {each:g}, which is {wanted:g} of num_envs={num_envs}: with "
                f"snapshot_schedule=environments choose {' or '.join(choices)}."
            )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class SnapshotsState:
    """What is known of the bank, and the environment's own starts."""

    natural: PyTree  # of Fresh
    cumulative: Array  # float32 [R], as row_logits.draw reads it
    share: Array  # float32 [], of the starts that come from the bank
    frontier: Array  # int32 [], row of the demonstration at which its frontier stands
    outcomes: Outcomes | None


class Snapshots(struct.PyTreeNode):
    """Starts from a bank, and the environment's own."""

    env: Environment
    natural: Fresh
    bank: SnapshotBank
    config: SnapshotsConfig
    shards: Shards = struct.field(pytree_node=False)

    @property
    def tells_apart(self) -> bool:
        """Episodes from the bank earn other returns than natural ones."""
        return True

    @property
    def shortest(self) -> int:
        """The budget of an episode from the bank."""
        if self.config.judges:
            return 1  # of a recorded episode's last row
        return self.config.snapshot_limit or self.env.horizon

    @property
    def is_backward(self) -> bool:
        """Whether starts move back along a demonstration."""
        return self.config.snapshot_selection == "backward"

    @property
    def counts(self) -> bool:
        """Whether anything asks how episodes from the bank went."""
        return self.config.judges or self.config.snapshot_selection == "visits"

    @property
    def sharded(self) -> PyTree:
        """Natural starts are each environment's own."""
        rows: Any = True
        replicated: Any = False
        counted = replicated if self.counts else None
        return SnapshotsState(rows, replicated, replicated, replicated, counted)

    def init(self, key: Key, n: int) -> SnapshotsState:
        """Nothing is known, and the frontier stands at the end of the demonstration."""
        counted = outcomes.nothing(self.bank.rows) if self.counts else None
        place, _ = self._demonstration()
        frontier = jnp.max(place)
        begun = jnp.zeros(())
        state = SnapshotsState(
            natural=self.natural.init(key, n),
            cumulative=row_logits.cumulated(self._logits(begun, frontier, counted)),
            share=self._share(begun, frontier, jnp.zeros((), bool)),
            frontier=frontier,
            outcomes=counted,
        )
        return strip_weak_types(state)

    def refresh(self, state: SnapshotsState, key: Key, progress: Progress) -> SnapshotsState:
        """The share of the bank and the choice of its rows, by the transitions so far."""
        transitions, frontier, counted = progress.transitions, state.frontier, state.outcomes
        left, moved = jnp.zeros((), bool), jnp.zeros((), bool)
        if counted is not None:
            enough = outcomes.succeeded(counted, self.config.snapshot_success)
            if self.is_backward:
                moved = enough
                frontier = jnp.where(moved, jnp.maximum(frontier - 1, -1), frontier)
            elif self.config.snapshot_schedule == "success":
                left = enough | (state.share <= 0)
        changed = replace(
            state,
            natural=self.natural.refresh(state.natural, key, progress),
            share=self._share(transitions, frontier, left),
            frontier=frontier,
            outcomes=None if counted is None else outcomes.fade(counted, forget=moved),
        )
        if self.config.snapshot_selection in ("clusters", "uniform"):
            return changed
        logits = self._logits(transitions, frontier, counted)
        return replace(changed, cumulative=row_logits.cumulated(logits))

    def draw(
        self,
        state: SnapshotsState,
        key: Key,
        ended: Array,
        seen: Transition | None,
        reached: PyTree | None,
    ) -> tuple[SnapshotsState, Draw]:
        """Rows of the bank for a share of the starts, else each environment's own next one."""
        n = len(ended)
        key_share, key_row, key_own = jax.random.split(key, 3)
        given = self._is_given(state.share, key_share, n)
        row = row_logits.draw(state.cumulative, jax.random.uniform(key_row, (n,)))
        natural, own = self.natural.draw(state.natural, key_own, ended & ~given, seen, reached)
        counted = state.outcomes
        if counted is not None:
            if seen is not None:
                # One that a staggered beginning cut short had not the steps of the recorded one.
                granted = self._limit(jnp.maximum(seen.origin, 0))
                whole = seen.terminated | (seen.episode_length >= granted)
                to_go = self.bank.return_to_go
                counted = outcomes.count_ends(counted, ended & whole, seen, to_go, self.shards)
            counted = outcomes.count_starts(counted, ended & given, row, self.shards)
        snapshot = jax.tree.map(lambda leaf: leaf[row], self._beginnings)
        begun, observation = select_rows(given, snapshot, (own.state, own.observation))
        draw = Draw(
            state=begun,
            observation=observation,
            limit=jnp.where(given, self._limit(row), own.limit),
            origin=jnp.where(given, row, own.origin),
        )
        return replace(state, natural=natural, outcomes=counted), draw

    @property
    def _beginnings(self) -> tuple[PyTree, PyTree]:
        return self.bank.state, self.bank.observation

    def _limit(self, row: Array) -> Array:
        """Steps granted to episodes that begin at rows [n] of the bank, int32 [n]."""
        if self.config.judges:
            left = self.env.horizon - self.bank.step[row]
            return jnp.maximum(left, 1).astype(jnp.int32)
        most = self.config.snapshot_limit or self.env.horizon
        return jnp.full(row.shape, most, jnp.int32)

    def _is_given(self, share: Array, key: Key, n: int) -> Array:
        """Which of `n` starts come from the bank, bool [n]."""
        if self.config.snapshot_schedule != "environments":
            return jax.random.uniform(key, (n,)) < share
        number = jnp.arange(n)
        if self.shards.axis_name is not None:
            number += jax.lax.axis_index(self.shards.axis_name) * n
        return (number + 0.5) / (n * self.shards.devices) < share

    @property
    def _steps(self) -> float:
        """Transitions for which the bank is used: a float, since they may be beyond int32."""
        return float(self.config.snapshot_steps or jnp.inf)

    def _share(self, transitions: Array, frontier: Array, left: Array) -> Array:
        """The share of starts from the bank, after so many transitions; 0 once it is `left`."""
        steps = self._steps
        share = jnp.asarray(self.config.snapshot_share, jnp.float32)
        if self.config.snapshot_schedule != "constant":
            if self.config.snapshot_schedule == "decay":
                share = share * jnp.maximum(1.0 - transitions / steps, 0.0)
            left |= transitions >= steps
        # Before its first row, the demonstration is done.
        return jnp.where(left | (frontier < 0), 0.0, share)

    def _logits(self, transitions: Array, frontier: Array, counted: Outcomes | None) -> Array:
        """How often each row is drawn, [R]."""
        bank, config = self.bank, self.config
        value = bank.value
        progress = transitions / self._steps
        width = 1.0 / config.clusters
        match config.snapshot_selection:
            case "clusters":
                return row_logits.balanced(kmeans(value, config.clusters), config.clusters)
            case "values":
                return row_logits.window(1.0 - row_logits.rank(value), progress, width)
            case "time":
                last = jax.ops.segment_max(bank.step, bank.episode, bank.rows)[bank.episode]
                return row_logits.window(1.0 - bank.step / jnp.maximum(last, 1), progress, width)
            case "visits":
                assert counted is not None
                return row_logits.rarely_begun(counted.begun)
            case "success":
                assert counted is not None
                return row_logits.in_band(
                    counted.ended,
                    counted.won,
                    *BAND,
                    least=outcomes.LEAST_OF_ROW,
                    share=BAND_SHARE,
                )
            case "backward":
                place, shown = self._demonstration()
                steps_back = jnp.where(shown, place - jnp.maximum(frontier, 0), -1)
                return row_logits.at_frontier(steps_back, FRONTIER_SHARE)
            case _:
                return jnp.zeros(bank.rows)

    def _demonstration(self) -> tuple[Array, Array]:
        """The recorded episode that earned most: (place of each row in it, whether it is in it)."""
        bank = self.bank
        at_start = jnp.where(bank.step == 0, bank.return_to_go, -jnp.inf)
        shown = bank.episode == bank.episode[jnp.argmax(at_start)]
        place = jnp.cumsum(shown, dtype=jnp.int32) - 1
        return jnp.where(shown, place, 0), shown
