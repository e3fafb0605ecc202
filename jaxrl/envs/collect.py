"""Collecting transitions with a policy in vectorised environments, and bootstrapping from them.

collect(vector, state, memory, act, T, key)       T steps: transitions, and what the policy adds
bootstrap(rollout, values, last_value, value)     the value of every successor state, exact at time
                                                  limits and at the end of the rollout
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp

from jaxrl.core import returns, truncation
from jaxrl.core.tree import expand
from jaxrl.envs.vector import VectorEnv, VectorState, begin_memory, episode_metrics, no_episodes
from jaxrl.types import Array, Key, Metrics, PyTree, Transition, View

# (memory, View, key) -> (action, memory, extras), in N environments at once.
Act = Callable[[PyTree, View, Key], tuple[Array, PyTree, PyTree]]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Rollout:
    """T steps in N environments; leaves are [T, N, ...].

    `finals` is what the critic reads of the states in which time limits ended episodes, before any
    reset: a few slots per environment, [slots, N, ...] (see core.truncation), or, where episodes
    are so short that the slots would be more, that of every step, [T, N, ...].
    """

    transition: Transition  # its final observations are () here: see `finals`
    first: Array  # bool: the step was the first of its episode
    extras: PyTree  # what the policy added
    finals: PyTree


def observation_alone(memory: PyTree, view: View) -> PyTree:
    """What the critic of a feed-forward policy reads."""
    del memory
    return view.observation


def collect(
    vector: VectorEnv,
    state: VectorState,
    memory: PyTree,
    act: Act,
    num_steps: int,
    key: Key,
    *,
    initial_memory: PyTree = (),
    critic_reads: Callable[[PyTree, View], PyTree] = observation_alone,
) -> tuple[VectorState, PyTree, Rollout, Metrics]:
    """`num_steps` steps: (environments, memories, Rollout, metrics of the episodes that ended).

    `memory` [N, ...] is carried from step to step, and is one environment's `initial_memory` where
    an episode begins. `critic_reads(memory, view)` is kept of states before a reset that came from
    a time limit, for `bootstrap`.
    """
    # Slots pay where they are a quarter of the steps at most; a single one always does.
    slots = vector.most_truncations(num_steps)
    in_slots = slots == 1 or 4 * slots <= num_steps

    def one_step(carry: tuple, key: Key) -> tuple[tuple, tuple]:
        state, memory, finals, episodes = carry
        key_act, key_env = jax.random.split(key)
        view = state.view
        action, memory, extras = act(
            begin_memory(view.first, initial_memory, memory), view, key_act
        )
        state, seen = vector.step(state, action, key_env)
        episodes = jax.tree.map(jnp.add, episodes, episode_metrics(seen, vector.tells_apart))
        final = critic_reads(memory, final_view(seen))
        if in_slots:
            finals = truncation.store(finals, final, seen.truncated)
            final = ()
        transition = replace(seen, final_observation=())
        return (state, memory, finals, episodes), (transition, view.first, extras, final)

    finals: PyTree = ()
    if in_slots:
        finals = truncation.init(critic_reads(memory, state.view), slots)
    carry = (state, memory, finals, no_episodes(vector))
    carry, (transition, first, extras, final) = jax.lax.scan(
        one_step, carry, jax.random.split(key, num_steps)
    )
    state, memory, finals, episodes = carry
    if in_slots:
        final, _ = finals  # the slots, and how many of them each environment has filled
    rollout = Rollout(transition, first, extras, final)
    return state, memory, rollout, jax.tree.map(jnp.sum, episodes)


def views(before: View, rollout: Rollout) -> View:
    """What the policy was shown on each step, [T, N, ...]; `before` is the first of them."""

    def shifted(first: Array, each: Array) -> Array:
        previous = jnp.concatenate([first[None], each[:-1]])
        return jnp.where(expand(rollout.first, each.ndim), 0, previous).astype(each.dtype)

    seen = rollout.transition
    return View(
        observation=seen.observation,
        reward=shifted(before.reward, seen.reward),
        action=shifted(before.action, seen.action),
        first=rollout.first,
    )


def final_view(seen: Transition) -> View:
    """What a policy would be shown of the states that a step led to, before any reset, [N, ...]."""
    return View(seen.final_observation, seen.reward, seen.action, jnp.zeros_like(seen.terminated))


def bootstrap(
    rollout: Rollout, values: Array, last_value: Array, value: Callable[[PyTree], Array]
) -> Array:
    """The values of the states that actions led to, before any reset, [T, N].

    `values` [T, N] are those of the states acted in, `last_value` [N] of those after the rollout;
    `value` is the critic on what `critic_reads` kept, asked only for the states that no step sees:
    those in which time limits ended episodes. After a termination there is nothing: the entry is
    arbitrary.
    """
    truncated = rollout.transition.truncated
    final_value = value(rollout.finals)
    if len(final_value) != len(truncated):
        final_value = truncation.scatter(final_value, truncated)
    return returns.successor_values(values, last_value, truncated, final_value)
