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
    action: Array  # a_t, float32 [B, d], in units where [-1, 1] spans the action space
    reward: Array  # r_t + γ r_{t+1} + … + γ^{m-1} r_{t+m-1}, float32 [B]
    discount: Array  # γ^m, or 0 after a termination, float32 [B]
    next_observation: PyTree  # s_{t+m}, before any reset, [B, ...]
