"""The run folder: config.json, metrics.jsonl, evaluations.npz, checkpoints/ and plots/.

Everything in it can be read without jaxrl. Whole files are replaced atomically and metrics are appended a
line at a time, so that a run which is killed at any moment leaves a folder that can be read and resumed.
"""

from __future__ import annotations

import difflib
import errno
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.errors import JaxrlError

CONFIG, METRICS, EVALUATIONS = "config.json", "metrics.jsonl", "evaluations.npz"
CHECKPOINTS, PLOTS, TENSORBOARD, WANDB = "checkpoints", "plots", "tensorboard", "wandb.json"
PROFILE = "profile"
CHECKPOINT_NAME = re.compile(r"(best-)?\d{9,}|\.(tmp|replaced)-.*")
PLOT_SUFFIXES = {".png", ".pdf", ".svg"}


@contextmanager
def file_errors(action: str, path: Path | str) -> Iterator[None]:
    """Turn the operating system's errors into a JaxrlError that names the path and the cause."""
    try:
        yield
    except OSError as error:
        advice = {
            errno.ENOSPC: "The disk is full: free some space or choose another folder.",
            errno.EDQUOT: "Your disk quota is used up: free some space or choose another folder.",
            errno.EACCES: "You may not write there: choose another folder.",
            errno.EROFS: "The file system is read-only: choose another folder.",
            errno.ENOTDIR: "A part of the path is a file, not a folder: choose another folder.",
            errno.EEXIST: "The path is a file, not a folder: choose another folder.",
        }.get(error.errno or 0, "")
        cause = error.strerror or str(error)
        raise JaxrlError(f"cannot {action} {path}: {cause}. {advice}".rstrip()) from error


