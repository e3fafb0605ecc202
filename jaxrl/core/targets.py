"""Targets of Q-learning, and the slowly moving networks that they are computed with."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
from chex import Numeric
from jax import Array


def clipped_double_q(reward: Array, discount: Array, next_values: Array) -> Array:
    """The target of every critic: the least of several estimates counts.

        y = r + γ min_k Q_k(s', a')

    Args:
      reward: r [B].
      discount: γ, or 0 where nothing follows [B].
      next_values: Q_k(s', a') of K critics [K, B].

    Returns:
      y [B], in the reward's unit; no gradient goes through it.

    Source: Fujimoto et al., Addressing Function Approximation Error in Actor-Critic Methods (2018),
    equation 10.
    """
    chex.assert_equal_shape([reward, discount, next_values[0]])
    return jax.lax.stop_gradient(reward + discount * jnp.min(next_values, axis=0))


def smoothed_action(action: Array, noise: Array, noise_std: Numeric, noise_clip: Numeric) -> Array:
    """An action near the target policy's, so that the critic learns a smooth function of it.

        a' = clip(μ + clip(σ ε, −c, c), −1, 1)

    `action` μ and standard normal `noise` ε are [..., d]; all in units where [-1, 1] spans the
    action space.

    Source: Fujimoto et al. (2018), equation 14.
    """
    chex.assert_equal_shape([action, noise])
    return jnp.clip(action + jnp.clip(noise_std * noise, -noise_clip, noise_clip), -1.0, 1.0)


def polyak(target: Any, params: Any, tau: Numeric) -> Any:
    """Parameters of a target network, moved a share of the way: θ' ← θ' + τ (θ − θ').

    Trees of arrays of equal shapes. τ = 1 copies.
    """
    return jax.tree.map(lambda old, new: old + tau * (new - old), target, params)
