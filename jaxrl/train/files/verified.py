"""Reading a checkpoint: every field, file and leaf of it is verified, or it is damaged."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.analysis import records
from jaxrl.train.files import rows as log_rows
from jaxrl.train.files import state_arrays
from jaxrl.train.files.folder import MANIFEST, ROWS, Denied

ARRAYS = "arrays"
BEST = "best-"
KEPT = "policy-"
REPLACED = ".replaced-"


class Damaged(Exception):
    """A checkpoint whose files are missing, torn or altered."""


def read_manifest(path: Path) -> dict[str, Any]:
    """A checkpoint's manifest, its fields checked."""
    try:
        manifest = records.read_json(path / MANIFEST)
        records.check_manifest(manifest, _iteration_of(path.name))
    except FileNotFoundError as error:
        raise Damaged(f"{error.filename or path} is missing") from error
    except PermissionError as error:
        raise _denied(path, error) from error
    except (OSError, ValueError) as error:
        raise Damaged(first_line(error)) from error
    return manifest


def read(path: Path, part: str = "") -> tuple[dict[str, Any], list[np.ndarray]]:
    """A checkpoint's manifest and leaves, verified; with the rows of logs, unless `part` is set."""
    manifest = read_manifest(path)
    try:
        _check_files(path / ARRAYS)
        found = file_digests(path / ARRAYS)
        for name, expected in manifest["files"].items():
            if found.get(name) != expected:
                raise Damaged(f"{ARRAYS}/{name} {'was altered' if name in found else 'is missing'}")
        values = state_arrays.load_arrays(path / ARRAYS, manifest["leaves"])
        digest = state_arrays.digest(manifest, values)
        if not part:
            log_rows.read(path.parent / ROWS, manifest, values)
    except Damaged:
        raise
    except PermissionError as error:
        raise _denied(path, error) from error
    except FileNotFoundError as error:
        raise Damaged(f"{error.filename or path} is missing") from error
    except Exception as error:  # Orbax and TensorStore each have their own
        raise Damaged(first_line(error)) from error
    if digest != manifest["sha256"]:
        raise Damaged("its contents do not match their checksum")
    return manifest, values


def _check_files(folder: Path) -> None:
    """Refuse what would keep a reader waiting for ever, or lead it elsewhere."""
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            os.listdir(path)  # which says so where it may not be read: the search passes over it
        if path.is_symlink() or not (path.is_dir() or path.is_file() or path == folder):
            raise Damaged(f"{path.name} is no file")


def file_digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below `folder`, by its relative path."""
    digests = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with open(path, "rb") as file:
                name = str(path.relative_to(folder))
                digests[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests


def first_line(error: BaseException) -> str:
    """The first line of an error; TensorStore's go on for pages."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _denied(path: Path, error: PermissionError) -> Denied:
    """The error for a checkpoint that may not be read."""
    return Denied(f"cannot read {error.filename or path}: you may not read there.")


def _iteration_of(name: str) -> int:
    """The iteration that the name of a checkpoint's folder says."""
    for prefix in (REPLACED, BEST, KEPT):
        name = name.removeprefix(prefix)
    return int(name)
