"""Actions in units where [-1, 1] spans the action space, and in those of the environment."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from jaxrl.types import Array, Box, Space


def scale_action(action: Array, space: Space, squash: bool) -> Array:
    """A policy's sample in the environment's units.

    Discrete actions pass through. Continuous ones are squashed by tanh or clipped to [-1, 1], then
    mapped linearly onto [low, high]. A coordinate without two finite bounds keeps the sample,
    clipped to the bound it has. Whole numbers are the nearest ones. The sample itself is what PPO
    stores, so its log-density belongs to the sample and not to the clipped action.

    [..., size] -> [..., *shape].
    """
    if not isinstance(space, Box):
        return action
    action = action.reshape(*action.shape[:-1], *space.shape)
    low = np.broadcast_to(np.asarray(space.low, np.float32), space.shape)
    high = np.broadcast_to(np.asarray(space.high, np.float32), space.shape)
    bounded = np.isfinite(low) & np.isfinite(high)
    first = np.where(bounded, low, -1.0)
    last = np.where(bounded, high, 1.0)
    center = 0.5 * (first + last)
    half = 0.5 * (last - first)
    unit = jnp.tanh(action) if squash else jnp.clip(action, -1.0, 1.0)
    # Array constants take the batch axes of the action one by one: silent broadcasting of ranks is
    # an error here.
    lift = (1,) * (action.ndim - len(space.shape)) + space.shape
    inner = jnp.where(bounded.reshape(lift), unit, action)
    scaled = center.reshape(lift) + half.reshape(lift) * inner
    clipped = jnp.clip(scaled, low.reshape(lift), high.reshape(lift))
    if not jnp.issubdtype(space.dtype, jnp.floating):
        clipped = jnp.round(clipped)
    return clipped.astype(space.dtype)


def unscale_action(action: Array, space: Space) -> Array:
    """Executed actions of a bounded space in units where [-1, 1] spans it, but for rounding.

    0 where a coordinate has one value alone. [N, *shape] -> [N, size].
    """
    assert isinstance(space, Box)
    low = np.broadcast_to(np.asarray(space.low, np.float32), space.shape)
    high = np.broadcast_to(np.asarray(space.high, np.float32), space.shape)
    half = 0.5 * (high - low)
    unit = (action - 0.5 * (high + low)[None]) / np.where(half > 0.0, half, 1.0)[None]
    return jnp.clip(unit, -1.0, 1.0).reshape(len(action), -1)
