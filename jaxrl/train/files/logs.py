"""What a run records as it goes, metrics and evaluations, and what checkpoints vouch for."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.analysis import records
from jaxrl.analysis.records import EVALUATIONS, METRICS, Rows, ranking_returns
from jaxrl.errors import JaxrlError
from jaxrl.train.files.folder import (
    Denied,
    file_errors,
    plain,
    problems,
    set_aside,
    write_atomically,
)

Evaluations = dict[str, np.ndarray]


def append_metrics(folder: Path | str, row: dict) -> None:
    """Append one row to metrics.jsonl with a single write; NaN and infinities become null."""
    path = Path(folder) / METRICS
    line = (json.dumps(plain(row, lambda _: None, "metrics"), allow_nan=False) + "\n").encode()
    with file_errors("write", path):
        # No link is followed, and a pipe that nobody reads is an error instead of a wait.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o644)
        try:
            size = os.fstat(descriptor).st_size
            if os.write(descriptor, line) != len(line):
                os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(descriptor)


def metric_rows(folder: Path | str) -> Rows:
    """The lines of metrics.jsonl, and which of them are damaged."""
    path = Path(folder) / METRICS
    with file_errors("read", path), problems():
        return records.read_rows(path)


def read_metrics(folder: Path | str) -> list[dict]:
    """The rows of metrics.jsonl in order, without torn ones; [] where there is no file."""
    return metric_rows(folder).rows


def last_metrics(folder: Path | str) -> dict[str, np.ndarray]:
    """The metrics of the last row, [H, S] or [] by name; {} without a row.

    NaN where there was nothing to average.
    """
    rows = read_metrics(folder)
    last = rows[-1] if rows else {}
    counters = records.counters_of(last)
    return {
        name: np.asarray(value, np.float64) for name, value in last.items() if name not in counters
    }


def truncate_metrics(folder: Path | str, iteration: int) -> Path | None:
    """Drop the rows after `iteration`, and torn lines: a resumed run must not write them twice.

    Where a line that was once whole cannot be read, the file as it was is kept under the name that
    is returned.
    """
    path = Path(folder) / METRICS
    if not path.is_file():
        return _aside(path)
    found = metric_rows(folder)
    rows = zip(found.lines, found.rows, strict=True)
    kept = b"".join(line + b"\n" for line, row in rows if row["iteration"] <= iteration)
    with file_errors("write", path):
        # What has a second name may be somebody's backup: it is replaced, not appended to.
        same = path.read_bytes() == kept and path.stat().st_nlink == 1 and not path.is_symlink()
        aside = set_aside(path) if found.damaged else None
    if not same:
        write_atomically(path, kept)
    return aside


def save_evaluations(folder: Path | str, evaluations: dict[str, Any]) -> None:
    """Replace evaluations.npz by these arrays, in this order.

    Their names and axes are those of `jaxrl.analysis.runs.Run`.
    """
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: np.asarray(values) for name, values in evaluations.items()}
    np.savez(buffer, **arrays)
    write_atomically(Path(folder) / EVALUATIONS, buffer.getvalue())


def load_evaluations(folder: Path | str) -> Evaluations:
    """The arrays of evaluations.npz; {} where nothing was evaluated yet."""
    path = Path(folder) / EVALUATIONS
    with file_errors("read", path), problems():
        return records.read_evaluations(path)


def _aside(path: Path) -> Path | None:
    """Set aside whatever lies at `path`, and say where it is now; None if nothing does."""
    with file_errors("set aside", path):
        return set_aside(path) if os.path.lexists(path) else None


def set_aside_records(
    folder: Path | str, names: Iterable[str] = (METRICS, EVALUATIONS)
) -> list[Path]:
    """Keep what a run has recorded under names that nothing reads, which are returned."""
    moved = [_aside(Path(folder) / name) for name in names]
    return [path for path in moved if path is not None]


def truncate_evaluations(
    folder: Path | str, iteration: int, vouched: dict[str, Any] | None = None
) -> Path | None:
    """Drop the evaluations after `iteration`.

    A file that is damaged, or not the run's by what is `vouched` for, is kept under the name that
    is returned.
    """
    try:
        evaluations = load_evaluations(folder)
    except Denied:
        raise
    except JaxrlError:
        return _aside(Path(folder) / EVALUATIONS)
    if vouched and _are_others(evaluations, vouched, iteration):
        return _aside(Path(folder) / EVALUATIONS)
    kept = until(evaluations, iteration + 1)
    if len(points(kept)) < len(points(evaluations)):
        save_evaluations(folder, kept)
    return None


def points(evaluations: Evaluations) -> np.ndarray:
    """The iterations that were evaluated, [K]."""
    return np.asarray(evaluations.get("iteration", np.zeros(0, np.int64)))


def until(evaluations: Evaluations, iteration: int) -> Evaluations:
    """The evaluations before `iteration`."""
    before = points(evaluations) < iteration
    return {name: np.asarray(values)[before] for name, values in evaluations.items()}


def vouch(folder: Path | str, evaluations: Evaluations, iteration: int) -> dict[str, Any]:
    """What a checkpoint of `iteration` says of the records beside it: their number, and checksums.

    The rows are made durable first, for a checkpoint must not outlive what it vouches for. An
    evaluation is written after the checkpoint of its own iteration: it may be missing, but if it is
    there, it is vouched for (`with_last`).
    """
    path = Path(folder) / METRICS
    data = b""
    with file_errors("write", path):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                data = file.read()
    whole = data[: data.rfind(b"\n") + 1]
    found = {"rows": whole.count(b"\n"), "rows_sha256": _sha256(whole)}
    last = _of_evaluations(until(evaluations, iteration + 1))["evaluations_sha256"]
    shape = list(ranking_returns(evaluations).shape[1:]) if evaluations else []
    return (
        found
        | _of_evaluations(until(evaluations, iteration))
        | {"shape": shape, "with_last_sha256": last}
    )


def lost(folder: Path | str, vouched: dict[str, Any], iteration: int) -> list[str]:
    """What a checkpoint of `iteration` vouched for and is gone or altered: a sentence per file."""
    return [
        *_lost_rows(Path(folder), vouched, iteration),
        *_lost_evaluations(Path(folder), vouched, iteration),
    ]


def _lost_rows(folder: Path, vouched: dict[str, Any], iteration: int) -> list[str]:
    path = folder / METRICS
    expected = vouched.get("rows", 0)
    with file_errors("read", path):
        data = path.read_bytes() if path.is_file() else b""
    lines = data.split(b"\n")
    first = b"".join(line + b"\n" for line in lines[:expected]) if len(lines) > expected else b""
    if _sha256(first) == vouched.get("rows_sha256", _sha256(first)):
        return []
    count = sum(row["iteration"] <= iteration for row in read_metrics(folder))
    if count == expected:
        return [
            f"{path} was changed: its rows up to iteration {iteration} are not those that the run "
            "wrote"
        ]
    return [f"{path} holds {count} of the {expected} rows up to iteration {iteration}"]


def _lost_evaluations(folder: Path, vouched: dict[str, Any], iteration: int) -> list[str]:
    path = folder / EVALUATIONS
    try:
        past = until(load_evaluations(folder), iteration)
    except Denied:
        raise
    except JaxrlError as error:
        return [str(error)]
    missing = sorted(set(vouched.get("evaluated", ())) - set(points(past).tolist()))
    if missing:
        return [f"{path} lacks the evaluations of iterations {', '.join(map(str, missing))}"]
    if _are_others(load_evaluations(folder), vouched, iteration):
        return [
            f"{path} was changed: its numbers up to iteration {iteration} are not those of the run"
        ]
    return []


def _are_others(evaluations: Evaluations, vouched: dict[str, Any], iteration: int) -> bool:
    """Whether evaluations have other shapes or numbers than is vouched for; some may be missing."""
    if not evaluations:
        return False
    shape = list(ranking_returns(evaluations).shape[1:])
    if vouched.get("shape") not in (None, [], shape):
        return True
    past = until(evaluations, iteration)
    known = vouched.get("evaluated", ())
    if set(known) - set(points(past).tolist()):
        return False
    checks = [(past, "evaluations_sha256")]
    if iteration in points(evaluations):
        checks.append((until(evaluations, iteration + 1), "with_last_sha256"))
    return any(
        _of_evaluations(each)["evaluations_sha256"] != vouched[name]
        for each, name in checks
        if name in vouched
    )


def _of_evaluations(evaluations: Evaluations) -> dict[str, Any]:
    """Which iterations were evaluated, and a checksum of the results; no file counts as none."""
    total = hashlib.sha256()
    if len(points(evaluations)):
        for name, values in sorted(evaluations.items()):
            total.update(f"{name} {values.dtype} {values.shape}".encode())
            total.update(np.ascontiguousarray(values).tobytes())
    return {"evaluated": points(evaluations).tolist(), "evaluations_sha256": total.hexdigest()}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
