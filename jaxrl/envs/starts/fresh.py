"""The environment's own reset for every episode."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl.config import configuration
from jaxrl.core.any_member import any_member
from jaxrl.core.shards import Shards
from jaxrl.core.tree import select_rows, strip_weak_types
from jaxrl.envs.api import Environment
from jaxrl.envs.starts.api import Draw, Starts, StartsConfig
from jaxrl.types import Array, Key, Progress, PyTree, Transition


@configuration
class FreshConfig(StartsConfig):
    """The environment's own reset for each episode."""

    def make(self, env: Environment, shards: Shards) -> Starts:  # type: ignore[override]
        """The same on every device."""
        del shards
        return Fresh(env)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Bank:
    """The next start of each environment, made ahead; every leaf has a row per environment."""

    key: Key
    episode: Array  # uint32, how many starts the row has had
    used: Array  # bool, whether the one below has been handed out
    state: PyTree
    observation: PyTree


class Fresh(struct.PyTreeNode):
    """The environment's own reset for each episode: independent and exact, and nearly free.

    The start of an environment's j-th episode is `reset(fold_in(key of the environment, j))`,
    whenever it is made. So a bank holds the next start of every environment, a row that ends takes
    its own by a selection, and the used rows are made anew, all at once, only when one of them is
    asked for again. Drawing a reset for every row on every step, to use the few whose episode
    ended, costs two to seven times the step itself (benchmarks/NOTES.md).
    """

    env: Environment

    @property
    def shortest(self) -> int:
        """Every episode is granted the suite's horizon."""
        return self.env.horizon

    @property
    def sharded(self) -> PyTree:
        """Every leaf has a row per environment."""
        return True

    def init(self, key: Key, n: int) -> Bank:
        """A start for each of `n` environments."""
        keys = jax.random.split(key, n)
        episode = jnp.zeros(n, jnp.uint32)
        start, observation = self._make(keys, episode)
        return Bank(keys, episode, jnp.zeros(n, bool), start, observation)

    def refresh(self, state: Bank, key: Key, progress: Progress) -> Bank:
        """Nothing to renew: starts are made when they are needed."""
        del key, progress
        return state

    def draw(
        self, state: Bank, key: Key, ended: Array, seen: Transition | None, reached: PyTree | None
    ) -> tuple[Bank, Draw]:
        """Each row's own next start; first the bank is renewed if one that ended has used it up."""
        del key, seen, reached
        keys = state.key

        def renew(carry: tuple) -> tuple:
            _, episode, used, start, observation = carry
            episode = episode + used
            made = self._make(keys, episode)
            start, observation = select_rows(used, made, (start, observation))
            return jnp.zeros((), bool), episode, jnp.zeros_like(used), start, observation

        # What a bank holds does not depend on when it is renewed, so all members renew theirs
        # together: if each did when it alone had to, nearly every step of a large population would
        # be one. A loop of at most one round and not a branch: a branch copies what it leaves
        # alone, and under vmap becomes both branches; a loop works in place, and runs only when it
        # is needed.
        must_renew = any_member(jnp.any(ended & state.used))
        carry = (must_renew, state.episode, state.used, state.state, state.observation)
        _, episode, used, start, observation = jax.lax.while_loop(
            lambda carry: carry[0], renew, carry
        )
        n = len(ended)
        draw = Draw(
            state=start,
            observation=observation,
            limit=jnp.full(n, self.env.horizon, jnp.int32),
            origin=jnp.full(n, -1, jnp.int32),
        )
        return Bank(keys, episode, used | ended, start, observation), draw

    def _make(self, keys: Key, episode: Array) -> tuple[PyTree, PyTree]:
        """The starts of these episodes: (states, observations)."""
        state, observation = jax.vmap(
            lambda key, number: self.env.reset(jax.random.fold_in(key, number))
        )(keys, episode)
        return strip_weak_types((state, observation))
