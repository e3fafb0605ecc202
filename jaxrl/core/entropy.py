"""The temperature of maximum-entropy learners, which holds the policy's entropy at a target."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from chex import Numeric
from jax import Array


def temperature_loss(
    log_alpha: Array, log_probability: Array, target_entropy: Numeric, of_logarithm: bool
) -> Array:
    """A loss whose descent raises α where the entropy is below its target, and else lowers it.

        of_logarithm:  L = −log α · mean(log π(a|s) + H̄)
        otherwise:     L = −α · mean(log π(a|s) + H̄)

    The gradient by log α is the same but for a factor α, so that the first moves as fast when α is
    small. Nothing of it reaches the policy.

    Args:
      log_alpha: log α, [].
      log_probability: of actions that the policy has just drawn, in nats [B].
      target_entropy: H̄ in nats, as −d for d actions in [−1, 1].

    Source: Haarnoja et al., Soft Actor-Critic Algorithms and Applications (2018), equation 18; the
    logarithm as in its authors' code.
    """
    chex.assert_rank([log_alpha, log_probability], [0, 1])
    error = jax.lax.stop_gradient(jnp.mean(log_probability) + target_entropy)
    return -(log_alpha if of_logarithm else jnp.exp(log_alpha)) * error
