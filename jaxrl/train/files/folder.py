"""The run folder: config.json, metrics.jsonl, evaluations.npz, checkpoints/ and plots/.

Everything in it can be read without jaxrl. Whole files are replaced atomically and metrics are
appended a line at a time, so that a run which is killed at any moment leaves a folder that can be
read and resumed. What is written here is read by jaxrl.analysis.records, and nothing is written
through a symbolic link: a folder may be a stranger's.
"""

from __future__ import annotations

import difflib
import errno
import itertools
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.analysis import records
from jaxrl.analysis.records import CONFIG, EVALUATIONS, METRICS
from jaxrl.errors import JaxrlError

CHECKPOINTS = "checkpoints"
TURNS = "sweep.json"  # in the folder of a sweep in turn, beside its runs
PLOTS = "plots"
TENSORBOARD = "tensorboard"
WANDB = "wandb.json"
PROFILE = "profile"
ROWS = "rows"
MANIFEST = "manifest.json"
# Where jaxrl, and what it calls, writes and removes.
FOLDERS = (
    CHECKPOINTS,
    f"{CHECKPOINTS}/{ROWS}",
    PLOTS,
    TENSORBOARD,
    PROFILE,
    f"{PROFILE}/plugins",
    f"{PROFILE}/plugins/profile",
    "wandb",
)
CHECKPOINT_NAME = re.compile(
    r"(best-|policy-)?\d{9,}|\.(tmp|replaced)-(link-)?(best-|policy-)?\d{9,}"
)
# Files of rows (train/files/rows.py), whole or begun.
SEGMENT = re.compile(r"[0-9a-f]{64}|\.tmp-[a-z0-9_]{8}")
# The pictures that commands make by themselves; those of other names are somebody's own.
PICTURES = (
    *("learning_curve.png", "sweep.png", "comparison.png", "profile.png", "improvement.png"),
    "episode.gif",
)


class Denied(JaxrlError):
    """What may not be read or written: it may be whole, and is not to be taken for damaged."""


@contextmanager
def file_errors(action: str, path: Path | str) -> Iterator[None]:
    """Turn the operating system's errors into a JaxrlError that names the path and the cause."""
    reading = action in ("read", "look into")
    try:
        yield
    except OSError as error:
        advice = {
            errno.ENOSPC: "The disk is full: free some space or choose another folder.",
            errno.EDQUOT: "Your disk quota is used up: free some space or choose another folder.",
            errno.EACCES: "You may not read there."
            if reading
            else "You may not write there: choose another folder.",
            errno.EROFS: "The file system is read-only: choose another folder.",
            errno.ENOTDIR: "A part of the path is a file, not a folder: choose another folder.",
            errno.EEXIST: "The path is a file, not a folder: choose another folder.",
        }.get(error.errno or 0, "")
        cause = error.strerror or str(error)
        if error.errno == errno.ELOOP:
            cause = "it is a symbolic link, and jaxrl writes to files of its own only"
        kind = Denied if isinstance(error, PermissionError) else JaxrlError
        raise kind(f"cannot {action} {path}: {cause}. {advice}".rstrip()) from error


