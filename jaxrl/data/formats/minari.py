"""Minari's folders (version 0.5), read and written without Minari itself.

    NAMESPACE/NAME-v0/data/metadata.json     format, counts, and as JSON texts: spaces, env_spec
    NAMESPACE/NAME-v0/data/main_data.hdf5    groups episode_0, …, each with its id as an attribute
    NAMESPACE/NAME-v0/data/0/part-0.arrow    or a folder per episode, in the Arrow format

An episode of T steps has T + 1 observations; in Arrow the other columns have T + 1 rows as well,
the last one padding. Groups are listed by name (episode_10 before episode_2), so that episodes are
put in order by their ids.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl.data import store
from jaxrl.data.files import hdf5_names, in_file, numbers, optional, replacing
from jaxrl.data.recorded import Recorded, describe
from jaxrl.envs import registry
from jaxrl.errors import JaxrlError
from jaxrl.types import Box, Discrete, Space

NAME = "minari"
METADATA = "metadata.json"
MAIN = "main_data.hdf5"
VERSION = "0.5.3"  # of the layout that is written
KIND = "it should be a Minari dataset, but"
SPACES = ("observation_space", "action_space")
ARRAYS = ("observations", "actions", "rewards", "terminations", "truncations")
# Spaces whose elements are one array, and how others that can be are made so.
ONE_ARRAY = ("Box", "Discrete", "MultiDiscrete", "MultiBinary")
FLATTENED = {
    "observation_space": "flatten it as it is collected (gymnasium.wrappers.FlattenObservation).",
    "action_space": "collect actions that are one array (gymnasium.spaces.flatten).",
}
LEGAL_NAME = re.compile(r"[\w.:-]+-v\d+")


class Episode(NamedTuple):
    """One episode as a file has it: T + 1 observations, T of all else."""

    number: int
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminations: np.ndarray
    truncations: np.ndarray


def recognizes(path: Path) -> bool:
    """Whether it is a dataset's folder, the `data` folder in it, or the HDF5 file in that."""
    if path.is_dir():
        return _data_folder(path) is not None
    names = hdf5_names(path)
    return "observations" not in names and any(name.startswith("episode_") for name in names)


def read(path: Path) -> Recorded:
    """The episodes of a dataset, in the order of their ids."""
    data = path.parent if path.is_file() else _data_folder(path) or path
    if not (data / METADATA).is_file():
        raise JaxrlError(
            f"it is the {MAIN} of a Minari dataset without the {METADATA} beside it: give the "
            "whole folder."
        )
    metadata = _metadata(data)
    for name in SPACES:
        _check_space(name, metadata.get(name))
    format_name = "hdf5" if path.is_file() else metadata.get("data_format", "hdf5")
    if format_name == "hdf5":
        found = _hdf5_episodes(path if path.is_file() else data / MAIN)
    elif format_name == "arrow":
        shapes = {
            "observations": _shape(metadata.get("observation_space")),
            "actions": _shape(metadata.get("action_space")),
        }
        found = _arrow_episodes(data, shapes)
    else:
        raise JaxrlError(f"its data_format is {format_name!r}, but must be 'hdf5' or 'arrow'.")
    episodes = sorted(found, key=lambda each: each.number)
    expected = metadata.get("total_episodes", len(episodes))
    if len(episodes) != expected:
        raise JaxrlError(f"{KIND} {len(episodes)} of its {expected} episodes are there.")
    if not episodes:
        raise JaxrlError("there is no episode in it.")
    for each in episodes:
        _check_episode(each)
    return _joined(episodes, _about(metadata, data))


