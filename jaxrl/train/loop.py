"""The runner: compiled chunks, and between them, on the host, metrics, evaluation, checkpoints and stopping."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl.core.tree import copy
from jaxrl.errors import JaxrlError
from jaxrl.train import folder as run_folder
from jaxrl.train.checkpoint import Checkpoints
from jaxrl.train.console import Console, Progress
from jaxrl.train.experiment import Experiment, versions
from jaxrl.train.program import Program
from jaxrl.train.signals import StopSignals
from jaxrl.train.sinks import Sinks
from jaxrl.types import Metrics, PyTree

# A row of metrics, and so a chance to stop, at least this often: transitions of one member.
TRANSITIONS_A_ROW = 2_000_000
ROWS_A_RUN = 200


class Result(NamedTuple):
    """How a run ended. Returns are of the last evaluation, [H, S, E]."""

    folder: Path
    iteration: int
    signal: int | None  # the signal that stopped it early, if one did
    deterministic_returns: np.ndarray
    stochastic_returns: np.ndarray
    steps_per_second: float  # transitions of all members, while training
    compile_seconds: float


class Diverged(JaxrlError):
    """The loss is no longer a number; the last good state has been saved."""


def train(
    experiment: Experiment,
    folder: Path | str,
    *,
    overwrite: bool = False,
    sinks: tuple[str, ...] = (),
    console: Console | None = None,
) -> Result:
    """Train from the beginning into a new run folder."""
    program = experiment.program()
    path = run_folder.create(folder, _describe(experiment, program), overwrite)
    runner = Runner(experiment, program, path, sinks, console or Console(quiet=True))
    state = program.init()
    return runner.run(state, iteration=0, seconds=0.0)


def resume(
    folder: Path | str,
    *,
    changes: dict[str, Any] | None = None,
    force: bool = False,
    sinks: tuple[str, ...] = (),
    console: Console | None = None,
) -> Result:
    """Go on from the newest whole checkpoint. `changes` to the configuration need `force`."""
    console = console or Console(quiet=True)
    old = run_folder.read_description(folder)
    experiment = Experiment.from_description(old).changed(changes or {})
    program = experiment.program()
    new = _describe(experiment, program)
    differences = run_folder.differences(old, new)
    if differences and not force:
        lines = "\n".join(f"  {line}" for line in differences)
        raise JaxrlError(f"the run in {folder} was begun with other settings:\n{lines}\nUse --force to go on anyway.")
    restored = Checkpoints(folder).restore_latest(program.abstract_state())
    for problem in restored.problems:
        console.note(f"{problem}; going on from iteration {restored.iteration}")
    run_folder.truncate_metrics(folder, restored.iteration)
    run_folder.truncate_evaluations(folder, restored.iteration)
    if differences:
        run_folder.write_description(folder, new)
    runner = Runner(experiment, program, Path(folder), sinks, console)
    return runner.run(restored.state, restored.iteration, restored.metadata["seconds"])


def _describe(experiment: Experiment, program: Program) -> dict[str, Any]:
    algorithm = program.algorithm
    budget = {"samples_per_step": algorithm.samples_per_step, "num_iterations": algorithm.num_iterations}
    return experiment.description() | budget | {"versions": versions()}


class Runner:
    """One run: its programs, its folder and its sinks."""

    def __init__(
        self, experiment: Experiment, program: Program, folder: Path, sinks: tuple[str, ...], console: Console
    ) -> None:
        self.program, self.folder, self.console = program, folder, console
        self.checkpoints = Checkpoints(folder)
        self.sinks = Sinks(folder, sinks, experiment.description())
        self.num_iterations = program.algorithm.num_iterations
        self.samples_per_step = program.algorithm.samples_per_step
        count = min(experiment.run.num_evaluations, self.num_iterations)
        self.evaluation_points = {self.num_iterations * k // count for k in range(count + 1)}
        largest = max(1, TRANSITIONS_A_ROW // self.samples_per_step)
        self.row_length = max(1, min(largest, self.num_iterations // ROWS_A_RUN))
        self.training_seconds = 0.0
        self.trained_iterations = 0

    def run(self, state: PyTree, iteration: int, seconds: float) -> Result:
        """Train to the end of the budget, or until a signal asks to stop."""
        self.seconds = seconds
        evaluations = run_folder.load_evaluations(self.folder)
        begun = set(np.asarray(evaluations.get("iteration", ())).tolist())
        with StopSignals() as stop, self.sinks, self._progress() as bar:
            if iteration not in begun and iteration in self.evaluation_points:
                self.evaluate_and_save(state, iteration, bar)
            while iteration < self.num_iterations and stop.received is None:
                following = self._boundary(iteration)
                state = self.train_chunk(state, iteration, following, bar)
                iteration = following
                if iteration in self.evaluation_points:
                    self.evaluate_and_save(state, iteration, bar)
            if stop.received is not None and iteration not in self.evaluation_points:
                self.checkpoints.save(iteration, state, self._metadata())
        return self._result(iteration, stop.received)

    def train_chunk(self, state: PyTree, iteration: int, following: int, bar: Progress) -> PyTree:
        """Train from `iteration` to `following`, and record one row of metrics."""
        kept = copy(state)  # the chunk donates `state`
        compiled = self.program.compile_seconds
        begun = time.perf_counter()
        state, metrics = self.program.chunk(state, following - iteration)
        metrics = jax.device_get(metrics)
        elapsed = time.perf_counter() - begun - (self.program.compile_seconds - compiled)
        self.training_seconds += elapsed
        self.trained_iterations += following - iteration
        self.seconds += elapsed
        means = {name: _mean(pair) for name, pair in metrics.items()}
        self._stop_if_diverged(kept, metrics, means, iteration, following)
        transitions = following * self.samples_per_step
        bar.exclude(self.program.compile_seconds - compiled)
        self.sinks.write({"iteration": following, "transitions": transitions, "seconds": self.seconds, **means})
        bar.update(following, episode_return=_nanmean(means.get("episode_return")))
        return state

    def evaluate_and_save(self, state: PyTree, iteration: int, bar: Progress) -> None:
        """Evaluate the policies in `state`, then save it: `best` if it is, and as the newest in any case."""
        compiled = self.program.compile_seconds
        deterministic, stochastic = jax.device_get(self.program.evaluate(state, iteration))
        bar.exclude(self.program.compile_seconds - compiled)
        row = {
            "iteration": iteration,
            "transitions": iteration * self.samples_per_step,
            "deterministic_returns": deterministic.returns,
            "deterministic_lengths": deterministic.lengths,
            "stochastic_returns": stochastic.returns,
            "stochastic_lengths": stochastic.lengths,
        }
        old = run_folder.load_evaluations(self.folder)
        stacked = {
            name: np.append(old[name], [value], 0) if old else np.asarray([value]) for name, value in row.items()
        }
        run_folder.save_evaluations(self.folder, stacked)
        scores = stacked["deterministic_returns"].mean((1, 2, 3))
        if scores[-1] >= np.nanmax(scores):
            self.checkpoints.save_best(iteration, state, self._metadata())
        self.checkpoints.save(iteration, state, self._metadata())
        bar.update(iteration, evaluation_return=float(scores[-1]))

    def _boundary(self, iteration: int) -> int:
        """The next iteration at which the host has something to do."""
        next_evaluation = min(point for point in self.evaluation_points if point > iteration)
        return min(next_evaluation, (iteration // self.row_length + 1) * self.row_length)

    def _stop_if_diverged(self, kept: PyTree, metrics: Metrics, means: dict, iteration: int, following: int) -> None:
        """Save the last good state and stop, once no member of the population has finite metrics."""
        broken = {name: (pair.count > 0) & ~np.isfinite(means[name]) for name, pair in metrics.items()}
        names = [name for name, bad in broken.items() if np.any(bad)]
        if not names or not np.all(np.any(np.stack([broken[name] for name in names]), 0)):
            return
        self.checkpoints.save(iteration, kept, self._metadata())
        names.sort(key=lambda name: name != "loss")
        raise Diverged(
            f"{names[0]} became {np.ravel(means[names[0]])[0]} between iterations {iteration} and {following} "
            f"(not finite: {', '.join(names)}). The last good state is saved: iteration {iteration} in {self.folder}. "
            "A lower --learning-rate or --max-grad-norm usually helps."
        )

    def _progress(self) -> Progress:
        return self.console.progress(self.num_iterations, self.samples_per_step, int(np.prod(self.program.shape)))

    def _metadata(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def _result(self, iteration: int, signal: int | None) -> Result:
        evaluations = run_folder.load_evaluations(self.folder)
        members = int(np.prod(self.program.shape))
        transitions = self.trained_iterations * self.samples_per_step * members
        return Result(
            folder=self.folder,
            iteration=iteration,
            signal=signal,
            deterministic_returns=evaluations["deterministic_returns"][-1],
            stochastic_returns=evaluations["stochastic_returns"][-1],
            steps_per_second=transitions / max(self.training_seconds, 1e-9),
            compile_seconds=self.program.compile_seconds,
        )


def _mean(pair: Any) -> np.ndarray:
    """sum / count, NaN where nothing was counted."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pair.count > 0, np.divide(pair.sum, pair.count), np.nan)


def _nanmean(values: np.ndarray | None) -> float | None:
    """The mean over members for which there is a number; None if there is none."""
    if values is None or not np.any(np.isfinite(values)):
        return None
    return float(np.nanmean(values))
