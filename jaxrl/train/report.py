"""What a run leaves behind for people: its summary, its pictures, evaluations of its policies."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl.analysis import plots, video
from jaxrl.analysis.runs import load_run
from jaxrl.analysis.statistics import mean_interval
from jaxrl.envs.registry import describe, environment_ids, summary
from jaxrl.errors import JaxrlError
from jaxrl.train.checkpoint import Checkpoints, Restored
from jaxrl.train.console import Console, human
from jaxrl.train.experiment import Experiment
from jaxrl.train.folder import read_description
from jaxrl.train.loop import Result
from jaxrl.train.program import Program
from jaxrl.train.record import record_episode


def finish(result: Result, experiment: Experiment, console: Console) -> int:
    """Print how a run ended and draw its curve; returns the exit status (128 + signal if one stopped it)."""
    console.summary(score_rows(experiment, result.deterministic_returns, result.stochastic_returns), "final evaluation")
    picture = plot([result.folder], None)
    speed = f"{human(result.steps_per_second)} environment steps/s"
    console.note(f"training      {speed}, compiled in {result.compile_seconds:.1f} s")
    console.note(f"run folder    {result.folder}")
    console.note(f"checkpoint    {Checkpoints(result.folder).newest}")
    console.note(f"curve         {picture}")
    if result.signal is None:
        return 0
    stopped = f"stopped by signal {result.signal} after iteration {result.iteration}"
    console.note(f"{stopped}; go on: jaxrl resume {result.folder}")
    return 128 + result.signal


def score_rows(experiment: Experiment, deterministic: np.ndarray, stochastic: np.ndarray) -> list[dict[str, Any]]:
    """A row for each setting and kind of action: mean return, its 95 % interval, episodes, seeds."""
    rows = []
    for index, setting in enumerate(experiment.settings()):
        for kind, returns in (("likeliest", deterministic[index]), ("sampled", stochastic[index])):
            # Several seeds: the interval is over seeds, whose episodes are not independent draws.
            scores = returns.mean(-1) if len(returns) > 1 else returns[0]
            low, high = mean_interval(scores) if np.all(np.isfinite(scores)) else (np.nan, np.nan)
            row = {"actions": kind, "return": float(returns.mean()), "95% low": low, "95% high": high}
            rows.append(setting | row | {"episodes": returns.size, "seeds": len(returns)})
    return rows


def experiment_of(folder: Path) -> Experiment:
    """The experiment that a run folder holds."""
    return Experiment.from_description(read_description(folder))


def restore(folder: Path, checkpoint: str, num_episodes: int, seed: int | None = None) -> tuple[Program, Restored]:
    """A run's programs and its best or last state."""
    experiment = experiment_of(folder)
    run = dataclasses.replace(experiment.run, evaluation_episodes=num_episodes)
    program = dataclasses.replace(experiment, run=run).program(evaluation_seed=seed)
    checkpoints = Checkpoints(folder)
    load = checkpoints.restore_best if checkpoint == "best" else checkpoints.restore_latest
    return program, load(program.abstract_state())


def evaluate(folder: Path, num_episodes: int, checkpoint: str, seed: int, console: Console) -> int:
    """Evaluate a saved policy on fresh episodes and print a table."""
    program, restored = restore(folder, checkpoint, num_episodes, seed)
    for problem in restored.problems:
        console.note(problem)
    deterministic, stochastic = jax.device_get(program.evaluate(restored.state, restored.iteration))
    rows = score_rows(experiment_of(folder), deterministic.returns, stochastic.returns)
    console.summary(rows, f"{folder}: {checkpoint} checkpoint, iteration {restored.iteration}")
    return 0


def plot(folders: list[Path], output: Path | None) -> Path:
    """One run's curve, one sweep's result, or several runs against each other."""
    runs = [load_run(folder) for folder in folders]
    target = folders[0] / "plots"
    if len(runs) > 1:
        return plots.plot_comparison(runs, output or target / "comparison.png")
    if runs[0].sweep:
        return plots.plot_sweep(runs[0], output or target / "sweep.png")
    return plots.plot_learning_curve(runs[0], output or target / "learning_curve.png")


def render(folder: Path, checkpoint: str, seed: int, deterministic: bool, output: Path | None) -> Path:
    """Draw one episode of a saved policy (of the first member of a population)."""
    environment = read_description(folder)["environment"]
    program, restored = restore(folder, checkpoint, num_episodes=1)
    shape = program.env.observation_space.shape
    if not video.can_draw(environment, shape):
        raise JaxrlError(f"jaxrl cannot draw {environment}: it draws classic control and grids such as MinAtar.")
    frames, rewards = record_episode(program, restored.state, jax.random.key(seed), deterministic)
    images = video.caption(video.draw(environment, frames), np.cumsum(rewards), environment)
    return video.write_gif(images, output or folder / "plots" / "episode.gif")


def environments(text: str, console: Console) -> None:
    """Print every environment whose id contains `text`, by suite."""
    for suite, ids in environment_ids().items():
        rows = []
        for environment_id in (one for one in ids if text.lower() in one.lower()):
            found = describe(environment_id)
            rows.append(
                {
                    "environment": environment_id,
                    "observations": summary(found.observation_space),
                    "actions": summary(found.action_space),
                    "time limit": found.horizon,
                }
            )
        console.summary(rows, suite)
