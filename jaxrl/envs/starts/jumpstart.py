"""Jump-start: a guide acts for the first steps of each episode, fewer and fewer.

JSRL (Uchendu et al. 2023, arXiv 2204.02372). It needs no saved states: the guide plays to where the
learner takes over. Its steps count as transitions.

    --starts jumpstart --guide RUN --guide-steps 200
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl.config import configuration, number, option, size
from jaxrl.core.shards import Shards
from jaxrl.envs.api import Environment
from jaxrl.envs.guided import GuidedVectorEnv
from jaxrl.envs.starts.api import Draw, Starts, StartsConfig
from jaxrl.envs.starts.fresh import Fresh
from jaxrl.envs.vector import begin_memory, memories
from jaxrl.errors import JaxrlError, unknown
from jaxrl.types import Actor, Array, Key, Progress, PyTree, Transition, View


@configuration
class JumpstartConfig(StartsConfig):
    """A saved policy acts first in each episode, and the learner takes over."""

    guide: str = option("")
    """Run folder of the guide."""
    guide_mode: str = option("deterministic")
    """The mode in which it acts."""
    guide_steps: int = size(100)
    """Steps for which it acts at first, at most the horizon."""
    guide_stages: int = size(10, needs={"guide_schedule": "curriculum"})
    """Parts into which these steps are divided: each success takes away one."""
    guide_schedule: Literal["curriculum", "random"] = option("curriculum")
    """Whether its steps become fewer as returns stay up, or are drawn anew for each episode."""
    guide_tolerance: float = number(0.05, 0, needs={"guide_schedule": "curriculum"})
    """Share of the best mean return so far that may be lost when the learner does more."""

    def make(self, env: Environment, shards: Shards, *, guide: Actor) -> Starts:  # type: ignore[override]
        """The same number of the guide's steps on every device."""
        if self.guide_mode not in guide.agent.modes:
            raise unknown("guide_mode", self.guide_mode, guide.agent.modes)
        if self.guide_steps > env.horizon:
            raise JaxrlError(
                f"guide_steps is {self.guide_steps}, but episodes have {env.horizon} steps at most."
            )
        return Jumpstart(env, Fresh(env), guide, self, shards)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class JumpstartState:
    """The environment's own starts, the guide's memories, and how far the curriculum is."""

    natural: PyTree  # of Fresh
    memory: PyTree  # of the guide, [n, ...]
    stages: Array  # int32 [], parts of the steps that are still the guide's
    best: Array  # float32 [], mean return of a stage
    earned: Array  # float32 [2]: returns and episodes of this stage, of this iteration, everywhere


class Jumpstart(struct.PyTreeNode):
    """The environment's own starts, from which a guide goes on for some steps."""

    env: Environment
    natural: Fresh
    actor: Actor
    config: JumpstartConfig
    shards: Shards = struct.field(pytree_node=False)

    # Guided episodes are no natural ones, and somebody has to act in them.
    tells_apart = True
    vector_class = GuidedVectorEnv

    @property
    def shortest(self) -> int:
        """Every episode has all its time."""
        return self.env.horizon

    @property
    def sharded(self) -> PyTree:
        """The curriculum is the same on all devices."""
        rows: Any = True
        replicated: Any = False
        return JumpstartState(rows, rows, replicated, replicated, replicated)

    def init(self, key: Key, n: int) -> JumpstartState:
        """The guide has all its steps."""
        return JumpstartState(
            natural=self.natural.init(key, n),
            memory=memories(self.actor.memory, n),
            stages=jnp.asarray(self.config.guide_stages, jnp.int32),
            best=jnp.asarray(-jnp.inf, jnp.float32),
            earned=jnp.zeros(2),
        )

    def refresh(self, state: JumpstartState, key: Key, progress: Progress) -> JumpstartState:
        """One stage less, if the mean return of this one is nearly the best so far."""
        earned, count = state.earned
        mean = earned / jnp.maximum(count, 1.0)
        allowed = self.config.guide_tolerance * jnp.abs(state.best)
        is_good = (count > 0) & ((mean >= state.best - allowed) | jnp.isneginf(state.best))
        return replace(
            state,
            natural=self.natural.refresh(state.natural, key, progress),
            stages=jnp.maximum(state.stages - is_good.astype(jnp.int32), 0),
            best=jnp.where(count > 0, jnp.maximum(mean, state.best), state.best),
            earned=jnp.zeros_like(state.earned),
        )

    def guide(self, state: JumpstartState, view: View, key: Key) -> tuple[JumpstartState, Array]:
        """The guide's actions, [N, ...], and its memories after them."""
        memory = begin_memory(view.first, self.actor.memory, state.memory)

        def act(memory: PyTree, view: View, key: Key) -> tuple[Array, PyTree]:
            return self.actor.act(self.config.guide_mode, memory, view, key)

        action, memory = jax.vmap(act)(memory, view, jax.random.split(key, len(view.first)))
        return replace(state, memory=memory), action

    def draw(
        self,
        state: JumpstartState,
        key: Key,
        ended: Array,
        seen: Transition | None,
        reached: PyTree | None,
    ) -> tuple[JumpstartState, Draw]:
        """The environment's own starts; the origin is the number of steps that are the guide's."""
        key_steps, key_own = jax.random.split(key)
        natural, own = self.natural.draw(state.natural, key_own, ended, seen, reached)
        config = self.config
        left = state.stages * config.guide_steps // config.guide_stages
        steps = jnp.full(ended.shape, left, jnp.int32)
        earned = state.earned
        if seen is not None:
            # Episodes of an earlier stage say nothing of this one, and one that a staggered
            # beginning cut short earned another return than it would have.
            whole = seen.terminated | (seen.episode_length >= self.env.horizon)
            judged = ended & whole & (seen.origin == _origin(steps))
            returns = jnp.where(judged, seen.episode_return, 0.0)
            more = jnp.stack([jnp.sum(returns), jnp.sum(judged, dtype=jnp.float32)])
            earned = earned + self.shards.sum(more)
        if config.guide_schedule == "random":
            steps = jax.random.randint(key_steps, ended.shape, 0, config.guide_steps + 1)
        state = replace(state, natural=natural, earned=earned)
        return state, replace(own, origin=_origin(steps))


def _origin(steps: Array) -> Array:
    """The origin of episodes [n] whose first `steps` are the guide's; -1 where none are."""
    return jnp.where(steps > 0, steps, -1)
