"""What a critic foresaw at the beginning of an episode, beside the return that followed."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jaxrl.types import Array, Mean, Metrics, Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ValueCheck:
    """The running episode of each environment."""

    foreseen: Float[Array, "N"]  # the critic's value of its first state, then
    followed: Float[Array, "N"]  # Σ_k γ^k r_k over the steps so far
    discount: Float[Array, "N"]  # γ^k of the next step


def begin(foreseen: Float[Array, "N"]) -> ValueCheck:
    """At the first step of every episode, whose first states the critic values so."""
    return ValueCheck(foreseen, jnp.zeros_like(foreseen), jnp.ones_like(foreseen))


def add(check: ValueCheck, reward: Float[Array, "N"], gamma: Scalar) -> ValueCheck:
    """After a step that earned `reward`."""
    followed = check.followed + check.discount * reward
    return ValueCheck(check.foreseen, followed, check.discount * gamma)


def metrics(
    check: ValueCheck,
    terminated: Bool[Array, "N"],
    truncated: Bool[Array, "N"],
    final_value: Float[Array, "N"],
) -> Metrics:
    """The values and returns of the episodes that ended with this step, and their difference.

        overestimation = V(s_0) − (Σ_{k<T} γ^k r_k + γ^T V(s_T))

    The last term stands for what a time limit cut off, and is absent after a termination.
    `final_value` is the critic's, of the states that ended, before any reset.

    Source: Fujimoto et al., Addressing Function Approximation Error in Actor-Critic Methods (2018),
    figure 1, which averages over states of the replay buffer.
    """
    ended = terminated | truncated
    followed = check.followed + jnp.where(truncated, check.discount * final_value, 0.0)
    return {
        "value_foreseen": Mean.of(check.foreseen, ended),
        "value_followed": Mean.of(followed, ended),
        "overestimation": Mean.of(check.foreseen - followed, ended),
    }


def begin_again(
    check: ValueCheck, ended: Bool[Array, "N"], foreseen: Float[Array, "N"]
) -> ValueCheck:
    """Where an episode `ended`, the next begins, of value `foreseen`."""
    return jax.tree.map(lambda new, old: jnp.where(ended, new, old), begin(foreseen), check)