def write(path: Path, recorded: Recorded) -> None:
    """Write a dataset to a folder NAME-v0 that `minari.load_dataset` reads (HDF5)."""
    if not LEGAL_NAME.fullmatch(path.name):
        raise JaxrlError(
            f"a Minari dataset is a folder whose name ends in its version, as pen-expert-v0, not "
            f"{path.name!r}."
        )
    if (path / "data").exists() and not recognizes(path / "data"):
        raise JaxrlError(f"{path} has a folder `data` of something else than a Minari dataset.")
    h5py = optional("h5py")
    # In a folder that is there, only what Minari keeps in it is replaced.
    place = path / "data" if path.exists() else path
    with replacing(place) as written:
        data = written if place.name == "data" else written / "data"
        data.mkdir(parents=True)
        with h5py.File(data / MAIN, "w") as file:
            for number, episode in enumerate(_divided(recorded)):
                group = file.create_group(f"episode_{number}")
                group.attrs["id"] = number
                group.attrs["total_steps"] = len(episode.rewards)
                for name in ARRAYS:
                    group[name] = getattr(episode, name)
                group.create_group("infos")
        size = (data / MAIN).stat().st_size
        metadata = _new_metadata(path, recorded) | {"dataset_size": round(size / 1e6, 1)}
        (data / METADATA).write_text(json.dumps(metadata))


def _data_folder(path: Path) -> Path | None:
    """Where the data of a dataset's folder are: in it, or in its folder `data`."""
    for folder in (path / "data", path):
        if (folder / METADATA).is_file():
            return folder
    return None


def _metadata(data: Path) -> dict[str, Any]:
    try:
        found = json.loads((data / METADATA).read_bytes())
    except (ValueError, RecursionError) as error:
        raise JaxrlError(f"{KIND} its {METADATA} is no JSON: {error}.") from error
    if not isinstance(found, dict) or "total_steps" not in found:
        raise JaxrlError(f"{KIND} its {METADATA} does not say how many steps it has.")
    return found


def _space(text: Any) -> dict[str, Any]:
    """A space as Minari writes it, {"type": "Box", "shape": …}; {} where it is not written."""
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise JaxrlError(f"{KIND} a space in its {METADATA} is no JSON: {error}.") from error
    return found if isinstance(found, dict) else {}


def _check_space(name: str, text: Any) -> None:
    """Refuse spaces that are not one array."""
    space = _space(text)
    kind = space.get("type", "Box")
    if kind not in ONE_ARRAY:
        advice = FLATTENED[name] if kind in ("Dict", "Tuple") else "collect it as one of these."
        raise JaxrlError(
            f"its {name} is a {kind}, but jaxrl reads those that are one array, "
            f"{', '.join(ONE_ARRAY)}: {advice}"
        )
    if kind in ("Discrete", "MultiDiscrete") and np.any(np.asarray(space.get("start", 0)) != 0):
        raise JaxrlError(f"its {name} begins at {space['start']}, but must begin at 0.")


def _shape(text: Any) -> tuple[int, ...] | None:
    """The shape of one element of a space; None where it is not written."""
    space = _space(text)
    if space.get("type") == "Discrete":
        return ()
    if space.get("type") == "MultiDiscrete":
        return np.shape(space["nvec"])
    if space.get("type") == "MultiBinary":
        return tuple(np.atleast_1d(space["n"]).tolist())
    return tuple(space["shape"]) if "shape" in space else None


def _hdf5_episodes(path: Path) -> Iterator[Episode]:
    """The episodes of an HDF5 file, in the order of their names."""
    h5py = optional("h5py")
    try:
        with h5py.File(path, "r") as file:
            for name in file:
                group = in_file(file, name)
                number = int(group.attrs.get("id", name.removeprefix("episode_")))
                yield Episode(number, **{each: _array(group, each, h5py) for each in ARRAYS})
    except JaxrlError:
        raise
    except Exception as error:  # h5py's errors are of many kinds, and of the libraries below it
        raise JaxrlError(
            f"{KIND} its {path.name} cannot be read, whole or at all: {error}."
        ) from error


def _array(group: Any, name: str, h5py: Any) -> np.ndarray:
    """An array of an episode's group."""
    if name not in group:
        raise JaxrlError(f"{KIND} {group.name.removeprefix('/')} has no {name}.")
    found = in_file(group, name)
    if isinstance(found, h5py.Group):
        raise JaxrlError(
            f"its {name} are a dictionary or a tuple of {', '.join(found)}, but jaxrl reads "
            "those that are one array: flatten them first."
        )
    return np.asarray(found)


