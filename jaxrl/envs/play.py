"""Playing whole episodes, one per environment, each to its own end.

Taking "the first n finished episodes" of parallel environments favours short ones; one episode for
each environment, masked after its end, favours none. Play advances in bounded pieces, which can be
shown and stopped: however it is cut, the episodes are the same bits.

    play = play_begin(env, agent, policy, key, num_episodes)
    play = play_advance(env, play, act, num_steps)           until `is_over(env, play)`
    play, frames = play_and_keep(env, play, act, T, keep)    T steps, with what is kept of each
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.core import compensated
from jaxrl.core.tree import strip_weak_types
from jaxrl.envs.api import Environment
from jaxrl.envs.vector import memories
from jaxrl.types import Agent, Array, Key, PyTree, Timestep, View

# (memory, View, key) -> (action, memory), for one environment.
Act = Callable[[PyTree, View, Key], tuple[Array, PyTree]]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Play:
    """E episodes under way; leaves but `time` and `key` are [E, ...]."""

    time: Array  # int32 [], steps taken
    key: Key
    state: PyTree
    view: View
    memory: PyTree
    running: Array  # bool
    returns: compensated.Sum  # float32, undiscounted, so far
    lengths: Array  # int32, so far


class Episodes(NamedTuple):
    """Undiscounted return, float32 [E], and length, int32 [E], of E episodes."""

    returns: Array
    lengths: Array


def play_begin(
    env: Environment,
    agent: Agent,
    policy: PyTree,
    key: Key,
    num_episodes: int,
    start: tuple | None = None,
) -> Play:
    """Episodes at their beginning: the environment's resets, or at `start`.

    `start` is (states, observations), [E, ...].
    """
    key, key_reset = jax.random.split(key)
    state, observation = start or jax.vmap(env.reset)(jax.random.split(key_reset, num_episodes))
    counts = jnp.zeros(num_episodes, jnp.int32)
    begun = Play(
        time=jnp.zeros((), jnp.int32),
        key=key,
        state=state,
        view=jax.vmap(lambda seen: View.at_start(seen, env.action_space))(observation),
        memory=memories(agent.memory(policy), num_episodes),
        running=counts == 0,
        returns=compensated.zeros(num_episodes),
        lengths=counts,
    )
    return strip_weak_types(begun)


def play_step(env: Environment, play: Play, act: Act) -> tuple[Play, Timestep]:
    """One step of every episode; those that are over are stepped as well, but not counted."""
    num_episodes = len(play.running)
    key, key_act, key_env = jax.random.split(play.key, 3)
    action, memory = jax.vmap(act)(play.memory, play.view, jax.random.split(key_act, num_episodes))
    state, timestep = jax.vmap(env.step)(
        jax.random.split(key_env, num_episodes), play.state, action
    )
    following = Play(
        time=play.time + 1,
        key=key,
        state=state,
        view=View(
            timestep.observation,
            timestep.reward,
            action.astype(play.view.action.dtype),
            jnp.zeros_like(play.running),
        ),
        memory=memory,
        running=play.running & ~timestep.terminated,
        returns=compensated.add(play.returns, jnp.where(play.running, timestep.reward, 0.0)),
        lengths=play.lengths + play.running,
    )
    return following, timestep


def is_over(env: Environment, play: Play) -> Array:
    """Whether all episodes have ended, by themselves or at the horizon; bool []."""
    return (play.time >= env.horizon) | ~jnp.any(play.running)


def play_advance(env: Environment, play: Play, act: Act, num_steps: Array | int) -> Play:
    """At most `num_steps` steps, which may be traced; fewer where all episodes end before."""
    end = play.time + num_steps
    return jax.lax.while_loop(
        lambda play: (play.time < end) & ~is_over(env, play),
        lambda play: play_step(env, play, act)[0],
        play,
    )


def play_and_keep(
    env: Environment,
    play: Play,
    act: Act,
    num_steps: int,
    keep: Callable[[Play, Play, Timestep], PyTree],
) -> tuple[Play, PyTree]:
    """`num_steps` steps, over or not, and `keep(before, after, timestep)` of each, [T, ...]."""

    def one_step(play: Play, _: None) -> tuple[Play, PyTree]:
        following, timestep = play_step(env, play, act)
        return following, keep(play, following, timestep)

    return jax.lax.scan(one_step, play, None, num_steps)


def play(
    env: Environment, agent: Agent, policy: PyTree, key: Key, num_episodes: int, mode: str
) -> Episodes:
    """Whole episodes at once: `num_episodes` of them, for at most the environment's horizon."""
    begun = play_begin(env, agent, policy, key, num_episodes)
    return episodes(play_advance(env, begun, partial(agent.modes[mode].act, policy), env.horizon))


def episodes(play: Play) -> Episodes:
    """What has been earned so far; of play that is over, the episodes' returns and lengths."""
    return Episodes(play.returns.value, play.lengths)
