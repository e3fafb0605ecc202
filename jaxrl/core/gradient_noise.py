"""How noisy the gradients of minibatches are: the scale, and what it is estimated from."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxrl.core.flat_optimizer import Learner
from jaxrl.types import Array, Mean, PyTree

# (learner, draw) -> (learner, the gradient [parameters], diagnostics)
GradientStep = Callable[[Learner, PyTree], tuple[Learner, Array, dict[str, Array]]]


def scan_minibatches(
    step: GradientStep, learner: Learner, draws: PyTree
) -> tuple[Learner, dict[str, Array]]:
    """`jax.lax.scan` of gradient steps over the minibatches of an epoch: (learner, diagnostics).

    `draws` has leaves [minibatches, ...]. To the steps' own diagnostics, [minibatches], are added:

    gradient_norm:       |G_b| of each minibatch, [minibatches].
    batch_gradient_norm: |G_B| of their mean, the gradient over the whole batch, [].
    """

    def measured(
        carry: tuple[Learner, Array], draw: PyTree
    ) -> tuple[tuple[Learner, Array], dict[str, Array]]:
        learner, gradient_sum = carry
        learner, gradient, seen = step(learner, draw)
        seen = seen | {"gradient_norm": jnp.linalg.norm(gradient)}
        return (learner, gradient_sum + gradient), seen

    count = len(jax.tree.leaves(draws)[0])
    carry = (learner, jnp.zeros_like(learner.params))
    (learner, gradient_sum), seen = jax.lax.scan(measured, carry, draws)
    return learner, seen | {"batch_gradient_norm": jnp.linalg.norm(gradient_sum / count)}


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
