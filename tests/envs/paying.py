"""An environment that only pays: its episodes are sums that float32 alone gets wrong."""

import jax.numpy as jnp
from flax import struct

from jaxrl.envs.api import Environment
from jaxrl.types import Array, Box, Discrete, Timestep

LARGE = 2.0**24  # ones added to it change nothing in float32
MANY = 2**24 + 1000


class Paying(Environment):
    """Pays `first` for an episode's first step and `then` for every other, up to the time limit."""

    first: Array
    then: Array
    steps: int = struct.field(pytree_node=False)

    @property
    def observation_space(self):
        return Box(0.0, 1.0, (1,))

    @property
    def action_space(self):
        return Discrete(1)

    @property
    def horizon(self):
        return self.steps

    def reset(self, key):
        return jnp.zeros((), bool), jnp.zeros(1)

    def step(self, key, state, action):
        reward = jnp.where(state, self.then, self.first)
        return jnp.ones((), bool), Timestep(jnp.zeros(1), reward, jnp.zeros((), bool))


def paying(first, then, steps):
    """Rewards as strongly typed arrays, so that no compiler knows them."""
    return Paying(jnp.asarray(first, jnp.float32), jnp.asarray(then, jnp.float32), steps)
