"""PPO on classic control and MinAtar, against published scores: a table, two pictures and a JSON.

    python experiments/classic_control.py          # everything: two to three hours on two CPU cores
    python experiments/classic_control.py --quick  # smaller budgets, two to four minutes
    python experiments/classic_control.py --tasks CartPole-v1 Acrobot-v1

Every task is trained with its tuned settings (jaxrl/algos/tuned/ppo.toml) and seeds 0, 1, 2, … in
one program, into a run folder of its own under runs/. A task that has finished is not trained
again, one that was stopped is resumed; the table holds every finished task. The score is the
undiscounted return of the last policy with deterministic actions, 100 episodes a seed; the interval
is a 95 % bootstrap over seeds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import tyro
from published import RESULTS, interval, is_finished, markdown, score, train_or_resume, write

from jaxrl.analysis.plots import plot_comparison, plot_scores
from jaxrl.analysis.runs import load_run
from jaxrl.config import override
from jaxrl.train.experiment import Experiment, RunSettings, default_config
from jaxrl.train.output.console import Console


class Task(NamedTuple):
    """Budget, seeds, the score to reach, and the score that others published."""

    steps: int
    seeds: int
    goal: float
    published: float
    source: str
    quick_steps: int


TASKS = {
    "CartPole-v1": Task(500_000, 10, 495, 500, "SB3 zoo, 100k steps", 100_000),
    "Acrobot-v1": Task(1_000_000, 10, -85, -73.5, "SB3 zoo", 200_000),
    "Pendulum-v1": Task(1_000_000, 10, -200, -172.2, "SB3 zoo, gSDE, 100k steps", 300_000),
    "MountainCar-v0": Task(1_000_000, 10, -120, -110.4, "SB3 zoo", 200_000),
    "MountainCarContinuous-v0": Task(1_000_000, 10, 90, 88.3, "SB3 zoo, gSDE, 20k steps", 200_000),
    "Breakout-MinAtar": Task(10_000_000, 3, 40, 28, "gymnax-blines", 500_000),
    "SpaceInvaders-MinAtar": Task(10_000_000, 3, 150, 131, "gymnax-blines", 500_000),
    "Asterix-MinAtar": Task(10_000_000, 3, 15, 15, "gymnax-blines", 500_000),
    "Freeway-MinAtar": Task(10_000_000, 3, 55, 58, "gymnax-blines", 500_000),
}
QUICK_SEEDS = 3
NUM_EVALUATIONS = 10
QUICK_TASKS = (
    "CartPole-v1",
    "Acrobot-v1",
    "Pendulum-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Breakout-MinAtar",
)


@dataclass(frozen=True)
class Arguments:
    """PPO on classic control and MinAtar, against published scores."""

    quick: bool = False
    """Smaller budgets and three seeds: two to four minutes.
    Its results are written under another name."""
    tasks: tuple[str, ...] = tuple(TASKS)
    """Tasks to train; the table shows every task that has been trained."""
    runs: Path = Path("runs")
    """Where the run folders go."""
    report: Annotated[bool, tyro.conf.arg(name="report-only")] = False
    """Train nothing; write the table from the finished runs."""


def main(arguments: Arguments) -> None:
    """Train what is missing, then write the results."""
    name = "classic_control_quick" if arguments.quick else "classic_control"
    begun, console = time.perf_counter(), Console()
    for task in arguments.tasks:
        if not arguments.report and (not arguments.quick or task in QUICK_TASKS):
            console.note(f"{task}")
            run_task(task, arguments.runs / name / task, arguments.quick, console)
    folders = [arguments.runs / name / task for task in TASKS]
    folders = [folder for folder in folders if is_finished(folder)]
    rows = [result_row(folder) for folder in folders]
    write_results(name, rows, folders)
    console.note(table(rows))
    console.note(
        f"wrote {RESULTS / name}.json, .md and two .png in {time.perf_counter() - begun:.0f} s"
    )


def run_task(task: str, folder: Path, quick: bool, console: Console) -> None:
    """Train one task, or go on with it."""
    spec = TASKS[task]
    config, _ = default_config("ppo", task)
    config = override(config, {"total_steps": spec.quick_steps if quick else spec.steps})
    run = RunSettings(
        num_seeds=QUICK_SEEDS if quick else spec.seeds, num_evaluations=NUM_EVALUATIONS
    )
    train_or_resume(Experiment("ppo", task, config, run), folder, console)


def result_row(folder: Path) -> dict:
    """Scores of one task beside what is known of it, as plain data."""
    row = score(folder)
    task = TASKS[row["task"]]
    return row | {"goal": task.goal, "published": task.published, "source": task.source}


def table(rows: list[dict]) -> str:
    """The results in Markdown."""
    cells = []
    for row in rows:
        budget = TASKS[row["task"]].steps
        met = "met" if row["score"] >= row["goal"] else "missed"
        met = met if row["transitions"] > 0.9 * budget else f"for {budget:,} steps"
        line = [
            row["task"],
            f"{row['transitions']:,}",
            len(row["seeds"]),
            interval(row, 1),
            f"{row['stochastic']:.1f}",
        ]
        cells.append([*line, f"{row['goal']:g} ({met})", f"{row['published']:g} ({row['source']})"])
    header = [
        "task",
        "steps",
        "seeds",
        "return, deterministic [95 %]",
        "stochastic",
        "goal",
        "published (source)",
    ]
    return markdown(header, cells)


def write_results(name: str, rows: list[dict], folders: list[Path]) -> None:
    """JSON, Markdown and pictures under experiments/results/."""
    write(name, rows, table(rows))
    if rows:
        plot_scores(rows, RESULTS / f"{name}.png")
        plot_comparison([load_run(folder) for folder in folders], RESULTS / f"{name}_curves.png")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
