"""Tasks that need a memory: what the present observation shows is not enough to act on.

    memory/chain     a coin is shown once, and asked for much later
    memory/cartpole  CartPole without its velocities
    memory/t-maze    a sign at the entrance says which way to turn at the end of a corridor

Of the chain and the maze it is known what the best policy without a memory earns. None of them
shows the time: steps between the sign and the question all look the same.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxrl.envs import registry
from jaxrl.envs.api import Environment
from jaxrl.errors import check_positive_int
from jaxrl.types import Array, Box, Discrete, Key, PyTree, Space, Timestep

SUITE = "memory"

SEEN = np.array([0, 2])  # of CartPole's (x, ẋ, θ, θ̇)

SIGNS = ((1.0, 1.0, 0.0), (0.0, 1.0, 1.0))  # at the entrance: turn south, turn north
CORRIDOR, JUNCTION = (1.0, 0.0, 1.0), (0.0, 1.0, 0.0)
NORTH, EAST, SOUTH, WEST = range(4)
RIGHT_TURN, WRONG_TURN, STANDING_STILL = 4.0, -0.1, -0.1


class Asked(NamedTuple):
    """A coin and how long ago it was shown."""

    coin: Array  # float32 [], -1 or 1
    time: Array  # int32 []


class Chain(Environment):
    """A coin, -1 or 1, is seen at the first step alone; `length` steps later the action names it.

    Reward 1 for the right name (0 for -1, 1 for 1) and -1 for the other, at the question, which
    ends the episode; 0 before, where actions do nothing. The observation, float32 [2], is the coin,
    then 0; and whether this is the question. The time is not shown, which a chain is often given
    (bsuite's, Osband et al. 2019, arXiv 1908.03568): acting does not need it, and so only the
    length of what has to be kept makes a long chain harder than a short one.

    Optimal: 1. Without a memory: 0 on average, whatever the policy. (One that is shown its own last
    action can hand the coin on in its actions.)
    """

    length: int = struct.field(pytree_node=False)

    @property
    def observation_space(self) -> Space:
        """The coin, and whether it is asked for."""
        return Box(-1.0, 1.0, (2,))

    @property
    def action_space(self) -> Space:
        """The names of -1 and 1."""
        return Discrete(2)

    @property
    def horizon(self) -> int:
        """The steps of every episode, the last of which ends it by itself."""
        return self.length + 1

    @property
    def reference_scores(self) -> tuple[float, float]:
        """Exact expected returns of random actions and of the best ones."""
        return 0.0, 1.0

    def reset(self, key: Key) -> tuple[Asked, Array]:
        """A coin, shown."""
        coin = jnp.where(jax.random.bernoulli(key), jnp.float32(1), jnp.float32(-1))
        state = Asked(coin, jnp.zeros((), jnp.int32))
        return state, self.observe(state)

    def step(self, key: Key, state: Asked, action: Array) -> tuple[Asked, Timestep]:
        """Nothing, or, at the question, the reward and the end."""
        ended = state.time >= self.length
        named = jnp.where(action == (state.coin > 0), jnp.float32(1), jnp.float32(-1))
        state = state._replace(time=state.time + 1)
        return state, Timestep(self.observe(state), jnp.where(ended, named, 0.0), ended)

    def observe(self, state: Asked) -> Array:
        """The observation of a state, float32 [2]."""
        coin = jnp.where(state.time == 0, state.coin, 0.0)
        return jnp.stack([coin, (state.time == self.length).astype(jnp.float32)])


class Positions(Environment):
    """CartPole-v1 seen without its velocities: the observation is (x, θ), float32 [2].

    Two observations in a row tell them, so that a short memory is enough. Reward 1 per step, at
    most 500: the optimum is that of CartPole. A controller of positions alone damps nothing, and
    the pole's swings grow until it falls: the best found by search, of small deterministic
    networks, lasts about 45 steps on average. PPO's stochastic policies last 48.
    """

    cartpole: Environment

    @property
    def observation_space(self) -> Space:
        """The bounds of the two positions."""
        whole = self.cartpole.observation_space
        assert isinstance(whole, Box)
        low, high = (tuple(np.asarray(bound)[SEEN].tolist()) for bound in (whole.low, whole.high))
        return Box(low, high, (len(SEEN),))

    @property
    def action_space(self) -> Space:
        """Left or right."""
        return self.cartpole.action_space

    @property
    def horizon(self) -> int:
        """That of CartPole, 500 unless given."""
        return self.cartpole.horizon

    def reset(self, key: Key) -> tuple[PyTree, Array]:
        """A first state of CartPole, and its positions."""
        state, observation = self.cartpole.reset(key)
        return state, observation[SEEN]

    def step(self, key: Key, state: PyTree, action: Array) -> tuple[PyTree, Timestep]:
        """A step of CartPole, and the positions it led to."""
        state, timestep = self.cartpole.step(key, state, action)
        return state, replace(timestep, observation=timestep.observation[SEEN])


class Walk(NamedTuple):
    """Where an episode in the T-maze stands."""

    place: Array  # int32 [], steps from the entrance to here
    north: Array  # bool [], whether the goal is in the north


class TMaze(Environment):
    """A corridor of `length` steps to the east, and a junction; a sign at its entrance says where.

    After Bakker (2001), "Reinforcement learning with long short-term memory", with its rewards and
    observations. Actions: north, east, south, west. At the junction the turn that the sign told
    earns 4, the other one -0.1, and both end the episode; standing still, that is walking against a
    wall, costs 0.1; walking is free. The observation, float32 [3], is 011 at the entrance where the
    goal is in the north, else 110; 101 in the corridor; 010 at the junction.

    Optimal: 4. Without a memory: 1.95, a coin's toss between 4 and -0.1, as the junction always
    looks the same.
    """

    length: int = struct.field(pytree_node=False)

    @property
    def observation_space(self) -> Space:
        """Three bits."""
        return Box(0.0, 1.0, (3,))

    @property
    def action_space(self) -> Space:
        """North, east, south, west."""
        return Discrete(4)

    @property
    def horizon(self) -> int:
        """Time for the shortest way, ten times."""
        return 10 * (self.length + 1)

    @property
    def reference_scores(self) -> tuple[float, float]:
        """Exact expected returns of uniformly random actions and of the best ones."""
        places = np.arange(self.length + 1)
        at_end = places == self.length
        # Two walls, a third one at the entrance; at the junction one, and two turns.
        walls = np.where(at_end, 1, 2 + (places == 0))
        pays = (walls * STANDING_STILL + at_end * (RIGHT_TURN + WRONG_TURN)) / 4
        earned = np.zeros(self.length + 1)  # from each place on, in the steps that are left
        for _ in range(self.horizon):
            east, west = np.append(earned[1:], 0.0), np.append(0.0, earned[:-1])
            earned = pays + (walls * earned + east + west) / 4
        return float(earned[0]), RIGHT_TURN

    def reset(self, key: Key) -> tuple[Walk, Array]:
        """The goal is drawn, and the entrance seen."""
        walk = Walk(jnp.zeros((), jnp.int32), jax.random.bernoulli(key))
        return walk, self.observe(walk)

    def step(self, key: Key, state: Walk, action: Array) -> tuple[Walk, Timestep]:
        """Walk, or turn at the junction, which is the end."""
        shift = jnp.asarray([0, 1, 0, -1], jnp.int32)[action]
        place = jnp.clip(state.place + shift, 0, self.length)
        turned = (state.place == self.length) & (shift == 0)
        right = (action == NORTH) == state.north
        earned = jnp.where(place == state.place, jnp.float32(STANDING_STILL), 0.0)
        turn = jnp.where(right, jnp.float32(RIGHT_TURN), jnp.float32(WRONG_TURN))
        walk = state._replace(place=place)
        return walk, Timestep(self.observe(walk), jnp.where(turned, turn, earned), turned)

    def observe(self, walk: Walk) -> Array:
        """The observation of a state, float32 [3]."""
        sign = jnp.asarray(SIGNS)[walk.north.astype(jnp.int32)]
        beyond = jnp.where(walk.place == self.length, jnp.asarray(JUNCTION), jnp.asarray(CORRIDOR))
        return jnp.where(walk.place == 0, sign, beyond)


def chain(length: int = 16) -> Chain:
    """A chain whose coin has to be kept for `length` steps."""
    check_positive_int("length", length)
    return Chain(length)


def cartpole(**options: Any) -> Positions:
    """CartPole-v1, made with its own options, without its velocities."""
    return Positions(registry.make("CartPole-v1", **options))


def t_maze(length: int = 10) -> TMaze:
    """A T-maze whose sign has to be kept for `length` steps."""
    check_positive_int("length", length)
    return TMaze(length)


_FACTORIES: dict[str, registry.Factory] = {
    "memory/chain": chain,
    "memory/cartpole": cartpole,
    "memory/t-maze": t_maze,
}
IDS = tuple(_FACTORIES)
# Known without being built: memory/cartpole would import gymnax, which takes seconds.
SPECS = {
    "memory/chain": registry.EnvironmentSpec(Box(-np.inf, np.inf, (2,)), Discrete(2), 17),
    "memory/cartpole": registry.EnvironmentSpec(Box(-np.inf, np.inf, (2,)), Discrete(2), 500),
    "memory/t-maze": registry.EnvironmentSpec(Box(-np.inf, np.inf, (3,)), Discrete(4), 110),
}
NOTES = {
    "memory/chain": "without a memory 0 of 1: the coin is shown at the first step alone",
    "memory/cartpole": "without a memory about 45 of 500: the velocities are not observed",
    "memory/t-maze": "without a memory 1.95 of 4: the sign is shown at the entrance alone",
}


def make(environment_id: str, **kwargs: Any) -> Environment:
    """Build by id; `kwargs` are the arguments of its function."""
    return registry.construct(environment_id, _FACTORIES[environment_id], kwargs)
