"""What the experiments that train share: run folders that resume, what was asked of them,
scores and cells of tables."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from harness import Cell, StudyArguments, same_request, save

from jaxrl.analysis.plots import plot_comparison
from jaxrl.analysis.runs import Run, load_run
from jaxrl.analysis.statistics import mean_interval
from jaxrl.data import formats, store
from jaxrl.data.formats import own
from jaxrl.errors import JaxrlError
from jaxrl.train import datasets
from jaxrl.train.experiment import Experiment
from jaxrl.train.files import state_arrays
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.folder import CHECKPOINTS, CONFIG, MANIFEST, read_description
from jaxrl.train.files.verified import ARRAYS
from jaxrl.train.loop import resume, train
from jaxrl.train.output.console import Console
from jaxrl.train.runner import Result
from jaxrl.train.saved import open_policies
from jaxrl.train.trust import NOBODY

ASKED_OF_RUN = (
    *("seed", "num_seeds", "evaluation_episodes", "num_evaluations"),
    *("modes", "measures"),
)
MODES = ("deterministic", "stochastic")
EPISODES, SCORING_SEED = 100, 3_000_000  # that score a policy which becomes a part of jaxrl


@dataclass(frozen=True)
class TrainingArguments(StudyArguments):
    """What every study of trainings can be asked."""

    runs: Path = Path("runs")
    """Where the run folders go."""


def request(experiment: Experiment) -> dict[str, Any]:
    """All that decides the numbers of a run, as plain data."""
    return request_of(experiment.description())


def request_of(description: dict[str, Any]) -> dict[str, Any]:
    """The same of a run folder's description.

    Of devices it says nothing: seeds may be dealt out to any number of them.
    """
    names = ("algorithm", "environment", "environment_options", "config", "sweep")
    about = {name: description[name] for name in names}
    run = description["run"]  # an older one does not tell all of them
    return about | {"run": {name: run[name] for name in ASKED_OF_RUN if name in run}}


def train_or_resume(experiment: Experiment, folder: Path, console: Console) -> None:
    """Train into `folder`, go on with what is there, or leave it if it has finished.

    A run of other settings that is there is replaced.
    """
    if not holds(folder, experiment):
        train_anew(experiment, folder, console)
    elif not is_finished(folder):
        names = experiment.environment, *map(str, request(experiment)["config"].values())
        trust = NOBODY.also(*experiment.run.measures, *names)  # those that are package.module:Name
        stop_if_stopped(resume(folder, console=console, trust=trust))


def train_anew(experiment: Experiment, folder: Path, console: Console) -> Run:
    """What a run leaves that is trained from the beginning, whatever is in the folder."""
    stop_if_stopped(train(experiment, folder, overwrite=True, console=console))
    return load_run(folder)


def holds(folder: Path, experiment: Experiment) -> bool:
    """Whether a run of this experiment, finished or not, is in the folder."""
    if not (folder / "config.json").exists():
        return False
    before = request_of(read_description(folder))
    return same_request(request(experiment), before, type(experiment.config)())


def stop_if_stopped(result: Result) -> None:
    """End the program if a signal ended its run early: what is there is no result,
    and no other run is to begin."""
    if result.signal and result.iteration < result.num_iterations:
        sys.exit(128 + result.signal)


def ensure_built(dataset: str, console: Console) -> None:
    """Build a dataset of ours, if it is not there; refuse a small one, of which nothing is told."""
    path = store.place(dataset)
    if path.exists() and own.outline(path)[0].get("small"):
        raise JaxrlError(
            f"{path} is the small {dataset}: `jaxrl dataset build {dataset} --overwrite` makes it "
            "whole."
        )
    if not path.exists():
        console.note(f"building {dataset}")
        path.parent.mkdir(parents=True, exist_ok=True)
        formats.write_as(own.NAME, path, datasets.build(dataset))


def is_finished(folder: Path) -> bool:
    """Whether a run has had its last evaluation."""
    if not (folder / "evaluations.npz").exists():
        return False
    evaluated = load_run(folder).evaluations["iteration"]
    return len(evaluated) > 0 and evaluated[-1] == read_description(folder)["num_iterations"]


def scored(
    experiment: Experiment,
    folder: Path,
    console: Console,
    cpu_seconds_per_transition: float,
    known: dict[str, Any] | None = None,
) -> Cell:
    """The cell of a run that is trained into `folder`: its score, beside what is known of it."""

    def measure() -> dict[str, Any]:
        console.note(f"{folder}")
        train_or_resume(experiment, folder, console)
        return score(folder) | (known or {})

    transitions = experiment.config.total_steps * experiment.run.num_seeds
    hours = transitions * cpu_seconds_per_transition / 3600
    return Cell(request(experiment), measure, hours, type(experiment.config)())


def score(folder: Path) -> dict[str, Any]:
    """The last evaluation of a run as plain data, in both modes;
    the score is that of the deterministic one."""
    run, description = load_run(folder), read_description(folder)
    deterministic, stochastic = (
        run.returns(mode)[-1, 0] for mode in ("deterministic", "stochastic")
    )
    return {
        "task": run.environment,
        **over_seeds(deterministic, description["run"]["seed"]),
        "stochastic": float(stochastic.mean()),
        "seed_scores_stochastic": [float(each) for each in stochastic],
        "episodes_per_seed": int(run.evaluations["deterministic_returns"].shape[-1]),
        "transitions": description["num_iterations"] * description["samples_per_step"],
        "training_seconds": run.metrics[-1]["seconds"],
        "versions": description["versions"],
    }


def over_seeds(scores: Sequence[float], first: int = 0) -> dict[str, Any]:
    """The mean of the scores of seeds `first`, `first` + 1, …, with its interval if there is more
    than one."""
    low, high = mean_interval(scores) if len(scores) > 1 else (None, None)
    return {
        "score": float(np.mean(scores)),
        "low": low,
        "high": high,
        "seed_scores": [float(each) for each in scores],
        "seeds": list(range(first, first + len(scores))),
    }


def export(folder: Path, checkpoint: str, target: Path) -> dict[str, Any]:
    """Make a run folder of nothing but one policy, with its score as that of its best."""
    saved = open_policies(folder, checkpoint, EPISODES, SCORING_SEED)
    iteration = saved.iteration
    episodes = saved.player.evaluate(saved.policies, iteration)
    returns = {mode: played.returns[0, 0] for mode, played in episodes.items()}
    description = read_description(folder)
    shutil.rmtree(target, ignore_errors=True)
    save(target / CONFIG, json.dumps(description, indent=1))
    scores = [[float(returns["deterministic"].mean())]]
    about = {"scores": scores, "iterations": [[iteration]], "description": description}
    with tempfile.TemporaryDirectory() as elsewhere:  # what lies beside it there is left behind
        Checkpoints(Path(elsewhere)).save_best(
            iteration, state_arrays.host_leaves(saved.policies), about
        )
        shutil.copytree(elsewhere, target, dirs_exist_ok=True)
    for checkpoint in (target / CHECKPOINTS).iterdir():
        forget_place(checkpoint)
    return {
        "transitions": iteration * description["samples_per_step"],
        "episodes": EPISODES,
        "seed": SCORING_SEED,
        **{mode: float(values.mean()) for mode, values in returns.items()},
        **{f"{mode}_deviation": float(values.std(ddof=1)) for mode, values in returns.items()},
    }


def forget_place(checkpoint: Path) -> None:
    """Take out of a checkpoint where it was saved, which Orbax notes beside the arrays."""
    arrays, manifest = checkpoint / ARRAYS, json.loads((checkpoint / MANIFEST).read_text())
    note = arrays / "commit_success.txt"
    note.write_text("Checkpoint commit was successful")
    manifest["files"][note.name] = hashlib.sha256(note.read_bytes()).hexdigest()
    values = state_arrays.load_arrays(arrays, manifest["leaves"])
    manifest["sha256"] = state_arrays.digest(manifest, values)
    (checkpoint / MANIFEST).write_text(json.dumps(manifest, indent=1))


def interval(row: dict[str, Any] | None, decimals: int = 0) -> str:
    """A table's cell: the mean return of the deterministic mode,
    and its interval if there is more than one seed."""
    if row is None:
        return ""
    numbers = [
        f"{row[name]:.{decimals}f}" for name in ("score", "low", "high") if row[name] is not None
    ]
    return numbers[0] if len(numbers) == 1 else f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"


def draw_curves(folders: Sequence[Path], path: Path, labels: Sequence[str] | None = None) -> None:
    """Learning curves of finished runs. They are in the run folders alone: without all of these,
    the picture that there is stays as it is."""
    if folders and all(map(is_finished, folders)):
        plot_comparison([load_run(folder) for folder in folders], path, labels)
