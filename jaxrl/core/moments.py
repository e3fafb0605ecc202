"""Running mean and variance, for normalising observations and scaling rewards.

The variance is kept itself, not as a sum of squares, so that nothing grows with the run.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Real

from jaxrl.core.shards import Shards
from jaxrl.types import Scalar


class Moments(NamedTuple):
    """Mean, population variance and number of the samples seen."""

    mean: Float[Array, "*shape"]
    variance: Float[Array, "*shape"]
    count: Float[Array, ""]  # type: ignore[assignment]


def init(shape: tuple[int, ...]) -> Moments:
    """The moments of no samples: mean 0 and variance 1, so that `normalize` is the identity."""
    return Moments(jnp.zeros(shape), jnp.ones(shape), jnp.zeros(()))


def update(
    moments: Moments,
    batch: Real[Array, "..."],
    axis_name: str | None = None,
    maximum_count: Scalar | None = None,
) -> Moments:
    """Merge a batch [..., *shape] into the moments.

    Leading axes and the devices of `axis_name` are samples.

        w  = n / (count + n),   δ = mean_batch − mean
        mean     ← mean + w δ
        variance ← (1 − w) variance + w variance_batch + w (1 − w) δ²

    A float32 count stops growing at 2²⁴ samples (or 2²⁴ batches, if they are large), so it is held
    at `maximum_count`, by default 2²³ samples or 100 batches, whichever is more. From there on the
    moments are an exponential moving average with that memory. Devices must hold equally many
    samples and get equal results.

    Source: Chan, Golub & LeVeque, Algorithms for Computing the Sample Variance (1983), equation
    2.1, written with means for sums; its equation 1.7 within the batch.
    """
    batch_mean, batch_variance, batch_count = _batch_moments(batch, moments.mean.ndim, axis_name)
    chex.assert_equal_shape([moments.mean, batch_mean])
    if maximum_count is None:
        maximum_count = max(2.0**23, 100.0 * batch_count)
    count = jnp.minimum(moments.count, maximum_count)
    weight = batch_count / (count + batch_count)
    delta = batch_mean - moments.mean
    mean = moments.mean + weight * delta
    spread = weight * (1.0 - weight) * jnp.square(delta)
    variance = (1.0 - weight) * moments.variance + weight * batch_variance + spread
    return Moments(mean, variance, jnp.minimum(count + batch_count, maximum_count))


def _batch_moments(
    batch: Real[Array, "..."], event_ndim: int, axis_name: str | None
) -> tuple[Float[Array, "*shape"], Float[Array, "*shape"], float]:
    """Mean, variance and number of the samples in `batch` on all devices of `axis_name`."""
    axes = tuple(range(batch.ndim - event_ndim))
    count = math.prod(batch.shape[: len(axes)])
    if axis_name is not None:
        count *= jax.lax.axis_size(axis_name)

    def mean(x: Array) -> Array:
        return Shards(axis_name).mean(jnp.mean(x, axes))

    batch = batch.astype(jnp.float32)
    guess = mean(batch)
    deviation = batch - jnp.broadcast_to(guess, batch.shape)
    # The guess is rounded at the size of the data, and its error only at the size of the
    # deviations.
    error = mean(deviation)
    variance = jnp.maximum(mean(jnp.square(deviation)) - jnp.square(error), 0.0)
    return guess + error, variance, float(count)


def normalize(moments: Moments, x: Real[Array, "*B"], clip: Scalar = 10.0) -> Float[Array, "*B"]:
    """clip((x − mean) / √(variance + 1e-8), ±clip), dimensionless.  x is [..., *shape]."""
    x = x.astype(moments.mean.dtype)
    scale = jax.lax.rsqrt(moments.variance + 1e-8)
    mean = jnp.broadcast_to(moments.mean, x.shape)
    scale = jnp.broadcast_to(scale, x.shape)
    return jnp.clip((x - mean) * scale, -clip, clip)


def normalize_if_kept(moments: Moments | None, x: Real[Array, "*B"]) -> Real[Array, "*B"]:
    """`normalize` by the moments that a policy keeps; x itself, where it keeps none."""
    return x if moments is None else normalize(moments, x.astype(jnp.float32))


def discounted_returns(
    running: Float[Array, "N"],
    reward: Float[Array, "T N"],
    done: Bool[Array, "T N"],
    gamma: Scalar,
) -> tuple[Float[Array, "N"], Float[Array, "T N"]]:
    """The discounted sum of *past* rewards, whose standard deviation scales rewards.

        R_t = γ R_{t−1} + r_t,   then R_t ← 0 where done_t

    The return is recorded before it is zeroed, so that an episode's last reward counts: the order
    of OpenAI baselines' VecNormalize. `done` is terminated ∨ truncated.

    Args:
      running: the sum before the first row; zeros at the start of a run.
      reward: r.
      done: where an episode ended.
      gamma: the discount γ.

    Returns:
      The sum to go on with, and R before zeroing, in the reward's unit.

    Source: OpenAI baselines; Engstrom et al., Implementation Matters in Deep Policy Gradients
    (2020).
    """
    chex.assert_equal_shape([reward, done])
    chex.assert_type(done, bool)

    def step(running, inputs):
        reward, done = inputs
        recorded = gamma * running + reward
        return jnp.where(done, 0.0, recorded), recorded

    return jax.lax.scan(step, running, (reward, done))
