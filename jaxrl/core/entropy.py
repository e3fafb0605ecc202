"""The temperature of maximum-entropy learners, which holds the policy's entropy at a target."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxrl.types import Array, Scalar


def temperature_loss(
    log_alpha: Float[Array, ""],
    log_probability: Float[Array, "B"],
    target_entropy: Scalar,
    of_logarithm: bool,
) -> Float[Array, ""]:
    """A loss whose descent raises α where the entropy is below its target, and else lowers it.

        of_logarithm:  L = −log α · mean(log π(a|s) + H̄)
        otherwise:     L = −α · mean(log π(a|s) + H̄)

    The gradient by log α is the same but for a factor α, so that the first moves as fast when α is
    small. Nothing of it reaches the policy.

    Args:
      log_alpha: log α.
      log_probability: of actions that the policy has just drawn, in nats.
      target_entropy: H̄ in nats, as −d for d actions in [−1, 1].

    Source: Haarnoja et al., Soft Actor-Critic Algorithms and Applications (2018), equation 18; the
    logarithm as in its authors' code.
    """
    error = jax.lax.stop_gradient(jnp.mean(log_probability) + target_entropy)
    return -(log_alpha if of_logarithm else jnp.exp(log_alpha)) * error
