"""Targets of Q-learning, and the slowly moving networks that they are computed with."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxrl.types import Array, PyTree, Scalar


def clipped_double_q(
    reward: Float[Array, "B"], discount: Float[Array, "B"], next_values: Float[Array, "C B"]
) -> Float[Array, "B"]:
    """The target of every critic: the least of several estimates counts.

        y = r + γ min_k Q_k(s', a')

    Args:
      reward: r.
      discount: γ, or 0 where nothing follows.
      next_values: Q_k(s', a') of C critics.

    Returns:
      y, in the reward's unit; no gradient goes through it.

    Source: Fujimoto et al., Addressing Function Approximation Error in Actor-Critic Methods (2018),
    equation 10.
    """
    return jax.lax.stop_gradient(reward + discount * jnp.min(next_values, axis=0))


def smoothed_action(
    action: Float[Array, "*B D"],
    noise: Float[Array, "*B D"],
    noise_std: Scalar,
    noise_clip: Scalar,
) -> Float[Array, "*B D"]:
    """An action near the target policy's, so that the critic learns a smooth function of it.

        a' = clip(μ + clip(σ ε, −c, c), −1, 1)

    `action` is μ and `noise` ε is standard normal; all in units where [-1, 1] spans the
    action space.

    Source: Fujimoto et al. (2018), equation 14.
    """
    return jnp.clip(action + jnp.clip(noise_std * noise, -noise_clip, noise_clip), -1.0, 1.0)


def polyak(target: PyTree, params: PyTree, tau: Scalar) -> PyTree:
    """Parameters of a target network, moved a share of the way: θ' ← θ' + τ (θ − θ').

    Trees of arrays of equal shapes. τ = 1 copies.
    """
    return jax.tree.map(lambda old, new: old + tau * (new - old), target, params)
