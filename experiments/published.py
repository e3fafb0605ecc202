"""What the experiments that reproduce published scores share: a run folder a task, its score,
a table's cell."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from jaxrl.analysis.runs import load_run
from jaxrl.analysis.statistics import mean_interval
from jaxrl.train.experiment import Experiment
from jaxrl.train.files.folder import read_description, write_atomically
from jaxrl.train.loop import resume, train
from jaxrl.train.output.console import Console
from jaxrl.train.runner import Result
from jaxrl.train.trust import NOBODY

RESULTS = Path(__file__).parent / "results"


def train_or_resume(experiment: Experiment, folder: Path, console: Console) -> None:
    """Train into `folder`, go on with what is there, or leave it if it has finished."""
    if is_finished(folder):
        return
    if (folder / "config.json").exists():
        stop_if_stopped(
            resume(folder, console=console, trust=NOBODY.also(*experiment.run.measures))
        )
        return
    stop_if_stopped(train(experiment, folder, console=console))


def stop_if_stopped(result: Result) -> None:
    """End the program if a signal ended its run early: what is there is no result,
    and no other run is to begin."""
    if result.signal and result.iteration < result.num_iterations:
        sys.exit(128 + result.signal)


def is_finished(folder: Path) -> bool:
    """Whether a run has had its last evaluation."""
    if not (folder / "evaluations.npz").exists():
        return False
    evaluated = load_run(folder).evaluations["iteration"]
    return len(evaluated) > 0 and evaluated[-1] == read_description(folder)["num_iterations"]


def score(folder: Path) -> dict:
    """The last evaluation of a run as plain data, in both modes;
    the score is that of the deterministic one."""
    run, description = load_run(folder), read_description(folder)
    deterministic, stochastic = (
        run.returns(mode)[-1, 0] for mode in ("deterministic", "stochastic")
    )
    low, high = mean_interval(deterministic) if len(deterministic) > 1 else (None, None)
    return {
        "task": run.environment,
        "score": float(deterministic.mean()),
        "low": low,
        "high": high,
        "stochastic": float(stochastic.mean()),
        "seed_scores": [float(each) for each in deterministic],
        "seed_scores_stochastic": [float(each) for each in stochastic],
        "seeds": list(range(len(deterministic))),
        "episodes_a_seed": int(run.evaluations["deterministic_returns"].shape[-1]),
        "transitions": description["num_iterations"] * description["samples_per_step"],
        "training_seconds": run.metrics[-1]["seconds"],
        "settings": description["config"],
        "versions": description["versions"],
    }


def interval(row: dict | None, decimals: int = 0) -> str:
    """A table's cell: the mean return of the deterministic mode,
    and its interval if there is more than one seed."""
    if row is None:
        return ""
    numbers = [
        f"{row[name]:.{decimals}f}" for name in ("score", "low", "high") if row[name] is not None
    ]
    return numbers[0] if len(numbers) == 1 else f"{numbers[0]} [{numbers[1]}, {numbers[2]}]"


def markdown(header: list[str], rows: list[list]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(map(str, cells))} |" for cells in lines)


def write(name: str, record: object, text: str) -> None:
    """NAME.json and NAME.md under experiments/results/."""
    RESULTS.mkdir(exist_ok=True)
    write_atomically(
        RESULTS / f"{name}.json", (json.dumps(record, indent=1, allow_nan=False) + "\n").encode()
    )
    write_atomically(RESULTS / f"{name}.md", (text + "\n").encode())
