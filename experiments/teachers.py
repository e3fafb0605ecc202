"""Teachers: SAC on three MuJoCo tasks, from which later experiments take states and data.

    python experiments/teachers.py                     # everything: some two hours of a core
    python experiments/teachers.py --cells Hopper-v5   # one teacher
    python experiments/teachers.py --report-only

Each run keeps the policies of every evaluation, and a replay buffer that holds every transition.
The expert is the policy at the end; the medium one that of the first evaluation with at least a
third of its return. Both are written into jaxrl/train/pretrained/ and scored on episodes of their
own. Their seed is none that a student is trained with.

The rows of the replay buffer (jaxrl.train.recorder.replay_rows) stay in the run folder, and cannot
be had without the training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from jaxrl.cli import prepare_process

    prepare_process()  # a CPU core a device; before JAX is imported

from harness import (
    Cell,
    Cells,
    Study,
    check_choices,
    run_study,
    sections,
    table,
)
from training import EPISODES, MODES, TrainingArguments, export, scored

from jaxrl.analysis.runs import load_run
from jaxrl.config import override
from jaxrl.train import pretrained
from jaxrl.train.experiment import Experiment, RunSettings, default_config
from jaxrl.train.output.console import Console

TASKS = ("Hopper-v5", "HalfCheetah-v5", "Walker2d-v5")
SEED = 100
STEPS = 500_000
SETTINGS: dict[str, Any] = {"total_steps": STEPS, "replay_capacity": STEPS, "warm_up": 10_000}
CPU_SECONDS_PER_TRANSITION = 5e-3


@dataclass(frozen=True)
class Arguments(TrainingArguments):
    """Teachers: SAC on three MuJoCo tasks."""

    cells: tuple[str, ...] = TASKS
    """Tasks to train on; the table shows every one that has been trained on."""


def study(arguments: Arguments) -> Study:
    """What is to be trained and written."""
    check_choices("cell", arguments.cells, TASKS)
    folder, console = arguments.runs / "teachers", Console()
    cells = {task: teacher(task, folder / task, console) for task in arguments.cells}
    return Study("teachers", cells, text)


def teacher(task: str, folder: Path, console: Console) -> Cell:
    """The cell of a task: a training, and what becomes a part of jaxrl of it."""
    training = scored(experiment(task), folder, console, CPU_SECONDS_PER_TRANSITION)

    def measure() -> dict[str, Any]:
        found = training.measure()
        levels = {
            level: export(
                folder, str(iteration), pretrained.folder_of(f"{pretrained.PREFIX}{task}/{level}")
            )
            for level, iteration in chosen(folder).items()
        }
        return found | {"levels": levels}

    return training._replace(measure=measure)


def chosen(folder: Path) -> dict[str, int]:
    """The iterations whose policies are the medium and the expert teacher."""
    run = load_run(folder)
    returns, iterations = run.returns()[:, 0, 0], run.evaluations["iteration"]
    medium = int((returns >= returns[-1] / 3).argmax())
    return {"medium": int(iterations[medium]), "expert": int(iterations[-1])}


def experiment(task: str) -> Experiment:
    """The training of a teacher."""
    config = override(default_config("sac", task)[0], SETTINGS)
    run = RunSettings(seed=SEED, num_evaluations=20, evaluation_episodes=10, keep_policies=True)
    return Experiment("sac", task, config, run)


def text(cells: Cells) -> str:
    """The results in Markdown."""
    rows = [
        [
            f"{pretrained.PREFIX}{task}/{level}",
            f"{found['transitions']:,}",
            *(f"{found[mode]:.0f} ± {found[mode + '_deviation']:.0f}" for mode in MODES),
        ]
        for task in TASKS
        if task in cells
        for level, found in cells[task]["levels"].items()
    ]
    note = (
        f"SAC, seed {SEED}. Return of {EPISODES} episodes in each mode: mean ± standard deviation "
        "over episodes."
    )
    return sections(table(["teacher", "transitions", *MODES], rows), note)


if __name__ == "__main__":
    run_study(study, Arguments)
