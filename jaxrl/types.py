"""The shapes that everything shares: spaces, timesteps, transitions, metrics and the Algorithm contract.

Axes: `T` steps of a rollout, `N` parallel environments, `...` the shape of one observation or action.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

Array = jax.Array
Key = jax.Array
PyTree = Any
Metrics = dict[str, "Mean"]


@dataclass(frozen=True)
class Box:
    """Arrays of a fixed shape between bounds (scalars, or tuples nested like the shape; ±inf: unbounded)."""

    low: Any
    high: Any
    shape: tuple[int, ...]
    dtype: Any = np.float32

    def __str__(self) -> str:
        return f"Box({', '.join(map(str, self.shape))}) {np.dtype(self.dtype).name}"

    @property
    def bounded(self) -> bool:
        """Whether every coordinate has a finite lower and upper bound."""
        return bool(np.all(np.isfinite(self.low)) and np.all(np.isfinite(self.high)))

    def sample(self, key: Key) -> Array:
        """A uniform draw (standard normal where a bound is infinite), of shape `shape`."""
        if not self.bounded:
            return jax.random.normal(key, self.shape).astype(self.dtype)
        low = jnp.broadcast_to(jnp.asarray(self.low, jnp.float32), self.shape)
        high = jnp.broadcast_to(jnp.asarray(self.high, jnp.float32), self.shape)
        return (low + (high - low) * jax.random.uniform(key, self.shape)).astype(self.dtype)


@dataclass(frozen=True)
class Discrete:
    """Whole numbers 0 … n−1, as int32 scalars."""

    n: int
    shape: tuple[int, ...] = ()
    dtype: Any = np.int32

    def __str__(self) -> str:
        return f"Discrete({self.n})"

    def sample(self, key: Key) -> Array:
        """A uniform draw, int32 []."""
        return jax.random.randint(key, (), 0, self.n, self.dtype)


@dataclass(frozen=True)
class MultiDiscrete:
    """Vectors of whole numbers; entry i lies in 0 … nvec[i]−1."""

    nvec: tuple[int, ...]
    dtype: Any = np.int32

    def __str__(self) -> str:
        return f"MultiDiscrete({', '.join(map(str, self.nvec))})"

    @property
    def shape(self) -> tuple[int, ...]:
        """One entry for each factor."""
        return (len(self.nvec),)

    def sample(self, key: Key) -> Array:
        """A uniform draw, int32 [len(nvec)]."""
        return jax.random.randint(key, self.shape, 0, jnp.asarray(self.nvec), self.dtype)


Space = Box | Discrete | MultiDiscrete


class Timestep(NamedTuple):
    """What an environment returns for one step: the *successor's* observation, before any reset."""

    observation: PyTree
    reward: Array  # float32 []
    terminated: Array  # bool []; a time limit is not a termination
    info: dict[str, Array] = {}  # float32 [] under each name of `Environment.info`: what else is worth a curve


class Transition(NamedTuple):
    """One vector step. Leaves are [N, ...], or [T, N, ...] once a rollout has stacked them.

    `final_observation` is the observation that the action led to, *before* any reset: the state whose
    value bootstraps a truncated episode. `episode_return` and `episode_length` include this step and are
    totals of a whole episode only where `terminated | truncated`. `weight`, where there is one, says how much a
    learner is to make of the row: 0 for what another policy did.
    """

    observation: PyTree
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    final_observation: PyTree
    episode_return: Array
    episode_length: Array
    info: dict[str, Array] = {}
    weight: Array | None = None


class Actor(NamedTuple):
    """A policy that learns no more: (observation, key, deterministic) -> action, for one environment."""

    act: Callable[[PyTree, Key, bool], Array]


class Mean(NamedTuple):
    """A mean kept as (sum, count), so that means over iterations, devices and chunks are exact."""

    sum: Array
    count: Array  # type: ignore[assignment]

    @staticmethod
    def of(values: Any, where: Any = True) -> Mean:
        """The pair for `values` (any shape), counting only entries where `where` holds."""
        values = jnp.asarray(values, jnp.float32)
        where = jnp.broadcast_to(jnp.asarray(where, bool), values.shape)
        return Mean(jnp.sum(jnp.where(where, values, 0.0)), jnp.sum(where, dtype=jnp.float32))


class Budget(NamedTuple):
    """How long to train, in the unit that the configuration counts in.

    unit:     what the budget is a number of
    per_step: how many of them one `step` of the algorithm takes
    steps:    how many `step`s the configured budget holds
    also:     what else a `step` takes, as {"gradient steps": 8}
    """

    unit: Literal["transitions", "gradient steps", "episodes"]
    per_step: int
    steps: int
    also: dict[str, int] = {}


class Algorithm(NamedTuple):
    """A learner as pure functions. Made by one factory an algorithm, e.g. `ppo(env, config)`.

    init:   (key) -> State.               Everything that resuming needs is in State.
    step:   (State) -> (State, Metrics).  One iteration; scans, vmaps, shards, donates.
    policy: (State) -> Policy.            What inference needs: parameters and normaliser statistics.
    memory: () -> Memory.                 The memory of one environment's policy; () for feed-forward policies.
    act:    (Policy, Memory, observation, key, deterministic) -> (action, Memory), for one environment.
    samples_per_step: environment transitions (or gradient steps) that one `step` consumes.
    num_iterations: how many `step`s the configured budget holds.
    sharded: State, or a prefix of it, with True for what has a row an environment and is split over devices, False
        for what is the same on all of them.
    """

    init: Callable[[Key], PyTree]
    step: Callable[[PyTree], tuple[PyTree, Metrics]]
    policy: Callable[[PyTree], PyTree]
    memory: Callable[[], PyTree]
    act: Callable[[PyTree, PyTree, PyTree, Key, bool], tuple[Array, PyTree]]
    samples_per_step: int
    num_iterations: int
    sharded: PyTree = False
