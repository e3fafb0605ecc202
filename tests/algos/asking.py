"""A task in which any return may be asked for: each step pays what is done, and data of it in which
every return happens."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxrl.data.dataset import Dataset
from jaxrl.data.recorded import Recorded, describe
from jaxrl.envs.api import Environment
from jaxrl.envs.play import episodes, play_advance, play_begin
from jaxrl.types import Array, Box, Discrete, Timestep

HORIZON = 6
CHEAP = {"xla_backend_optimization_level": 0}
# Sizes for both models, where they have a field of the name.
SMALL = {
    "total_updates": 200,
    "updates_per_iteration": 50,
    "batch_size": 32,
    "context": 4,
    "width": 16,
    "num_layers": 2,
    "learning_rate": 1e-2,
    "warm_up_updates": 10,
}
SMALL_MAMBA = {"state_size": 4, "expand": 1, "stages": 4}


class Asking(Environment):
    """The reward is the action, 0 or 1 or between; the time and a random number are seen."""

    continuous: bool = struct.field(pytree_node=False, default=False)

    @property
    def observation_space(self):
        return Box(-np.inf, np.inf, (2,))

    @property
    def action_space(self):
        return Box(0.0, 1.0, (1,)) if self.continuous else Discrete(2)

    @property
    def horizon(self):
        return HORIZON

    def reset(self, key):
        return jnp.zeros((), jnp.int32), self._observed(jnp.zeros((), jnp.int32), key)

    def step(self, key, state: Array, action: Array):
        reward = jnp.sum(action).astype(jnp.float32)
        return state + 1, Timestep(self._observed(state + 1, key), reward, state + 1 >= HORIZON)

    def _observed(self, time, key):
        return jnp.stack([time / HORIZON, jax.random.normal(key)])


def recorded(env, num_episodes=200, seed=0, lengths=(HORIZON,)):
    """Episodes of actions at random, each with an inclination of its own."""
    rng = np.random.default_rng(seed)
    length = np.resize(np.asarray(lengths, np.int32), num_episodes)
    inclined = np.repeat(rng.random(num_episodes), length)
    rows = len(inclined)
    if env.continuous:
        action = np.clip(inclined + 0.2 * rng.normal(size=rows), 0.0, 1.0)[:, None]
        action = action.astype(np.float32)
    else:
        action = (rng.random(rows) < inclined).astype(np.int32)
    ends = np.cumsum(length) - 1
    time = np.concatenate([np.arange(each) for each in length])
    terminated = np.zeros(rows, bool)
    terminated[ends] = True
    return Recorded(
        observation=np.stack([time / HORIZON, rng.normal(size=rows)], 1).astype(np.float32),
        action=action,
        reward=action.reshape(rows).astype(np.float32),
        terminated=terminated,
        truncated=np.zeros(rows, bool),
        final_observation=rng.normal(size=(num_episodes, 2)).astype(np.float32),
        length=length,
        about=describe("asking", "random actions"),
    )


def dataset(env, **settings):
    """A dataset of such episodes."""
    return Dataset.of(recorded(env, **settings), env)


def returns(env, agent, mode):
    """(policy, target) -> what four episodes in a mode earn, compiled."""

    def play(policy, target):
        steered = agent.modes[mode].steer(policy, target)
        begun = play_begin(env, agent, steered, jax.random.key(1), 4)
        act = partial(agent.modes[mode].act, steered)
        return episodes(play_advance(env, begun, act, env.horizon)).returns

    return jax.jit(play, compiler_options=CHEAP)
