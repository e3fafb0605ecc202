"""A dataset on the device: E whole episodes, back to back, and what is drawn from them.

dataset = Dataset.read("pointmaze-large-stitch", env)     # an input of a run: --dataset NAME | PATH
batch = dataset.sample(key, 256, 0.99, env.action_space)  # transitions, as a replay buffer has them
windows = dataset.windows(key, 64, 20, env.action_space)  # 20 steps in a row, for sequence models

Nothing is stored twice: the observation that an action led to is the next row's, or, at the end of
an episode, that of `final_observation`.
"""

from __future__ import annotations

import json
import math
import warnings
from dataclasses import dataclass
from fractions import Fraction
from os import PathLike
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.moments import Moments
from jaxrl.data import formats, store
from jaxrl.data.recorded import Recorded
from jaxrl.data.transitions import Batch, Windows
from jaxrl.envs.api import Environment
from jaxrl.envs.registry import name_of
from jaxrl.errors import JaxrlError, RunWarning
from jaxrl.nn.action_units import unscale_action
from jaxrl.types import Array, Box, Dict, Discrete, Key, MultiDiscrete, Space

# How far beyond a bound an action may lie, as a share of the bounds' distance: files round.
BEYOND = 1e-5
# Numbers whose deviations are in memory at once.
PIECE = 2**22
# Rows are counted in int32.
MOST_ROWS = 2**31 - 1


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Dataset:
    """N steps of E episodes, in time order, in the environment's units."""

    observation: Array  # [N, *shape]
    action: Array  # [N, *action shape]
    reward: Array  # float32 [N]
    terminated: Array  # bool [N]: nothing follows, in value
    truncated: Array  # bool [N]: the episode was cut here
    final_observation: Array  # [E, *shape], what the last action of each episode led to
    episode: Array  # int32 [N], which episode a row belongs to
    start: Array  # int32 [E], the first row of each episode
    end: Array  # int32 [E], the row after its last
    # float32 [N]: the undiscounted sum of rewards from here on, up to the next row that is
    # terminated, or to the episode's end
    return_to_go: Array
    best_first: Array  # int32 [E]: the episodes by their returns, the best first
    moments: Moments  # of the observations [*shape], one per row
    reference_scores: (
        Array  # float32 [2], returns of a random and of an expert policy; NaN: unknown
    )

    @property
    def num_rows(self) -> int:
        """N."""
        return len(self.reward)

    @property
    def num_episodes(self) -> int:
        """E."""
        return len(self.start)

    @classmethod
    def read(cls, path: PathLike | str, env: Environment) -> Dataset:
        """The dataset of that name, "minari:ID" or path, if `env` could have made it."""
        return cls.of(formats.read_any(store.located(str(path))), env)

    @classmethod
    def of(cls, recorded: Recorded, env: Environment) -> Dataset:
        """What was recorded, checked against the spaces of `env`, with its statistics."""
        recorded.check()
        _check_rows(recorded, env)
        lengths = recorded.length.astype(np.int64)
        end = np.cumsum(lengths)
        start = end - lengths
        episode = np.repeat(np.arange(len(lengths)), lengths)
        space = env.observation_space
        return cls(
            observation=jnp.asarray(recorded.observation, space.dtype),
            action=jnp.asarray(recorded.action, env.action_space.dtype),
            reward=jnp.asarray(recorded.reward, jnp.float32),
            terminated=jnp.asarray(recorded.terminated),
            truncated=jnp.asarray(recorded.truncated),
            final_observation=jnp.asarray(recorded.final_observation, space.dtype),
            episode=jnp.asarray(episode, jnp.int32),
            start=jnp.asarray(start, jnp.int32),
            end=jnp.asarray(end, jnp.int32),
            return_to_go=jnp.asarray(
                returns_to_go(recorded.reward, recorded.terminated, end), jnp.float32
            ),
            best_first=jnp.asarray(np.argsort(-recorded.episode_returns, kind="stable"), jnp.int32),
            moments=_moments(recorded.observation),
            reference_scores=_reference_scores(recorded),
        )

    def sample(
        self,
        key: Key,
        batch_size: int,
        gamma: float | Array,
        action_space: Space,
        best: float = 1.0,
    ) -> Batch:
        """`batch_size` transitions, drawn uniformly and independently; leaves [B, ...].

        Of the `best` share of the episodes by return alone, rounded up. Actions between bounds are
        in units where [-1, 1] spans the space.
        """
        row = self._draw(key, batch_size, best)
        action = self._read(self.action, row)
        next_action = self._read(self.action, self._next_row(row))
        return Batch(
            observation=self._read(self.observation, row),
            action=_as_learned(action, action_space),
            reward=self._read(self.reward, row),
            discount=jnp.where(self._read(self.terminated, row), 0.0, gamma),
            next_observation=self._next_observation(row),
            # Whoever does not read it does not pay for it: it is compiled away.
            next_action=_as_learned(next_action, action_space),
            next_acted=~self._is_last(row),
        )

    def windows(
        self, key: Key, batch_size: int, context: int, action_space: Space, best: float = 1.0
    ) -> Windows:
        """`context` steps in a row, from rows drawn uniformly; leaves [B, K, ...].

        A window that its episode's end cuts short is padded on the right: `valid` tells.
        """
        first = self._draw(key, batch_size, best)
        offset = jnp.arange(context, dtype=jnp.int32)
        episode = self._read(self.episode, first)
        last = self._read(self.end, episode) - 1
        row = first[:, None] + offset[None]
        valid = row <= last[:, None]
        row = jnp.minimum(row, last[:, None])
        step = row - self._read(self.start, episode)[:, None]
        return Windows(
            observation=self._read(self.observation, row),
            action=_as_learned(self._read(self.action, row), action_space),
            reward=self._read(self.reward, row),
            return_to_go=self._read(self.return_to_go, row),
            step=step,
            valid=valid,
        )

    def _draw(self, key: Key, batch_size: int, best: float) -> Array:
        """Rows of the best share of the episodes, each of them equally likely: int32 [B]."""
        if best >= 1.0:
            return jax.random.randint(key, (batch_size,), 0, self.num_rows)
        # As a decimal: in binary 0.07 of 100 episodes is more than 7.
        share = math.ceil(Fraction(str(best)) * self.num_episodes)
        chosen = self.best_first[: max(1, share)]
        # The chosen episodes laid end to end: a draw falls into one of them, at some step.
        ends = jnp.cumsum(self.end[chosen] - self.start[chosen])
        drawn = jax.random.randint(key, (batch_size,), 0, ends[-1])
        which = jnp.searchsorted(ends, drawn, side="right")
        return (self.end[chosen[which]] - (ends[which] - drawn)).astype(jnp.int32)

    def _next_observation(self, row: Array) -> Array:
        """What the actions of these rows led to."""
        following = self._read(self.observation, self._next_row(row))
        final = self._read(self.final_observation, self._read(self.episode, row))
        axes = tuple(range(row.ndim, following.ndim))
        return jnp.where(jnp.expand_dims(self._is_last(row), axes), final, following)

    def _is_last(self, row: Array) -> Array:
        """Whether these rows are the last ones of their episodes."""
        return row == self._read(self.end, self._read(self.episode, row)) - 1

    def _next_row(self, row: Array) -> Array:
        """The rows after these; after the last of all there is none, and it is its own."""
        return jnp.minimum(row + 1, self.num_rows - 1)

    @staticmethod
    def _read(leaf: Array, place: Array) -> Array:
        return leaf.at[place].get(mode="promise_in_bounds")


