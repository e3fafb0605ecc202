"""The whole of adding an environment of your own."""

import jax
import jax.numpy as jnp

from jaxrl.envs import registry
from jaxrl.envs.api import Environment
from jaxrl.types import Box, Discrete, Timestep


class Corridor(Environment):
    """Walk right along a line from 0 to 1; each step costs `cost`."""

    cost: float = 0.1

    observation_space = Box(0.0, 1.0, (1,))
    action_space = Discrete(2)
    horizon = 50

    def reset(self, key):
        position = jax.random.uniform(key, (1,), maxval=0.5)
        return position, position

    def step(self, key, state, action):
        position = jnp.clip(state + jnp.where(action == 1, 0.1, -0.1), 0.0, 1.0)
        return position, Timestep(position, jnp.float32(-self.cost), position[0] >= 1.0)


def test_a_class_of_your_own_is_an_environment():
    registry.register("corridor", Corridor)
    environment = registry.make("corridor", cost=0.5)
    keys = jax.random.split(jax.random.key(0), 4)
    states, _ = jax.vmap(environment.reset)(keys)
    for _ in range(10):
        states, timesteps = jax.vmap(environment.step)(keys, states, jnp.ones(4, jnp.int32))
    assert timesteps.terminated.all() and (timesteps.reward == -0.5).all()
