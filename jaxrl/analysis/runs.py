"""Reading a run folder into numpy: config.json, metrics.jsonl and evaluations.npz."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.analysis.records import (
    CONFIG,
    COUNTS,
    EVALUATIONS,
    METRICS,
    RETURNS,
    counter_of,
    measures_of,
    modes_of,
    ranking_returns,
    read_description,
    read_evaluations,
    read_rows,
)


@dataclass(frozen=True)
class Run:
    """What a run left on disk. Axes: K evaluations, H hyperparameter settings, S seeds, E episodes.

    config:      config.json, whole.
    metrics:     one dict per line of metrics.jsonl; empty when nothing was logged yet.
    evaluations: `iteration` and `transitions` (or another unit, see `unit`) [K]; of each mode
                 `MODE_returns` and `MODE_lengths`
                 [K, H, S, E]; of each measure `measure_NAME` [K, H, S, ...]; empty when the run was
                 not evaluated yet.
    """

    folder: Path
    name: str
    config: dict[str, Any]
    metrics: list[dict[str, Any]]
    evaluations: dict[str, np.ndarray]

    @property
    def algorithm(self) -> str:
        """The algorithm's name, as in `jaxrl train ppo …`."""
        return self.config["algorithm"]

    @property
    def environment(self) -> str:
        """The environment's (or the dataset's) name."""
        return self.config["environment"]

    @property
    def unit(self) -> str:
        """What the run counts: transitions, or gradient steps."""
        found = self.config.get("unit")
        return found if isinstance(found, str) and found in COUNTS else "transitions"

    @property
    def counts(self) -> np.ndarray:
        """How far it was at each evaluation, in `unit`, [K]."""
        return self.evaluations[counter_of(self.evaluations)]

    @property
    def sweep(self) -> dict[str, list[Any]]:
        """The swept hyperparameters' values; {} for a single setting."""
        return self.config.get("sweep") or {}

    @property
    def settings(self) -> list[dict[str, Any]]:
        """The H settings in their order along the H axis: [{}] without a sweep.

        Lists of H values each are read side by side, others as a grid: the last varies fastest.
        """
        values = list(self.sweep.values())
        count = ranking_returns(self.evaluations).shape[1] if self.evaluations else None
        grid = math.prod(len(entry) for entry in values)
        if values and count != grid and all(len(entry) == count for entry in values):
            rows = list(zip(*values, strict=True))
        elif count in (None, grid):
            rows = list(itertools.product(*values))
        else:
            raise ValueError(
                f"{self.folder}: {EVALUATIONS} holds {count} settings, but the sweep of {CONFIG} "
                f"has {grid}."
            )
        return [dict(zip(self.sweep, row, strict=True)) for row in rows]

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes of acting that were evaluated, if any, first the one that ranks policies."""
        return modes_of(self.evaluations)

    def returns(self, mode: str | None = None) -> np.ndarray:
        """Evaluation returns of one mode, the first by default, as means of episodes [K, H, S]."""
        if not self.evaluations:
            raise ValueError(f"{self.folder} has no {EVALUATIONS} yet: the run was not evaluated.")
        if mode is None:
            mode = self.modes[0]
        if mode not in self.modes:
            raise ValueError(
                f"{self.folder} was not evaluated in mode {mode!r}. There are: "
                f"{', '.join(self.modes)}."
            )
        return self.evaluations[mode + RETURNS].mean(axis=-1, dtype=np.float64)

    def measure(self, name: str) -> np.ndarray:
        """A measure at each evaluation, [K, H, S, ...]; NaN for members that had diverged."""
        found = measures_of(self.evaluations)
        if name not in found:
            raise ValueError(
                f"{self.folder}: no measure {name!r}. There are: "
                f"{', '.join(sorted(found)) or 'none'}."
            )
        return found[name]

    def metric(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A logged metric: (how far [L], in `unit`; values [L] or [L, H, S], NaN if undefined)."""
        counter = COUNTS[self.unit]
        rows = [row for row in self.metrics if name in row and counter in row]
        if not rows:
            known = sorted({key for row in self.metrics for key in row})
            raise ValueError(
                f"{self.folder}: no metric {name!r}. Logged are: {', '.join(known) or 'none'}."
            )
        counts = np.array([row[counter] for row in rows], np.int64)
        return counts, np.array([row[name] for row in rows], np.float64)


def load_run(folder: str | Path) -> Run:
    """Read a run folder, of a finished run or of one still going.

    config.json must be there; metrics.jsonl and evaluations.npz appear as the run gets to them. The
    last line of metrics.jsonl may be torn (a run that is writing, or was killed while it wrote): it
    is left out.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(
            f"{folder} is no folder. A run folder holds {CONFIG}, {METRICS} and {EVALUATIONS}."
        )
    if not (folder / CONFIG).is_file():
        raise ValueError(f"{folder} is no run folder: {CONFIG} is missing.")
    metrics = read_rows(folder / METRICS)
    if metrics.damaged:
        raise ValueError(f"{folder / METRICS}, line {metrics.damaged[0]} is no row of metrics.")
    return Run(
        folder=folder,
        name=folder.resolve().name,
        config=read_description(folder / CONFIG, required=("algorithm", "environment")),
        metrics=metrics.rows,
        evaluations=read_evaluations(folder / EVALUATIONS),
    )
