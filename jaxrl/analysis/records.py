"""What the files of a run folder hold: where they are read, and every field is checked.

Errors are ValueErrors that name the file and the field. NumPy alone: a run can be looked at where
there is no JAX.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl.analysis.record_fields import (
    DESCRIPTION,
    LOGS,
    MANIFEST,
    METADATA,
    is_count,
    shape_of,
    short,
    wrong_field,
)

CONFIG = "config.json"
METRICS = "metrics.jsonl"
EVALUATIONS = "evaluations.npz"
# The format of config.json and checkpoints; 3: views, logs, policies beside the state.
FORMAT = 3
# What a run counts beside its iterations, by the unit of its budget.
COUNTS = {"transitions": "transitions", "gradient steps": "updates", "episodes": "episodes"}
# The arrays of evaluations.npz: MODE_returns and MODE_lengths of each mode, measure_NAME of others.
RETURNS = "_returns"
LENGTHS = "_lengths"
MEASURE = "measure_"
NAME = "[a-z][a-z0-9_]*"
NUMBER = r"-?[0-9]+(\.[0-9]+)?(e[+-]?[0-9]+)?"
# No file of a run is nested deeper; in more levels, functions that recurse could fail.
MOST_LEVELS = 40


class Rows(NamedTuple):
    """The lines of metrics.jsonl."""

    lines: list[bytes]  # those that are whole, as they were written
    rows: list[dict[str, Any]]  # the same, read
    damaged: list[int]  # numbers of lines that cannot be read, from 1
    torn: bytes  # what follows the last end of line: a row that a kill has cut


def read_file(path: Path) -> bytes:
    """The bytes of a regular file: what is read of a pipe or a device may never end."""
    if os.path.lexists(path) and not os.path.isfile(path):
        raise ValueError(f"{path} is damaged: it is no file.")
    return path.read_bytes()


def read_json(path: Path) -> Any:
    """What a JSON file holds."""
    data = read_file(path)
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: it is not valid JSON ({error}).") from error
    if _is_deep(found):
        raise ValueError(f"{path} is damaged: it is nested deeper than {MOST_LEVELS} levels.")
    return found


def read_description(path: Path, required: Iterable[str] = ()) -> dict[str, Any]:
    """config.json, with the fields that are `required`; those that are there have their types."""
    description = read_json(path)
    if not isinstance(description, dict):
        raise ValueError(
            f"{path} is damaged: it holds a {type(description).__name__}, not an object."
        )
    missing = [name for name in required if name not in description]
    if missing:
        raise ValueError(f"{path} lacks {' and '.join(map(repr, missing))}.")
    if problem := wrong_field(description, DESCRIPTION):
        raise ValueError(f"{path}: {problem}.")
    return description


def read_rows(path: Path) -> Rows:
    """metrics.jsonl, line by line; empty where there is no file."""
    if not os.path.lexists(path):
        return Rows([], [], [], b"")
    *lines, torn = read_file(path).split(b"\n")
    whole, rows, damaged = [], [], []
    for number, line in enumerate(lines, start=1):
        row = _read_row(line)
        if row is None:
            damaged.append(number)
        else:
            whole.append(line)
            rows.append(row)
    return Rows(whole, rows, damaged, torn)


def read_evaluations(path: Path) -> dict[str, np.ndarray]:
    """The arrays of evaluations.npz, their axes and types checked; {} when there is no file yet."""
    if not os.path.lexists(path):
        return {}
    data = read_file(path)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib, struct and NumPy each have their own
        raise ValueError(f"{path} is damaged: it cannot be read ({error}).") from error
    problem = _wrong_evaluations(arrays)
    if problem:
        raise ValueError(f"{path} is damaged: {problem}.")
    return arrays


def modes_of(arrays: Mapping[str, Any]) -> tuple[str, ...]:
    """The modes whose evaluations `arrays` holds, in order: policies are ranked by the first."""
    names = [
        name
        for name in arrays
        if name.endswith((RETURNS, LENGTHS)) and not name.startswith(MEASURE)
    ]
    return tuple(dict.fromkeys(name.rpartition("_")[0] for name in names))


def measures_of(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What was measured besides, [K, H, S, ...], by name."""
    return {
        name.removeprefix(MEASURE): values
        for name, values in arrays.items()
        if name.startswith(MEASURE)
    }


