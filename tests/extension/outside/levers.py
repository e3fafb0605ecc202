"""Two levers, of which one pays: an environment that draws itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxrl.envs.api import Environment
from jaxrl.types import Array, Box, Discrete, Key, PyTree, Timestep

NEITHER = 2  # in the place of the good lever: nothing pays


class Pulls(NamedTuple):
    """An episode: the lever that pays, int32 [], and how often one was pulled, int32 []."""

    good: Array
    count: Array


class Levers(Environment):
    """`length` pulls; each of the good lever pays 1, of the other nothing.
    Which one is good is `shown`, or is not.

    An episode goes on until its time is up. `env_in_turn` says whether the levers are pulled 0, 1,
    0, 1, ….
    """

    length: int = struct.field(pytree_node=False, default=5)
    shown: bool = struct.field(pytree_node=False, default=False)

    @property
    def observation_space(self) -> Box:
        """The share of the pulls that are done, and the good lever;
        0.5 in its place where it is not shown."""
        return Box(0.0, 1.0, (2,))

    @property
    def action_space(self) -> Discrete:
        """The lever to pull."""
        return Discrete(2)

    @property
    def horizon(self) -> int:
        """All pulls."""
        return self.length

    @property
    def info(self) -> tuple[str, ...]:
        """Whether the pull was the one whose turn it was."""
        return ("in_turn",)

    def reset(self, key: Key) -> tuple[Pulls, Array]:
        """A good lever, drawn."""
        state = Pulls(jax.random.randint(key, (), 0, 2), jnp.zeros((), jnp.int32))
        return state, self.observe(state)

    def step(self, key: Key, state: Pulls, action: Array) -> tuple[Pulls, Timestep]:
        """Pull a lever."""
        following = Pulls(state.good, state.count + 1)
        paid = (action == state.good).astype(jnp.float32)
        in_turn = (action == state.count % 2).astype(jnp.float32)
        return following, Timestep(
            self.observe(following), paid, jnp.zeros((), bool), {"in_turn": in_turn}
        )

    def observe(self, state: Pulls) -> Array:
        """What is seen of a state, [2]."""
        good = state.good.astype(jnp.float32) if self.shown else jnp.float32(0.5)
        return jnp.stack([state.count / self.length, good])

    @property
    def seconds(self) -> float:
        """A pull takes half a second."""
        return 0.5

    @contextmanager
    def painter(self) -> Iterator[Callable[[PyTree], np.ndarray]]:
        """Two fields, of which the good lever's is white, and a line that grows with the pulls."""

        def paint(state: Pulls) -> np.ndarray:
            image = np.zeros((40, 80, 3), np.uint8)
            image[:30, 40 * int(state.good) : 40 * int(state.good) + 40] = 255
            image[35:, : 80 * int(state.count) // self.length] = (0, 128, 255)
            return image

        yield paint
