"""How episodes from a bank went: what start distributions count, row by row.

An episode succeeds if it earns what the recorded one earned from the same row on. Devices count by
themselves, and add up what they counted once per iteration.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.core.shards import Shards
from jaxrl.types import Array, Scalar, Transition

# Weight that an iteration's successes keep in the next one: the learner changes.
KEPT = 0.9
# Episodes, so weighted, that a share of successes is told from.
LEAST_ENDED = 4.0
# What float32 may lose of a return, as a share of it.
ROUNDING = 1e-4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Outcomes:
    """Counts of R rows, float32 [R]: episodes begun there; ended, and of these won, of late."""

    begun: Array
    ended: Array
    won: Array
    pending: Array  # the same three, counted since the last `settle`: [1, 3, R], a row per device


_replicated: Any = False
_rows: Any = True
SHARDED = Outcomes(_replicated, _replicated, _replicated, _rows)


def nothing(rows: int) -> Outcomes:
    """Nothing is counted yet."""
    zeros = jnp.zeros(rows)
    return Outcomes(zeros, zeros, zeros, jnp.zeros((1, 3, rows)))


def count_starts(outcomes: Outcomes, given: Array, row: Array) -> Outcomes:
    """With the episodes that begin at `row`, int32 [n], where `given`, bool [n]."""
    pending = outcomes.pending.at[0, 0, row].add(given.astype(jnp.float32))
    return replace(outcomes, pending=pending)


def count_ends(outcomes: Outcomes, ended: Array, seen: Transition, return_to_go: Array) -> Outcomes:
    """With the episodes from the bank that `ended`, bool [n], on this step.

    Those are won that earned `return_to_go` [R] of their row.
    """
    given = ended & (seen.origin >= 0)
    row = jnp.maximum(seen.origin, 0)
    asked = return_to_go[row]
    won = given & (seen.episode_return >= asked - ROUNDING * (1.0 + jnp.abs(asked)))
    counts = jnp.stack([given, won]).astype(jnp.float32)
    pending = outcomes.pending.at[0, 1:, row].add(counts.T)
    return replace(outcomes, pending=pending)


def settle(outcomes: Outcomes, shards: Shards) -> Outcomes:
    """Add up what all devices have counted since the last time."""
    begun, ended, won = shards.sum(outcomes.pending[0])
    return Outcomes(
        begun=outcomes.begun + begun,
        ended=KEPT * outcomes.ended + ended,
        won=KEPT * outcomes.won + won,
        pending=jnp.zeros_like(outcomes.pending),
    )


def succeeded(outcomes: Outcomes, share: Scalar) -> Array:
    """Whether at least `share` of enough episodes were won: bool []."""
    ended, won = jnp.sum(outcomes.ended), jnp.sum(outcomes.won)
    return (ended >= LEAST_ENDED) & (won >= share * ended)


def forget(outcomes: Outcomes, when: Array) -> Outcomes:
    """Count ends anew, `when`, bool []."""
    return replace(
        outcomes,
        ended=jnp.where(when, 0.0, outcomes.ended),
        won=jnp.where(when, 0.0, outcomes.won),
    )
