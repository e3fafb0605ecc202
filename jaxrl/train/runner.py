"""The runner: compiled chunks, and between them metrics, evaluation, checkpoints and stopping."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl.analysis.ranking import member_scores
from jaxrl.analysis.records import (
    COUNTS,
    LENGTHS,
    MEASURE,
    RETURNS,
    modes_of,
    ranking_returns,
)
from jaxrl.config import override
from jaxrl.errors import JaxrlError, RunWarning
from jaxrl.train import resuming
from jaxrl.train.best import Best
from jaxrl.train.blame import advice
from jaxrl.train.callbacks import Callback, Pause, Steering, names_of
from jaxrl.train.devices import distributed
from jaxrl.train.experiment import Experiment
from jaxrl.train.files import logs
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.output.console import Console, Progress
from jaxrl.train.output.sinks import Sinks
from jaxrl.train.player import EvaluationStopped, Played
from jaxrl.train.program import Program
from jaxrl.train.scores import finite_mean, mean_of_pair
from jaxrl.train.signals import StopSignals
from jaxrl.types import PyTree

# A row of metrics, and so a chance to stop, at least this often: transitions of all members
# together.
TRANSITIONS_PER_ROW = 2_000_000
ROWS_PER_RUN = 100
# A kill costs at most this much, however far apart the evaluations are.
SECONDS_PER_CHECKPOINT = 300.0


class Result(NamedTuple):
    """How a run ended; times and speeds are of this session."""

    experiment: Experiment
    folder: Path
    iteration: int
    num_iterations: int
    evaluated_iteration: int  # -1: not yet
    signal: int | None  # the signal that stopped it early, if one did
    trained_iterations: int  # 0: there was nothing left to do
    # Of the last evaluation, [H, S, E] by mode, the one that ranks policies first.
    returns: dict[str, np.ndarray]
    # Of a random and of an expert policy, where the environment has them.
    reference_scores: tuple[float, float] | None
    steps_per_second: float  # of all members, in `unit`, while training
    compile_seconds: float
    unit: str = "transitions"  # of the budget


class Diverged(JaxrlError):
    """The loss or the policy is no longer a number; the newest checkpoint is of before that."""


class Runner:
    """One run: its programs, its folder and its sinks.

    One that goes on saves to the `checkpoints` that it was read from.
    """

    def __init__(
        self,
        experiment: Experiment,
        program: Program,
        folder: Path,
        sinks: tuple[str, ...],
        console: Console,
        *,
        checkpoints: Checkpoints | None = None,
        callbacks: Sequence[Callback] = (),
        steering: Steering | None = None,
    ) -> None:
        self.experiment = experiment
        self.program = program
        self.folder = folder
        self.console = console
        self.checkpoints = checkpoints or Checkpoints(folder)
        self.evaluations: logs.Evaluations = {}
        self.sink_names = sinks if distributed.is_first() else None
        self.description = resuming.describe(experiment, program)
        self.num_iterations = program.algorithm.budget.steps
        self.samples_per_step = program.algorithm.budget.per_step
        self.counter = COUNTS[program.algorithm.budget.unit]
        count = min(experiment.run.num_evaluations, self.num_iterations)
        self.evaluation_points = {self.num_iterations * k // count for k in range(count + 1)}
        self.num_members = int(np.prod(program.shape))
        largest = TRANSITIONS_PER_ROW // (self.samples_per_step * self.num_members)
        self.row_length = max(1, min(largest, self.num_iterations // ROWS_PER_RUN))
        self.saved_at = time.monotonic()
        self.training_seconds = 0.0
        self.trained_iterations = 0
        self.lost = np.zeros(program.shape, bool)  # members that are not finite any more
        self.callbacks = callbacks
        self.steering = steering or Steering()
        self.saved_steering = self.steering.saved()
        if self.steering.has_changes:  # also of a run that goes on without its callbacks
            program.steer(self.steering)
        self.metrics: dict[str, np.ndarray] = {}  # of the last chunk

    def run(self, state: PyTree, iteration: int, seconds: float) -> Result:
        """Train to the end of the budget, or until a signal asks to stop."""
        self.seconds = seconds
        self.evaluations = logs.load_evaluations(self.folder)
        self.metrics = logs.last_metrics(self.folder) if self.callbacks else {}
        self.best = Best(
            self.checkpoints, self.program.shape, self.program.player.abstract_policies()
        )
        begun = set(np.asarray(self.evaluations.get("iteration", ())).tolist())
        due = iteration not in begun and (iteration in self.evaluation_points or not begun)
        if iteration < self.num_iterations:
            self.console.note(
                f"{self.folder}: iteration {iteration} of {self.num_iterations}; compiling comes "
                "first"
            )
        sinks = Sinks(self.folder, self.sink_names, self.experiment.description())
        with StopSignals() as self.stop, sinks as self.sinks, self._progress() as bar:
            self.lost = ~distributed.to_host(self.program.is_finite(state))
            if iteration < self.num_iterations and self.lost.all():
                raise Diverged(
                    f"the policy of iteration {iteration} is NaN or infinite before it is trained."
                )
            stopping = False
            if distributed.max_over_processes(due and distributed.is_first()):
                stopping = self.evaluate_and_save(state, iteration, bar)
            signal, _ = self._agreed()
            # Before a pause there must have been its evaluation.
            stopping = stopping or self.pause(iteration) or bool(signal)
            while iteration < self.num_iterations and not stopping:
                following = self._boundary(iteration)
                state = self.train_chunk(state, iteration, following, bar)
                iteration = following
                is_point = iteration in self.evaluation_points
                if is_point:
                    stopping = self.evaluate_and_save(state, iteration, bar)
                signal, overdue = self._agreed()
                stopping = stopping or self.pause(iteration) or bool(signal)
                if (stopping or overdue) and not is_point:
                    self.save(state, iteration)
        return self._result(iteration, signal or None)

    def _agreed(self) -> tuple[int, bool]:
        """(a signal that any process has received, or 0; whether a checkpoint is due in any)."""
        overdue = time.monotonic() - self.saved_at > SECONDS_PER_CHECKPOINT
        signal, due = distributed.max_over_processes([self.stop.received or 0, overdue]).tolist()
        return signal, bool(due)

    def pause(self, iteration: int) -> bool:
        """Call the callbacks between two chunks; whether one of them wants the run to stop here."""
        if not self.callbacks:
            return False
        evaluated = int(self.evaluations["iteration"][-1]) == iteration
        pause = Pause(
            folder=self.folder,
            iteration=iteration,
            num_iterations=self.num_iterations,
            transitions=iteration * self.samples_per_step,
            metrics=self.metrics,
            returns=self._returns() if evaluated else {},
            config=override(self.experiment.config, self.steering.numbers),
            env=self.program.env if self.steering.env is None else self.steering.env,
            steering=self.steering,
        )
        for callback in self.callbacks:
            callback(pause)
        if self.steering.has_changes:
            self.program.steer(self.steering)
        return bool(distributed.max_over_processes(pause.stopping))

    def _returns(self) -> dict[str, np.ndarray]:
        """Returns of the last evaluation, [H, S, E] by mode."""
        return {mode: self.evaluations[mode + RETURNS][-1] for mode in modes_of(self.evaluations)}

    def train_chunk(self, state: PyTree, iteration: int, following: int, bar: Progress) -> PyTree:
        """Train from `iteration` to `following`, and record one row of metrics."""
        # A checkpoint holds what was set before its pause: a run that goes on from it pauses there
        # again.
        self.saved_steering = self.steering.saved()
        compiled = self.program.compile_seconds
        begun = time.perf_counter()
        state, metrics = self.program.chunk(state, following - iteration)
        metrics = distributed.to_host(metrics)
        elapsed = time.perf_counter() - begun - (self.program.compile_seconds - compiled)
        self.training_seconds += elapsed
        self.trained_iterations += following - iteration
        self.seconds += elapsed
        means = {name: mean_of_pair(pair) for name, pair in metrics.items()}
        self.metrics = means
        broken = {
            name: (pair.count > 0) & ~np.isfinite(means[name]) for name, pair in metrics.items()
        }
        self._check_finite(state, broken, (iteration, following))
        count = following * self.samples_per_step
        bar.exclude(self.program.compile_seconds - compiled)
        self.sinks.write(
            {"iteration": following, self.counter: count, "seconds": self.seconds, **means}
        )
        bar.update(following, episode_return=finite_mean(means.get("episode_return")))
        return state

    def evaluate_and_save(self, state: PyTree, iteration: int, bar: Progress) -> bool:
        """Evaluate the policies in `state` and save it, as the newest and perhaps as the best.

        The evaluation is written last: a kill before that leaves a checkpoint, whose evaluation is
        then done again. So does a signal that comes before it is done: returns whether one came.
        """

        def each_piece(played: Played) -> bool:
            bar.evaluating(played)
            return self.stop.requested()

        compiled = self.program.compile_seconds
        policies = self.program.policies(state)
        try:
            episodes = self.program.evaluate(policies, iteration, each_piece)
        except EvaluationStopped:
            self.save(state, iteration)
            return True
        measured = self.program.measure(state, iteration)
        bar.exclude(self.program.compile_seconds - compiled)
        row: dict[str, Any] = {
            "iteration": iteration,
            self.counter: iteration * self.samples_per_step,
        }
        for mode, played in episodes.items():
            row[mode + RETURNS] = self._of_finite_members(np.asarray(played.returns))
            row[mode + LENGTHS] = played.lengths
        for name, values in measured.items():
            row[MEASURE + name] = self._of_finite_members(values)
        old = self.evaluations
        self.evaluations = {
            name: np.append(old[name], [value], 0) if old else np.asarray([value])
            for name, value in row.items()
        }
        self.save(state, iteration)
        ranking = ranking_returns(row)
        whole = self.program.whole(policies)
        self.best.offer(iteration, member_scores(ranking), whole, self.description)
        if self.experiment.run.keep_policies:
            described = {"description": resuming.fixed(self.description)}
            self.checkpoints.keep_policies(iteration, whole, described)
        if distributed.is_first():
            logs.save_evaluations(self.folder, self.evaluations)
        self.sinks.evaluation(row)
        bar.update(iteration, evaluation_return=finite_mean(ranking))
        return False

    def save(self, state: PyTree, iteration: int) -> None:
        """Save a checkpoint."""
        vouched: dict[str, Any] = {}
        if distributed.is_first():
            vouched = logs.vouch(self.folder, self.evaluations, iteration)
        description = {"description": resuming.fixed(self.description)}
        found: dict[str, Any] = {"iteration": iteration, "seconds": self.seconds}
        if self.callbacks or self.steering.has_changes:
            found |= {"callbacks": names_of(self.callbacks), "steering": self.saved_steering}
        policies = self.program.whole(self.program.policies(state))
        self.checkpoints.save(
            iteration, self.program.whole(state), found | description | vouched, policies
        )
        self.saved_at = time.monotonic()

    def _of_finite_members(self, values: np.ndarray) -> np.ndarray:
        """Values [H, S, ...], NaN for diverged members: their policies act, but mean nothing."""
        trailing = (1,) * (values.ndim - 2)
        lost = np.reshape(self.lost, self.program.shape + trailing)
        return np.where(lost, np.float32(np.nan), values)

    def _boundary(self, iteration: int) -> int:
        """The next iteration at which the host has something to do."""
        next_evaluation = min(point for point in self.evaluation_points if point > iteration)
        return min(next_evaluation, (iteration // self.row_length + 1) * self.row_length)

    def _check_finite(
        self, state: PyTree, broken: dict[str, np.ndarray], between: tuple[int, int]
    ) -> None:
        """Stop once no member is finite any more; warn when some are not.

        What was saved before is the last good state: nothing is saved that has not passed here, or
        as the first state. A policy can be the first to break: metrics are measured before the
        update that breaks it.
        """
        broken = broken | {"policy": ~distributed.to_host(self.program.is_finite(state))}
        names = [name for name, bad in broken.items() if np.any(bad)]
        names.sort(key=lambda name: name != "loss")  # the loss is named first
        lost = distributed.max_over_processes(np.any(np.stack(list(broken.values())), 0))
        when = f"between iterations {between[0]} and {between[1]} (not finite: {', '.join(names)})"
        if lost.all():
            saved = self.checkpoints.iterations()[-1]
            raise Diverged(
                f"{names[0]} became NaN or infinite {when}. The last good state is saved: "
                f"iteration {saved} in {self.folder}. "
                + advice(self.program, self.checkpoints, self.experiment.environment)
            )
        if np.any(lost & ~self.lost):
            warnings.warn(
                f"{self._names(lost)} diverged {when}; the others go on", RunWarning, stacklevel=4
            )
        self.lost = lost

    def _names(self, members: np.ndarray) -> str:
        """The marked members of a population by setting and seed: "learning_rate=0.1 seed=3, …"."""
        settings = self.experiment.settings()
        names = []
        for index, offset in np.argwhere(members):
            parts = [f"{name}={value:g}" for name, value in settings[index].items()]
            parts.append(f"seed={self.experiment.run.seed + offset}")
            names.append(" ".join(parts))
        more = f" and {len(names) - 8} more" if len(names) > 8 else ""
        return ", ".join(names[:8]) + more

    def _progress(self) -> Progress:
        return self.console.progress(self.num_iterations, self.samples_per_step, self.num_members)

    def _result(self, iteration: int, signal: int | None) -> Result:
        evaluations = self.evaluations
        steps = self.trained_iterations * self.samples_per_step * self.num_members
        return Result(
            experiment=self.experiment,
            folder=self.folder,
            iteration=iteration,
            num_iterations=self.num_iterations,
            evaluated_iteration=int(evaluations["iteration"][-1]) if evaluations else -1,
            signal=signal,
            trained_iterations=self.trained_iterations,
            returns=self._returns(),
            reference_scores=self.program.reference_scores,
            unit=self.program.algorithm.budget.unit,
            steps_per_second=steps / max(self.training_seconds, 1e-9),
            compile_seconds=self.program.compile_seconds,
        )
