"""One episode as arrays: what a film is drawn from."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxrl.envs.api import Drawable, Environment
from jaxrl.envs.play import Play, play_and_keep, play_begin
from jaxrl.train.capacity import check_host_memory, tree_bytes
from jaxrl.train.player import Played
from jaxrl.types import Agent, Array, Key, PyTree, Timestep

# An episode is recorded in pieces of this many steps.
STEPS_PER_PIECE = 256


def record_episode(
    env: Environment,
    agent: Agent,
    policy: PyTree,
    key: Key,
    mode: str,
    each_piece: Callable[[Played], object] | None = None,
) -> tuple[dict[str, PyTree], np.ndarray]:
    """Play one episode: its frames by name, leaves [T, ...], and its rewards [T].

    Frames are the observation and each array field of the state. Of an environment that draws
    itself, "state" is the whole state, a pytree. Frames are those the agent acted on. Rewards are
    float64, for whoever adds them up. `each_piece` is called now and then.
    """

    def keep(
        before: Play, after: Play, timestep: Timestep
    ) -> tuple[dict[str, PyTree], Array, Array]:
        del after
        shown = {"state": before.state} if isinstance(env, Drawable) else _fields(before.state)
        frames = shown | {"observation": before.view.observation}
        return jax.tree.map(lambda leaf: leaf[0], (frames, timestep.reward, timestep.terminated))

    steps = min(STEPS_PER_PIECE, env.horizon)
    piece = jax.jit(
        functools.partial(
            play_and_keep,
            env,
            act=functools.partial(agent.modes[mode].act, policy),
            num_steps=steps,
            keep=keep,
        )
    )
    play = jax.jit(lambda key: play_begin(env, agent, policy, key, 1))(key)
    pieces = []
    length = 0
    over = False
    while not over:
        play, kept = jax.device_get(piece(play))
        pieces.append(kept)
        check_host_memory(
            tree_bytes(kept) * (len(pieces) + 1),
            f"the {length + steps:,} frames up to here, put together, and the next ones",
            "A run with a shorter time limit (--env-options of train) needs less.",
        )
        _, _, terminated = kept
        ended = np.flatnonzero(terminated)
        over = bool(ended.size) or length + steps >= env.horizon
        length += int(ended[0]) + 1 if ended.size else steps
        if each_piece is not None and not over:
            each_piece(Played(mode, length, env.horizon, ended=0, episodes=1))
    length = min(length, env.horizon)
    frames, rewards, _ = jax.tree.map(lambda *parts: np.concatenate(parts)[:length], *pieces)
    return frames, rewards.astype(np.float64)


def _fields(state: PyTree) -> dict[str, Any]:
    """The array fields of an environment's state, by name; none if it is not a dataclass."""
    if not dataclasses.is_dataclass(state):
        return {}
    values = {field.name: getattr(state, field.name) for field in dataclasses.fields(state)}
    return {name: value for name, value in values.items() if isinstance(value, jax.Array)}
