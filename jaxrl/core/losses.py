"""The terms of the PPO objective and the diagnostics that are read beside it.

Plain arrays; unless said otherwise the result has one entry per element and the caller takes the
mean. Log-probabilities are in nats; values, targets and advantages have the reward's unit.
"""

from __future__ import annotations

import chex
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from jaxrl.core.shards import Shards
from jaxrl.types import Scalar


def clipped_surrogate(
    log_probability: Float[Array, "*B"],
    old_log_probability: Float[Array, "*B"],
    advantage: Float[Array, "*B"],
    clip_epsilon: Scalar,
) -> Float[Array, "*B"]:
    """The policy loss of PPO, to be minimised.

        ρ = π(a|s) / π_old(a|s)
        L = −min(ρ A, clip(ρ, 1 − ε, 1 + ε) A)

    Source: Schulman et al., Proximal Policy Optimization Algorithms (2017), equation 7.
    """
    chex.assert_equal_shape([log_probability, old_log_probability, advantage])
    ratio = jnp.exp(log_probability - old_log_probability)
    clipped_ratio = jnp.clip(ratio, 1.0 - clip_epsilon, 1.0 + clip_epsilon)
    return -jnp.minimum(ratio * advantage, clipped_ratio * advantage)


def clipped_value_loss(
    value: Float[Array, "*B"],
    old_value: Float[Array, "*B"],
    target: Float[Array, "*B"],
    clip_epsilon: Scalar,
) -> Float[Array, "*B"]:
    """Half the squared error, pessimistic about moves beyond ε of the old value.

        L = ½ max((V − G)², (clip(V, V_old − ε, V_old + ε) − G)²)

    ε has the units of the value; ε = ∞ gives ½ (V − G)², exactly.

    Source: OpenAI baselines ppo2; Engstrom et al., Implementation Matters in Deep Policy Gradients
    (2020).
    """
    chex.assert_equal_shape([value, old_value, target])
    # Clipping V between bounds, not V − V_old, keeps V to the last bit where no bound is active.
    clipped_value = jnp.clip(value, old_value - clip_epsilon, old_value + clip_epsilon)
    return 0.5 * jnp.maximum(jnp.square(value - target), jnp.square(clipped_value - target))


def kl_estimators(
    log_ratio: Float[Array, "*B"],
) -> tuple[Float[Array, "*B"], Float[Array, "*B"]]:
    """Two unbiased estimators of KL(π_old ‖ π) in nats, from actions of π_old.

        log ρ = log π(a|s) − log π_old(a|s),   k1 = −log ρ,   k3 = (ρ − 1) − log ρ

    k3 is non-negative and has the lower variance.

    Source: Schulman, Approximating KL Divergence (2020), http://joschu.net/blog/kl-approx.html.
    """
    # expm1, because ρ − 1 cancels where the policies are close, which is where PPO lives.
    return -log_ratio, jnp.expm1(log_ratio) - log_ratio


def importance(
    anchor: Float[Array, "*B"], behavior: Float[Array, "*B"], maximum: float = 100.0
) -> Float[Array, "*B"]:
    """min(π_anchor(a|s) / π_behavior(a|s), maximum) from log-probabilities.

    Exactly 1 where they are equal. The weight of PPO's decoupled objective: the clip holds the
    policy to the anchor, and this corrects for the actions having come from another one.

    Source: Hilton, Cobbe & Schulman, Batch size-invariance for policy optimization (2021), equation
    3.
    """
    return jnp.exp(jnp.minimum(anchor - behavior, jnp.log(maximum)))


def weighted_mean(
    x: Float[Array, "*B"], weight: Float[Array, "*B"] | None = None
) -> Float[Array, ""]:
    """The mean, weighted if there are weights, whose mean over the batch is 1."""
    return x.mean() if weight is None else (weight * x).mean()


def unit_weight(
    weight: Float[Array, "*B"] | None, axis_name: str | None = None
) -> Float[Array, "*B"] | None:
    """Weights scaled to mean 1 over all devices of `axis_name`; all 0 stay 0."""
    if weight is None:
        return None
    return weight / jnp.maximum(Shards(axis_name).mean(jnp.mean(weight)), 1e-8)


def ratio_diagnostics(
    log_ratio: Float[Array, "*B"],
    clipped_log_ratio: Float[Array, "*B"],
    clip_epsilon: Scalar,
    weight: Float[Array, "*B"] | None = None,
) -> dict[str, Float[Array, ""]]:
    """Means over the rows of: kl (k3), clip_fraction, and ratio_error = |ρ − 1|.

    `clipped_log_ratio` is that of the ratio which is clipped: the same, or one to another policy
    than the rollout's (PPO-EWMA).
    """
    _, k3 = kl_estimators(log_ratio)
    return {
        "kl": weighted_mean(k3, weight),
        "clip_fraction": weighted_mean(clip_fraction(clipped_log_ratio, clip_epsilon), weight),
        "ratio_error": weighted_mean(jnp.abs(jnp.expm1(log_ratio)), weight),
    }


def clip_fraction(log_ratio: Float[Array, "*B"], clip_epsilon: Scalar) -> Float[Array, "*B"]:
    """1 where the ratio lies outside 1 ± ε, else 0; its mean is the clip fraction."""
    return (jnp.abs(jnp.expm1(log_ratio)) > clip_epsilon).astype(log_ratio.dtype)


def explained_variance(
    value: Float[Array, "*B"],
    target: Float[Array, "*B"],
    weight: Float[Array, "*B"] | None = None,
) -> Float[Array, ""]:
    """The share of the targets' variance that the values explain.

        1 − Var(G − V) / Var(G)

    1 is perfect, 0 no better than a constant, negative worse. Constant targets leave nothing to
    explain: 0. Variances are weighted if there are weights, whose mean is 1.
    """
    chex.assert_equal_shape([value, target])

    def variance_of(x: Array) -> Array:
        if weight is None:
            return jnp.var(x)
        return weighted_mean(jnp.square(x - weighted_mean(x, weight)), weight)

    # A rounded mean gives equal numbers a tiny variance; measured from one of them it is exactly
    # zero.
    variance = variance_of(target - jnp.ravel(target)[0])
    varies = variance > 0.0
    unexplained = variance_of(target - value) / jnp.where(varies, variance, 1.0)
    return jnp.where(varies, 1.0 - unexplained, 0.0)


def normalize_advantage(
    advantage: Float[Array, "*B"],
    axis_name: str | None = None,
    weight: Float[Array, "*B"] | None = None,
) -> Float[Array, "*B"]:
    """(A − mean) / (standard deviation + 1e-8) over all elements and the devices of `axis_name`.

    Devices must hold equally many elements. With weights, both moments are weighted: rows of weight
    0 do not affect the others. Dimensionless.
    """
    weight = unit_weight(weight, axis_name)

    def mean(x: Array, axes: tuple[int, ...] | None = None) -> Array:
        weighted = x if weight is None else jnp.broadcast_to(weight, x.shape) * x
        return Shards(axis_name).mean(jnp.mean(weighted, axes))

    deviation = advantage - mean(advantage)
    both = jnp.stack([jnp.square(deviation), deviation])
    variance, error = mean(both, tuple(range(1, both.ndim)))
    # The error of the rounded mean is all there is to the deviation of constants: it must not come
    # out as ±1.
    return (deviation - error) / (jnp.sqrt(variance) + 1e-8)