def plain(value: Any, non_finite: Callable[[float], Any] = float, name: str = "value") -> Any:
    """`value` as JSON holds it: arrays and tuples become lists, NumPy and JAX scalars numbers.

    Floats below float64 are written in their shortest form (0.1, not 0.10000000149011612), which
    reads back to the same bits. `non_finite` says what becomes of NaN and infinities.
    """
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, dict):
        return {str(key): plain(item, non_finite, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, non_finite, f"{name}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, float) and not isinstance(value, np.generic):
        return value if np.isfinite(value) else non_finite(value)
    array = np.asarray(value) if hasattr(value, "dtype") and hasattr(value, "shape") else None
    if array is None or array.dtype.kind in "OSUcM":
        raise JaxrlError(
            f"{name} is {value!r}, but must be made of numbers, strings, lists and dicts."
        )
    if array.ndim:
        return [plain(item, non_finite, f"{name}[{index}]") for index, item in enumerate(array)]
    if array.dtype.kind in "biu":
        return array.item()
    number = float(array) if array.dtype == np.float64 else float(str(array[()]))
    return number if np.isfinite(number) else non_finite(number)


def sync_folder(path: Path | str) -> None:
    """Make the names in a folder durable (fsync of the folder itself)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path | str, data: bytes) -> None:
    """Replace the file at `path` by `data` in one step: readers see the old file or the new one."""
    path = Path(path)
    with file_errors("write", path):
        descriptor, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"
        )
        try:
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(file.fileno(), 0o644)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
        sync_folder(path.parent)


@contextmanager
def problems() -> Iterator[None]:
    """What `jaxrl.analysis.records` finds wrong, as an error of the user's request."""
    try:
        yield
    except JaxrlError:
        raise
    except ValueError as error:
        raise JaxrlError(str(error)) from error


def check_free(folder: Path | str, overwrite: bool, for_sweep: bool = False) -> None:
    """Refuse a folder that holds a run already, unless it may be overwritten; change nothing.

    That of a sweep in turn is no run's to overwrite: the folders inside of it would belong to both.
    """
    folder = Path(folder)
    with file_errors("use the run folder", folder):
        if (folder / TURNS).exists() and not for_sweep:
            raise JaxrlError(
                f"{folder} holds a sweep ({TURNS} exists). Give another --folder, or use "
                f"`jaxrl resume {folder}` to go on with it."
            )
        taken = [name for name in (CONFIG, METRICS, EVALUATIONS) if (folder / name).exists()]
        taken += [str(path.relative_to(folder)) for path in _checkpoints(folder)]
    if taken and not overwrite:
        raise JaxrlError(
            f"{folder} already holds a run ({taken[0]} exists). Use `--overwrite` to start again, "
            f"or `jaxrl resume {folder}` to go on."
        )


def refuse_links(folder: Path | str) -> None:
    """Refuse to write where a folder of the run leads elsewhere: what lies there is not this run's.

    Where there is no folder for its checkpoints either: that would be found only after its records
    were changed.
    """
    place = Path(folder) / CHECKPOINTS
    if os.path.lexists(place) and not os.path.islink(place) and not os.path.isdir(place):
        raise JaxrlError(f"{place} is no folder: put one in its place, or remove it.")
    for name in FOLDERS:
        path = Path(folder) / name
        if os.path.islink(path):
            raise JaxrlError(
                f"{path} is a symbolic link to {os.readlink(path)}: jaxrl writes and removes only "
                "inside the run folder itself. Put a folder in its place (the run folder as a "
                "whole may be a link)."
            )


def create(folder: Path | str, description: dict, overwrite: bool = False) -> Path:
    """Make a run folder whose config.json holds `description`; the caller holds its lock.

    A folder that already holds a run is refused; with `overwrite` that run's files, and only those,
    are removed. NaN and infinities are kept (as Python's json writes them), since the run is
    rebuilt from this.
    """
    folder = Path(folder)
    # What cannot be written is refused before anything is removed.
    plain(description, name="description")
    with file_errors("use the run folder", folder):
        folder.mkdir(parents=True, exist_ok=True)
    check_free(folder, overwrite)
    refuse_links(folder)
    with file_errors("use the run folder", folder):
        if overwrite:
            _remove_run(folder)
        (folder / CHECKPOINTS).mkdir(exist_ok=True)
        (folder / PLOTS).mkdir(exist_ok=True)
    write_description(folder, description)
    return folder


def fresh_folder(algorithm: str, environment: str) -> Path:
    """Make runs/ALGORITHM-ENVIRONMENT-TIME, with a counter where another process was first."""
    names = "-".join([algorithm, environment]).replace("/", "-").replace(":", "-")
    # A file system takes 255 bytes, with the time and a counter.
    names = names.encode()[:200].decode(errors="ignore")
    name = f"{names}-{time.strftime('%Y%m%d-%H%M%S')}"
    runs = Path("runs")
    if os.path.lexists(runs) and not runs.is_dir():
        kind = "a link that leads nowhere" if runs.is_symlink() else "no folder"
        raise JaxrlError(f"runs, where run folders go, is {kind}: mend it, or say --folder.")
    with file_errors("make the folder", runs):
        runs.mkdir(exist_ok=True)
    for count in itertools.count(1):
        folder = runs / (name if count == 1 else f"{name}-{count}")
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise JaxrlError(f"cannot make the run folder {folder}: {error.strerror}.") from error
        return folder
    raise AssertionError("unreachable: the counter has no end")


def write_description(folder: Path | str, description: dict) -> None:
    """Write config.json, or replace it when a run goes on with another configuration."""
    text = json.dumps(plain(description, name="description"), indent=2) + "\n"
    write_atomically(Path(folder) / CONFIG, text.encode())


def withdraw(folder: Path | str) -> None:
    """Remove a run that has neither metrics nor checkpoints, all that `create` made but the folder.

    What it could not remove stays: there is an error on its way that matters more.
    """
    folder = Path(folder)
    recorded = [name for name in (METRICS, EVALUATIONS) if (folder / name).exists()]
    if not recorded and not _checkpoints(folder):
        with suppress(OSError):
            _remove_run(folder)
            (folder / CONFIG).unlink(missing_ok=True)


def _checkpoints(folder: Path) -> list[Path]:
    """What jaxrl.train.files.checkpoint wrote below `folder`, whole or not."""
    paths = (folder / CHECKPOINTS).glob("*")
    return [path for path in paths if path.is_dir() and CHECKPOINT_NAME.fullmatch(path.name)]


def _remove_run(folder: Path) -> None:
    """Remove what jaxrl itself wrote into `folder`; config.json stays until it is replaced."""
    files = [folder / name for name in (METRICS, EVALUATIONS, WANDB)]
    for name in (CONFIG, METRICS, EVALUATIONS, WANDB):
        files += folder.glob(f".{name}.*.tmp")
    files += [folder / PLOTS / name for name in PICTURES]
    files += (folder / TENSORBOARD).glob("events.out.tfevents.*")
    for path in files:
        path.unlink(missing_ok=True)
    for path in _checkpoints(folder):
        if is_checkpoint(path):
            shutil.rmtree(path)
        else:
            set_aside(path)
    for path in segment_files(folder / CHECKPOINTS / ROWS):
        path.unlink()
    shutil.rmtree(folder / PROFILE / "plugins" / "profile", ignore_errors=True)
    for name in (
        f"{CHECKPOINTS}/{ROWS}",
        CHECKPOINTS,
        PLOTS,
        TENSORBOARD,
        f"{PROFILE}/plugins",
        PROFILE,
    ):
        with suppress(OSError):
            (folder / name).rmdir()


def segment_files(folder: Path) -> list[Path]:
    """The files of rows in checkpoints/rows that jaxrl wrote, whole or begun; follows no link."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return [
        path
        for path in folder.iterdir()
        if SEGMENT.fullmatch(path.name) and file_size(path) is not None
    ]


def file_size(path: Path) -> int | None:
    """The size of a regular file in bytes; None of what is none, or is not there."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def is_checkpoint(path: Path) -> bool:
    """Whether a folder is one that jaxrl made, whole or begun: only such a one is ever removed."""
    if path.is_symlink() or not path.is_dir():
        return False
    try:
        manifest = records.read_json(path / MANIFEST)
    except (OSError, ValueError):
        return not any(path.iterdir())  # killed before its first byte
    return isinstance(manifest, dict) and {"iteration", "leaves"} <= manifest.keys()


def set_aside(path: Path) -> Path:
    """Give what is damaged a name that nothing reads or removes: it may be all there is."""
    for count in itertools.count(1):
        target = path.with_name(f"damaged-{count}-{path.name.lstrip('.')}")
        if not target.exists() and not target.is_symlink():
            os.rename(path, target)
            return target
    raise AssertionError("unreachable: the counter has no end")


def read_description(folder: Path | str) -> dict:
    """The description that `create` wrote; errors name the nearest run folders or the damage."""
    folder = Path(folder)
    path = folder / CONFIG
    if not _is_file(path):
        raise JaxrlError(f"{folder} is not a run folder: it has no {CONFIG}. {_neighbours(folder)}")
    with file_errors("read", path), problems():
        return records.read_description(path)


def _is_file(path: Path) -> bool:
    """Whether there is a file; an error where that may not be known."""
    with file_errors("read", path):
        try:
            return stat.S_ISREG(os.stat(path).st_mode)
        except PermissionError:
            raise
        except (OSError, ValueError):  # not there, nor can it be: a name that is too long, a loop
            return False


def check_can_record(folder: Path) -> None:
    """Refuse a run folder in which a run could not write, before it has trained for nothing."""
    for path in (folder, folder / CHECKPOINTS, folder / METRICS):
        if os.path.lexists(path) and not os.access(path, os.W_OK):
            raise Denied(
                f"cannot use the run folder {folder}: you may not write to {path}. Choose another "
                "folder, or copy this one."
            )


def check_writable(path: Path) -> None:
    """Refuse to begin work whose result could not be written to `path` in the end."""
    place = path.parent
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if os.path.isdir(place) and not os.access(place, os.W_OK | os.X_OK):
        raise JaxrlError(
            f"cannot write {path}: you may not write in {place}. Name another file: --output PATH."
        )


def _neighbours(folder: Path) -> str:
    """Advice for a wrong folder: the run folders in it, or else beside it; nearest names first."""
    for parent in (folder, folder.parent):
        runs = sorted(path.parent.name for path in parent.glob(f"*/{CONFIG}"))
        near = difflib.get_close_matches(folder.name, runs, n=3, cutoff=0.5)
        if near:
            return f"Did you mean {' or '.join(str(parent / name) for name in near)}?"
        if runs:
            more = ", …" if len(runs) > 5 else ""
            return f"Runs in {parent}: {', '.join(runs[:5])}{more}."
    return f"There is no run in {folder.parent} either."


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """One line per difference, as "config.gamma: 0.99 -> 0.95"; [] where both say the same."""
    if isinstance(old, dict) and isinstance(new, dict):
        lines = []
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{path}.{key}" if path else str(key)
            if key not in new:
                lines.append(f"{inner}: {_text(old[key])} -> (absent)")
            elif key not in old:
                lines.append(f"{inner}: (absent) -> {_text(new[key])}")
            else:
                lines += differences(old[key], new[key], inner)
        return lines
    before, after = _text(old), _text(new)
    return [] if before == after else [f"{path}: {before} -> {after}"]


def _text(value: Any) -> str:
    """A value as JSON text, which also compares tuples with lists and NaN with NaN."""
    return json.dumps(plain(value), sort_keys=True)
