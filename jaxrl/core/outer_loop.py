"""PPO's outer loop as stochastic optimisation: what anchors a step, its length and its noise.

One iteration of PPO is one outer step. Its length follows from how strongly the policy is held to
an older one, its noise from how many transitions it averages over (Beukman et al. 2026, arXiv
2603.06009; docs/scaling.md).
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxrl.types import Array, Mean, Metrics, PyTree, Scalar


class Ewma(NamedTuple):
    """An exponentially weighted mean of parameters, and the sum of the weights."""

    mean: PyTree
    weight: Float[Array, ""]


def ewma_init(params: PyTree) -> Ewma:
    """The mean of the first parameters alone."""
    return Ewma(params, jnp.ones(()))


def ewma_update(ewma: Ewma, params: PyTree, center_of_mass: Scalar) -> Ewma:
    """The mean with `params` as its newest entry.

    `center_of_mass` is the mean's age in updates once it has forgotten its start.

        β = COM / (1 + COM),   W′ = β W + 1,   mean′ = (β W mean + θ) / W′

    COM = 0 keeps the newest alone. The weight W corrects the bias of a young mean: it is exact from
    the start.

    Source: Hilton, Cobbe & Schulman, Batch size-invariance for policy optimization (2021), section
    3.2 and appendix C.
    """
    decay = center_of_mass / (1.0 + center_of_mass)
    weight = decay * ewma.weight + 1.0
    share = 1.0 / weight
    # mean + share (θ − mean) is the same, and does not move where θ equals the mean.
    mean = jax.tree.map(lambda old, new: old + share * (new - old), ewma.mean, params)
    return Ewma(mean, weight)


def outer_step(old: PyTree, new: PyTree, size: Scalar) -> PyTree:
    """θ_old + σ (θ_new − θ_old), which is θ_new to the last bit for σ = 1.

    Source: Tan et al., Beyond the Boundaries of Proximal Policy Optimization (2024), arXiv
    2411.00666, equation 8.
    """
    return jax.tree.map(lambda old, new: new + (size - 1.0) * (new - old), old, new)


def gradient_noise_scale(
    small: Float[Array, ""], large: Float[Array, ""], small_size: int, large_size: int
) -> Mean:
    """The batch size at which noise and signal of the gradient are equal, as (tr Σ, |G|²).

    In transitions. From the mean squared norms of gradients over b and over B samples, E|G_b|² =
    |G|² + tr Σ / b:

        tr Σ = (|G_b|² − |G_B|²) / (1/b − 1/B),    |G|² = (B |G_B|² − b |G_b|²) / (B − b)

    Both are unbiased and either may come out negative by chance, so it is their sums over many
    iterations that are to be divided: the pair is (numerator, denominator). One minibatch per
    batch tells nothing: (0, 0).

    Source: McCandlish et al., An Empirical Model of Large-Batch Training (2018), appendix A.1.
    """
    if small_size == large_size:
        return Mean(jnp.zeros(()), jnp.zeros(()))
    trace = (small - large) / (1.0 / small_size - 1.0 / large_size)
    signal = (large_size * large - small_size * small) / (large_size - small_size)
    return Mean(trace, signal)


def update_metrics(
    seen: dict[str, Array], kl: Float[Array, ""], batch_size: int, minibatch_size: int
) -> Metrics:
    """The metrics of one outer step, from the diagnostics `seen` by its gradient steps.

    Their shape is [epochs, minibatches]; `batch_gradient_norm` is [epochs].

    kl_to_previous:       KL(π_k ‖ π_{k+1}), nats.
    gradient_steps:       how many were taken.
    data_to_divergence:   transitions per nat.
    gradient_noise_scale: transitions; from the first epoch, and biased low: parameters move a
                          little between the minibatches, which on a plateau correlates their
                          gradients negatively.
    first_ratio_error:    mean |ρ − 1| on the first minibatch, 0 but for rounding.

    The rest are means over gradient steps.
    """
    seen = dict(seen)
    small = jnp.square(seen["gradient_norm"][0]).mean()
    large = jnp.square(seen.pop("batch_gradient_norm")[0])
    ratio_error = seen.pop("ratio_error")[0, 0]
    return {name: Mean.of(values) for name, values in seen.items()} | {
        "first_ratio_error": Mean.of(ratio_error),
        "kl_to_previous": Mean.of(kl),
        "gradient_steps": Mean(jnp.sum(seen["taken"], dtype=jnp.float32), jnp.ones(())),
        "data_to_divergence": Mean(jnp.float32(batch_size), kl),
        "gradient_noise_scale": gradient_noise_scale(small, large, minibatch_size, batch_size),
    }
