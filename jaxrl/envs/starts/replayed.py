"""Replayed: episodes that begin where the learner has been before.

Restart distributions (Tavakoli et al. 2018, arXiv 1811.11298), and what Go-Explore returns to
(Ecoffet et al. 2021). The states, and how often each is returned to, are a part of the learner's
state: nothing is read from disk, and a run that is resumed goes on with them.

    --starts replayed --replayed-share 0.5 --replayed-priority visits
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl.config import configuration, number, option, size
from jaxrl.core import row_logits
from jaxrl.core.shards import Shards
from jaxrl.core.tree import select_rows, strip_weak_types
from jaxrl.envs.api import Environment
from jaxrl.envs.starts.api import Draw, Starts, StartsConfig
from jaxrl.envs.starts.fresh import Fresh
from jaxrl.errors import JaxrlError
from jaxrl.types import Array, Key, Progress, PyTree, Transition


@configuration
class ReplayedConfig(StartsConfig):
    """States of the learner's own past, beside the environment's own resets."""

    replayed_capacity: int = size(1024)
    """States that are kept; the newest replace the oldest."""
    replayed_every: int = size(10)
    """Vector steps from one that is kept to the next."""
    replayed_priority: Literal["uniform", "visits"] = option("uniform")
    """All alike, or those more often that few episodes began at."""
    replayed_share: float = number(0.5, 0, 1)
    """Share of the episodes that begin in one of them."""

    def make(self, env: Environment, shards: Shards) -> Starts:  # type: ignore[override]
        """Each device keeps its share."""
        return Replayed(env, Fresh(env), self, -(-self.replayed_capacity // shards.devices))

    def env_sizes(self) -> dict[str, int]:
        """Rounded up, its share would make the shape of the state depend on the devices."""
        return {"replayed_capacity": self.replayed_capacity}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Past:
    """A ring of M states that were reached, and how often episodes began at each."""

    natural: PyTree  # of Fresh
    state: PyTree  # [M, ...]
    observation: PyTree
    begun: Array  # float32 [M], episodes
    # float32 [M], as row_logits.draw reads it: of the last refresh, or since some were kept
    cumulative: Array
    next: Array  # int32 [], the place of the oldest
    time: Array  # int32 [], vector steps since some were kept


class Replayed(struct.PyTreeNode):
    """Starts at states that were reached before, and the environment's own."""

    env: Environment
    natural: Fresh
    config: ReplayedConfig
    size: int = struct.field(pytree_node=False)

    # Episodes from the past earn other returns than natural ones.
    tells_apart = True

    @property
    def shortest(self) -> int:
        """Every episode has all its time."""
        return self.env.horizon

    @property
    def sharded(self) -> PyTree:
        """Every device has a past of its own, and writes it at the same places."""
        rows: Any = True
        replicated: Any = False
        return Past(rows, rows, rows, rows, rows, next=replicated, time=replicated)

    def init(self, key: Key, n: int) -> Past:
        """Before anything was reached, the ring holds resets."""
        if n > self.size:
            raise JaxrlError(
                f"replayed_capacity is {self.config.replayed_capacity}, but must hold a state of "
                "each of num_envs."
            )
        key_natural, key_ring = jax.random.split(key)
        state, observation = jax.vmap(self.env.reset)(jax.random.split(key_ring, self.size))
        begun, zero = jnp.zeros(self.size), jnp.zeros((), jnp.int32)
        past = Past(
            natural=self.natural.init(key_natural, n),
            state=state,
            observation=observation,
            begun=begun,
            cumulative=self._cumulated(begun),
            next=zero,
            time=zero,
        )
        return strip_weak_types(past)

    def refresh(self, state: Past, key: Key, progress: Progress) -> Past:
        """Weigh the states by how often episodes have begun at them."""
        natural = self.natural.refresh(state.natural, key, progress)
        return replace(state, natural=natural, cumulative=self._cumulated(state.begun))

    def draw(
        self,
        state: Past,
        key: Key,
        ended: Array,
        seen: Transition | None,
        reached: PyTree | None,
    ) -> tuple[Past, Draw]:
        """A state of the past for a share of the starts, else each environment's own next one."""
        n = len(ended)
        key_share, key_row, key_own = jax.random.split(key, 3)
        if seen is not None:
            state = self._keep(state, seen, reached)
        given = jax.random.uniform(key_share, (n,)) < self.config.replayed_share
        row = row_logits.draw(state.cumulative, jax.random.uniform(key_row, (n,)))
        natural, own = self.natural.draw(state.natural, key_own, ended & ~given, seen, reached)
        past = jax.tree.map(lambda leaf: leaf[row], (state.state, state.observation))
        begun, observation = select_rows(given, past, (own.state, own.observation))
        draw = Draw(begun, observation, own.limit, jnp.where(given, row, own.origin))
        counted = state.begun.at[row].add((given & ended).astype(jnp.float32))
        return replace(state, natural=natural, begun=counted), draw

    def _keep(self, state: Past, seen: Transition, reached: PyTree) -> Past:
        """With the states just reached, now and then.

        One in which an episode terminated is never kept: the older one stays in its place.
        """
        n, time = len(seen.terminated), state.time + 1
        is_due = time >= self.config.replayed_every
        place = (state.next + jnp.arange(n)) % self.size
        place = jnp.where(is_due & ~seen.terminated, place, self.size)  # beyond the end: dropped

        def write(old: Array, new: Array) -> Array:
            return old.at[place].set(new, mode="drop")

        rows = (state.state, state.observation, state.begun)
        new = (reached, seen.final_observation, jnp.zeros(n))
        states, observation, begun = jax.tree.map(write, rows, new)
        cumulative = state.cumulative
        if self.config.replayed_priority == "visits":
            # The weights of the states that were replaced are not those of the new ones.
            cumulative = jax.lax.cond(is_due, self._cumulated, lambda _: cumulative, begun)
        return replace(
            state,
            state=states,
            observation=observation,
            begun=begun,
            cumulative=cumulative,
            next=jnp.where(is_due, (state.next + n) % self.size, state.next),
            time=jnp.where(is_due, 0, time),
        )

    def _cumulated(self, begun: Array) -> Array:
        """How often each state is drawn, as row_logits.draw reads it."""
        by_visits = self.config.replayed_priority == "visits"
        logits = row_logits.rarely_begun(begun) if by_visits else jnp.zeros(self.size)
        return row_logits.cumulated(logits)
