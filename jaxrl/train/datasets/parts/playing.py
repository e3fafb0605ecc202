"""Playing episodes that are to be kept: with any way to act, from any start, beyond their ends."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.recorded import Recorded
from jaxrl.envs.api import Environment
from jaxrl.envs.play import Act, Play, play, play_and_keep, play_begin
from jaxrl.types import Agent, Array, Key, PyTree, Timestep, feed_forward

EPISODES = 100  # behind a reference score

# Leaves [E, T, ...]: observation, action, reward, terminated, next_observation.
Steps = dict[str, np.ndarray]


def play_steps(
    env: Environment,
    act: Act,
    num_episodes: int,
    num_steps: int,
    key: Key,
    *,
    start: tuple[PyTree, PyTree] | None = None,
    memory: PyTree = (),
) -> Steps:
    """`num_steps` steps of E = `num_episodes` episodes, which go on where the environment ends.

    act:    (memory, view, key) -> (action, memory), for one environment.
    start:  (states, observations) [E, ...]; resets unless given.
    memory: of each episode at its start, [E, ...].
    """

    def keep(before: Play, after: Play, timestep: Timestep) -> dict[str, Array]:
        return {
            "observation": before.view.observation,
            "action": after.view.action,
            "reward": timestep.reward,
            "terminated": timestep.terminated,
            "next_observation": timestep.observation,
        }

    @jax.jit
    def played(env: Environment, key: Key, start: Any, memory: PyTree) -> dict[str, Array]:
        begun = play_begin(env, _nobody(), (), key, num_episodes, start)
        begun = replace(begun, memory=memory)
        _, kept = play_and_keep(env, begun, act, num_steps, keep)
        return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), kept)

    return jax.device_get(played(env, key, start, memory))


def whole_episodes(
    steps: Steps, length: np.ndarray, about: dict[str, Any], total: int | None = None
) -> Recorded:
    """The first `length` [E] steps of each episode; of `total` rows in all, if it is given.

    Then the last episode is cut where the number is reached, and there must be as many.
    """
    length = np.asarray(length, np.int32)
    if total is not None:
        before = np.cumsum(length, dtype=np.int64) - length
        length = np.minimum(length, total - before)[before < total].astype(np.int32)
        assert length.sum() == total, f"{length.sum()} steps were played of {total}"
    taken = np.arange(steps["reward"].shape[1]) < length[:, None]
    rows = {name: leaf[: len(length)][taken] for name, leaf in steps.items()}
    truncated = np.zeros(len(rows["reward"]), bool)
    truncated[np.cumsum(length) - 1] = True
    return Recorded(
        observation=rows["observation"],
        action=rows["action"],
        reward=rows["reward"],
        terminated=rows["terminated"],
        truncated=truncated & ~rows["terminated"],
        final_observation=steps["next_observation"][np.arange(len(length)), length - 1],
        length=length,
        about=about,
    )


def until_terminated(steps: Steps) -> np.ndarray:
    """How many steps each episode took to its end, or to that of what was played, int64 [E]."""
    ended = steps["terminated"]
    return np.where(ended.any(axis=1), ended.argmax(axis=1) + 1, ended.shape[1])


def random_action(env: Environment, observation: Array, key: Key) -> Array:
    """An action that is drawn uniformly."""
    del observation
    return env.action_space.sample(key)


def mean_return(env: Environment, act: Callable[[Array, Key], Array], seed: int) -> float:
    """What `act(observation, key)` earns on average in 100 episodes."""
    agent = _nobody(lambda policy, observation, key: act(observation, key))
    played = jax.jit(partial(play, env, agent, (), num_episodes=EPISODES, mode="only"))
    returns = np.asarray(played(jax.random.key(seed)).returns)
    return float(np.mean(returns, dtype=np.float64))


def _nobody(act: Callable[[PyTree, PyTree, Key], Array] | None = None) -> Agent:
    """An agent without parameters."""
    return Agent(lambda key: (), {} if act is None else {"only": feed_forward(act)})
