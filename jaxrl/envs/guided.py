"""Environments in which a guide acts first: a learner takes over in the middle of the episode.

The learner's own choices during that time are not executed. Such rows have weight 0, so that an
on-policy learner makes nothing of them; a replay buffer keeps them with what was executed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import jax
import jax.numpy as jnp

from jaxrl.core.tree import expand
from jaxrl.envs.vector import VectorEnv, VectorState
from jaxrl.types import Array, Key, PyTree, Transition, View


class GuidedStarts(Protocol):
    """What is asked of a start distribution whose episodes a guide begins.

    The origin of such an episode is the number of steps for which the guide acts.
    """

    def guide(self, state: PyTree, view: View, key: Key) -> tuple[PyTree, Array]:
        """(its state, with the guide's memories renewed; the guide's actions, [N, ...])."""
        ...


class GuidedVectorEnv(VectorEnv):
    """A VectorEnv whose start distribution also acts, for the first steps of its episodes."""

    def taken_over(self, state: VectorState) -> Array:
        """Where the last action was the guide's, and the next one is the learner's."""
        return state.clock == state.origin

    def step(self, state: VectorState, action: Array, key: Key) -> tuple[VectorState, Transition]:
        """Step every environment once, by the guide's action where it is the guide's turn."""
        key_guide, key_step = jax.random.split(key)
        starts, guided = self.starts.guide(  # type: ignore[attr-defined]
            state.starts, state.view, key_guide
        )
        is_guides = state.clock < state.origin
        executed = jnp.where(expand(is_guides, action.ndim), guided.astype(action.dtype), action)
        state, seen = super().step(replace(state, starts=starts), executed, key_step)
        return state, replace(seen, weight=(~is_guides).astype(jnp.float32))
