"""Environments of one's own whose numbers break after a while."""

from dataclasses import replace

import jax.numpy as jnp
from flax import struct

from jaxrl.envs.api import Environment
from jaxrl.types import Box, Dict, Discrete, Timestep


class Breaking(Environment):
    """Five steps, in the third of which `field` is NaN or infinite."""

    field: str = struct.field(pytree_node=False, default="observation")

    @property
    def observation_space(self):
        return Box(-1.0, 1.0, (3,))

    @property
    def action_space(self):
        return Discrete(2)

    @property
    def horizon(self):
        return 5

    def reset(self, key):
        first = jnp.nan if self.field == "reset" else 0.0
        return jnp.zeros((), jnp.int32), jnp.array([first, 0.0, 0.0])

    def step(self, key, state, action):
        state = state + 1
        third = state == 3
        observation = jnp.zeros(3)
        if self.field == "observation":
            observation = observation.at[1].set(jnp.where(third, jnp.nan, 0.0))
        reward = jnp.ones(())
        if self.field == "reward":
            reward = jnp.where(third, jnp.inf, 1.0)
        return state, Timestep(observation, reward, state >= 5)


class Forbidding(Breaking):
    """The same, but what breaks in the third step is a mask, which then allows nothing."""

    @property
    def observation_space(self):
        return Dict({"seen": Box(-1.0, 1.0, (3,)), "action_mask": Box(0, 1, (2,), bool)})

    def masked(self, seen, state):
        return {"seen": seen, "action_mask": jnp.broadcast_to(state != 3, (2,))}

    def reset(self, key):
        state, seen = super().reset(key)
        return state, self.masked(seen, state)

    def step(self, key, state, action):
        state, timestep = super().step(key, state, action)
        return state, replace(timestep, observation=self.masked(timestep.observation, state))
