"""Recording: whole episodes of a saved policy with their states, and what a replay buffer holds."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.recording import Recording, header
from jaxrl.data.replay import Row
from jaxrl.envs.api import Environment
from jaxrl.envs.play import Play, play_and_keep, play_begin
from jaxrl.errors import JaxrlError, check_positive_int, check_seed
from jaxrl.train.build import reopen
from jaxrl.train.capacity import (
    check_episodes,
    check_host_memory,
    check_rows,
    exhaustion_in_words,
    tree_bytes,
)
from jaxrl.train.experiment import versions
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.folder import read_description
from jaxrl.train.modes import choose
from jaxrl.train.player import Played, steered
from jaxrl.train.saved import Saved
from jaxrl.train.trust import NOBODY, Trust
from jaxrl.types import Agent, Dict, Log, PyTree, Timestep

# Steps that are played before their rows are brought to the host.
PIECE = 64


def record(
    saved: Saved,
    num_episodes: int,
    *,
    stride: int = 1,
    seed: int = 0,
    each_piece: Callable[[Played], object] | None = None,
) -> Recording:
    """`num_episodes` whole episodes of a saved policy, in the first of its run's modes.

    With a `stride` of k, every k-th step of each episode is kept, its first one always.
    `each_piece` is called now and then with how far it has come. Rows are gathered in the memory of
    the host: what no memory could hold is refused before anything is played, and that it may become
    too much is said.
    """
    check_positive_int("episodes", num_episodes)
    check_positive_int("stride", stride)
    check_seed(seed)
    env, agent, experiment = saved.env, saved.agent, saved.experiment
    if isinstance(env.observation_space, Dict):
        raise JaxrlError(
            f"observations are {env.observation_space}, but a recording "
            "keeps them in a single array."
        )
    mode = choose(experiment.run.modes, agent.modes, experiment.algorithm)[0]
    policy = steered(agent, saved.policies, mode)
    check_episodes(env, agent, num_episodes, members=1)
    key_play, key_value = jax.random.split(jax.random.key(seed))
    begin = partial(play_begin, env, agent, num_episodes=num_episodes)
    piece = partial(_advance, env, agent, mode.name)
    kept = jax.eval_shape(piece, policy, jax.eval_shape(begin, policy, key_play), key_value)[1]
    check_rows(tree_bytes(kept), PIECE, num_episodes, -(-env.horizon // stride))

    with exhaustion_in_words("recording episodes"):
        gathered = Gathered(str(mode), env.horizon, stride, num_episodes)
        play, advance = jax.jit(begin)(policy, key_play), jax.jit(piece, donate_argnums=1)
        while int(play.time) < env.horizon and bool(np.any(play.running)):
            if each_piece is not None and int(play.time):
                each_piece(gathered.played(play))
            play, kept = advance(policy, play, jax.random.fold_in(key_value, int(play.time)))
            gathered.add(jax.device_get(kept))
        rows = gathered.in_order()
    about = header(
        env,
        experiment.environment,
        experiment.environment_options,
        versions=versions(experiment.environment),
        played_by={
            "algorithm": experiment.algorithm,
            "iteration": saved.iteration,
            "mode": str(mode),
            "seed": seed,
        },
        stride=stride,
        episode_returns=gathered.returns.tolist(),
        episode_lengths=gathered.lengths.tolist(),
        episode_truncated=gathered.truncated.tolist(),
    )
    return Recording(about, **rows)


class Gathered:
    """The rows that were kept so far, in the memory of the host, and how episodes went."""

    def __init__(self, mode: str, horizon: int, stride: int, num_episodes: int) -> None:
        self._mode, self._horizon, self._stride = mode, horizon, stride
        self._pieces: list[dict[str, Any]] = []
        self._bytes = 0
        self.returns = np.zeros(num_episodes)
        self.lengths = np.zeros(num_episodes, np.int64)
        self.truncated = np.zeros(num_episodes, bool)

    def add(self, kept: dict[str, Any]) -> None:
        """Take of a piece, leaves [T, E, ...], the rows that are wanted; or refuse to go on.

        In the end they are put together, beside the pieces that they are in.
        """
        piece = tree_bytes(kept)
        running = kept.pop("running")
        self.returns += np.sum(kept["reward"], axis=0, dtype=np.float64, where=running)
        self.lengths += running.sum(0)
        self.truncated |= np.any(kept["truncated"] & running, axis=0)
        chosen = running & (kept["step"] % self._stride == 0)
        self._pieces.append(jax.tree.map(operator.itemgetter(chosen), kept))
        self._bytes += tree_bytes(self._pieces[-1])
        rows = sum(len(each["step"]) for each in self._pieces)
        check_host_memory(
            self._bytes + piece,
            f"the {rows:,} rows of {len(self.lengths)} episodes up to here, put together, and the "
            "next piece",
            "Fewer --episodes, or a larger --stride, need less.",
        )

    def played(self, play: Play) -> Played:
        """How far the episodes have come."""
        ended = int(np.sum(~np.asarray(play.running)))
        return Played(self._mode, int(play.time), self._horizon, ended, len(self.lengths))

    def in_order(self) -> dict[str, Any]:
        """All rows, [R, ...], one episode after the other; the pieces are given up."""
        pieces, self._pieces = self._pieces, []
        steps, of_episodes = (
            np.concatenate([piece[name] for piece in pieces]) for name in ("step", "episode")
        )
        order = np.lexsort((steps, of_episodes))
        return jax.tree.map(lambda *leaves: np.concatenate(leaves)[order], *pieces)


def _advance(
    env: Environment, agent: Agent, mode: str, policy: PyTree, play: Play, key: Any
) -> tuple[Play, dict[str, Any]]:
    """`PIECE` steps of every episode, and a row of each, leaves [T, E, ...]."""
    num_episodes = len(play.running)

    def keep(before: Play, after: Play, timestep: Timestep) -> dict[str, Any]:
        value = jnp.full(num_episodes, jnp.nan)
        if agent.value is not None:
            keys = jax.random.split(jax.random.fold_in(key, before.time), num_episodes)
            value = jax.vmap(agent.value, in_axes=(None, 0, 0, 0))(
                policy, before.memory, before.view, keys
            )
        return {
            "running": before.running & (before.time < env.horizon),
            "state": before.state,
            "observation": before.view.observation,
            "action": after.view.action,
            "reward": timestep.reward,
            "terminated": timestep.terminated,
            "truncated": (after.time >= env.horizon) & ~timestep.terminated,
            "next_observation": timestep.observation,
            "step": jnp.full(num_episodes, before.time, jnp.int32),
            "episode": jnp.arange(num_episodes, dtype=jnp.int32),
            "return_so_far": before.returns.value,
            "value": value,
        }

    return play_and_keep(env, play, partial(agent.modes[mode].act, policy), PIECE, keep)


def replay_rows(folder: Path | str, trust: Trust = NOBODY) -> Row:
    """The replay buffer of a run's newest checkpoint as NumPy arrays, the oldest row first.

    Leaves are [R, ...]; a vector step has one row per environment. Of a population the buffers of
    all members follow each other.
    """
    path = Path(folder)
    one_device = {"devices": 1, "mesh": ()}
    _, program = reopen(path, read_description(path), {}, one_device, trust)
    state = Checkpoints(path).restore_latest(program.abstract_state()).state
    is_log = functools.partial(_is, Log)
    logs = [each for each in jax.tree.leaves(state, is_leaf=is_log) if is_log(each)]
    buffers = [log for log in logs if isinstance(log.rows, Row)]
    if not buffers:
        raise JaxrlError(f"{path} holds no replay buffer: its algorithm keeps none.")
    pieces = [piece for log in buffers for piece in _oldest_first(log)]
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *pieces)


def _is(kind: type, node: Any) -> bool:
    return isinstance(node, kind)


def _oldest_first(log: Log) -> Iterator[Row]:
    """The rows of each member's ring, of one block, in the order in which they were written."""
    counters = np.asarray(log.written)
    members = counters.shape[:-2]
    capacity = jax.tree.leaves(log.rows)[0].shape[len(members)]
    for member, (low, high) in zip(np.ndindex(members), counters.reshape(-1, 2), strict=True):
        written = int(low) + (int(high) << 32)
        places = np.arange(max(0, written - capacity), written) % capacity
        yield jax.tree.map(partial(_rows_at, member, places), log.rows)


def _rows_at(member: tuple[int, ...], places: np.ndarray, leaf: Any) -> np.ndarray:
    return np.asarray(leaf)[member][places]
