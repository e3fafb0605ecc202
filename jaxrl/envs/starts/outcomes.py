"""How episodes from a bank went: what start distributions count, row by row.

An episode succeeds if it earns what the recorded one earned from the same row on. The counts are
the same on every device.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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


def nothing(rows: int) -> Outcomes:
    """Nothing is counted yet."""
    zeros = jnp.zeros(rows)
    return Outcomes(zeros, zeros, zeros)


def count_starts(outcomes: Outcomes, given: Array, row: Array, shards: Shards) -> Outcomes:
    """With the episodes that begin at `row`, int32 [n], where `given`, bool [n]."""
    return replace(outcomes, begun=outcomes.begun + _by_row(outcomes, row, given, shards))


def count_ends(
    outcomes: Outcomes, ended: Array, seen: Transition, return_to_go: Array, shards: Shards
) -> Outcomes:
    """With the episodes from the bank that `ended`, bool [n], on this step.

    Those are won that earned `return_to_go` [R] of their row.
    """
    given = ended & (seen.origin >= 0)
    row = jnp.maximum(seen.origin, 0)
    asked = return_to_go[row]
    won = given & (seen.episode_return >= asked - ROUNDING * (1.0 + jnp.abs(asked)))
    return replace(
        outcomes,
        ended=outcomes.ended + _by_row(outcomes, row, given, shards),
        won=outcomes.won + _by_row(outcomes, row, won, shards),
    )


def _by_row(outcomes: Outcomes, row: Array, where: Array, shards: Shards) -> Array:
    """How many of the entries of `row` [n] name each row, counting those `where`; float32 [R]."""
    counted: Array = jnp.zeros_like(outcomes.begun).at[row].add(where.astype(jnp.float32))
    return shards.sum(counted)


def succeeded(outcomes: Outcomes, share: Scalar) -> Array:
    """Whether at least `share` of enough episodes were won: bool []."""
    ended, won = jnp.sum(outcomes.ended), jnp.sum(outcomes.won)
    return (ended >= LEAST_ENDED) & (won >= share * ended)


def fade(outcomes: Outcomes, forget: Array) -> Outcomes:
    """At the end of an iteration: what ended counts less in the next one, or not at all."""
    kept = jnp.where(forget, 0.0, KEPT)
    return replace(outcomes, ended=kept * outcomes.ended, won=kept * outcomes.won)
