"""Running sums that keep what float32 rounds away: the return of an episode of any length.

A float32 sum of ones stops at 2²⁴ = 16,777,216, and one of 0.1 is wrong by a hundredth after a
million terms. Here a second number carries the remainder along.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float32


class Sum(NamedTuple):
    """The sum of the terms so far is `value + remainder`.

    `value` is that sum rounded to float32, and so the result; `remainder` is at most half the
    distance from it to the next float32.
    """

    value: Float32[Array, "*B"]
    remainder: Float32[Array, "*B"]


def zeros(shape: int | tuple[int, ...]) -> Sum:
    """The sum of no terms yet."""
    return Sum(jnp.zeros(shape, jnp.float32), jnp.zeros(shape, jnp.float32))


def add(total: Sum, term: Float32[Array, "*B"]) -> Sum:
    """One term more, of the sum's shape: adds a number to an unevaluated sum of two.

        (s, e) = two_sum(value, term)         s + e = value + term exactly, s rounded
        (value, remainder) ← two_sum(s, e + remainder)

    Only `e + remainder` rounds, by 2u² of the sum at most (u = 2⁻²⁴). Hence after n terms

        |value − Σ x| ≤ u |Σ x| + 2 n u² max_k |Σ_{i≤k} x_i|      (to first order in n u²)

    where a plain sum has n u max_k |Σ_{i≤k} x_i|. A term that is infinite, or a sum that overflows,
    makes the sum NaN: infinity less itself is no number.

    The remainder goes back into the sum on every step, as in Kahan's sum: a separate sum of all
    errors (Neumaier's) rounds as a plain one does once the errors share a sign. And it meets the
    errors before the sum, as in Neumaier's: a term much larger than the sum loses nothing.

    Source: Joldes, Muller & Popescu, Tight and Rigorous Error Bounds for Basic Building Blocks of
    Double-Word Arithmetic (2017), algorithm 4 and its bound; two_sum is Knuth's (The Art of
    Computer Programming 2, 4.2.2, theorem B). After Kahan, Further Remarks on Reducing Truncation
    Errors (1965), and Neumaier, Rundungsfehleranalyse einiger Verfahren zur Summation endlicher
    Summen (1974).
    """
    rounded, error = _two_sum(total.value, term)
    return Sum(*_ordered_two_sum(rounded, error + total.remainder))


def _two_sum(
    a: Float32[Array, "*B"], b: Float32[Array, "*B"]
) -> tuple[Float32[Array, "*B"], Float32[Array, "*B"]]:
    """(a + b rounded, what the rounding left out), the latter exact."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def _ordered_two_sum(
    a: Float32[Array, "*B"], b: Float32[Array, "*B"]
) -> tuple[Float32[Array, "*B"], Float32[Array, "*B"]]:
    """`_two_sum` in half the operations, for |a| ≥ |b| or a = 0 (Dekker 1971)."""
    total = a + b
    return total, b - (total - a)
