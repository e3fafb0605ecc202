"""Where the records of a run go: metrics.jsonl, and TensorBoard or Weights & Biases if asked for.

A row is {"iteration", "transitions", "seconds", metric: number or nested list [H][S]}, H
hyperparameter settings by S seeds. The graphical sinks draw the mean over seeds and, up to 16 of
them, each seed by itself.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxrl.analysis.records import read_json
from jaxrl.errors import JaxrlError, unknown
from jaxrl.train.files.folder import (
    TENSORBOARD,
    WANDB,
    file_errors,
    plain,
    problems,
    write_atomically,
)
from jaxrl.train.files.logs import COUNTERS, append_metrics, read_metrics

MOST_SEEDS = 16


class Sink(Protocol):
    """Something that takes rows."""

    def write(self, row: dict[str, Any]) -> None:
        """Take one row."""

    def close(self) -> None:
        """Bring everything that was written to where it belongs."""


class JsonlSink:
    """Rows as lines of the run folder's metrics.jsonl."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = folder

    def write(self, row: dict[str, Any]) -> None:
        """Append the row; it is on its way to the disk when this returns."""
        append_metrics(self.folder, row)

    def close(self) -> None:
        """Nothing is held open between rows."""


class TensorBoardSink:
    """Rows as TensorBoard scalars over transitions, in the run folder's tensorboard/.

    A resumed run goes on where metrics.jsonl ends: TensorBoard hides what was drawn beyond.
    """

    def __init__(self, folder: Path | str) -> None:
        try:
            from tensorboardX import SummaryWriter
        except ImportError as error:
            raise _not_installed("TensorBoard", "tensorboardX") from error
        path = Path(folder) / TENSORBOARD
        with file_errors("write", path):
            past = read_metrics(folder)
            purge = past[-1].get("transitions", 0) + 1 if past else None
            self._writer = SummaryWriter(str(path), purge_step=purge, flush_secs=10)

    def write(self, row: dict[str, Any]) -> None:
        """Draw every series of the row at its number of transitions."""
        for name, value in series(row).items():
            self._writer.add_scalar(name, value, row["transitions"])

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


class WandbSink:
    """Rows as one Weights & Biases run, which a resumed run continues by its id in wandb.json."""

    def __init__(
        self,
        project: str,
        folder: Path | str,
        description: dict[str, Any] | None = None,
    ) -> None:
        try:
            import wandb
        except ImportError as error:
            raise _not_installed("Weights & Biases", "wandb") from error
        path = Path(folder) / WANDB
        if not path.exists():
            write_atomically(
                path, json.dumps({"project": project, "id": uuid.uuid4().hex[:16]}).encode()
            )
        self._run = wandb.init(
            **_known_run(path),
            name=Path(folder).name,
            config=plain(description or {}),
            dir=str(folder),
            resume="allow",
        )
        self._run.define_metric("*", step_metric="transitions")

    def write(self, row: dict[str, Any]) -> None:
        """Log every series of the row, with its counters."""
        counters = {name: row[name] for name in COUNTERS if name in row}
        self._run.log({**counters, **series(row)})

    def close(self) -> None:
        """Upload what is left."""
        self._run.finish()


class Sinks:
    """metrics.jsonl and the named sinks ("tensorboard", "wandb") as one; none if `names` is None.

    A `with` block closes them all.
    """

    def __init__(
        self,
        folder: Path | str,
        names: Iterable[str] | None = (),
        description: dict[str, Any] | None = None,
        project: str = "jaxrl",
    ) -> None:
        makers: dict[str, Callable[[], Sink]] = {
            "jsonl": lambda: JsonlSink(folder),
            "tensorboard": lambda: TensorBoardSink(folder),
            "wandb": lambda: WandbSink(project, folder, description),
        }
        names = [] if names is None else dict.fromkeys(["jsonl", *names])
        for name in names:
            if name not in makers:
                raise unknown("sink", name, makers)
        self._sinks: list[Sink] = []
        try:
            for name in names:
                self._sinks.append(makers[name]())
        except BaseException:
            self.close()
            raise

    def write(self, row: dict[str, Any]) -> None:
        """Hand the row to every sink."""
        for sink in self._sinks:
            sink.write(row)

    def close(self) -> None:
        """Close every sink, even if another one fails."""
        with ExitStack() as stack:
            while self._sinks:
                stack.callback(self._sinks.pop().close)

    def __enter__(self) -> Sinks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def series(row: dict[str, Any]) -> dict[str, float]:
    """The scalar series of a row: "loss".

    Where H > 1 it is "loss/setting1", and where 1 < S <= 16 each seed has "…/seed3" besides. Values
    that are not finite are left out, of the means as well.
    """
    found: dict[str, float] = {}
    for name, values in row.items():
        if name in COUNTERS:
            continue
        table = np.array(plain(values, name=name), np.float64)  # None becomes NaN
        if table.ndim > 2:
            raise JaxrlError(
                f"metric {name} has shape {table.shape}, but must be a number or [H][S]."
            )
        table = np.atleast_2d(table)
        for setting, seeds in enumerate(table):
            label = f"{name}/setting{setting}" if len(table) > 1 else name
            finite = seeds[np.isfinite(seeds)]
            if finite.size:
                found[label] = float(finite.mean())
            if 1 < seeds.size <= MOST_SEEDS:
                found |= {
                    f"{label}/seed{i}": float(x) for i, x in enumerate(seeds) if np.isfinite(x)
                }
    return found


def _known_run(path: Path) -> dict[str, str]:
    """The project and id in wandb.json, and nothing else of it: the folder may be a stranger's."""
    with file_errors("read", path), problems():
        found = read_json(path)
    for name in ("project", "id"):
        value = found.get(name) if isinstance(found, dict) else None
        if not isinstance(value, str) or not re.fullmatch(r"[\w.-]{1,128}", value, re.ASCII):
            raise JaxrlError(f"{path}: {name} is {value!r:.60}, but must be a name.")
    return {name: found[name] for name in ("project", "id")}


def _not_installed(what: str, package: str) -> JaxrlError:
    """The error for a sink whose package is missing."""
    return JaxrlError(
        f"{what} needs the package {package}. Install it with: pip install 'jaxrl[track]'"
    )
