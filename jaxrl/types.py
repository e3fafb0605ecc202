"""The types that everything shares: spaces, transitions, metrics, Agent and Algorithm.

Axes: `T` steps of a rollout, `N` parallel environments, `...` the shape of one observation or
action. `jaxrl.core` says its shapes in types, `Float[Array, "T N"]`, and the tests check them; the
names there, one for each meaning:

    T    steps of a rollout              S  states of a tabular problem
    N    environments, or episodes       A  actions in each of them
    M    members of a population         H  steps of an episode, where all have as many
    P    parameters, as one vector       J  candidate policies, as core.safety has them
    D    coordinates of an action        K  functions of the state
    C    critics of an ensemble
    L    tokens of a sequence            Z  numbers in the state of each channel
    E    channels of a sequence's layer  G  heads, of F channels each
    *B   the axes of a batch, any number of them: rows, or environments, or none
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Float
from jaxtyping import Key as KeyOf

from jaxrl.errors import JaxrlError, check_positive_int

Array = jax.Array
Key = KeyOf[Array, "..."]
Number = float | np.floating
Scalar = Number | Float[Array, ""]  # a hyperparameter: a number, or traced where it is swept
PyTree = Any
Bound = float | tuple["Bound", ...]  # of a space: a number, or nested like its shape
Metrics = dict[str, "Mean"]


@dataclass(frozen=True)
class Box:
    """Arrays of a fixed shape between bounds.

    Bounds are scalars, or tuples nested like the shape; ±inf: unbounded.
    """

    low: Bound
    high: Bound
    shape: tuple[int, ...]
    dtype: DTypeLike = np.float32

    def __str__(self) -> str:
        return f"Box({', '.join(map(str, self.shape))}) {np.dtype(self.dtype).name}"

    @property
    def bounded(self) -> bool:
        """Whether every coordinate has a finite lower and upper bound."""
        return bool(np.all(np.isfinite(self.low)) and np.all(np.isfinite(self.high)))

    def sample(self, key: Key) -> Array:
        """A draw of shape `shape`: uniform where a coordinate has two finite bounds.

        Elsewhere standard normal, clipped to the bound it has.
        """
        low = np.broadcast_to(np.asarray(self.low, np.float64), self.shape)
        high = np.broadcast_to(np.asarray(self.high, np.float64), self.shape)
        bounded = np.isfinite(low) & np.isfinite(high)
        if bounded.all():
            return self._uniform(key, low, high)
        if not bounded.any():
            return self._normal(key, low, high)
        key_uniform, key_normal = jax.random.split(key)
        uniform = self._uniform(key_uniform, np.where(bounded, low, 0), np.where(bounded, high, 0))
        return jnp.where(bounded, uniform, self._normal(key_normal, low, high))

    def _uniform(self, key: Key, low: np.ndarray, high: np.ndarray) -> Array:
        """Between finite bounds; of whole numbers each is as likely, both ends too."""
        if jnp.issubdtype(self.dtype, jnp.floating):
            first, last = jnp.asarray(low, jnp.float32), jnp.asarray(high, jnp.float32)
            return (first + (last - first) * jax.random.uniform(key, self.shape)).astype(self.dtype)
        kind = np.uint32 if jnp.issubdtype(self.dtype, jnp.unsignedinteger) else np.int32
        # The largest number of 32 bits has none above it, and is left out.
        most = np.iinfo(kind).max
        bounds = np.ceil(low), np.floor(high) + 1
        first, last = (np.clip(bound, np.iinfo(kind).min, most) for bound in bounds)
        drawn = jax.random.randint(key, self.shape, first.astype(kind), last.astype(kind), kind)
        return drawn.astype(self.dtype)

    def _normal(self, key: Key, low: np.ndarray, high: np.ndarray) -> Array:
        """Standard normal, clipped to bounds."""
        drawn = jax.random.normal(key, self.shape)
        if not jnp.issubdtype(self.dtype, jnp.floating):
            drawn = jnp.round(drawn)
        low, high = low.astype(np.float32), high.astype(np.float32)
        return jnp.clip(drawn, low, high).astype(self.dtype)


@dataclass(frozen=True)
class Discrete:
    """Whole numbers 0 … n−1, as int32 scalars."""

    n: int
    shape: tuple[int, ...] = ()
    dtype: DTypeLike = np.int32

    def __str__(self) -> str:
        return f"Discrete({self.n})"

    def sample(self, key: Key) -> Array:
        """A uniform draw, int32 []."""
        return jax.random.randint(key, (), 0, self.n, self.dtype)


@dataclass(frozen=True)
class MultiDiscrete:
    """Vectors of whole numbers; entry i lies in 0 … nvec[i]−1."""

    nvec: tuple[int, ...]
    dtype: DTypeLike = np.int32

    def __str__(self) -> str:
        return f"MultiDiscrete({', '.join(map(str, self.nvec))})"

    @property
    def shape(self) -> tuple[int, ...]:
        """One entry for each factor."""
        return (len(self.nvec),)

    def sample(self, key: Key) -> Array:
        """A uniform draw, int32 [len(nvec)]."""
        return jax.random.randint(key, self.shape, 0, jnp.asarray(self.nvec), self.dtype)


# The key of an observation that says which actions are allowed.
ACTION_MASK = "action_mask"


@dataclass(frozen=True)
class Dict:
    """Observations of several arrays, each under a key: `Dict({"position": Box(-1.0, 1.0, (2,))})`.

    Observations are dictionaries with the same keys. The key "action_mask", a Box of bool with an
    entry per action, says which actions are allowed: policies honour it, and read the others.
    """

    entries: tuple[tuple[str, Box], ...]

    def __init__(self, spaces: Mapping[str, Box]) -> None:
        # Sorted as JAX sorts the dictionaries of arrays; a tuple can be hashed.
        object.__setattr__(self, "entries", tuple(sorted(spaces.items())))
        for key, space in self.entries:
            if not isinstance(space, Box):
                raise JaxrlError(f"{key} of a Dict is {space}, but must be a Box.")

    def __str__(self) -> str:
        return f"Dict({', '.join(f'{key}: {space}' for key, space in self.entries)})"

    @property
    def spaces(self) -> dict[str, Box]:
        """The space under each key."""
        return dict(self.entries)

    @property
    def shape(self) -> tuple[int, ...]:
        """There is none: whoever asks is made for a single array."""
        raise self._several()

    @property
    def dtype(self) -> DTypeLike:
        """There is none."""
        raise self._several()

    def _several(self) -> JaxrlError:
        return JaxrlError(
            f"observations are {self}, but this needs them in a single array, as of a Box."
        )

    def sample(self, key: Key) -> dict[str, Array]:
        """A draw from each space."""
        keys = jax.random.split(key, len(self.entries))
        return {
            name: space.sample(key) for (name, space), key in zip(self.entries, keys, strict=True)
        }


Space = Box | Discrete | MultiDiscrete
ObservationSpace = Space | Dict


def zeros_of(space: ObservationSpace, batch: tuple[int, ...] = ()) -> PyTree:
    """Zeros like `batch` elements of a space: an array, or of a Dict a dictionary of them."""
    if isinstance(space, Dict):
        return {key: zeros_of(each, batch) for key, each in space.entries}
    return jnp.zeros((*batch, *space.shape), space.dtype)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Timestep:
    """What an environment returns for one step: the *successor's* observation, before any reset."""

    observation: PyTree
    reward: Array  # float32 []
    terminated: Array  # bool []; a time limit is not a termination
    # float32 [] under each name of `Environment.info`: what else is worth a curve.
    info: dict[str, Array] = field(default_factory=dict)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Transition:
    """One vector step. Leaves are [N, ...], or [T, N, ...] once a rollout has stacked them.

    `final_observation` is the observation that the action led to, *before* any reset: the state
    whose value bootstraps a truncated episode. `episode_return` and `episode_length` include this
    step and are totals of a whole episode only where `terminated | truncated`. `origin` says where
    the episode began: -1 is the environment's own reset, else a row of a pool or bank, or the steps
    for which a guide acts first. `weight`, where there is one, is the row's weight in a learner's
    loss: 0 for what another policy did.
    """

    observation: PyTree
    action: Array
    reward: Array
    terminated: Array
    truncated: Array
    final_observation: PyTree
    episode_return: Array
    episode_length: Array
    origin: Array
    info: dict[str, Array] = field(default_factory=dict)
    weight: Array | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class View:
    """What a policy is shown of one environment.

    Most read the observation alone (see `feed_forward`). Whoever plays resets the policy's memory
    where an episode begins; `first` informs the policy of it.
    """

    observation: PyTree
    reward: Array  # float32 []: what its last action earned; 0 at the start of an episode
    action: Array  # the last action as it was executed; zeros at the start
    first: Array  # bool []: the episode has just begun

    @staticmethod
    def at_start(observation: PyTree, action_space: Space) -> View:
        """What a policy is shown before the first step of an episode."""
        action = jnp.zeros(action_space.shape, action_space.dtype)
        return View(observation, jnp.zeros((), jnp.float32), action, jnp.ones((), bool))


