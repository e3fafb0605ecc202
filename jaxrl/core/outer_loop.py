"""PPO's outer loop as stochastic optimisation: how far a step goes, and its metrics.

One iteration of PPO is one outer step. Its length follows from how strongly the policy is held to
an older one, its noise from how many transitions it averages over (Beukman et al. 2026, arXiv
2603.06009; docs/scaling.md).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxrl.core.gradient_noise import gradient_noise_scale
from jaxrl.types import Array, Mean, Metrics, PyTree, Scalar


def outer_step(old: PyTree, new: PyTree, size: Scalar) -> PyTree:
    """θ_old + σ (θ_new − θ_old), which is θ_new to the last bit for σ = 1.

    Source: Tan et al., Beyond the Boundaries of Proximal Policy Optimization (2024), arXiv
    2411.00666, equation 8.
    """
    return jax.tree.map(lambda old, new: new + (size - 1.0) * (new - old), old, new)


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
