"""Rolling a stochastic policy out in vectorised environments, with what policy gradients need of each transition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core import returns, truncation
from jaxrl.envs.vector import VectorEnv, VectorState, episode_metrics, no_episodes
from jaxrl.types import Array, Key, Metrics, PyTree


class Decision(NamedTuple):
    """What a policy did in N environments, [N, ...]."""

    action: Array  # in the environment's units
    sample: Array  # the distribution's own sample, before it was scaled to the action space
    log_probability: Array  # of the sample
    value: Array  # of the state it was taken in


class Rollout(NamedTuple):
    """What is kept of each transition, [T, N, ...]."""

    observation: PyTree
    sample: Array
    log_probability: Array
    value: Array
    next_value: Array  # of the state that the action led to, before any reset
    reward: Array
    terminated: Array
    truncated: Array
    weight: Array | None = None  # how much to make of it (see Transition); None: of all the same


def collect(
    vector_env: VectorEnv,
    state: VectorState,
    decide: Callable[[PyTree, Key], Decision],
    value: Callable[[PyTree], Array],
    num_steps: int,
    key: Key,
) -> tuple[VectorState, Rollout, Metrics]:
    """`num_steps` steps: (environments, Rollout, metrics of the episodes that ended).

    `decide(observation, key)` acts in all environments at once; `value(observation)` is the critic alone, asked only
    for what no step sees: the last observations, and those before a reset that came from a time limit.
    """
    slots = vector_env.most_truncations(num_steps)
    dense = slots > 1 and 4 * slots > num_steps  # very short episodes: all final observations are fewer than the slots

    def one_step(carry: tuple, key: Key) -> tuple[tuple, tuple]:
        state, finals, episodes = carry
        key_decide, key_env = jax.random.split(key)
        decision = decide(state.observation, key_decide)
        state, seen = vector_env.step(state, decision.action, key_env)
        episodes = jax.tree.map(jnp.add, episodes, episode_metrics(seen))
        final = seen.final_observation if dense else ()
        if not dense:
            finals = truncation.store(finals, seen.final_observation, seen.truncated)
        ends = (seen.reward, seen.terminated, seen.truncated, seen.weight)
        return (state, finals, episodes), (seen.observation, decision[1:], ends, final)

    finals: Any = () if dense else truncation.init(state.observation, slots)
    carry = (state, finals, no_episodes(vector_env))
    (state, finals, episodes), kept = jax.lax.scan(one_step, carry, jax.random.split(key, num_steps))
    observation, (sample, log_probability, values), (reward, terminated, truncated, weight), final = kept
    final_value = value(final) if dense else truncation.scatter(value(finals[0]), truncated)
    next_value = returns.successor_values(values, value(state.observation), truncated, final_value)
    ends = (reward, terminated, truncated, weight)
    rollout = Rollout(observation, sample, log_probability, values, next_value, *ends)
    return state, rollout, jax.tree.map(jnp.sum, episodes)
