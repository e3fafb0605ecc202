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

# Weight that earlier episodes keep, since the learner changes: those of a row with each newer one
# of that row, and those of all rows with each iteration in which one ends. Time alone takes nothing
# away: with many rows, or long episodes, there would never be enough to tell a share from.
KEPT = 0.9
# Episodes, so weighted, that a share of successes is told from: of all rows, and of a single one,
# where three make 1 + 0.9 + 0.81.
LEAST_ENDED = 4.0
LEAST_OF_ROW = 2.5
# What float32 may lose of a return, as a share of it.
ROUNDING = 1e-4


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Outcomes:
    """Counts of R rows, float32 [R]: episodes begun there; ended, and of these won, of late.

    And of all rows together, float32 [].
    """

    begun: Array
    ended: Array
    won: Array
    all_ended: Array
    all_won: Array
    ended_now: Array  # in this iteration


def nothing(rows: int) -> Outcomes:
    """Nothing is counted yet."""
    zeros, zero = jnp.zeros(rows), jnp.zeros(())
    return Outcomes(zeros, zeros, zeros, zero, zero, zero)


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
    ended_more = _by_row(outcomes, row, given, shards)
    won_more = _by_row(outcomes, row, won, shards)
    number = jnp.sum(ended_more)
    kept = KEPT**ended_more
    return replace(
        outcomes,
        ended=kept * outcomes.ended + ended_more,
        won=kept * outcomes.won + won_more,
        all_ended=outcomes.all_ended + number,
        all_won=outcomes.all_won + jnp.sum(won_more),
        ended_now=outcomes.ended_now + number,
    )


def _by_row(outcomes: Outcomes, row: Array, where: Array, shards: Shards) -> Array:
    """How many of the entries of `row` [n] name each row, counting those `where`; float32 [R]."""
    counted: Array = jnp.zeros_like(outcomes.begun).at[row].add(where.astype(jnp.float32))
    return shards.sum(counted)


def succeeded(outcomes: Outcomes, share: Scalar) -> Array:
    """Whether at least `share` of enough episodes of all rows were won: bool []."""
    enough = outcomes.all_ended >= LEAST_ENDED
    return enough & (outcomes.all_won >= share * outcomes.all_ended)


def fade(outcomes: Outcomes, forget: Array) -> Outcomes:
    """At the end of an iteration: episodes of all rows count less beside newer ones, or not at all.

    If none ended in it, there are no newer ones.
    """
    kept = jnp.where(forget, 0.0, jnp.where(outcomes.ended_now > 0, KEPT, 1.0))
    return replace(
        outcomes,
        all_ended=kept * outcomes.all_ended,
        all_won=kept * outcomes.all_won,
        ended_now=jnp.zeros_like(outcomes.ended_now),
    )
