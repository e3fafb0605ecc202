"""Reading a run folder into numpy: config.json, metrics.jsonl and evaluations.npz."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    read_description,
    read_evaluations,
    read_rows,
)
from jaxrl.analysis.series import (
    EVALUATION,
    Series,
    evaluation_names,
    evaluation_series,
    members_of,
    metric_names,
    metric_series,
)
from jaxrl.errors import JaxrlError, install_command, unknown

if TYPE_CHECKING:
    import pandas

SECONDS = "seconds"
GRADIENT_STEPS = "gradient_steps"
# How far a run was, of which a long table has the counts of its runs.
PROGRESS = ("iteration", *COUNTS.values(), SECONDS)


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
    def is_sampled(self) -> bool:
        """Whether the swept values were drawn, so that each setting has those of one place."""
        return bool(self.config.get("sampled"))

    @property
    def settings(self) -> list[dict[str, Any]]:
        """The H settings in their order along the H axis: [{}] without a sweep.

        Lists of H values each are read side by side, others as a grid: the last varies fastest.
        """
        values = list(self.sweep.values())
        found = members_of(self.metrics, self.evaluations)
        count = found and found[0]
        grid = math.prod(len(entry) for entry in values)
        side_by_side = count != grid and all(len(entry) == count for entry in values)
        if values and (self.is_sampled or side_by_side):
            rows = list(zip(*values, strict=True))
        elif count in (None, grid):
            rows = list(itertools.product(*values))
        else:
            raise ValueError(
                f"{self.folder}: {EVALUATIONS if self.evaluations else METRICS} holds {count} "
                f"settings, but the sweep of {CONFIG} has {grid}."
            )
        return [dict(zip(self.sweep, row, strict=True)) for row in rows]

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes of acting that were evaluated, if any, first the one that ranks policies."""
        return modes_of(self.evaluations)

    @property
    def members(self) -> tuple[int, int]:
        """(H, S): how many settings and seeds there are."""
        found = members_of(self.metrics, self.evaluations)
        return found or (len(self.settings), 1)

    @property
    def seeds(self) -> list[int]:
        """The S seeds, in order."""
        first = (self.config.get("run") or {}).get("seed")
        first = first if isinstance(first, int) else 0
        return list(range(first, first + self.members[1]))

    @property
    def score(self) -> str:
        """The name of what ranks policies: the return in the first mode that was evaluated."""
        self.returns()  # refuses a run that was not evaluated
        return f"{EVALUATION}{self.modes[0]}_return"

    @property
    def names(self) -> list[str]:
        """The names of all that was recorded: metrics of training, then evaluations."""
        return metric_names(self.metrics) + evaluation_names(self.evaluations)

    @property
    def axes(self) -> list[str]:
        """What the horizontal axis of its curves may count."""
        counter = COUNTS[self.unit]
        counts_gradient_steps = self.unit == "gradient steps" or any(
            GRADIENT_STEPS in row for row in self.metrics
        )
        return ["iteration", counter, SECONDS, *([GRADIENT_STEPS] * counts_gradient_steps)]

    def series(self, name: str) -> Series:
        """Whatever was recorded, by its name: "loss", or "evaluation/deterministic_return"."""
        if name not in self.names:
            if not self.names:
                raise JaxrlError(f"{self.folder} recorded nothing yet, so there is no {name!r}.")
            raise unknown(f"metric of {self.folder}", name, self.names)
        if name in metric_names(self.metrics):
            return metric_series(self.metrics, name, self.members, self.folder / METRICS)
        return evaluation_series(self.metrics, self.evaluations, name)

    def along(self, series: Series, axis: str) -> np.ndarray:
        """Where the points [L] of a series lie on one of `axes`."""
        if axis not in self.axes:
            raise unknown(f"x of {self.folder}", axis, self.axes)
        if axis == SECONDS and np.isnan(series.seconds).any():
            raise JaxrlError(f"{self.folder}: x is seconds, which {METRICS} does not have.")
        if axis == GRADIENT_STEPS and self.unit != "gradient steps":
            return self._gradient_steps(series.iteration)
        return {"iteration": series.iteration, SECONDS: series.seconds}.get(axis, series.counts)

    def _gradient_steps(self, iteration: np.ndarray) -> np.ndarray:
        """Gradient steps so far, as the mean of the members; each row averages over iterations."""
        taken = self.series(GRADIENT_STEPS)
        per_iteration = np.nan_to_num(taken.values).mean(axis=(1, 2))
        steps = np.cumsum(per_iteration * np.diff(taken.iteration, prepend=0))
        return np.interp(iteration, [0, *taken.iteration], [0.0, *steps])

    def rows(self, name: str | None = None) -> Iterator[dict[str, Any]]:
        """All that was recorded in long format: a row per number, metric, member and point.

        Args:
            name: what the column `run` says; the folder's name unless given.

        Yields:
            run, algorithm, environment, setting ("learning_rate=0.001", empty without a sweep),
            seed, iteration, the run's count by its own name (transitions, updates or episodes),
            seconds of training, metric, value. Evaluations are means over their episodes.
        """
        counter, seeds = COUNTS[self.unit], self.seeds
        settings = [setting_name(setting) for setting in self.settings]
        for metric in self.names:
            series = self.series(metric)
            for point, values in enumerate(series.values):
                for (setting, seed), value in np.ndenumerate(values):
                    yield {
                        "run": self.name if name is None else name,
                        "algorithm": self.algorithm,
                        "environment": self.environment,
                        "setting": settings[setting],
                        "seed": seeds[seed],
                        "iteration": int(series.iteration[point]),
                        counter: int(series.counts[point]),
                        SECONDS: float(series.seconds[point]),
                        "metric": metric,
                        "value": float(value),
                    }

    def frame(self) -> pandas.DataFrame:
        """`rows` as a pandas DataFrame; undefined values are NaN."""
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise JaxrlError(
                f"Run.frame() needs the package pandas. Install it with: "
                f"{install_command('pandas')}"
            ) from error
        return pandas.DataFrame(self.rows(), columns=columns([self]))

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


def columns(runs: Sequence[Run]) -> list[str]:
    """The columns of the long format of `runs`, whose counts may differ."""
    counts = {COUNTS[run.unit] for run in runs}
    progress = [name for name in PROGRESS if name in counts or name not in COUNTS.values()]
    return ["run", "algorithm", "environment", "setting", "seed", *progress, "metric", "value"]


def names_of(runs: Sequence[Run]) -> list[str]:
    """What tells runs apart: the names of their folders or, where two are the same, their paths."""
    names = [run.name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.folder) for run in runs]


def tasks_of(runs: Sequence[Run]) -> list[str]:
    """What each run was trained on: its environment, with options where others had others there."""
    options = [run.config.get("environment_options") or {} for run in runs]
    told = [json.dumps(each, sort_keys=True) for each in options]
    pairs = {(run.environment, each) for run, each in zip(runs, told, strict=True)}
    places = [environment for environment, _ in pairs]
    return [
        run.environment
        if places.count(run.environment) == 1
        else ", ".join([run.environment, *(f"{name}={value}" for name, value in each.items())])
        for run, each in zip(runs, options, strict=True)
    ]


def setting_name(setting: Mapping[str, Any]) -> str:
    """A setting of a sweep as `--member` takes it: "learning_rate=0.003,gamma=0.9"."""
    return ",".join(f"{name}={value}" for name, value in setting.items())


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
