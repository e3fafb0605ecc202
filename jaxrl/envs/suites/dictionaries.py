"""Dictionaries of observations, and what they are for: masks, critics that see more, grids.

    dict/locks       50 actions, 5 of them allowed, which "action_mask" says
    dict/privileged  an entry that only the critic should read
    dict/grid        a position as an image, a goal as a vector

Of each it is known what can be earned with and without the entry in question.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxrl.envs import registry
from jaxrl.envs.api import Environment
from jaxrl.errors import JaxrlError, check_positive_int, check_range
from jaxrl.types import ACTION_MASK, Array, Box, Dict, Discrete, Key, Scalar, Space, Timestep

SUITE = "dict"

LOCKS = 5
TURNS = 10  # steps in an episode of the game of locks

SIDE = 5
CELLS = SIDE * SIDE


class Door(NamedTuple):
    """A lock, and the keys at hand."""

    lock: Array  # int32 []
    keys: Array  # bool [A]
    time: Array  # int32 [], turns taken


class Locks(Environment):
    """Open a lock in each of 10 turns with one of the keys at hand: 0.1 for each that opens.

    There are five locks; key a, of `actions` keys, opens lock a mod 5. In each turn a lock is drawn
    and, of each lock's keys, one: five keys are at hand, a tenth of 50, and one of them opens. To
    reach for another one ends the episode. The entry "lock", float32 [5], is the lock, one-hot; the
    entry "action_mask", bool [actions], which keys are at hand.

    Optimal: 1; who reaches for any key at hand earns 0.2. With `mask=False` the mask is not in
    the observation, and nothing else changes: then a key that opens the lock is at hand in one case
    of k = actions / 5, and the best policy earns 0.1 (k⁻¹ + … + k⁻¹⁰), 0.011.
    """

    actions: int = struct.field(pytree_node=False)
    mask: bool = struct.field(pytree_node=False)

    @property
    def observation_space(self) -> Dict:
        """The lock, and the keys at hand."""
        shown = {ACTION_MASK: Box(0, 1, (self.actions,), np.bool_)} if self.mask else {}
        return Dict({"lock": Box(0.0, 1.0, (LOCKS,)), **shown})

    @property
    def action_space(self) -> Space:
        """The keys, at hand or not."""
        return Discrete(self.actions)

    @property
    def horizon(self) -> int:
        """The turns, after which an episode has ended by itself."""
        return TURNS

    @property
    def reference_scores(self) -> tuple[float, float]:
        """Exact expected returns of uniformly random actions and of the best ones."""
        at_hand = (LOCKS / self.actions) ** np.arange(TURNS)  # that a turn is reached
        return float(np.sum(at_hand) / self.actions / TURNS), 1.0

    def reset(self, key: Key) -> tuple[Door, dict[str, Array]]:
        """The first lock, and the keys at hand."""
        door = self._draw(key, jnp.zeros((), jnp.int32))
        return door, self._observe(door)

    def step(self, key: Key, state: Door, action: Array) -> tuple[Door, Timestep]:
        """The reward, and another lock; the end, if the key is not at hand."""
        at_hand = state.keys[action]
        opens = at_hand & (action % LOCKS == state.lock)
        door = self._draw(key, state.time + 1)
        ended = ~at_hand | (door.time >= TURNS)
        return door, Timestep(self._observe(door), opens.astype(jnp.float32) / TURNS, ended)

    def _draw(self, key: Key, time: Array) -> Door:
        key_lock, key_keys = jax.random.split(key)
        lock = jax.random.randint(key_lock, (), 0, LOCKS, jnp.int32)
        of_each = self.actions // LOCKS
        drawn = jax.random.randint(key_keys, (LOCKS,), 0, of_each)
        keys = jax.nn.one_hot(drawn, of_each, axis=0, dtype=bool)  # [of_each, LOCKS]
        return Door(lock, keys.reshape(self.actions), time)

    def _observe(self, door: Door) -> dict[str, Array]:
        shown = {ACTION_MASK: door.keys} if self.mask else {}
        return {"lock": jax.nn.one_hot(door.lock, LOCKS), **shown}


class Coins(NamedTuple):
    """Two coins, float32 [], -1 or 1."""

    seen: Array
    hidden: Array


class Privileged(Environment):
    """One step: name the coin in "seen" for 1; the coin in "hidden" adds ±`noise`.

    Each entry is a float32 [1]. Which of ±noise it is has nothing to do with the action: an actor
    needs "seen" alone (0 names -1, and 1 names 1), and is meant to be shown no more. A critic that
    reads "hidden" can know the value exactly, 1 + noise · hidden under the best policy; one that
    reads "seen" alone can know no more than 1, and leaves ±noise in every advantage, beside the ±½
    that an action is worth.

    Optimal: 1 on average, without "hidden" as with it; without "seen" ½.
    """

    noise: Array  # float32 []

    @property
    def observation_space(self) -> Dict:
        """The two coins."""
        coin = Box(-1.0, 1.0, (1,))
        return Dict({"seen": coin, "hidden": coin})

    @property
    def action_space(self) -> Space:
        """The names of -1 and 1."""
        return Discrete(2)

    @property
    def horizon(self) -> int:
        """One step, which always ends the episode by itself."""
        return 1

    @property
    def reference_scores(self) -> tuple[float, float]:
        """Exact expected returns of random actions and of the best ones."""
        return 0.5, 1.0

    def reset(self, key: Key) -> tuple[Coins, dict[str, Array]]:
        """Toss both coins."""
        tossed = jnp.where(jax.random.bernoulli(key, shape=(2,)), jnp.float32(1), jnp.float32(-1))
        coins = Coins(*tossed)
        return coins, self._observe(coins)

    def step(self, key: Key, state: Coins, action: Array) -> tuple[Coins, Timestep]:
        """The reward, and the end."""
        named = (action == (state.seen > 0)).astype(jnp.float32)
        reward = named + self.noise * state.hidden
        return state, Timestep(self._observe(state), reward, jnp.ones((), bool))

    def optimal_value(self, observation: dict[str, Array], gamma: float | Array) -> Array:
        """1 + noise · hidden, float32 [...], of entries [..., 1]."""
        return 1.0 + self.noise * observation["hidden"][..., 0]

    def _observe(self, coins: Coins) -> dict[str, Array]:
        return {"seen": coins.seen[None], "hidden": coins.hidden[None]}


class Trip(NamedTuple):
    """A cell and the one to walk to, int32 []."""

    cell: Array
    goal: Array


class Grid(Environment):
    """Walk to the goal: 1 for who reaches it in the 8 steps that the longest way takes.

    Five rows and five columns. The entry "grid", bool [5, 5, 1], is the image of the cell that one
    is in, "goal", float32 [2], its row and column as numbers in [-1, 1]. Actions: up,
    right, down, left. First cells and goals are drawn anew in each episode.

    Optimal: 1. Without "goal" at most ⅓, the 8 of 24 cells that a walk can visit; without "grid",
    and without a memory, 0.46 (the best probabilities of the four actions for each goal, found
    numerically).
    """

    @property
    def observation_space(self) -> Dict:
        """Where one is, and where to go."""
        image = Box(0, 1, (SIDE, SIDE, 1), np.bool_)
        return Dict({"grid": image, "goal": Box(-1.0, 1.0, (2,))})

    @property
    def action_space(self) -> Space:
        """Up, right, down, left."""
        return Discrete(4)

    @property
    def horizon(self) -> int:
        """The longest way, from one corner to another."""
        return 2 * (SIDE - 1)

    @property
    def reference_scores(self) -> tuple[float, float]:
        """Exact expected returns of uniformly random actions and of the best ones."""
        there = np.eye(CELLS)
        reached = there  # the chance from each cell, [CELLS], of each goal, in the steps left
        for _ in range(self.horizon):
            reached = np.maximum(there, reached[NEIGHBOURS].mean(axis=1))
        return float((np.sum(reached) - CELLS) / (CELLS * (CELLS - 1))), 1.0

    def reset(self, key: Key) -> tuple[Trip, dict[str, Array]]:
        """Two different cells."""
        key_cell, key_away = jax.random.split(key)
        cell = jax.random.randint(key_cell, (), 0, CELLS, jnp.int32)
        away = jax.random.randint(key_away, (), 1, CELLS, jnp.int32)
        trip = Trip(cell, (cell + away) % CELLS)
        return trip, self._observe(trip)

    def step(self, key: Key, state: Trip, action: Array) -> tuple[Trip, Timestep]:
        """One cell on, unless a wall is there; the reward and the end at the goal."""
        trip = state._replace(cell=jnp.asarray(NEIGHBOURS, jnp.int32)[state.cell, action])
        reached = trip.cell == trip.goal
        return trip, Timestep(self._observe(trip), reached.astype(jnp.float32), reached)

    def _observe(self, trip: Trip) -> dict[str, Array]:
        image = jax.nn.one_hot(trip.cell, CELLS, dtype=bool).reshape(SIDE, SIDE, 1)
        place = jnp.stack([trip.goal // SIDE, trip.goal % SIDE]).astype(jnp.float32)
        return {"grid": image, "goal": 2.0 * place / (SIDE - 1) - 1.0}


def _neighbours() -> np.ndarray:
    """The cell that each action leads to from each cell, [CELLS, 4]."""
    row, column = np.divmod(np.arange(CELLS), SIDE)
    moves = ((-1, 0), (0, 1), (1, 0), (0, -1))  # up, right, down, left
    ends = [np.clip([row + down, column + right], 0, SIDE - 1) for down, right in moves]
    return np.stack([end[0] * SIDE + end[1] for end in ends], axis=1)


NEIGHBOURS = _neighbours()


def locks(actions: int = 50, mask: bool = True) -> Locks:
    """A game of locks with so many keys, two for each lock or more; `mask`: show those at hand."""
    check_positive_int("actions", actions)
    if actions % LOCKS or actions < 2 * LOCKS:
        raise JaxrlError(
            f"actions is {actions}, but must be 10, 15, 20, …: as many keys for each of the "
            f"{LOCKS} locks, and more than one."
        )
    return Locks(actions, mask)


def privileged(noise: Scalar = 10.0) -> Privileged:
    """Two coins, one of them worth ±noise."""
    check_range("noise", noise, 0.0, finite=True)
    return Privileged(jnp.asarray(noise, jnp.float32))


_FACTORIES: dict[str, registry.Factory] = {
    "dict/locks": locks,
    "dict/privileged": privileged,
    "dict/grid": Grid,
}
IDS = tuple(_FACTORIES)
NOTES = {
    "dict/locks": "without its mask 0.011 of 1: which actions are allowed is drawn anew each step",
    "dict/privileged": 'the entry "hidden" is for the critic: to the actor it is noise',
    "dict/grid": "without the image 0.46 of 1, without the goal ⅓",
}


def make(environment_id: str, **kwargs: Any) -> Environment:
    """Build by id; `kwargs` are the arguments of its function."""
    return registry.construct(environment_id, _FACTORIES[environment_id], kwargs)
