"""Batches of transitions, as off-policy learners read them, from whatever source."""

from __future__ import annotations

from dataclasses import dataclass

import jax

from jaxrl.types import Array, PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batch:
    """B transitions of one step or of several, drawn from a replay buffer or a dataset.

    Of a transition that begins in s_t and spans m ≤ n steps, the value of (s_t, a_t) is estimated
    as reward + discount · V(next_observation). A time limit does not make the discount 0; a
    termination does.
    """

    observation: PyTree  # s_t, [B, ...]
    action: Array  # a_t, float32 [B, d], in units where [-1, 1] spans the space; int32 if Discrete
    reward: Array  # r_t + γ r_{t+1} + … + γ^{m-1} r_{t+m-1}, float32 [B]
    discount: Array  # γ^m, or 0 after a termination, float32 [B]
    next_observation: PyTree  # s_{t+m}, before any reset, [B, ...]
    # The action that was taken in s_{t+m}, and whether one was, bool [B]: after the last row of an
    # episode none was.
    next_action: Array | None = None
    next_acted: Array | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Windows:
    """B stretches of K steps in a row, each inside of one episode, as sequence models read them.

    A stretch that its episode's end cuts short is filled up on the right with its last step.
    """

    observation: PyTree  # s_t, [B, K, ...]
    action: Array  # a_t, as in a Batch, [B, K, ...]
    reward: Array  # r_t, float32 [B, K]
    return_to_go: Array  # r_t + r_{t+1} + … to a termination or the episode's end, float32 [B, K]
    step: Array  # t, counted from the beginning of the episode, int32 [B, K]
    valid: Array  # bool [B, K]: not filled up
