"""Starts that learn from outcomes: those after which episodes failed come again more often."""

from __future__ import annotations

from os import PathLike
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxrl.config import configuration, number, option
from jaxrl.core.shards import Shards
from jaxrl.core.tree import select_rows
from jaxrl.envs.api import Environment
from jaxrl.envs.starts.api import Draw, Starts, StartsConfig
from jaxrl.errors import JaxrlError
from jaxrl.types import Array, Key, Progress, PyTree, Transition
from tests.extension.outside.levers import Levers, Pulls


class Bank(NamedTuple):
    """K states to begin at, and what is seen of them: leaves [K, ...]."""

    state: Pulls
    observation: Array

    @classmethod
    def read(cls, path: PathLike, env: Environment) -> Bank:
        """The good levers in an .npz file, `good` [K], each before the first pull."""
        if not isinstance(env, Levers):
            raise JaxrlError(
                f"it is a bank for Levers, but the environment is {type(env).__name__}."
            )
        with np.load(path) as file:
            good = jnp.asarray(file["good"], jnp.int32)
        state = Pulls(good, jnp.zeros_like(good))
        return cls(state, jax.vmap(env.observe)(state))


@configuration
class FailuresConfig(StartsConfig):
    """Starts from a bank, the more often the more episodes have failed after them."""

    bank: str = option("")
    """File of starts (.npz)."""
    passing: float = number(1.0)
    """An episode that earns less has failed."""
    again: float = number(0.25, 0, 1)
    """Share of the episodes that begin where the last failure in their environment ended."""

    def make(self, env: Environment, shards: Shards, *, bank: Bank) -> Starts:  # type: ignore[override]
        """The same counts on every device."""
        return Failures(env, bank, self, shards)


class Outcomes(NamedTuple):
    """What is known of the starts."""

    played: Array  # float32 [K], episodes
    failed: Array  # float32 [K]
    # Where the last failure of each environment ended, and what was seen: [n, ...].
    ended: tuple[PyTree, Array]
    known: Array  # bool [n], whether there was one


class Failures(struct.PyTreeNode):
    """Row k of the bank with a probability ∝ (failed + 1) / (played + 2);
    or where a failure ended, as row K."""

    env: Environment
    bank: Bank
    config: FailuresConfig
    shards: Shards = struct.field(pytree_node=False)

    @property
    def shortest(self) -> int:
        """Every episode has all its time."""
        return self.env.horizon

    @property
    def sharded(self) -> Any:
        """What was counted is the same on all devices."""
        return Outcomes(played=False, failed=False, ended=True, known=True)  # type: ignore[arg-type]

    @property
    def rows(self) -> int:
        """How many starts there are in the bank: K."""
        return len(self.bank.observation)

    def init(self, key: Key, n: int) -> Outcomes:
        """Nothing is known."""
        nothing = jnp.zeros(self.rows)
        ended = jax.tree.map(
            lambda leaf: jnp.zeros((n, *leaf.shape[1:]), leaf.dtype), tuple(self.bank)
        )
        return Outcomes(nothing, nothing, ended, jnp.zeros(n, bool))

    def refresh(self, state: Outcomes, key: Key, progress: Progress) -> Outcomes:
        """What was counted stays."""
        return state

    def draw(
        self,
        state: Outcomes,
        key: Key,
        ended: Array,
        seen: Transition | None,
        reached: PyTree | None,
    ) -> tuple[Outcomes, Draw]:
        """Count how the episodes ended, and draw the next starts by it."""
        if seen is not None:
            state = self.count(state, ended, seen, reached)
        n = len(ended)
        key_row, key_again = jax.random.split(key)
        row = jax.random.categorical(
            key_row, jnp.log((state.failed + 1) / (state.played + 2)), shape=(n,)
        )
        again = state.known & (jax.random.uniform(key_again, (n,)) < self.config.again)
        drawn = jax.tree.map(lambda leaf: leaf[row], tuple(self.bank))
        begun, observation = select_rows(again, state.ended, drawn)
        origin = jnp.where(again, self.rows, row).astype(jnp.int32)
        return state, Draw(begun, observation, jnp.full(n, self.env.horizon, jnp.int32), origin)

    def count(self, state: Outcomes, ended: Array, seen: Transition, reached: PyTree) -> Outcomes:
        """With the episodes that ended on this step."""
        failed = ended & (seen.episode_return < self.config.passing)
        of_row = jax.nn.one_hot(seen.origin, self.rows)  # zeros for what began elsewhere
        played, lost = self.shards.sum(
            (of_row.T @ ended.astype(jnp.float32), of_row.T @ failed.astype(jnp.float32))
        )
        places = select_rows(failed, (reached, seen.final_observation), state.ended)
        return Outcomes(state.played + played, state.failed + lost, places, state.known | failed)


@configuration
class ClashingConfig(FailuresConfig):
    """Starts with an option that PPO has too."""

    gamma: float = number(0.5)
    """Nothing."""
