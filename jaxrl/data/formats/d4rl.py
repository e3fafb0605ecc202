"""D4RL's HDF5 files: one flat table of steps, in which episodes stand back to back.

    observations, actions      [N, ...]
    rewards, terminals         [N], or [N, 1]
    timeouts                   [N], where the recorder cut an episode; not in every file
    next_observations          [N, ...]; in some files

A timeout is no terminal. A successor that no row holds is unknown, and a value may not be
bootstrapped from another episode's first state: such a row (a timeout's, or the last one of a file)
is dropped, and its observation ends the episode, unless `next_observations` are in the file.
d4rl's own `qlearning_dataset` drops these rows as well, whatever the file has. Where they are, they
are what a step led to: a row that leads to something else than the next one's observation is cut
there, as rows are that several environments wrote by turns.

Files that are written here hold the dataset's description and the lengths of its episodes in
`metadata` too, and read back to the last bit.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl.data import reference_scores
from jaxrl.data.files import HDF5, begins_with, in_file, numbers, optional, replacing
from jaxrl.data.formats import minari
from jaxrl.data.recorded import Recorded, broken_off, describe
from jaxrl.errors import JaxrlError

NAME = "d4rl"
REQUIRED = ("observations", "actions", "rewards", "terminals")
ARRAYS = (*REQUIRED, "timeouts", "next_observations")
KIND = "it should be a D4RL file of observations, actions, rewards and terminals, but"


class Ends(NamedTuple):
    """Which rows end an episode, bool [N] each; a row may do both."""

    terminated: np.ndarray
    truncated: np.ndarray


def recognizes(path: Path) -> bool:
    """Whether it is an HDF5 file, and none of Minari's."""
    return begins_with(path, HDF5) and not minari.recognizes(path)


def read(path: Path) -> Recorded:
    """The episodes of a file; where the name is one of D4RL's, with its reference scores."""
    arrays, saved = _load(path)
    task = reference_scores.d4rl(path.stem)
    if "length" in saved:
        return _as_written(arrays, saved)
    goes_on = bool(re.match(r"ant[-_ ]?maze(?![^-_ ])", path.stem.lower()))
    ends = _ends(arrays, None if task is None else task.steps, goes_on)
    about = describe(
        path.stem,
        "a file of D4RL's layout" + (", with D4RL's reference scores by its name" if task else ""),
        reference_scores=None if task is None else task.scores,
    )
    return _episodes(arrays, ends, about, goes_on)


def write(path: Path, recorded: Recorded) -> None:
    """Write a dataset to a file that d4rl reads as well."""
    h5py = optional("h5py")
    successors = np.concatenate([recorded.observation[1:], recorded.final_observation[-1:]])
    successors[recorded.ends] = recorded.final_observation
    with replacing(path) as written, h5py.File(written, "w") as file:
        file["observations"] = recorded.observation
        file["actions"] = recorded.action
        file["rewards"] = recorded.reward
        file["terminals"] = recorded.terminated
        file["timeouts"] = recorded.truncated
        file["next_observations"] = successors
        file["metadata/length"] = recorded.length
        file["metadata/about"] = json.dumps(recorded.about)