def ranking_returns(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The returns [K, H, S, E] of the first mode, which rank policies."""
    return arrays[modes_of(arrays)[0] + RETURNS]


def is_mode(text: str) -> bool:
    """Whether `text` can name evaluations: "deterministic", or "target=3600" if it is steered."""
    name, _, _ = text.partition("=")
    is_well_formed = re.fullmatch(f"{NAME}(={NUMBER})?", text) is not None
    return is_well_formed and not f"{name}_".startswith(MEASURE)


def check_manifest(manifest: Any, iteration: int) -> None:
    """Refuse what is no manifest of a checkpoint of `iteration`."""
    if not isinstance(manifest, dict):
        raise ValueError(f"manifest.json holds a {type(manifest).__name__}, not an object")
    for name, (is_right, what) in MANIFEST.items():
        if not is_right(manifest.get(name)):
            raise ValueError(
                f"{name} of manifest.json is {short(manifest.get(name))}, but must be {what}"
            )
    if problem := wrong_field(manifest, LOGS):
        raise ValueError(f"manifest.json: {problem}")
    logs = set(range(len(manifest.get("logs", []))))
    for mark in ("log", "counts"):
        if {row[mark] for row in manifest["leaves"] if mark in row} != logs:
            raise ValueError("manifest.json: logs and leaves are not of the same logs")
    if manifest["iteration"] != iteration:
        raise ValueError(
            f"manifest.json is that of iteration {manifest['iteration']}, not of {iteration}"
        )
    metadata = manifest["metadata"]
    if problem := wrong_field(metadata, METADATA):
        raise ValueError(f"metadata of manifest.json: {problem}")
    if shape_of(metadata.get("scores")) != shape_of(metadata.get("iterations")):
        raise ValueError(
            "metadata of manifest.json: scores and iterations are not of the same members"
        )


def counter_of(names: Container[str]) -> str:
    """Which of `COUNTS` is among the names of a row of metrics, or of the arrays of evaluations."""
    return next((name for name in COUNTS.values() if name in names), COUNTS["transitions"])


def counters_of(row: Container[str]) -> tuple[str, str, str]:
    """What in a row is no metric. A metric may have the name of a count that the run has not."""
    return ("iteration", counter_of(row), "seconds")


def _read_row(line: bytes) -> dict[str, Any] | None:
    """One row of metrics, or None if it is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or "iteration" not in row:
        return None
    return row if all(is_count(row.get(name, 0)) for name in counters_of(row)[:2]) else None


def _wrong_evaluations(arrays: dict[str, np.ndarray]) -> str | None:
    """What is wrong with the arrays of evaluations.npz, if anything is."""
    modes = modes_of(arrays)
    for mode in modes:
        if not is_mode(mode):
            return f"{short(mode)} is no name of a mode"
    per_episode = [mode + what for mode in modes for what in (RETURNS, LENGTHS)]
    counters = ("iteration", counter_of(arrays))
    missing = [name for name in (*counters, *per_episode) if name not in arrays]
    if missing:
        return f"it lacks {', '.join(missing)}"
    if not modes:
        return "it lacks the returns of any mode"
    shape = ranking_returns(arrays).shape
    if len(shape) != 4 or not all(shape):
        return f"{modes[0]}{RETURNS} has shape {shape}, but must be [K, H, S, E]"
    expected = dict.fromkeys(counters, shape[:1]) | dict.fromkeys(per_episode, shape)
    for name, wanted in expected.items():
        if arrays[name].shape != wanted:
            return f"{name} has shape {arrays[name].shape}, but must be {wanted}"
        if arrays[name].dtype.kind not in ("iu" if name in counters else "fiu"):
            return f"{name} has type {arrays[name].dtype}, but must be of numbers"
    for name, array in arrays.items():
        problem = None if name in expected else _wrong_measure(name, array, shape[:3])
        if problem:
            return problem
    if np.any(np.diff(arrays["iteration"]) <= 0) or np.any(arrays["iteration"] < 0):
        return f"iteration is {short(arrays['iteration'].tolist())}, but must rise"
    return None


def _wrong_measure(name: str, array: np.ndarray, members: tuple[int, ...]) -> str | None:
    """What is wrong with an array of no mode, if anything; it must be of `members`, (K, H, S)."""
    if re.fullmatch(MEASURE + NAME, name) is None:
        return f"{short(name)} is no array of evaluations"
    if array.shape[:3] != members:
        return f"{name} has shape {array.shape}, but must begin with {members}"
    if array.dtype.kind not in "fiu":
        return f"{name} has type {array.dtype}, but must be of numbers"
    return None


def _is_deep(value: Any) -> bool:
    """Whether lists and objects are nested too deep."""
    level = [value]
    for _ in range(MOST_LEVELS):
        below: list[Any] = []
        for each in level:
            if isinstance(each, dict):
                below.extend(each.values())
            elif isinstance(each, list):
                below.extend(each)
        level = below
    return bool(level)
