"""Teachers: SAC's policies of three MuJoCo tasks, from which later experiments take states and data.

    python experiments/teachers.py                     # everything: some seven hours of a core
    python experiments/teachers.py --cells Hopper-v5   # one teacher
    python experiments/teachers.py --report-only

Each run keeps the policies of every evaluation, and a replay buffer that holds every transition.
The expert is the policy at the end; the medium one that of the first evaluation with at least a
third of its return. Their seed is none that a student is trained with.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from jaxrl.cli import prepare_process

    prepare_process()  # a CPU core a device; before JAX is imported

from harness import Cells, Study, StudyArguments, check_choices, run_study, table
from training import interval, scored

from jaxrl.config import override
from jaxrl.train.experiment import Experiment, RunSettings, default_config
from jaxrl.train.output.console import Console

TASKS = ("Hopper-v5", "HalfCheetah-v5", "Walker2d-v5")
SEED = 100
STEPS = 500_000
SETTINGS: dict[str, Any] = {"total_steps": STEPS, "replay_capacity": STEPS, "warm_up": 10_000}
CPU_SECONDS_PER_TRANSITION = 9e-3


@dataclass(frozen=True)
class Arguments(StudyArguments):
    """Teachers: SAC on three MuJoCo tasks."""

    cells: tuple[str, ...] = TASKS
    """Tasks to train on; the table shows every one that has been trained on."""
    runs: Path = Path("runs")
    """Where the run folders go."""


def study(arguments: Arguments) -> Study:
    """What is to be trained and written."""
    check_choices("cell", arguments.cells, TASKS)
    folder, console = arguments.runs / "teachers", Console()
    cells = {
        task: scored(experiment(task), folder / task, console, CPU_SECONDS_PER_TRANSITION)
        for task in arguments.cells
    }
    return Study("teachers", cells, text)


def experiment(task: str) -> Experiment:
    """The training of a teacher."""
    config = override(default_config("sac", task)[0], SETTINGS)
    run = RunSettings(seed=SEED, num_evaluations=20, evaluation_episodes=10, keep_policies=True)
    return Experiment("sac", task, config, run)


def text(cells: Cells) -> str:
    """The results in Markdown."""
    rows = [[task, interval(cells[task])] for task in TASKS if task in cells]
    return table(["task", "return"], rows)


if __name__ == "__main__":
    run_study(study, Arguments)
