"""An environment of one's own with a number for an option."""

import jax.numpy as jnp

from jaxrl.envs.api import Environment
from jaxrl.types import Box, Discrete, Timestep


class Priced(Environment):
    """Each step costs `cost`."""

    cost: float = 0.5

    @property
    def observation_space(self):
        return Box(0.0, 1.0, (1,))

    @property
    def action_space(self):
        return Discrete(2)

    @property
    def horizon(self):
        return 3

    def reset(self, key):
        return jnp.zeros(()), jnp.zeros(1)

    def step(self, key, state, action):
        return state, Timestep(jnp.zeros(1), -jnp.asarray(self.cost), jnp.zeros((), bool))
