"""An environment with both kinds of ends, and PPO's compiled functions on it,
shared between test files."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.algos.ppo import PPO, PPOConfig, Trajectory, ppo, ppo_agent
from jaxrl.envs.api import Environment
from jaxrl.envs.starts.fresh import Fresh
from jaxrl.envs.vector import VectorEnv
from jaxrl.nn.actor_critic import NetworkConfig
from jaxrl.nn.readers import reader_of
from jaxrl.types import Box, Discrete, Timestep

NUM_STEPS, NUM_ENVS, NUM_ITERATIONS = 16, 4, 40_000_000
WHOLE = NUM_STEPS * NUM_ENVS
CHEAP = {
    "xla_backend_optimization_level": 0
}  # these programs run a handful of times: compile them fast


class Walk(Environment):
    """Walks a line from a random place on it; ends at its ends. Large, offset observations."""

    @property
    def observation_space(self):
        return Box(-np.inf, np.inf, (2,))

    @property
    def action_space(self):
        return Discrete(3)

    @property
    def horizon(self):
        return 6

    def reset(self, key):
        position = jax.random.uniform(key, minval=-1.0)
        return position, self.observe(position)

    def step(self, key, state, action):
        position = state + 0.5 * (action.astype(jnp.float32) - 1.0) + 0.05
        return position, Timestep(self.observe(position), 3.0 * position, jnp.abs(position) > 1.5)

    def observe(self, position):
        return jnp.stack([200.0 + 50.0 * position, position**2])


def make_config(**changes):
    """One minibatch that is the whole batch, one epoch: nothing depends on the shuffle.
    Numbers are float32."""
    defaults = {
        "total_steps": NUM_ITERATIONS * WHOLE,
        "num_envs": NUM_ENVS,
        "num_steps": NUM_STEPS,
        "minibatch_size": WHOLE,
        "num_epochs": 1,
        "learning_rate": 1e-3,
        "max_grad_norm": 1e6,
        "normalize_observations": True,
        "scale_rewards": True,
        "network": NetworkConfig(hidden_sizes=(8,)),
    }
    return jax.tree.map(np.float32, PPOConfig(**defaults | changes))


def learner(config, env=None):
    env = env or Walk()
    vector = VectorEnv(env, Fresh(env), config.num_envs)
    return PPO(
        config,
        vector,
        ppo_agent(env, config),
        reader_of(config.network.make(env.observation_space, env.action_space)),
    )


@functools.partial(jax.jit, compiler_options=CHEAP)
def step(config, state):
    return ppo(Walk(), config).step(state)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Seen:
    """A trajectory, and each field of its transitions and decisions by its own name."""

    trajectory: Trajectory

    def __getattr__(self, name):
        for part in (self.trajectory, self.trajectory.transition, self.trajectory.decision):
            if name in part.__dataclass_fields__:
                return getattr(part, name)
        raise AttributeError(name)


@functools.partial(jax.jit, compiler_options=CHEAP)
def rollout_of(config, state):
    """What `step` is about to see."""
    key = jax.random.split(state.key, 4)[0]
    return Seen(learner(config)._rollout(state, key)[2])


def with_key(state, seed):
    """The state with a key that nothing has used yet."""
    return dataclasses.replace(state, key=jax.random.key(seed))


@functools.cache
def trained(iterations=3):
    """A state whose normalisers have seen something, the states before it, and what those saw."""
    state, history = (
        jax.jit(learner(make_config()).init, compiler_options=CHEAP)(jax.random.key(0)),
        [],
    )
    for seed in range(iterations):
        rollout = rollout_of(make_config(), with_key(state, seed))
        following, metrics = step(make_config(), with_key(state, seed))
        history.append((state, jax.device_get(rollout), jax.device_get(metrics)))
        state = following
    return learner(make_config()).begin_from(state, state.policy), history
