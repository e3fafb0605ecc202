"""Mixtures of an optimistic policy with a baseline that keep a lower bound at a threshold.

Source: Li, Huang, Shen, Yang (2023), arXiv 2306.06265.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Float, Int32

from jaxrl.core.tabular import Mixture
from jaxrl.types import Array, Scalar


class Choice(NamedTuple):
    """Follow candidate `bold` with probability `weight`, else candidate `cautious`."""

    bold: Int32[Array, ""]  # steps of the baseline
    cautious: Int32[Array, ""]  # at least as many
    weight: Float[Array, ""]
    lower: Float[Array, ""]  # the mixture's lower bound


def choose(
    lower: Float[Array, "J"], prefixes: Int32[Array, "J"], threshold: Scalar, *, mix: bool = True
) -> Choice:
    """The boldest mixture of neighbours whose lower bound is `threshold` or more.

    Candidates are ordered from the boldest, prefix 0, to the baseline; `lower` are their bounds L.
    With i the first one certified, L_i ≥ γ:

        i = 0     the optimistic policy alone
        i ≥ 1     candidate i − 1 with probability ρ = (L_i − γ) / (L_i − L_{i−1}) < 1,
                  else candidate i
        none      the last candidate: the baseline, which meets the constraint by assumption

    As V(mixture) = ρ V_{i−1} + (1 − ρ) V_i ≥ ρ L_{i−1} + (1 − ρ) L_i = γ, the mixture is as safe as
    its parts are bounded, and needs no bound of its own. Without `mix`, ρ is 0.
    """
    certified = lower >= threshold
    some = jnp.any(certified)
    first = jnp.where(some, jnp.argmax(certified), len(lower) - 1).astype(jnp.int32)
    mixed = some & (first > 0)
    bold = jnp.where(mixed, first - 1, first)
    # Where it is mixed, L_i ≥ γ > L_{i−1}: the denominator is positive.
    gap = jnp.where(mixed, lower[first] - lower[bold], 1.0)
    share = (lower[first] - threshold) / gap if mix else 0.0
    weight = jnp.where(mixed, share, 1.0).astype(lower.dtype)
    bound = weight * lower[bold] + (1.0 - weight) * lower[first]
    return Choice(prefixes[bold], prefixes[first], weight, bound)


def splice(
    optimistic: Float[Array, "H S A"],
    baseline: Float[Array, "H S A"],
    prefix: int | Int32[Array, ""],
) -> Float[Array, "H S A"]:
    """The baseline for the first `prefix` steps, the optimistic policy from then on."""
    h = jnp.arange(len(optimistic), dtype=jnp.int32)[:, None, None]
    return jnp.where(h < prefix, baseline, optimistic)


def mixture(
    choice: Choice, optimistic: Float[Array, "H S A"], baseline: Float[Array, "H S A"]
) -> Mixture:
    """The policy of a choice: one of two candidates, drawn before each episode.

    Neighbours in the chain of all prefixes part at a single step, so for them the draw can as well
    be made there: ρ π̄(·|s) + (1 − ρ) π^b(·|s) at that step is the same law of episodes.
    """
    return Mixture(
        bold=splice(optimistic, baseline, choice.bold),
        cautious=splice(optimistic, baseline, choice.cautious),
        weight=choice.weight,
    )


def shares(choice: Choice, horizon: int) -> dict[str, Float[Array, ""]]:
    """Whether a choice is the optimistic policy, the baseline or a mixture, as one 1 and two 0."""
    optimistic = jnp.where(choice.cautious == 0, 1.0, 0.0)
    baseline = jnp.where((choice.bold == horizon) | (choice.weight == 0), 1.0, 0.0)
    return {
        "optimistic_share": optimistic,
        "baseline_share": baseline,
        "mixed_share": 1.0 - optimistic - baseline,
    }
