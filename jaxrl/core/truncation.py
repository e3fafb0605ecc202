"""Final observations of truncated episodes in a small dense buffer, for exact bootstrapping.

A truncated transition bootstraps from the value of the observation *before* the reset. Evaluating
that value for every environment at every step doubles the critic's work in the rollout; evaluating
it under a condition becomes both branches once seeds are vmapped. But an episode is granted at
least `shortest` steps, so within T steps one environment is truncated at most ceil(T / shortest)
times: that many slots per environment hold every final observation, with no overflow, no condition,
and one value call on [slots, N] rows after the rollout.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32, PyTree, Shaped

from jaxrl.core.tree import expand
from jaxrl.types import Array


def num_slots(num_steps: int, shortest: int) -> int:
    """The most truncations that one environment can see in `num_steps` steps."""
    return math.ceil(num_steps / shortest)


def init(
    observation: PyTree[Shaped[Array, "N ..."]], slots: int
) -> tuple[PyTree[Shaped[Array, "{slots} N ..."]], Int32[Array, "N"]]:
    """An empty buffer for observations, and the number in it of each environment."""
    buffer = jax.tree.map(lambda leaf: jnp.zeros((slots, *leaf.shape), leaf.dtype), observation)
    num_envs = jax.tree.leaves(observation)[0].shape[0]
    return buffer, jnp.zeros(num_envs, jnp.int32)


def store(
    carry: tuple[PyTree[Shaped[Array, "slots N ..."]], Int32[Array, "N"]],
    final_observation: PyTree[Shaped[Array, "N ..."]],
    truncated: Bool[Array, "N"],
) -> tuple[PyTree[Shaped[Array, "slots N ..."]], Int32[Array, "N"]]:
    """Put the truncated rows of `final_observation` into their next free slots."""
    buffer, count = carry
    slots = jax.tree.leaves(buffer)[0].shape[0]
    slot = jnp.arange(slots, dtype=jnp.int32)
    hit = truncated[None, :] & (count[None, :] == slot[:, None])

    def write(kept: Array, final: Array) -> Array:
        return jnp.where(expand(hit, kept.ndim), final[None], kept)

    buffer = jax.tree.map(write, buffer, final_observation)
    return buffer, count + truncated


def scatter(
    slot_values: Float[Array, "slots N"], truncated: Bool[Array, "T N"]
) -> Float[Array, "T N"]:
    """Give each truncated step its slot's value; zero elsewhere."""
    slot = jnp.cumsum(truncated, axis=0, dtype=jnp.int32) - 1
    slot = jnp.clip(slot, 0, slot_values.shape[0] - 1)
    values = jnp.take_along_axis(slot_values, slot, axis=0)
    return jnp.where(truncated, values, 0.0)
