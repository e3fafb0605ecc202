"""Terms of the losses of offline learners: expectiles, advantage weights, the scale of values."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxrl.types import Array, Scalar

# Of the mean size of values that something is divided by: rewards may all be 0.
SMALLEST = 1e-8


def expectile_loss(error: Float[Array, "*B"], expectile: Scalar) -> Float[Array, "*B"]:
    """A squared error that weighs what was estimated too low otherwise than what was too high.

        L = |τ − 1(u < 0)| u²,   u = goal − estimate

    The best estimate is the τ-expectile of the goals: their mean for τ = ½, where L = ½ u², and
    nearly their maximum for τ close to 1.

    Args:
      error: u, in the reward's unit.
      expectile: τ in [0, 1].

    Source: Kostrikov et al., Offline Reinforcement Learning with Implicit Q-Learning (2021),
    equation 4.
    """
    return jnp.where(error < 0.0, 1.0 - expectile, expectile) * jnp.square(error)


def advantage_weight(
    advantage: Float[Array, "*B"], inverse_temperature: Scalar, maximum: Scalar
) -> Float[Array, "*B"]:
    """What a recorded action counts in cloning: more, the better it was than expected.

        w = min(exp(β A), w_max)

    `advantage` is A in the reward's unit; β = 0 clones all actions alike. No gradient goes through
    the weight.

    Source: Kostrikov et al. (2021), equation 7; the maximum is that of its authors' code.
    """
    weight = jnp.minimum(jnp.exp(inverse_temperature * advantage), maximum)
    return jax.lax.stop_gradient(weight)


def value_scale(value: Float[Array, "*B"], alpha: Scalar) -> Float[Array, ""]:
    """What values are multiplied by beside a cloning loss, so that their unit does not matter.

        λ = α / mean |Q|

    `value` is Q in the reward's unit. No gradient goes through the scale.

    Source: Fujimoto & Gu, A Minimalist Approach to Offline Reinforcement Learning (2021),
    equation 5.
    """
    return jax.lax.stop_gradient(alpha / jnp.maximum(jnp.mean(jnp.abs(value)), SMALLEST))
