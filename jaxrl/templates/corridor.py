"""An environment of one's own: two pure functions, two spaces and a time limit.

An installed package gives it a name by an entry point, "package.module:Corridor", of
jaxrl.environments.
"""

import jax
import jax.numpy as jnp

from jaxrl.envs.api import Environment
from jaxrl.types import Array, Box, Discrete, Key, Timestep


class Corridor(Environment):
    """Walk right along a line from 0 to 1; each step costs `cost`."""

    cost: float = 0.1

    observation_space = Box(0.0, 1.0, (1,))
    action_space = Discrete(2)
    horizon = 50

    def reset(self, key: Key) -> tuple[Array, Array]:
        """Begin somewhere in the left half: (state, observation)."""
        position = jax.random.uniform(key, (1,), maxval=0.5)
        return position, position

    def step(self, key: Key, state: Array, action: Array) -> tuple[Array, Timestep]:
        """Go a tenth to the right or to the left; the right end terminates."""
        position = jnp.clip(state + jnp.where(action == 1, 0.1, -0.1), 0.0, 1.0)
        return position, Timestep(position, jnp.float32(-self.cost), position[0] >= 1.0)
