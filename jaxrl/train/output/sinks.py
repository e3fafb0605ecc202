"""Where the records of a run go: metrics.jsonl, and TensorBoard or Weights & Biases if asked for.

A row is {"iteration", "transitions", "seconds", metric: number or nested list [H][S]}, H
hyperparameter settings by S seeds; runs of gradient steps have "updates". The graphical
sinks draw the mean over seeds and, up to 16 of them, each seed by itself; evaluations reach them as
well, which evaluations.npz holds in full. One that fails is given up with a warning: a run does not
depend on how it is watched.
"""

from __future__ import annotations

import json
import os
import re
import uuid
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from jaxrl.analysis.records import (
    COUNTS,
    LENGTHS,
    RETURNS,
    counter_of,
    counters_of,
    measures_of,
    modes_of,
    read_json,
)
from jaxrl.config import install_command
from jaxrl.errors import JaxrlError, RunWarning, unknown
from jaxrl.train.files.folder import (
    TENSORBOARD,
    WANDB,
    file_errors,
    plain,
    problems,
    write_atomically,
)
from jaxrl.train.files.logs import append_metrics, read_metrics

MOST_SEEDS = 16
PROJECT = "jaxrl"  # of Weights & Biases, unless WANDB_PROJECT names one


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
            purge = past[-1].get(counter_of(past[-1]), 0) + 1 if past else None
            self._writer = SummaryWriter(str(path), purge_step=purge, flush_secs=10)

    def write(self, row: dict[str, Any]) -> None:
        """Draw every series of the row at its number of transitions, or of gradient steps."""
        for name, value in series(row).items():
            self._writer.add_scalar(name, value, row[counter_of(row)])

    def close(self) -> None:
        """Flush and close the event file."""
        self._writer.close()


class WandbSink:
    """Rows as one Weights & Biases run, which a resumed run continues by its id in wandb.json.

    W&B's own variables say the rest: WANDB_PROJECT, WANDB_ENTITY, WANDB_RUN_GROUP, WANDB_TAGS,
    WANDB_NAME, WANDB_DIR, WANDB_MODE, … The first two are kept, for a run goes on where it began.
    """

    def __init__(self, folder: Path | str, description: dict[str, Any] | None = None) -> None:
        try:
            from wandb import init  # which a mere folder of that name does not have
        except ImportError as error:
            raise _not_installed("Weights & Biases", "wandb") from error
        path = Path(folder) / WANDB
        if not path.exists():
            begun = {
                "project": os.environ.get("WANDB_PROJECT") or PROJECT,
                "id": os.environ.get("WANDB_RUN_ID") or uuid.uuid4().hex[:16],
            }
            if entity := os.environ.get("WANDB_ENTITY"):
                begun["entity"] = entity
            _check_run(begun, "the environment of this process")
            write_atomically(path, json.dumps(begun).encode())
        # What is given here counts for more than W&B's variables.
        ours = {"name": ("WANDB_NAME", Path(folder).name), "dir": ("WANDB_DIR", str(folder))}
        usual = {
            name: value for name, (variable, value) in ours.items() if variable not in os.environ
        }
        self._run = init(
            **_known_run(path), **usual, config=plain(description or {}), resume="allow"
        )
        counter = COUNTS[(description or {}).get("unit", "transitions")]
        self._run.define_metric("*", step_metric=counter)

    def write(self, row: dict[str, Any]) -> None:
        """Log every series of the row, with its counters."""
        counters = {name: row[name] for name in counters_of(row) if name in row}
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
    ) -> None:
        makers: dict[str, Callable[[], Sink]] = {
            "tensorboard": lambda: TensorBoardSink(folder),
            "wandb": lambda: WandbSink(folder, description),
        }
        for name in names or ():
            if name not in makers:
                raise unknown("sink", name, makers)
        self._records = None if names is None else JsonlSink(folder)
        self._graphical: dict[str, Sink] = {}
        for name in dict.fromkeys(names or ()):
            try:
                self._graphical[name] = makers[name]()
            except BaseException as error:
                self.close()
                if isinstance(error, JaxrlError) or not isinstance(error, Exception):
                    raise
                raise JaxrlError(f"{name} does not begin: {_in_words(error)}") from error

    def write(self, row: dict[str, Any]) -> None:
        """Hand a row of metrics to every sink."""
        if self._records is not None:
            self._records.write(row)
        self._draw(row)

    def evaluation(self, row: Mapping[str, Any]) -> None:
        """Show an evaluation where there is something to see it on (see `scores`)."""
        self._draw(scores(row))

    def close(self) -> None:
        """Close every sink, even if another one fails."""
        while self._graphical:
            name, sink = self._graphical.popitem()
            try:
                sink.close()
            except Exception as error:
                _give_up(name, error)

    def _draw(self, row: dict[str, Any]) -> None:
        for name, sink in list(self._graphical.items()):
            try:
                sink.write(row)
            except Exception as error:  # a full disk, a lost connection
                del self._graphical[name]
                _give_up(name, error)

    def __enter__(self) -> Sinks:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def scores(row: Mapping[str, Any]) -> dict[str, Any]:
    """An evaluation as a row: means over the episodes of each mode, [H, S], under "evaluation/".

    `row` holds MODE_returns and MODE_lengths, [H, S, E], and measures, of which those are taken
    that are one number for each member.
    """
    found: dict[str, Any] = {name: row[name] for name in counters_of(row) if name in row}
    for mode in modes_of(row):
        found[f"evaluation/{mode}_return"] = np.mean(row[mode + RETURNS], axis=2)
        found[f"evaluation/{mode}_length"] = np.mean(row[mode + LENGTHS], axis=2)
    for name, values in measures_of(row).items():
        if np.ndim(values) == 2:
            found[f"evaluation/{name}"] = values
    return found


def series(row: dict[str, Any]) -> dict[str, float]:
    """The scalar series of a row: "loss".

    Where H > 1 it is "loss/setting1", and where 1 < S <= 16 each seed has "…/seed3" besides. Values
    that are not finite are left out, of the means as well.
    """
    found: dict[str, float] = {}
    counters = counters_of(row)
    for name, values in row.items():
        if name in counters:
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
    known = {}
    if isinstance(found, dict):
        known = {name: found[name] for name in ("project", "id", "entity") if name in found}
    return _check_run(known, str(path))


def _check_run(known: dict[str, Any], where: str) -> dict[str, str]:
    """Refuse what cannot name a run of Weights & Biases; say `where` it is from."""
    for name in {"project": "", "id": ""} | known:
        value = known.get(name)
        if not isinstance(value, str) or not re.fullmatch(r"[\w. -]{1,128}", value, re.ASCII):
            raise JaxrlError(f"{where}: {name} is {value!r:.60}, but must be a name.")
    return known


def _give_up(name: str, error: Exception) -> None:
    """Say that a sink gets nothing more."""
    text = f"{name} failed and gets nothing more; the run goes on: {_in_words(error)}"
    warnings.warn(text, RunWarning, stacklevel=4)


def _in_words(error: Exception) -> str:
    """The kind of an error and its first line."""
    return f"{type(error).__name__}: {(str(error).strip() or 'without a message').splitlines()[0]}"


def _not_installed(what: str, package: str) -> JaxrlError:
    """The error for a sink whose package is missing."""
    return JaxrlError(
        f"{what} needs the package {package}. Install it with: {install_command('jaxrl[track]')}"
    )