def _arrow_episodes(data: Path, shapes: dict[str, tuple[int, ...] | None]) -> Iterator[Episode]:
    """The episodes of a folder in the Arrow format; `shapes` are those of one row."""
    pyarrow = optional("pyarrow")
    for folder in data.iterdir():
        if not folder.name.isdecimal():
            continue
        parts = sorted(folder.glob("*.arrow"))
        if len(parts) != 1:
            raise JaxrlError(f"{KIND} {folder.name} has {len(parts)} .arrow files, not one.")
        try:
            table = pyarrow.ipc.open_file(pyarrow.memory_map(str(parts[0]))).read_all()
            columns = {
                name: _column(table[name].combine_chunks(), shapes.get(name), pyarrow)
                for name in ARRAYS
            }
        except JaxrlError:
            raise
        except Exception as error:  # pyarrow's errors, and KeyError for a column
            raise JaxrlError(f"{KIND} episode {folder.name} cannot be read: {error}.") from error
        for name in ARRAYS:
            if name != "observations":  # the others' last row is padding
                columns[name] = columns[name][:-1]
        yield Episode(int(folder.name), **columns)


def _column(column: Any, shape: tuple[int, ...] | None, pyarrow: Any) -> np.ndarray:
    """A column as an array, [rows, *shape]."""
    if pyarrow.types.is_struct(column.type):
        raise JaxrlError(
            "its observations or actions are a dictionary or a tuple, but jaxrl reads those that "
            "are one array: flatten them first."
        )
    if not pyarrow.types.is_fixed_size_list(column.type):
        return column.to_numpy(zero_copy_only=False)
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), *((column.type.list_size,) if shape is None else shape))


def _check_episode(episode: Episode) -> None:
    """Refuse an episode whose arrays do not fit together."""
    steps = len(episode.rewards)
    if not steps:
        raise JaxrlError(f"episode {episode.number} has length 0, but must be at least one step.")
    if len(episode.observations) != steps + 1:
        raise JaxrlError(
            f"episode {episode.number} has {len(episode.observations)} observations, but must "
            f"have {steps + 1}, one more than rewards."
        )
    for name in ("actions", "terminations", "truncations"):
        if len(getattr(episode, name)) != steps:
            raise JaxrlError(
                f"episode {episode.number} has {len(getattr(episode, name))} {name}, but must "
                f"have {steps}, as many as rewards."
            )


def _joined(episodes: list[Episode], about: dict[str, Any]) -> Recorded:
    """Episodes back to back."""
    length = np.asarray([len(each.rewards) for each in episodes], np.int32)
    terminated = np.concatenate([each.terminations for each in episodes]).astype(np.bool_)
    truncated = np.concatenate([each.truncations for each in episodes]).astype(np.bool_)
    ends = np.cumsum(length) - 1
    truncated[ends] |= ~terminated[ends]  # the collector stopped before the episode did
    observations = [each.observations for each in episodes]
    return Recorded(
        observation=numbers("observations", np.concatenate([each[:-1] for each in observations])),
        action=numbers("actions", np.concatenate([each.actions for each in episodes])),
        reward=np.concatenate([each.rewards for each in episodes]).astype(np.float32).reshape(-1),
        terminated=terminated,
        truncated=truncated,
        final_observation=numbers("observations", np.stack([each[-1] for each in observations])),
        length=length,
        about=about,
    )


def _divided(recorded: Recorded) -> Iterator[Episode]:
    """The episodes one by one; what `_joined` joins."""
    for number, (start, end) in enumerate(zip(recorded.starts, recorded.ends + 1, strict=True)):
        rows = slice(start, end)
        last = recorded.final_observation[number : number + 1]
        yield Episode(
            number,
            np.concatenate([recorded.observation[rows], last]),
            recorded.action[rows],
            recorded.reward[rows],
            recorded.terminated[rows],
            recorded.truncated[rows],
        )