class Mode(NamedTuple):
    """One way in which an agent acts, as "deterministic" or "stochastic".

    act:   (policy, memory, View, key) -> (action, memory), for one environment; the action in its
           units.
    steer: (policy, number) -> policy, where the mode is steered by a number, as the return to aim
           for. The number is traced and becomes a part of the policy: several of them are one
           compilation.
    """

    act: Callable[[PyTree, PyTree, View, Key], tuple[Array, PyTree]]
    steer: Callable[[PyTree, Array], PyTree] | None = None


def no_memory(policy: PyTree) -> tuple:
    """The memory of a feed-forward policy."""
    del policy
    return ()


def feed_forward(act: Callable[[PyTree, PyTree, Key], Array]) -> Mode:
    """The mode of a policy that acts on the present observation alone.

    `act(policy, observation, key) -> action`.
    """
    return Mode(lambda policy, memory, view, key: (act(policy, view.observation, key), memory))


@dataclass(frozen=True, eq=False)
class Agent:
    """What acts, made from an environment's spaces and horizon and a configuration.

    It needs nothing that training reads.

    init:   (key) -> Policy.  A policy before training: all that acting needs, in its shapes and
            types.
    modes:  the ways to act, by name; the first one ranks policies.
    memory: (Policy) -> Memory.  One environment's, at the start of an episode; () for feed-forward
            policies.
    value:  (Policy, Memory, View, key) -> float32 [].  The expected return from here on, where
            there is a critic.
    """

    init: Callable[[Key], PyTree]
    modes: Mapping[str, Mode]
    memory: Callable[[PyTree], PyTree] = no_memory
    value: Callable[[PyTree, PyTree, View, Key], Array] | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Actor:
    """An agent with a frozen policy: a saved one, given to an algorithm as an input."""

    policy: PyTree
    agent: Agent = field(metadata={"static": True})

    @property
    def memory(self) -> PyTree:
        """One environment's memory at the start of an episode."""
        return self.agent.memory(self.policy)

    def act(self, mode: str, memory: PyTree, view: View, key: Key) -> tuple[Array, PyTree]:
        """One environment's action in a mode, and the memory after it."""
        return self.agent.modes[mode].act(self.policy, memory, view, key)


