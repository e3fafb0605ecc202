"""How often each row of a bank is drawn: logits over R rows, and the draw itself.

A row is drawn with the probability softmax(logits). Sources are those of the methods that choose
so (docs/snapshots.md).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32

from jaxrl.types import Array, Scalar

Logits = Float[Array, "R"]


def balanced(labels: Int32[Array, "R"], clusters: int) -> Logits:
    """A cluster uniformly of those that are not empty, and in it a row uniformly.

        p_i = 1 / (K' · n(c_i)),   so that   logit_i = −log n(c_i)

    with K' clusters that hold rows, and n(c) rows in cluster c.

    Source: status classification of Zhao et al., Efficient RL via teacher-trajectory snapshots
    (2024), arXiv 2403.00673, as its authors' code has it.
    """
    count = jnp.zeros(clusters).at[labels].add(1.0)
    return -jnp.log(count[labels])


def window(place: Float[Array, "R"], progress: Scalar, width: float) -> Logits:
    """Rows whose place lies in a window that slides from 0 to 1, uniformly.

    `place` in [0, 1] orders the rows; the window is [low, low + width] with low = (1 − width) ·
    progress. Where no row lies in it, the nearest one stands for it.

    Source: Resnick et al., Backplay (2018), arXiv 1807.06919, with the time of a demonstration as
    the place.
    """
    low = (1.0 - width) * jnp.clip(progress, 0.0, 1.0)
    beyond = jnp.maximum(low - place, place - (low + width))
    inside = beyond <= jnp.maximum(jnp.min(beyond), 1e-6)
    return only(inside)


def rank(values: Float[Array, "R"]) -> Float[Array, "R"]:
    """The place of each number in their order, from 0 for the lowest to 1 for the highest."""
    order = jnp.argsort(jnp.argsort(values))
    return order / jnp.maximum(len(values) - 1, 1)


def rarely_begun(begun: Float[Array, "R"]) -> Logits:
    """Rows that few episodes began at: weight 1 / √(count + 1).

    Source: Ecoffet et al., First return, then explore (2021), with their robot's exponent of ½.
    """
    return -0.5 * jnp.log1p(begun)


def in_band(
    ended: Float[Array, "R"],
    won: Float[Array, "R"],
    low: Scalar,
    high: Scalar,
    *,
    least: float,
    share: float,
) -> Logits:
    """Rows after which a part of [low, high] of the episodes succeeds, uniformly, or any row.

        p_i = share · [i is inside] / (rows inside) + (1 − share) / R

    Of `ended` episodes of a row, `won` did. Rows of fewer than `least` count as inside: of them too
    little is known. All do, where none is in the band. Without draws of any row, one that has left
    the band could never return, and what fails now may succeed later.

    Source: Florensa et al., Reverse curriculum generation (2017), arXiv 1707.05300, which
    mixes in starts that were in the band before.
    """
    part = won / jnp.maximum(ended, least)
    inside = (ended < least) | ((part >= low) & (part <= high))
    chosen = jax.nn.softmax(only(inside))
    return jnp.log(share * chosen + (1.0 - share) / len(ended))


def at_frontier(steps_back: Int32[Array, "R"], share: float) -> Logits:
    """The frontier's row with a probability of `share`, else any from there to the end.

    `steps_back`: rows of the demonstration, counted from the frontier on: 0 is the frontier's own,
    a negative number lies before it, or in no demonstration.

    Source: Salimans & Chen, Learning Montezuma's Revenge from a single demonstration (2018), arXiv
    1812.03381.
    """
    count = jnp.maximum(jnp.sum(steps_back >= 0), 1)
    probability = jnp.where(steps_back >= 0, (1.0 - share) / count, 0.0)
    probability += jnp.where(steps_back == 0, share, 0.0)
    return jnp.log(probability)


def only(inside: Bool[Array, "R"]) -> Logits:
    """The rows that are `inside`, uniformly; all of them, where none is."""
    return jnp.where(inside | ~jnp.any(inside), 0.0, -jnp.inf)


def cumulated(logits: Logits) -> Float[Array, "R"]:
    """What `draw` reads: the sums of the probabilities up to each row."""
    return jnp.cumsum(jax.nn.softmax(logits))


def draw(cumulative: Float[Array, "R"], uniform: Float[Array, "N"]) -> Int32[Array, "N"]:
    """The rows that uniform numbers u in [0, 1) draw: the i with Σ_{k<i} p_k ≤ u < Σ_{k≤i} p_k.

    A binary search each: it takes log R steps where a draw by logits would take R random numbers.
    No row of probability 0 is drawn: u is scaled by the sum, and none is beyond the last possible
    row.
    """
    total = cumulative[-1]
    row = jnp.searchsorted(cumulative, uniform * total, side="right")
    last = jnp.searchsorted(cumulative, total, side="left")
    return jnp.minimum(row, last).astype(jnp.int32)