def _about(metadata: dict[str, Any], data: Path) -> dict[str, Any]:
    """What the metadata say, as `describe` has it."""
    if isinstance(metadata.get("jaxrl"), dict):  # written below
        return metadata["jaxrl"]
    low, high = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    environment = _environment(metadata.get("env_spec"))
    kept = {f"minari_{name}": metadata[name] for name in (*SPACES, "env_spec") if name in metadata}
    return describe(
        str(metadata.get("dataset_id", data.parent.name)),
        f"Minari {metadata.get('minari_version', '')}, by {metadata.get('algorithm_name', '?')}",
        environment=environment,
        reference_scores=None if low is None or high is None else (float(low), float(high)),
        **kept,
    )


def _environment(env_spec: Any) -> str:
    """The id of an env_spec without options, where jaxrl has an environment of that id, else ""."""
    spec = _space(env_spec)
    ids = {each for suite in registry.environment_ids().values() for each in suite}
    return spec["id"] if spec.get("id") in ids and not spec.get("kwargs") else ""


def _new_metadata(path: Path, recorded: Recorded) -> dict[str, Any]:
    """The metadata of a dataset that is written to `path`; Minari leaves our own key alone."""
    about = recorded.about
    spaces = _spaces(recorded)
    metadata: dict[str, Any] = {
        "dataset_id": _dataset_id(path),
        "data_format": "hdf5",
        "minari_version": VERSION,
        "total_episodes": len(recorded.length),
        "total_steps": len(recorded),
        "description": about["source"],
        "jaxrl": about,
    }
    for name in SPACES:
        metadata[name] = about.get(f"minari_{name}", json.dumps(spaces[name]))
    if "minari_env_spec" in about:
        metadata["env_spec"] = about["minari_env_spec"]
    if (scores := about.get("reference_scores")) is not None:
        metadata["ref_min_score"], metadata["ref_max_score"] = scores
    return metadata


def _dataset_id(path: Path) -> str:
    """The id that Minari finds the dataset at `path` by: with the folders that lead to it."""
    root = store.minari_root().resolve()
    path = path.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _spaces(recorded: Recorded) -> dict[str, dict[str, Any]]:
    """The spaces of a dataset as Minari writes them: its environment's, if that can be made."""
    about = recorded.about
    guessed = {
        "observation_space": _guessed(recorded.observation),
        "action_space": _guessed(recorded.action),
    }
    if ":" in about["environment"]:  # an import path: no code is run because a file names it
        return guessed
    try:
        env = registry.make(about["environment"], **about["environment_options"])
    except JaxrlError:  # of no environment that jaxrl has, or of one that is not installed here
        return guessed
    return {name: _as_minari(getattr(env, name)) for name in SPACES}


def _as_minari(space: Space) -> dict[str, Any]:
    """A space of jaxrl as Minari writes it; whole numbers in a vector are a Box of them."""
    if isinstance(space, Discrete):
        return {"type": "Discrete", "dtype": "int64", "start": 0, "n": space.n}
    if isinstance(space, Box):
        return _box(np.dtype(space.dtype), space.shape, space.low, space.high)
    return _box(np.dtype(space.dtype), space.shape, 0, np.asarray(space.nvec) - 1)


def _guessed(array: np.ndarray) -> dict[str, Any]:
    """A space that the rows of an array lie in, where nothing says which."""
    if array.dtype.kind == "f":
        return _box(array.dtype, array.shape[1:], -np.inf, np.inf)
    if array.dtype == np.int32 and array.ndim == 1 and array.min() >= 0:
        return {"type": "Discrete", "dtype": "int64", "start": 0, "n": int(array.max()) + 1}
    return _box(array.dtype, array.shape[1:], int(array.min()), int(array.max()))


def _box(dtype: np.dtype, shape: tuple[int, ...], low: Any, high: Any) -> dict[str, Any]:
    bounds = {
        name: np.broadcast_to(np.asarray(bound, dtype), shape).tolist()
        for name, bound in (("low", low), ("high", high))
    }
    return {"type": "Box", "dtype": dtype.name, "shape": list(shape), **bounds}