def returns_to_go(reward: np.ndarray, terminated: np.ndarray, end: np.ndarray) -> np.ndarray:
    """What each row and those after it earn, undiscounted, float64 [N].

    Up to one that is terminated, after which nothing counts, or to the episode's last. Sums from
    the end of the data backwards, less what is earned after that row.
    """
    backwards = np.cumsum(reward[::-1].astype(np.float64))[::-1]
    stops = np.union1d(end, np.flatnonzero(terminated) + 1)
    stop = stops[np.searchsorted(stops, np.arange(len(reward)), side="right")]
    return backwards - np.append(backwards, 0.0)[stop]


def _as_learned(action: Array, space: Space) -> Array:
    """Actions as learners have them: between bounds in [-1, 1], flat; others as they are."""
    if not isinstance(space, Box) or not space.bounded:
        return action
    rows = action.reshape(-1, *space.shape)
    batch_shape = action.shape[: action.ndim - len(space.shape)]
    return unscale_action(rows, space).reshape(*batch_shape, -1)


def _moments(observation: np.ndarray) -> Moments:
    """Mean and variance of the observations, in float64 and then rounded."""
    if observation.dtype.kind not in "fiub":
        raise JaxrlError(f"observations are {observation.dtype}, but must be numbers.")
    mean = observation.mean(axis=0, dtype=np.float64)
    # Piece by piece: images as float64 take eight times their memory.
    size = max(1, PIECE // max(1, mean.size))
    pieces = (observation[first : first + size] for first in range(0, len(observation), size))
    squares = sum(np.square(piece - mean).sum(axis=0) for piece in pieces)
    return Moments(
        jnp.asarray(mean, jnp.float32),
        jnp.asarray(squares / len(observation), jnp.float32),
        jnp.asarray(float(len(observation)), jnp.float32),
    )


def _reference_scores(recorded: Recorded) -> Array:
    found = recorded.about.get("reference_scores") or (np.nan, np.nan)
    return jnp.asarray(found, jnp.float32)


def _check_rows(recorded: Recorded, env: Environment) -> None:
    """Refuse rows that are not of the environment, or not of its spaces."""
    made_in = recorded.about["environment"]
    name, options = _name_of(env)
    if made_in and name and made_in != name:
        raise JaxrlError(f"it is of {made_in}, but the environment is {name}.")
    if made_in and name:
        _compare_options(recorded.about, options)
    if len(recorded.reward) > MOST_ROWS:
        raise JaxrlError(
            f"it has {len(recorded.reward)} rows, but they are counted up to {MOST_ROWS}."
        )
    for name, found, space in (
        ("observations", recorded.observation, env.observation_space),
        ("final observations", recorded.final_observation, env.observation_space),
        ("actions", recorded.action, env.action_space),
    ):
        if found.shape[1:] != space.shape:
            raise JaxrlError(
                f"its {name} are of shape {list(found.shape[1:])}, but the environment's are of "
                f"{list(space.shape)} ({space})."
            )
        whole = found.dtype.kind in "iu"
        if isinstance(space, Box) and np.dtype(space.dtype).kind == "f" and whole:
            raise JaxrlError(
                f"its {name} are whole numbers ({found.dtype}), but the environment's are {space}."
            )
        assert not isinstance(space, Dict)  # which has no shape
        wants_whole = np.dtype(space.dtype).kind in "iub"
        # In a Box, truth values and floats such as 0.0 and 1.0 lose nothing as whole numbers.
        if wants_whole and not whole and not (isinstance(space, Box) and _are_whole(found)):
            raise JaxrlError(
                f"its {name} are {found.dtype}, but the environment's are {space}: whole numbers."
            )
        # A cast changes no observations that are floats, and files round those besides.
        if wants_whole or name == "actions":
            _check_bounds(name, found, space)


def _are_whole(rows: np.ndarray) -> bool:
    return np.array_equal(rows, np.rint(rows))


def _name_of(env: Environment) -> tuple[str, dict[str, Any]]:
    """The id and the options of an environment; no id of one that `jaxrl.make` has not made."""
    try:
        return name_of(env)
    except JaxrlError:
        return "", {}


def _as_json(options: dict[str, Any]) -> dict[str, Any]:
    """Options as a file has them: arrays and tuples are lists."""

    def leaf(value: Any) -> Any:
        return value.tolist() if hasattr(value, "tolist") else repr(value)

    return json.loads(json.dumps(options, default=leaf))


def _compare_options(about: dict[str, Any], options: dict[str, Any]) -> None:
    """Say where a dataset was made with other options: one may want to, but should know."""
    theirs, ours = about["environment_options"], _as_json(options)
    if theirs == ours:
        return
    there, here = (
        ", ".join(f"{name}={value}" for name, value in each.items()) or "its usual options"
        for each in (theirs, ours)
    )
    warnings.warn(
        f"the dataset {about['name']} was made in {about['environment']} with {there}, but the "
        f"environment is one with {here}: what is learned may be of another task.",
        RunWarning,
        stacklevel=4,
    )


def _check_bounds(name: str, rows: np.ndarray, space: Space) -> None:
    """Refuse rows that do not lie in a space."""
    if isinstance(space, Discrete):
        low, high, slack = np.asarray(0), np.asarray(space.n - 1), np.asarray(0.0)
    elif isinstance(space, MultiDiscrete):
        low, high, slack = np.asarray(0), np.asarray(space.nvec) - 1, np.asarray(0.0)
    else:
        low = np.broadcast_to(np.asarray(space.low, np.float64), space.shape)
        high = np.broadcast_to(np.asarray(space.high, np.float64), space.shape)
        slack = BEYOND * np.where(np.isfinite(high - low), high - low, 0.0)
    low, high = np.broadcast_to(low, space.shape), np.broadcast_to(high, space.shape)
    least, most = low - slack, high + slack
    if np.all(rows.min(axis=0) >= least) and np.all(rows.max(axis=0) <= most):
        return
    outside = (rows < least) | (rows > most)
    row, *place = np.unravel_index(np.argmax(outside), outside.shape)
    number = int(outside.reshape(len(rows), -1).any(axis=1).sum())
    raise JaxrlError(
        f"its {name} lie outside of the environment's bounds in {number} of {len(rows)} rows, "
        f"first in row {row}: {rows[row][tuple(place)]} ({rows.dtype}), but must be from "
        f"{low[tuple(place)]} to {high[tuple(place)]} ({space})."
    )
