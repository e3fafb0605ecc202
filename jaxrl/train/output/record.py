"""One episode as arrays: what a film is drawn from."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from jaxrl.envs.api import Drawable, Environment
from jaxrl.types import Algorithm, Array, Key, PyTree


def record_episode(
    env: Environment, algorithm: Algorithm, policy: PyTree, key: Key, deterministic: bool
) -> tuple[dict[str, PyTree], np.ndarray]:
    """Play one episode: ({"observation": [T, ...], each array field of the state: [T, ...]}, rewards [T]).

    Of an environment that draws itself, "state" is the whole state, a pytree. Frames are those the agent acted on.
    Rewards are float64, for whoever adds them up.
    """

    def one_step(carry: tuple, key: Key) -> tuple[tuple, tuple]:
        env_state, observation, memory = carry
        key_act, key_env = jax.random.split(key)
        action, memory = algorithm.act(policy, memory, observation, key_act, deterministic)
        following, timestep = env.step(key_env, env_state, action)
        shown = {"state": env_state} if isinstance(env, Drawable) else _fields(env_state)
        seen = (shown | {"observation": observation}, timestep.reward, timestep.terminated)
        return (following, timestep.observation, memory), seen

    @jax.jit
    def episode(key: Key) -> tuple[dict[str, PyTree], Array, Array]:
        key_reset, key_steps = jax.random.split(key)
        env_state, observation = env.reset(key_reset)
        carry = (env_state, observation, algorithm.memory())
        return jax.lax.scan(one_step, carry, jax.random.split(key_steps, env.horizon))[1]

    frames, rewards, terminated = jax.device_get(episode(key))
    length = int(np.argmax(terminated)) + 1 if terminated.any() else len(rewards)
    return jax.tree.map(lambda values: values[:length], frames), rewards[:length].astype(np.float64)


def _fields(state: PyTree) -> dict[str, Any]:
    """The array fields of an environment's state, by name; none if it is not a dataclass."""
    if not dataclasses.is_dataclass(state):
        return {}
    values = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return {name: value for name, value in values.items() if isinstance(value, jax.Array)}