def _load(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a file with N rows each, and what we wrote beside them."""
    h5py = optional("h5py")
    try:
        with h5py.File(path, "r") as file:
            arrays = {name: np.asarray(in_file(file, name)) for name in ARRAYS if name in file}
            names = list(file)
            saved: dict[str, Any] = {}
            if "metadata/about" in file and "metadata/length" in file:
                saved["about"] = json.loads(in_file(file, "metadata/about").asstr()[()])
                saved["length"] = np.asarray(in_file(file, "metadata/length"))
    except JaxrlError as error:
        raise JaxrlError(f"{KIND} {error}") from error
    except Exception as error:  # h5py's errors are of many kinds, and of the libraries below it
        raise JaxrlError(f"{KIND} it cannot be read, whole or at all: {error}.") from error
    if missing := [name for name in REQUIRED if name not in arrays]:
        raise JaxrlError(f"{KIND} it has no {', '.join(missing)}: it has {', '.join(names)}.")
    rows = len(arrays["observations"])
    for name, array in arrays.items():
        if len(array) != rows:
            raise JaxrlError(f"{name} has {len(array)} rows, but observations have {rows}.")
        if name in ("rewards", "terminals", "timeouts"):
            arrays[name] = _column(name, array)
        else:
            arrays[name] = numbers(name, array)
    if not rows:
        raise JaxrlError("there is no step in it.")
    return arrays, saved


def _column(name: str, array: np.ndarray) -> np.ndarray:
    """A number per row, from [N] or [N, 1]."""
    if array.size != len(array):
        raise JaxrlError(f"{name} is {list(array.shape)}, but must be a number per row.")
    column = array.reshape(-1)
    return column.astype(np.float32 if name == "rewards" else np.bool_)


def _ends(arrays: dict[str, np.ndarray], steps: int | None, goes_on: bool) -> Ends:
    """Where episodes end: told by timeouts or a time limit, and by successors that do not fit."""
    terminals = arrays["terminals"]
    terminated = np.zeros_like(terminals) if goes_on else terminals
    truncated = np.zeros_like(terminals)
    if "next_observations" in arrays:
        truncated = broken_off(arrays["observations"], arrays["next_observations"]) & ~terminated
    if "timeouts" in arrays:
        truncated |= arrays["timeouts"]
    elif steps is not None:
        truncated |= _at_limit(terminated | truncated, steps)
    elif "next_observations" not in arrays:
        raise JaxrlError(
            "nothing in it says where episodes were cut: it has neither timeouts nor "
            "next_observations, and its name is none of D4RL's, whose time limits are known. "
            "Name it as D4RL does (hopper-medium-v2.hdf5), or add one of these arrays."
        )
    if not truncated.any() and not terminated.any():
        raise JaxrlError(
            "no episode ends in it: no terminal and no timeout is set, so it cannot be told where "
            "one begins."
        )
    truncated[-1] |= not terminated[-1]  # an unfinished tail is cut where the file ends
    return Ends(terminated, truncated)


def _at_limit(terminated: np.ndarray, steps: int) -> np.ndarray:
    """The rows at which an episode has lasted `steps` steps, bool [N]."""
    truncated = np.zeros_like(terminated)
    time = 0
    for row, ended in enumerate(terminated):
        time += 1
        truncated[row] = time == steps
        if ended or time == steps:
            time = 0
    return truncated


def _episodes(
    arrays: dict[str, np.ndarray], ends: Ends, about: dict[str, Any], goes_on: bool
) -> Recorded:
    """Whole episodes, of rows whose successors are known."""
    observations = arrays["observations"]
    ended = ends.terminated | ends.truncated
    successors = arrays.get("next_observations")
    dropped = np.zeros_like(ended)
    if successors is None:
        # A terminal's successor is never looked at, its value being 0: its own observation will do.
        successors = observations
        dropped = ended & ~arrays["terminals"]
    last = np.flatnonzero(ended)
    kept = np.diff(np.append(-1, last)) - dropped[last]
    # What remains of an episode may be nothing: of one row, which was dropped.
    last, length = last[kept > 0], kept[kept > 0].astype(np.int32)
    if not length.size:
        raise JaxrlError("the successor of every step in it is unknown: each episode is one row.")
    terminated = arrays["terminals"] if goes_on else ends.terminated
    truncated = ends.truncated[~dropped]
    truncated[np.cumsum(length) - 1] |= dropped[last]
    if dropped.any():
        about = about | {"rows_without_successor": int(dropped.sum())}
    return Recorded(
        observation=observations[~dropped],
        action=arrays["actions"][~dropped],
        reward=arrays["rewards"][~dropped],
        terminated=terminated[~dropped],
        truncated=truncated,
        final_observation=successors[last],
        length=length,
        about=about,
    )


def _as_written(arrays: dict[str, np.ndarray], saved: dict[str, Any]) -> Recorded:
    """The dataset that `write` wrote."""
    length = saved["length"]
    if length.ndim != 1 or length.sum() != len(arrays["rewards"]):
        raise JaxrlError(
            f"the episodes are {length.sum()} steps in all, but there are {len(arrays['rewards'])}."
        )
    needed = [name for name in ARRAYS if name not in arrays]
    if needed:
        raise JaxrlError(f"{KIND} it has no {', '.join(needed)}.")
    return Recorded(
        observation=arrays["observations"],
        action=arrays["actions"],
        reward=arrays["rewards"],
        terminated=arrays["terminals"],
        truncated=arrays["timeouts"],
        final_observation=arrays["next_observations"][np.cumsum(length) - 1],
        length=length,
        about=saved["about"],
    )