def plain(value: Any, non_finite: Callable[[float], Any] = float, name: str = "value") -> Any:
    """`value` as JSON can hold it: arrays become nested lists, tuples lists, NumPy and JAX scalars numbers.

    Floats below float64 are written in their shortest form (0.1, not 0.10000000149011612), which reads back
    to the same bits. `non_finite` says what becomes of NaN and infinities.
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
        raise JaxrlError(f"{name} is {value!r}, but must be made of numbers, strings, lists and dicts.")
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
    """Replace the file at `path` by `data` in one step: a reader sees the old file or the new one."""
    path = Path(path)
    with file_errors("write", path):
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
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


def create(folder: Path | str, description: dict, overwrite: bool = False) -> Path:
    """Make a run folder whose config.json holds `description`.

    A folder that already holds a run is refused; with `overwrite` that run's files, and only those, are
    removed. NaN and infinities are kept (as Python's json writes them), since the run is rebuilt from this.
    """
    folder = Path(folder)
    plain(description, name="description")  # what cannot be written is refused before anything is removed
    with file_errors("use the run folder", folder):
        folder.mkdir(parents=True, exist_ok=True)
    taken = [name for name in (CONFIG, METRICS, EVALUATIONS) if (folder / name).exists()]
    taken += [str(path.relative_to(folder)) for path in _checkpoints(folder)]
    if taken and not overwrite:
        raise JaxrlError(
            f"{folder} already holds a run ({taken[0]} exists). Use `--overwrite` to start again, "
            f"or `jaxrl resume {folder}` to go on."
        )
    with file_errors("use the run folder", folder):
        if taken:
            _remove_run(folder)
        (folder / CHECKPOINTS).mkdir(exist_ok=True)
        (folder / PLOTS).mkdir(exist_ok=True)
    write_description(folder, description)
    return folder


def write_description(folder: Path | str, description: dict) -> None:
    """Write config.json, or replace it when a run goes on with another configuration."""
    text = json.dumps(plain(description, name="description"), indent=2) + "\n"
    write_atomically(Path(folder) / CONFIG, text.encode())


def _checkpoints(folder: Path) -> list[Path]:
    """What jaxrl.train.checkpoint wrote below `folder`, whole or not."""
    paths = (folder / CHECKPOINTS).glob("*")
    return [path for path in paths if path.is_dir() and CHECKPOINT_NAME.fullmatch(path.name)]


def _remove_run(folder: Path) -> None:
    """Remove what jaxrl itself wrote into `folder`; config.json stays until the new one replaces it."""
    files = [folder / name for name in (METRICS, EVALUATIONS, WANDB)]
    for name in (CONFIG, METRICS, EVALUATIONS, WANDB):
        files += folder.glob(f".{name}.*.tmp")
    files += [path for path in (folder / PLOTS).glob("*") if path.suffix in PLOT_SUFFIXES]
    files += (folder / TENSORBOARD).glob("events.out.tfevents.*")
    for path in files:
        path.unlink(missing_ok=True)
    for path in _checkpoints(folder):
        shutil.rmtree(path)
    shutil.rmtree(folder / PROFILE / "plugins" / "profile", ignore_errors=True)
    for name in (CHECKPOINTS, PLOTS, TENSORBOARD, f"{PROFILE}/plugins", PROFILE):
        with suppress(OSError):
            (folder / name).rmdir()


def read_description(folder: Path | str) -> dict:
    """The description that `create` wrote; errors name the nearest run folders or the damage."""
    folder = Path(folder)
    path = folder / CONFIG
    if not path.is_file():
        raise JaxrlError(f"{folder} is not a run folder: it has no {CONFIG}. {_neighbours(folder)}")
    with file_errors("read", path):
        data = path.read_bytes()
    try:
        description = json.loads(data)
    except ValueError as error:
        raise JaxrlError(f"{path} is damaged: it is not valid JSON ({error}).") from error
    if not isinstance(description, dict):
        raise JaxrlError(f"{path} is damaged: it holds a {type(description).__name__}, not an object.")
    return description


def _neighbours(folder: Path) -> str:
    """Advice for a wrong folder: the run folders in it or, failing those, beside it; nearest names first."""
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
    """One line a difference, as "config.learning_rate: 0.00025 -> 0.001"; [] where both say the same."""
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


def append_metrics(folder: Path | str, row: dict) -> None:
    """Append one row to metrics.jsonl with a single write; NaN and infinities become null (strict JSON)."""
    path = Path(folder) / METRICS
    line = (json.dumps(plain(row, lambda _: None, "metrics"), allow_nan=False) + "\n").encode()
    with file_errors("write", path):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            if os.write(descriptor, line) != len(line):
                os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)


def read_metrics(folder: Path | str) -> list[dict]:
    """The rows of metrics.jsonl in order, without torn ones; [] where there is no file."""
    return [row for _, row in _rows(Path(folder) / METRICS)]


def truncate_metrics(folder: Path | str, iteration: int) -> None:
    """Drop the rows after `iteration`, and torn lines, so that a resumed run does not write them twice."""
    path = Path(folder) / METRICS
    kept = b"".join(line + b"\n" for line, row in _rows(path) if row["iteration"] <= iteration)
    if path.exists() and path.read_bytes() != kept:
        write_atomically(path, kept)


def _rows(path: Path) -> list[tuple[bytes, dict]]:
    """The lines of metrics.jsonl that are whole, each as written and as read."""
    if not path.exists():
        return []
    rows = []
    with file_errors("read", path):
        data = path.read_bytes()
    for line in data.split(b"\n")[:-1]:  # what follows the last newline is torn, or nothing
        with suppress(ValueError):
            row = json.loads(line)
            if isinstance(row, dict) and isinstance(row.get("iteration"), int):
                rows.append((line, row))
    return rows


def save_evaluations(folder: Path | str, evaluations: dict[str, Any]) -> None:
    """Replace evaluations.npz by these arrays: `iteration` and `transitions` [K], results [K, H, S, E]."""
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(values) for name, values in evaluations.items()}
    np.savez(buffer, **arrays)
    write_atomically(Path(folder) / EVALUATIONS, buffer.getvalue())


def load_evaluations(folder: Path | str) -> dict[str, np.ndarray]:
    """The arrays of evaluations.npz; {} where nothing was evaluated yet."""
    path = Path(folder) / EVALUATIONS
    if not path.exists():
        return {}
    with file_errors("read", path):
        data = path.read_bytes()
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except Exception as error:  # zipfile, zlib and NumPy each have their own
        raise JaxrlError(f"{path} is damaged ({error}). Remove it to go on without it.") from error


def truncate_evaluations(folder: Path | str, iteration: int) -> dict[str, np.ndarray]:
    """Drop the evaluations after `iteration`; returns those that are left."""
    evaluations = load_evaluations(folder)
    if evaluations:
        keep = evaluations["iteration"] <= iteration
        if not keep.all():
            evaluations = {name: values[keep] for name, values in evaluations.items()}
            save_evaluations(folder, evaluations)
    return evaluations
