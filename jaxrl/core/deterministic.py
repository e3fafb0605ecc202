"""Deterministic Markov decision processes as arrays: optimal values, and how much actions matter.

Axes: S states, A actions; an action in a state leads to one state, whatever the time.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int32

from jaxrl.types import Array, Scalar

TOLERANCE = 1e-6  # of the largest value


def optimal_action_values(
    successor: Int32[Array, "S A"],
    reward: Float[Array, "S A"],
    terminated: Bool[Array, "S A"],
    gamma: Scalar,
) -> Float[Array, "S A"]:
    """Q(s, a) = r(s, a) + γ (1 − terminated(s, a)) max_a' Q(s', a'), by value iteration from r.

    It ends when no value changes any more: where every state reaches an end, after as many rounds
    as the longest of the shortest ways has steps.
    """

    def improved(value: Float[Array, "S A"]) -> Float[Array, "S A"]:
        best = jnp.max(value, axis=-1)
        return reward + gamma * jnp.where(terminated, 0.0, best[successor])

    def unfinished(carry: tuple[Array, Array]) -> Array:
        old, new = carry
        return jnp.max(jnp.abs(new - old)) > TOLERANCE * jnp.max(jnp.abs(new))

    def again(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        _, value = carry
        return value, improved(value)

    return jax.lax.while_loop(unfinished, again, (reward, improved(reward)))[1]


def normalized_action_gap(action_values: Float[Array, "S A"]) -> Float[Array, ""]:
    """How much the choice of an action is worth beside what is at stake in all.

        E_s [max_a Q(s, a) − min_a Q(s, a)] / E_{s, a} |Q(s, a)|

    A policy that is trained on −η Q / E|Q| plus the cost of leaving the data sees no more than η
    times this number of the values.
    """
    spread = jnp.max(action_values, axis=-1) - jnp.min(action_values, axis=-1)
    return jnp.mean(spread) / jnp.mean(jnp.abs(action_values))
