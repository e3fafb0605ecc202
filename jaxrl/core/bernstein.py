"""What independent samples of a bounded quantity say of its expectation, with high probability."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from chex import Numeric
from jax import Array

from jaxrl.core.moments import Moments


def moments_of(samples: Array, where: Array, axis_name: str | None = None) -> Moments:
    """Moments [...] of the samples [N, ...] where `where`, bool [N, ...], holds, on all devices of `axis_name`.

    Of no sample: mean 0, variance 0, count 0.
    """

    def total(x: Array) -> Array:
        x = jnp.sum(jnp.where(where, x, 0.0), axis=0)
        return x if axis_name is None else jax.lax.psum(x, axis_name)

    count = total(jnp.ones_like(samples))
    divisor = jnp.maximum(count, 1.0)
    mean = total(samples) / divisor
    return Moments(mean, total(jnp.square(samples - mean[None])) / divisor, count)


def merge(first: Moments, second: Moments) -> Moments:
    """The moments of both sets of samples together.

    Source: Chan, Golub & LeVeque, Algorithms for Computing the Sample Variance (1983), equation 2.1.
    """
    count = first.count + second.count
    share = second.count / jnp.maximum(count, 1.0)
    delta = second.mean - first.mean
    spread = share * (1.0 - share) * jnp.square(delta)
    variance = (1.0 - share) * first.variance + share * second.variance + spread
    return Moments(first.mean + share * delta, variance, count)


def bounds(moments: Moments, low: Numeric, high: Numeric, failure_probability: Numeric) -> tuple[Array, Array]:
    """Lower and upper bound on the expectation of samples in [low, high], each wrong with at most that probability.

        mean ± (√(2 V ln(2/δ) / n) + 7 (high − low) ln(2/δ) / (3 (n − 1))),   V the unbiased sample variance,

    clipped to [low, high]; of fewer than two samples, these themselves. Shapes and units are those of the moments.

    Source: Maurer & Pontil, Empirical Bernstein Bounds and Sample Variance Penalization (2009), theorem 4.
    """
    spread = high - low
    others = jnp.maximum(moments.count - 1.0, 1.0)
    log_term = jnp.log(2.0 / failure_probability)
    # The unbiased variance over n is the population's over n − 1.
    width = jnp.sqrt(2.0 * moments.variance * log_term / others) + 7.0 * spread * log_term / (3.0 * others)
    width = jnp.where(moments.count < 2.0, jnp.inf, width)
    return jnp.maximum(moments.mean - width, low), jnp.minimum(moments.mean + width, high)
