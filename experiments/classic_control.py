"""PPO on classic control and MinAtar, against published scores: a table, two pictures and a JSON.

    python experiments/classic_control.py          # everything: two to three hours on two CPU cores
    python experiments/classic_control.py --quick  # smaller budgets, two to four minutes
    python experiments/classic_control.py --tasks CartPole-v1 Acrobot-v1

Every task is trained with its tuned settings (jaxrl/algos/tuned/ppo.toml) and seeds 0, 1, 2, … in
one program, into a run folder of its own under runs/. A task that has finished is not trained
again, one that was stopped is resumed; the table holds every finished task. The score is the
undiscounted return of the last policy with deterministic actions, 100 episodes per seed; the
interval is a 95 % bootstrap over seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from harness import Cells, Study, check_choices, run_study, table
from training import TrainingArguments, draw_curves, interval, scored

from jaxrl.analysis.plots import plot_scores
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


CPU_SECONDS_PER_TRANSITION = 5e-5  # of one seed


@dataclass(frozen=True)
class Arguments(TrainingArguments):
    """PPO on classic control and MinAtar, against published scores."""

    tasks: tuple[str, ...] = tuple(TASKS)
    """Tasks to train; the table shows every task that has been trained."""


def study(arguments: Arguments) -> Study:
    """What is to be trained and written."""
    check_choices("task", arguments.tasks, TASKS)
    name = "classic_control_quick" if arguments.quick else "classic_control"
    folder, console = arguments.runs / name, Console()
    cells = {}
    for task in arguments.tasks:
        if not arguments.quick or task in QUICK_TASKS:
            spec, trained = TASKS[task], experiment(task, arguments.quick)
            known = {"goal": spec.goal, "published": spec.published, "source": spec.source}
            seconds = CPU_SECONDS_PER_TRANSITION
            cells[task] = scored(trained, folder / task, console, seconds, known)
    return Study(name, cells, text, partial(draw, folder))


def experiment(task: str, quick: bool) -> Experiment:
    """One task with its tuned settings."""
    spec = TASKS[task]
    config, _ = default_config("ppo", task)
    config = override(config, {"total_steps": spec.quick_steps if quick else spec.steps})
    run = RunSettings(
        num_seeds=QUICK_SEEDS if quick else spec.seeds, num_evaluations=NUM_EVALUATIONS
    )
    return Experiment("ppo", task, config, run)


def in_order(cells: Cells) -> Cells:
    """The finished tasks in the order of TASKS."""
    return {task: cells[task] for task in TASKS if task in cells}


def text(cells: Cells) -> str:
    """The results in Markdown."""
    lines = []
    for task, row in in_order(cells).items():
        budget = TASKS[task].steps
        met = "met" if row["score"] >= row["goal"] else "missed"
        met = met if row["transitions"] > 0.9 * budget else f"for {budget:,} steps"
        line = [
            task,
            f"{row['transitions']:,}",
            len(row["seeds"]),
            interval(row, 1),
            f"{row['stochastic']:.1f}",
        ]
        lines.append([*line, f"{row['goal']:g} ({met})", f"{row['published']:g} ({row['source']})"])
    header = [
        "task",
        "steps",
        "seeds",
        "return, deterministic [95 %]",
        "stochastic",
        "goal",
        "published (source)",
    ]
    return table(header, lines)


def draw(folder: Path, cells: Cells, path: Path) -> None:
    """Scores beside the published ones, and learning curves."""
    if cells:
        plot_scores(list(in_order(cells).values()), path)
    curves = path.with_stem(f"{path.stem}_curves")
    draw_curves([folder / task for task in in_order(cells)], curves)


if __name__ == "__main__":
    run_study(study, Arguments)
