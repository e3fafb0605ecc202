"""Evaluation on a fixed number of episodes: one an environment, each run to its own end.

Taking "the first n finished episodes" of parallel environments favours short ones; one episode for each
environment, masked after its end, favours none. Statistics of the policy are read, never updated.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core import compensated
from jaxrl.core.tree import strip_weak_types
from jaxrl.envs.api import Environment
from jaxrl.types import Algorithm, Array, Key, PyTree


class Episodes(NamedTuple):
    """Undiscounted return, float32 [E], and length, int32 [E], of E episodes."""

    returns: Array
    lengths: Array


def evaluate(
    env: Environment, algorithm: Algorithm, policy: PyTree, key: Key, num_episodes: int, deterministic: bool
) -> Episodes:
    """Run `num_episodes` episodes from the environment's own reset, for at most its horizon."""

    def act(memory: PyTree, observation: PyTree, key: Key) -> tuple[Array, PyTree]:
        return algorithm.act(policy, memory, observation, key, deterministic)

    def one_step(carry: tuple) -> tuple:
        time, key, state, observation, memory, running, returns, lengths = carry
        key, key_act, key_env = jax.random.split(key, 3)
        action, memory = jax.vmap(act)(memory, observation, jax.random.split(key_act, num_episodes))
        state, timestep = jax.vmap(env.step)(jax.random.split(key_env, num_episodes), state, action)
        returns = compensated.add(returns, jnp.where(running, timestep.reward, 0.0))
        lengths = lengths + running
        running = running & ~timestep.terminated
        return time + 1, key, state, timestep.observation, memory, running, returns, lengths

    key, key_reset = jax.random.split(key)
    state, observation = jax.vmap(env.reset)(jax.random.split(key_reset, num_episodes))
    memory = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (num_episodes, *leaf.shape)), algorithm.memory())
    counts = jnp.zeros(num_episodes, jnp.int32)
    returns = compensated.zeros(num_episodes)
    begun = (jnp.zeros((), jnp.int32), key, state, observation, memory, counts == 0, returns, counts)
    *_, returns, lengths = jax.lax.while_loop(
        lambda carry: (carry[0] < env.horizon) & jnp.any(carry[5]), one_step, strip_weak_types(begun)
    )
    return Episodes(returns.value, lengths)
