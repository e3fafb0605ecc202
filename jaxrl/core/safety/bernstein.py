"""Confidence sequences for the mean of bounded observations, valid at all times together.

Source: Waudby-Smith & Ramdas, Estimating Means of Bounded Random Variables by Betting (2024),
theorem 2: empirical Bernstein confidence sequences with predictable plug-ins. Their margin is close
to Bernstein's with the true variance; that of Maurer & Pontil (2009) is about twice as wide at a
few hundred observations.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from jaxrl.core.shards import Shards
from jaxrl.types import Scalar

LARGEST_WEIGHT = 0.5  # λ must stay below 1; this much keeps few observations from deciding


class Evidence(NamedTuple):
    """Sums over observations x in [0, 1], additive over rounds and devices."""

    count: Float[Array, "*B"]  # type: ignore[assignment]
    weight: Float[Array, "*B"]  # Σ λ
    weighted: Float[Array, "*B"]  # Σ λ x
    penalty: Float[Array, "*B"]  # Σ (x − μ̂)² ψ(λ)


def gather(
    old: Evidence,
    samples: Float[Array, "N *B"],
    where: Bool[Array, "N *B"],
    log_term: Scalar,
    axis_name: str | None = None,
) -> Evidence:
    """`old` with the samples in [0, 1] where `where` holds, on all devices of `axis_name`.

        μ̂_i = (½ + Σ_{j<i} x_j) / i,   σ̂²_i = (¼ + Σ_{j<i} (x_j − μ̂_j)²) / i
        λ_i = min(√(2 L / (n σ̂²_i)), ½),   ψ(λ) = −log(1 − λ) − λ

    Guesses μ̂, σ̂² use earlier samples of the same round and device, in the order of their rows; n is
    the number of all observations so far, these included, and L = `log_term` that of the bounds to
    come. Each λ is known before its x, so Π exp(λ_i (x_i − μ) − (x_i − μ̂_i)² ψ(λ_i)) is a
    supermartingale, and so is its product over rounds and devices.
    """

    def before(x: Float[Array, "N *B"]) -> Float[Array, "N *B"]:
        return jnp.cumsum(x, axis=0) - x

    def total(x: Float[Array, "N *B"]) -> Float[Array, "*B"]:
        return Shards(axis_name).sum(jnp.sum(x, axis=0))

    counts = where.astype(samples.dtype)
    samples = jnp.where(where, samples, 0.0)
    seen = before(counts) + 1.0
    guess = (0.5 + before(samples)) / seen
    squares = jnp.where(where, jnp.square(samples - guess), 0.0)
    variance = (0.25 + before(squares)) / seen
    count = old.count + total(counts)
    scale = 2.0 * log_term / jnp.maximum(count, 1.0)
    weight = counts * jnp.minimum(jnp.sqrt(scale[None] / variance), LARGEST_WEIGHT)
    penalty = squares * (-jnp.log1p(-weight) - weight)
    return Evidence(
        count=count,
        weight=old.weight + total(weight),
        weighted=old.weighted + total(weight * samples),
        penalty=old.penalty + total(penalty),
    )


def nothing(shape: tuple[int, ...]) -> Evidence:
    """The evidence of no observations."""
    return Evidence(
        count=jnp.zeros(shape),
        weight=jnp.zeros(shape),
        weighted=jnp.zeros(shape),
        penalty=jnp.zeros(shape),
    )


def bounds(evidence: Evidence, log_term: Scalar) -> tuple[Float[Array, "*B"], Float[Array, "*B"]]:
    """Lower and upper bound on the expectation, in [0, 1].

        (Σ λ x ± (L + Σ (x − μ̂)² ψ(λ))) / Σ λ

    With L = log(1/δ) each is wrong with probability δ at most, at all times together; without
    observations they are 0 and 1.
    """
    divisor = jnp.where(evidence.weight > 0, evidence.weight, 1.0)
    center = evidence.weighted / divisor
    margin = (log_term + evidence.penalty) / divisor
    margin = jnp.where(evidence.weight > 0, margin, jnp.inf)
    return jnp.maximum(center - margin, 0.0), jnp.minimum(center + margin, 1.0)
