"""Where the datasets of a name live: $JAXRL_DATASETS, or else ~/.jaxrl/datasets.

A dataset is given as a NAME that stands there, as minari:ID, or as a path. `jaxrl dataset build`
puts its own there (jaxrl/train/datasets), and anybody may put others.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from jaxrl.config import install_command, installed
from jaxrl.errors import JaxrlError

MINARI = "minari:"
SUFFIX = ".npz"


def root() -> Path:
    """The folder of the datasets, which need not be there yet."""
    return _folder("JAXRL_DATASETS", ".jaxrl/datasets")


def minari_root() -> Path:
    """The folder in which Minari keeps its datasets."""
    return _folder("MINARI_DATASETS_PATH", ".minari/datasets")


def stored() -> list[str]:
    """The names of the datasets that are there."""
    try:
        return sorted(path.name.removesuffix(SUFFIX) for path in root().glob(f"[!.]*{SUFFIX}"))
    except OSError:  # a folder that may not be looked into holds nothing for us
        return []


def place(name: str) -> Path:
    """Where the dataset of a name stands, or will."""
    return root() / f"{name}{SUFFIX}"


def is_name(text: str) -> bool:
    """Whether a text may be a name: it is neither a path through folders nor a file of a kind."""
    return os.sep not in text and "/" not in text and not Path(text).suffix


def minari_place(dataset_id: str) -> Path:
    """Where Minari keeps the dataset of an id, or will."""
    parts = Path(dataset_id).parts
    if not parts or Path(dataset_id).is_absolute() or ".." in parts:
        raise JaxrlError(
            f"{dataset_id!r} is no Minari dataset: those are named as mujoco/hopper/medium-v0."
        )
    return minari_root() / dataset_id


def located(text: str) -> Path:
    """Where a dataset stands that is given as NAME, minari:ID or path.

    A name that is not there, and a Minari dataset that is not, are refused with how to get it; that
    a path is not there its reader says.
    """
    if text.startswith(MINARI):
        return _in_minari(text.removeprefix(MINARI))
    if not text:
        raise JaxrlError("a dataset is named by a word, by minari:ID or by a path, not by ''.")
    if not is_name(text):
        return Path(text)
    path = place(text)
    if path.exists():
        return path
    if Path(text).exists():
        return Path(text)
    near = difflib.get_close_matches(text, stored(), n=3, cutoff=0.5)
    advice = f" Did you mean {' or '.join(near)}?" if near else ""
    raise JaxrlError(
        f"there is no dataset {text} in {root()}.{advice} If it is one of ours, `jaxrl dataset "
        f"build {text}` makes it; `jaxrl dataset list` names them."
    )


def _in_minari(dataset_id: str) -> Path:
    """The folder of a dataset that Minari keeps."""
    path = minari_place(dataset_id)
    if not path.is_dir():
        first = "" if installed("minari") else f"{install_command('jaxrl[offline]')}, then "
        raise JaxrlError(
            f"there is no {dataset_id} in {minari_root()}: {first}minari download {dataset_id}"
        )
    return path


def _folder(variable: str, below: str) -> Path:
    """The folder that a variable of the environment names, or one in the user's home."""
    if given := os.environ.get(variable):
        return Path(given).expanduser()
    try:
        return Path.home() / below
    except RuntimeError as error:  # of a user without one
        raise JaxrlError(
            f"there is no home folder to look in: set {variable} to the folder of the datasets."
        ) from error
