"""Snapshot banks: rows of a recording, to begin episodes at, each with a value.

The value of a row is the critic's that recorded it, where it has one: PPO's V(s), TD3's
min_k Q_k(s, μ(s)), SAC's at an action that it draws. Else it is what the episode earned from the
row on. That is too low near the time limit, which cuts off what would have come after it: of two
rows that look alike, the later one seems worse, and the last rows of a full episode look like those
before a fall. `Values.cut` counts the rows of episodes that the time limit ended.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Mapping
from os import PathLike
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.recording import Recording, header
from jaxrl.envs.api import Environment
from jaxrl.envs.bank import SnapshotBank
from jaxrl.envs.registry import simulators
from jaxrl.errors import JaxrlError
from jaxrl.types import Array, Key, PyTree, Timestep


class Values(NamedTuple):
    """What is expected from each row of a recording on."""

    value: np.ndarray  # float32 [R]
    return_to_go: np.ndarray  # float32 [R], what the recorded episode earned from there on
    from_critic: bool
    cut: int  # rows of episodes that the time limit ended


def read_bank(path: PathLike, env: Environment) -> SnapshotBank:
    """The bank in a file that `jaxrl snapshot` or `jaxrl collect` wrote, if it is one of `env`."""
    recording = Recording.read(path, env)
    check_versions(recording.header)
    return bank_of(recording)


def bank_of(recording: Recording) -> SnapshotBank:
    """The rows of a recording as a bank."""
    if not len(recording):
        raise JaxrlError("the bank is empty: it holds no rows.")
    found = values_of(recording.header, vars(recording))
    return SnapshotBank(
        state=jax.tree.map(jnp.asarray, recording.state),
        observation=jnp.asarray(recording.observation),
        action=jnp.asarray(recording.action),
        next_observation=jnp.asarray(recording.next_observation),
        value=jnp.asarray(found.value),
        step=jnp.asarray(recording.step),
        episode=jnp.asarray(recording.episode),
        return_to_go=jnp.asarray(found.return_to_go),
    )


def values_of(about: Mapping[str, Any], arrays: Mapping[str, Any]) -> Values:
    """The values of a recording's rows, by its header and its arrays."""
    value, episode = arrays["value"], arrays["episode"]
    returns = np.asarray(about["episode_returns"], np.float64)[episode]
    to_go = (returns - arrays["return_so_far"]).astype(np.float32)
    from_critic = not np.all(np.isnan(value))
    value = value if from_critic else to_go
    for name, numbers in (("values", value), ("returns", to_go)):
        if not np.all(np.isfinite(numbers)):
            raise JaxrlError(f"its {name} are not all finite.")
    return Values(value, to_go, from_critic, int(np.sum(_cut(about)[episode])))


def _cut(about: Mapping[str, Any]) -> np.ndarray:
    """Which episodes the time limit ended, bool [episodes]."""
    if "episode_truncated" in about:
        return np.asarray(about["episode_truncated"], bool)
    # An older file does not say which of those with all their steps terminated on the last one.
    return np.asarray(about["episode_lengths"]) >= about["identity"]["horizon"]


def check_versions(about: Mapping[str, Any]) -> None:
    """Refuse states of another version of the physics: they would step to somewhere else."""
    installed, recorded = installed_simulators(about["environment"]), about.get("versions", {})
    if installed and not installed.keys() & recorded.keys():
        raise JaxrlError(
            f"the bank does not say with which version of {' or '.join(installed)} it was "
            "recorded: with another version a state may step to another one. Record it anew."
        )
    for name, here in installed.items():
        if recorded.get(name, here) != here:
            raise JaxrlError(
                f"the bank was recorded with {name} {recorded[name]}, but {here} is installed: "
                "from the same state it may step to another one. Record it anew."
            )


def installed_simulators(environment_id: str) -> dict[str, str]:
    """The versions of the packages to which an environment's states belong."""
    found = {}
    for name in simulators(environment_id):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # of another backend
            found[name] = importlib.metadata.version(name)
    return found


def demonstrated(
    env: Environment, environment_id: str, options: dict[str, Any], actions: Array, key: Key
) -> Recording:
    """One episode in which `actions`, [T, ...], are taken one after the other, to its end.

    For demonstrations that no saved policy gives. There is no critic. Actions that end before the
    episode does are refused.
    """
    key_reset, key_steps = jax.random.split(key)
    actions = jnp.asarray(actions, env.action_space.dtype)[: env.horizon]

    keys = jax.random.split(key_steps, len(actions))
    state, observation, seen = jax.device_get(_steps(env, key_reset, keys, actions))
    ended = np.flatnonzero(seen.terminated)
    length = int(ended[0]) + 1 if ended.size else len(actions)
    is_cut = not ended.size
    if is_cut and length < env.horizon:
        raise JaxrlError(
            f"the actions end after {length} of {env.horizon} steps, before the episode does."
        )
    earned = np.cumsum(seen.reward[:length], dtype=np.float64)
    about = header(
        env,
        environment_id,
        options,
        versions=installed_simulators(environment_id),
        episode_returns=[earned[-1]],
        episode_lengths=[length],
        episode_truncated=[is_cut],
    )
    steps = np.arange(length, dtype=np.int32)
    return Recording(
        about,
        state=jax.tree.map(lambda leaf: leaf[:length], state),
        observation=observation[:length],
        action=np.asarray(actions)[:length],
        next_observation=seen.observation[:length],
        reward=seen.reward[:length],
        terminated=seen.terminated[:length],
        truncated=(steps == length - 1) & is_cut,
        step=steps,
        episode=np.zeros(length, np.int32),
        return_so_far=np.concatenate([[0.0], earned[:-1]]).astype(np.float32),
        value=np.full(length, np.nan, np.float32),
    )


@jax.jit
def _steps(
    env: Environment, key_reset: Key, keys: Key, actions: Array
) -> tuple[PyTree, PyTree, Timestep]:
    """The states and observations that actions [T, ...] are taken in, and what they led to."""

    def one_step(carry: tuple, each: tuple) -> tuple[tuple, tuple]:
        state, observation = carry
        key, action = each
        following, timestep = env.step(key, state, action)
        return (following, timestep.observation), (state, observation, timestep)

    _, kept = jax.lax.scan(one_step, env.reset(key_reset), (keys, actions))
    return kept
