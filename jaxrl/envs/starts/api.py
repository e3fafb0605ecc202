"""The contract of start distributions.

    init(key, n) -> S                                the distribution's state, for n environments
    refresh(S, key, progress) -> S                   called once per iteration, between rollouts
    draw(S, key, ended, seen, reached) -> (S, Draw)  a start for each row where `ended` holds
    shortest                                         the fewest steps any drawn episode may be
                                                     granted (static)
    sharded                                          which leaves of S have rows that are split
                                                     over devices

A start grants its episode a step budget (`limit`) and says where it came from (`origin`). `draw` is
told how the episode that ended went (`seen`, with the origin of its own start) and the state that
it ended in (`reached`), so that a distribution can learn from outcomes, and keep states for later.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

import jax

from jaxrl.config import configuration
from jaxrl.core.shards import Shards
from jaxrl.envs.api import Environment
from jaxrl.types import Array, Key, Progress, PyTree, Transition


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Draw:
    """A start for each of `n` environments; rows whose episode did not end are not read.

    Every leaf has `n` rows.
    """

    state: PyTree
    observation: PyTree
    limit: Array  # int32 [n], steps granted before truncation
    # int32 [n], the row of the pool or bank that it came from; -1: the environment's own reset
    origin: Array


class Starts(Protocol):
    """What VectorEnv asks of a start distribution (see the module's docstring).

    It may say `tells_apart = True`: episodes that it gave (origin ≥ 0) are then counted by
    themselves, as snapshot_return and so on, and episode_return is of natural ones alone. It may
    also name a `vector_class`, a VectorEnv which it needs: one whose guide acts, say.
    """

    @property
    def shortest(self) -> int:
        """The fewest steps any drawn episode may be granted."""
        ...

    @property
    def sharded(self) -> PyTree:
        """Its state, or a prefix of it, with True for what has rows that are split over devices."""
        ...

    def init(self, key: Key, n: int) -> PyTree:
        """The distribution's first state, for `n` environments."""
        ...

    def refresh(self, state: PyTree, key: Key, progress: Progress) -> PyTree:
        """Renew it, once per iteration."""
        ...

    def draw(
        self, state: PyTree, key: Key, ended: Array, seen: Transition | None, reached: PyTree | None
    ) -> tuple[PyTree, Draw]:
        """Draw a start for each row where `ended`, bool [n], holds; the others may hold anything.

        `seen` and `reached` are the step that was just taken, [n, ...], and the states it led to,
        before any reset; None for the first episodes of all.
        """
        ...


class Training(NamedTuple):
    """How long a training is, in transitions, and in how many environments.

    Schedules are checked against it.
    """

    total: int
    per_iteration: int
    num_envs: int


@configuration
class StartsConfig:
    """The start distribution and its settings; each has a configuration derived from this one."""

    def for_training(self, training: Training) -> Self:
        """The same with what depends on the training's length filled in.

        Refuses a schedule that does not fit into it.
        """
        del training
        return self

    def make(self, env: Environment, shards: Shards, **inputs: Any) -> Starts:
        """The start distribution for the share of the environments that one device has.

        What it reads from disk are arguments of their own, annotated as an algorithm's are.
        """
        raise NotImplementedError

    def env_sizes(self) -> dict[str, int]:
        """What is dealt out over devices with the environments, by name."""
        return {}