class Mean(NamedTuple):
    """A mean kept as (sum, count), so that means over iterations, devices and chunks are exact."""

    sum: Array
    count: Array  # type: ignore[assignment]

    @staticmethod
    def of(values: ArrayLike, where: ArrayLike = True) -> Mean:
        """The pair for `values` (any shape), counting only entries where `where` holds."""
        values = jnp.asarray(values, jnp.float32)
        where = jnp.broadcast_to(jnp.asarray(where, bool), values.shape)
        return Mean(jnp.sum(jnp.where(where, values, 0.0)), jnp.sum(where, dtype=jnp.float32))


class Budget(NamedTuple):
    """How long an algorithm trains: so many steps, each of so many units."""

    unit: Literal["transitions", "gradient steps", "episodes"]
    per_step: int  # units that one `step` takes
    steps: int  # how many `step`s the configured budget holds
    also: dict[str, int] = {}  # other counts per step, as {"gradient steps": 8}


class Progress(NamedTuple):
    """How far a run has come, as its start distribution is told: schedules are in transitions."""

    iteration: Array  # int32 [], iterations that are finished
    transitions_per_iteration: int

    @property
    def transitions(self) -> Array:
        """float32 [], for schedules; exact to 2^24 transitions."""
        return self.iteration.astype(jnp.float32) * self.transitions_per_iteration


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Log:
    """A ring buffer of rows that are appended and never altered, as in a replay buffer.

    rows:    leaves [C, ...], none of them keys. The C rows are B equal blocks, one after the other:
             a ring for each of the devices that share the environments (B = 1 on one device; a
             device sees its own block alone). New rows replace the oldest.
    written: uint32 [B, 2], how many rows each block was ever given, as a low and a high word of 32
             bits.

    Row i of a block, counted from 0 since the beginning, lies at place i mod (C / B). In a
    population every leaf has the member axes in front, [H, S, ...]. As a part of a training state a
    Log is saved by its new rows alone, which `written` tells: what else is done to its rows is not
    saved.
    """

    rows: PyTree
    written: Array

    @staticmethod
    def empty(capacity: int, example: PyTree) -> Log:
        """An empty log with room for `capacity` rows like `example`, whose leaves are [...]."""
        check_positive_int("capacity", capacity)
        rows = jax.tree.map(
            lambda leaf: jnp.zeros((capacity, *jnp.shape(leaf)), jnp.asarray(leaf).dtype), example
        )
        return Log(rows, jnp.zeros((1, 2), jnp.uint32))

    @property
    def capacity(self) -> int:
        """How many rows there is room for: C."""
        return int(jax.tree.leaves(self.rows)[0].shape[0])

    @property
    def count(self) -> Array:
        """How many rows there are: int32 [], at places 0 … count - 1."""
        low, high = self._words()
        return jnp.where((high > 0) | (low > self.capacity), self.capacity, low.astype(jnp.int32))

    @property
    def oldest(self) -> Array:
        """The place of the oldest row, after which the others follow in a ring: int32 []."""
        low, high = self._words()
        full = (high > 0) | (low > self.capacity)
        return jnp.where(full, self._place(low, high), 0).astype(jnp.int32)

    def append(self, rows: PyTree) -> Log:
        """The log with `rows`, leaves [n, ...], n ≤ C, as its newest; in place if it is donated."""
        number = int(jax.tree.leaves(rows)[0].shape[0])
        if number > self.capacity:
            raise JaxrlError(f"a log of {self.capacity} rows cannot take {number} at once.")
        low, high = self._words()
        offsets = jnp.arange(number, dtype=jnp.uint32)
        places = (self._place(low, high) + offsets) % jnp.uint32(self.capacity)

        def write(old: Array, new: Array) -> Array:
            rows = old.at[places.astype(jnp.int32)]
            return rows.set(new, mode="promise_in_bounds", unique_indices=True)

        total = low + jnp.uint32(number)
        written = jnp.stack([total, high + (total < low).astype(jnp.uint32)])
        return Log(jax.tree.map(write, self.rows, rows), written[None])

    def _place(self, low: Array, high: Array) -> Array:
        """Where the next row goes, the number of rows ever written mod C: uint32 []."""
        size = jnp.uint32(self.capacity)

        def bits_left(carry: tuple) -> Array:
            _, _, high = carry
            return high > 0

        def add_bit(carry: tuple) -> tuple:
            place, power, high = carry  # power: 2^(32 + k) mod C, for the k-th bit of the high word
            return (place + power * (high & 1)) % size, power * 2 % size, high >> 1

        # No product of two words fits into one: the high word is added bit by bit. It is 0 for the
        # first 2^32 rows.
        start = (low % size, jnp.uint32(2**32 % self.capacity), high)
        place, _, _ = jax.lax.while_loop(bits_left, add_bit, start)
        return place

    def _words(self) -> tuple[Array, Array]:
        """The low and the high word of the counter."""
        if self.written.shape != (1, 2):
            raise JaxrlError("a log is read and appended to on the device that holds its block.")
        return self.written[0, 0], self.written[0, 1]


State = TypeVar("State")  # of an algorithm: everything that resuming needs
Policy = TypeVar("Policy")  # of its agent


class Algorithm(NamedTuple, Generic[State, Policy]):
    """A learner as pure functions, made by one factory per algorithm, e.g. `ppo(env, config)`.

    init:   (key) -> State.               Everything that resuming needs is in State.
    step:   (State) -> (State, Metrics).  One iteration; scans, vmaps, shards, donates.
    policy: (State) -> Policy.            What acting needs: parameters and normaliser statistics.
    agent:  what acts with that policy.
    budget: what a step takes, and how many of them the configured budget holds.
    sharded: State, or a pytree prefix of it, with True for what has a row per environment and is
        split over devices, False for what is the same on all of them.
    begin_from: (State, Policy) -> State.  A first state that goes on with another run's policy.
    """

    init: Callable[[Key], State]
    step: Callable[[State], tuple[State, Metrics]]
    policy: Callable[[State], Policy]
    agent: Agent
    budget: Budget
    sharded: PyTree = False
    begin_from: Callable[[State, Policy], State] | None = None
