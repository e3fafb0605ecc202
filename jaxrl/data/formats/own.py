"""jaxrl's own datasets: one .npz file, the arrays of `Recorded` by name and a JSON header.

    header                                             `Recorded.about`, as UTF-8 in uint8
    observation, action, reward, terminated, truncated   a row per step
    final_observation, length                            a row per episode

Nothing in it is pickled, and nothing is compressed: a file is read as fast as the disk is.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.data.files import load_npz, npz_names, replacing
from jaxrl.data.recorded import EPISODES, FORMAT, STEPS, Recorded
from jaxrl.errors import JaxrlError, unknown

NAME = "own"
ARRAYS = STEPS + EPISODES
KIND = "it should be a dataset, as jaxrl dataset build writes it, but"


def recognizes(path: Path) -> bool:
    """Whether it is an .npz file with a header and episodes."""
    return {"header", *EPISODES} <= npz_names(path)


def read(path: Path) -> Recorded:
    """The dataset in a file."""
    about, arrays = _load(path)
    for name in ARRAYS:
        if name not in arrays:
            raise JaxrlError(f"{KIND} it has no {name}.")
    for name in arrays:
        if name not in ARRAYS:
            raise unknown("array in the dataset", name, ARRAYS)
    return Recorded(**arrays, about=about)


def outline(path: Path) -> tuple[dict[str, Any], np.ndarray]:
    """What a file says of itself and the lengths of its episodes, without reading its steps."""
    about, arrays = _load(path, only=("header", "length"))
    length = arrays.get("length", np.zeros(()))
    if length.ndim != 1 or length.dtype.kind not in "iu":
        raise JaxrlError(f"{KIND} it does not say how long its episodes are.")
    return about, length


def write(path: Path, recorded: Recorded) -> None:
    """Write a dataset to a file."""
    arrays = {name: getattr(recorded, name) for name in ARRAYS}
    with replacing(path) as written, open(written, "wb") as file:
        np.savez(file, header=as_header(recorded.about), **arrays)


def as_header(about: dict[str, Any]) -> np.ndarray:
    """JSON as an array of bytes, uint8 [length]."""
    return np.frombuffer(json.dumps(about).encode(), np.uint8)


def from_header(header: np.ndarray, kind: str) -> dict[str, Any]:
    """The JSON that `as_header` made an array of."""
    try:
        about = json.loads(header.tobytes())
    except (ValueError, RecursionError) as error:
        raise JaxrlError(f"{kind} its header is no JSON: {error}.") from error
    if not isinstance(about, dict):
        raise JaxrlError(f"{kind} its header is no JSON object.")
    return about


def _load(path: Path, only: Collection[str] = ()) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """What a file says of itself, and its arrays."""
    arrays = load_npz(path, KIND, only)
    if "header" not in arrays:
        raise JaxrlError(f"{KIND} it has no header.")
    about = from_header(arrays.pop("header"), KIND)
    if about.get("format") != FORMAT:
        raise JaxrlError(f"{KIND} its format is {about.get('format')!r}, not {FORMAT}.")
    return about, arrays
