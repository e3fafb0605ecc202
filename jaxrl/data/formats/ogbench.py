"""OGBench's .npz files: trajectories back to back, T + 1 rows for T steps.

    observations, actions, terminals    [R, ...]; a trajectory's last row has terminals = 1, its
                                        last observation and an action that was never taken
    rewards                             [R]: of the *current* state, r(s_t)
    masks                               [R]: 0 where the task was solved; the recorder goes on

A step's mask of 0 terminates it in value, and the end of a trajectory only cuts it. What OGBench
offers for download has no rewards: they belong to a task, and `ogbench` adds them as it loads. The
arrays that it then returns are read too: one row per step, with `next_observations`. A row that
leads to something else than the next one's observation is cut there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxrl.data.files import load_npz, npz_names, numbers, replacing
from jaxrl.data.formats.own import as_header, from_header
from jaxrl.data.recorded import Recorded, broken_off, describe
from jaxrl.errors import JaxrlError

NAME = "ogbench"
KIND = "it should be an OGBench file of observations, actions and terminals, but"
NEEDED = ("observations", "actions", "terminals")


def recognizes(path: Path) -> bool:
    """Whether it is an .npz file with OGBench's names."""
    return set(NEEDED) <= npz_names(path)


def read(path: Path) -> Recorded:
    """The trajectories of a file that has rewards."""
    arrays = load_npz(path, KIND)
    _check_arrays(arrays)
    ended = _column(arrays, "terminals") != 0
    rows = len(arrays["observations"])
    if not rows or not ended[-1]:
        raise JaxrlError(f"{KIND} its last trajectory has no end: the last of terminals is not 1.")
    observations = numbers("observations", arrays["observations"])
    steps, broken = np.ones(rows, np.bool_), np.zeros(rows, np.bool_)
    if "next_observations" in arrays:
        successors = numbers("next_observations", arrays["next_observations"])
        broken = broken_off(observations, successors)
        last = np.flatnonzero(ended | broken)
        length = np.diff(np.append(-1, last))
        finals = successors[last]
    else:
        last = np.flatnonzero(ended)
        length = np.diff(np.append(-1, last)) - 1
        finals = observations[last]
        steps[last] = False
    if (short := np.flatnonzero(length < 1)).size:
        raise JaxrlError(f"trajectory {short[0]} has length 0, but must be at least one step.")
    terminated = (_column(arrays, "masks") == 0)[steps]
    truncated = np.zeros(len(terminated), np.bool_)
    truncated[np.cumsum(length) - 1] = True
    if "truncations" in arrays:  # which `write` adds
        truncated = ((arrays["truncations"] != 0) | broken)[steps]
    about = describe(path.stem, "a file of OGBench's layout")
    return Recorded(
        observation=observations[steps],
        action=numbers("actions", arrays["actions"])[steps],
        reward=_column(arrays, "rewards").astype(np.float32)[steps],
        terminated=terminated,
        truncated=truncated,
        final_observation=finals,
        length=length.astype(np.int32),
        about=from_header(arrays["about"], KIND) if "about" in arrays else about,
    )


def write(path: Path, recorded: Recorded) -> None:
    """Write a dataset, T + 1 rows per episode, with arrays beside them that OGBench ignores."""
    ends = np.cumsum(recorded.length + 1) - 1
    steps = np.ones(len(recorded) + len(ends), np.bool_)
    steps[ends] = False

    def rows(array: np.ndarray, filler: np.ndarray | int) -> np.ndarray:
        """The steps' rows, and `filler` in the last one of each episode."""
        spread = np.empty((len(steps), *array.shape[1:]), array.dtype)
        spread[steps], spread[ends] = array, filler
        return spread

    with replacing(path) as written, open(written, "wb") as file:
        np.savez_compressed(
            file,
            observations=rows(recorded.observation, recorded.final_observation),
            actions=rows(recorded.action, 0),
            rewards=rows(recorded.reward, 0),
            masks=rows(~recorded.terminated, 1).astype(np.float32),
            terminals=~steps,
            truncations=rows(recorded.truncated, 0),
            about=as_header(recorded.about),
        )


def _check_arrays(arrays: dict[str, np.ndarray]) -> None:
    if "valids" in arrays:
        raise JaxrlError(
            "it is in OGBench's compact form (it has valids): load it with compact_dataset=False."
        )
    if "rewards" not in arrays or "masks" not in arrays:
        raise JaxrlError(
            "it has no rewards and masks, which OGBench adds for one task as it loads: "
            "`env, train, _ = ogbench.make_env_and_datasets('NAME-singletask-v0')`, then "
            "`numpy.savez('NAME.npz', **train)`, and read that file."
        )
    names = [*NEEDED, "rewards", "masks", "next_observations", "truncations"]
    sizes = {name: arrays[name].shape[:1] for name in names if name in arrays}
    if len(set(sizes.values())) != 1 or () in sizes.values():
        found = ", ".join(f"{name} {list(size)}" for name, size in sizes.items())
        raise JaxrlError(f"{KIND} its arrays do not have as many rows: {found}.")


def _column(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    """A number per row."""
    if arrays[name].ndim != 1:
        raise JaxrlError(f"{name} is {list(arrays[name].shape)}, but must be a number per row.")
    return arrays[name]
