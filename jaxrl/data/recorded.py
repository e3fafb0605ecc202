"""Whole episodes on the host, whatever file they were read from: what every format becomes.

E episodes stand back to back in time order, N steps in all. A step has the observation that was
acted on; its successor is the observation of the next row or, after the last row of an episode,
that episode's `final_observation`, so no observation is kept twice. All units are the
environment's; learners scale (jaxrl/data/dataset.py).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaxrl.errors import JaxrlError

FORMAT = 1
# The arrays with a row per step, and those with one per episode.
STEPS = ("observation", "action", "reward", "terminated", "truncated")
EPISODES = ("final_observation", "length")
# Of the arrays whose type is fixed. Observations and actions are of one that a device takes.
DTYPES = {"reward": np.float32, "terminated": np.bool_, "truncated": np.bool_, "length": np.int32}
NUMBERS = ("float32", "uint8", "int32", "bool")
# Numbers further apart than this, in themselves or relative to their size, are different ones.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Recorded:
    """E whole episodes of N steps in all, as NumPy arrays; `describe` makes `about`."""

    observation: np.ndarray  # [N, *shape]
    action: np.ndarray  # [N, *action shape]
    reward: np.ndarray  # float32 [N]
    # Nothing follows the step, in value: bool [N]. Usually an episode's last row alone; where the
    # recorder went on after the goal (mazes of OGBench and D4RL), rows before the end too.
    terminated: np.ndarray
    truncated: np.ndarray  # the episode was cut here, though it could have gone on: bool [N]
    final_observation: np.ndarray  # the last successor of each episode, [E, *shape]
    length: np.ndarray  # steps of each episode, at least 1, int32 [E]
    about: dict[str, Any]  # JSON

    def __len__(self) -> int:
        """N, the number of steps."""
        return len(self.reward)

    @property
    def starts(self) -> np.ndarray:
        """The first row of each episode, int64 [E]."""
        return np.cumsum(self.length, dtype=np.int64) - self.length

    @property
    def ends(self) -> np.ndarray:
        """The last row of each episode, int64 [E]."""
        return np.cumsum(self.length, dtype=np.int64) - 1

    @property
    def episode_returns(self) -> np.ndarray:
        """What each episode earned in all, undiscounted, float64 [E]."""
        return np.add.reduceat(self.reward.astype(np.float64), self.starts)

    @property
    def sha256(self) -> str:
        """A checksum of the arrays: the same steps from another file, or under another name."""
        total = hashlib.sha256()
        for name in STEPS + EPISODES:
            array = np.ascontiguousarray(getattr(self, name))
            total.update(f"{name} {array.dtype}{array.shape}".encode())
            total.update(array.reshape(-1).view(np.uint8).data)
        return total.hexdigest()

    def check(self) -> None:
        """Refuse what is not whole episodes of finite numbers, by name and place."""
        for name, dtype in DTYPES.items():
            _check_vector(name, getattr(self, name), np.dtype(dtype))
        if not len(self):
            raise JaxrlError("there is no step in it.")
        self._check_lengths()
        for name in ("observation", "action", "final_observation"):
            _check_numbers(name, getattr(self, name))
        for name in STEPS + EPISODES:
            rows = len(self.length) if name in EPISODES else len(self)
            if len(getattr(self, name)) != rows:
                raise JaxrlError(
                    f"{name} has {len(getattr(self, name))} rows, but must have {rows}."
                )
        ours, last = self.observation, self.final_observation
        if ours.shape[1:] != last.shape[1:] or ours.dtype != last.dtype:
            raise JaxrlError(
                f"final_observation is {last.dtype}{list(last.shape[1:])} per episode, but "
                f"observation is {ours.dtype}{list(ours.shape[1:])} per step."
            )
        for name in ("observation", "action", "reward", "final_observation"):
            _check_finite(name, getattr(self, name))
        self._check_ends()
        _check_about(self.about)

    def _check_lengths(self) -> None:
        if (short := np.flatnonzero(self.length < 1)).size:
            raise JaxrlError(
                f"episode {short[0]} has length {self.length[short[0]]}, but an episode is at "
                "least one step."
            )
        if (total := int(self.length.sum(dtype=np.int64))) != len(self):
            raise JaxrlError(f"the episodes are {total} steps in all, but there are {len(self)}.")

    def _check_ends(self) -> None:
        ends = self.ends
        inside = self.truncated.copy()
        inside[ends] = False
        if inside.any():
            raise JaxrlError(
                f"row {inside.argmax()} is truncated, but the episode goes on after it."
            )
        open_ended = ~(self.terminated[ends] | self.truncated[ends])
        if open_ended.any():
            raise JaxrlError(
                f"the last step of episode {open_ended.argmax()} is neither terminated nor "
                "truncated, but must be one of them."
            )


def broken_off(observation: np.ndarray, successor: np.ndarray) -> np.ndarray:
    """Where a step led to something else than the next row has: bool [N], the last row's is False.

    `successor` is what each row led to, [N, *shape]. Floats may differ by rounding; NaN fits none.
    """
    if successor.shape != observation.shape:
        raise JaxrlError(
            f"next_observations are {list(successor.shape)}, but observations are "
            f"{list(observation.shape)}."
        )
    rows = len(observation)
    following = observation[1:].reshape(rows - 1, observation[0].size)
    said = successor[:-1].reshape(following.shape)
    broken = np.any(following != said, axis=1)
    if observation.dtype.kind == "f":  # most rows are equal, and are compared no further
        unequal = np.flatnonzero(broken)
        with np.errstate(over="ignore"):
            close = np.isclose(said[unequal], following[unequal], TOLERANCE, TOLERANCE)
        broken[unequal] = ~close.all(axis=1)
    return np.append(broken, False)


def describe(
    name: str,
    source: str,
    *,
    environment: str = "",
    environment_options: dict[str, Any] | None = None,
    reference_scores: tuple[float, float] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """What a dataset says of itself, as JSON; `source` says in words where it is from.

    `environment` is an id that jaxrl makes, or "" where it is of none; `reference_scores` are the
    returns of a random and of an expert policy, the 0 and the 100 of normalised scores.
    """
    return {
        "format": FORMAT,
        "name": name,
        "environment": environment,
        "environment_options": environment_options or {},
        "reference_scores": None if reference_scores is None else list(reference_scores),
        "source": source,
        **more,
    }


def _check_vector(name: str, array: np.ndarray, dtype: np.dtype) -> None:
    if array.dtype != dtype or array.ndim != 1:
        raise JaxrlError(
            f"{name} is {array.dtype}{list(array.shape)}, but must be {dtype} with one axis."
        )


def _check_numbers(name: str, array: np.ndarray) -> None:
    if array.dtype.name not in NUMBERS or array.ndim < 1:
        raise JaxrlError(
            f"{name} is {array.dtype}{list(array.shape)}, but must be of {', '.join(NUMBERS)}, "
            "with a row for each."
        )


def _check_finite(name: str, array: np.ndarray) -> None:
    if array.dtype.kind != "f":
        return
    bad = ~np.isfinite(array)
    if bad.any():
        row = int(np.flatnonzero(bad.reshape(len(array), -1).any(axis=1))[0])
        found = array[row][bad[row]].flat[0]
        raise JaxrlError(f"{name} is {found} in row {row}, but must be a finite number.")


def _check_about(about: Any) -> None:
    """Refuse a description that is no JSON, or lacks what `describe` puts in."""
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        found = about.get("format") if isinstance(about, dict) else about
        raise JaxrlError(f"its format is {found!r}, but must be {FORMAT}.")
    kinds = {"name": str, "environment": str, "environment_options": dict, "source": str}
    for key, kind in kinds.items():
        if not isinstance(about.get(key), kind):
            raise JaxrlError(f"its {key} is {about.get(key)!r}, but must be a {kind.__name__}.")
    try:
        json.dumps(about, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise JaxrlError(f"what it says of itself is no JSON: {error}.") from error
    scores = about.get("reference_scores")
    if scores is not None and not _are_scores(scores):
        raise JaxrlError(
            f"its reference_scores are {scores!r}, but must be the returns of a random and of an "
            "expert policy, the first below the second, or null."
        )


def _are_scores(scores: Any) -> bool:
    """Whether two numbers stand in a list, the first below the second."""
    return (
        isinstance(scores, list)
        and len(scores) == 2
        and all(isinstance(each, int | float) and not isinstance(each, bool) for each in scores)
        and scores[0] < scores[1]
    )
