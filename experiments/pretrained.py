"""The agents that come with jaxrl: PPO on classic control, MinAtar and five MuJoCo tasks.

    python experiments/pretrained.py                       # everything: half an hour of a core
    python experiments/pretrained.py --cells CartPole-v1   # one agent
    python experiments/pretrained.py --report-only

Each is trained with its tuned settings (jaxrl/algos/tuned/ppo.toml) and one seed, for a budget
that is small beside those of classic_control.py and mujoco_ppo.py: what comes of it are agents to
begin with, no claims. The policy of the best evaluation is written into jaxrl/train/pretrained/ppo,
and scored on episodes of its own; the scores are beside it, in scores.json and scores.md. A task
that has finished is not trained again, one that was stopped is resumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    from jaxrl.cli import prepare_process

    prepare_process()  # a CPU core a device; before JAX is imported

from harness import Cell, Cells, Study, check_choices, run_study, sections, table
from training import EPISODES, MODES, TrainingArguments, export, scored

from jaxrl.config import override
from jaxrl.train import pretrained
from jaxrl.train.experiment import Experiment, RunSettings, default_config
from jaxrl.train.output.console import Console


class Task(NamedTuple):
    """The budget of a training, and how long a transition takes."""

    steps: int
    cpu_seconds_per_transition: float


SIMPLE, ROBOT = 5e-5, 2.7e-4
TASKS = {
    "CartPole-v1": Task(500_000, SIMPLE),
    "Acrobot-v1": Task(500_000, SIMPLE),
    "Pendulum-v1": Task(1_000_000, SIMPLE),
    "MountainCar-v0": Task(1_000_000, SIMPLE),
    "MountainCarContinuous-v0": Task(500_000, SIMPLE),
    "Breakout-MinAtar": Task(2_000_000, SIMPLE),
    "SpaceInvaders-MinAtar": Task(2_000_000, SIMPLE),
    "Asterix-MinAtar": Task(2_000_000, SIMPLE),
    "Freeway-MinAtar": Task(2_000_000, SIMPLE),
    "InvertedPendulum-v5": Task(200_000, ROBOT),
    "Swimmer-v5": Task(500_000, ROBOT),
    "Hopper-v5": Task(750_000, ROBOT),
    "Walker2d-v5": Task(750_000, ROBOT),
    "HalfCheetah-v5": Task(1_000_000, ROBOT),
}
ALGORITHM, SEED = "ppo", 0
RUN = RunSettings(seed=SEED, num_evaluations=10, evaluation_episodes=20)


@dataclass(frozen=True)
class Arguments(TrainingArguments):
    """The agents that come with jaxrl."""

    cells: tuple[str, ...] = tuple(TASKS)
    """Tasks to train on; the table shows every one that has been trained on."""


def study(arguments: Arguments) -> Study:
    """What is to be trained and written."""
    check_choices("cell", arguments.cells, TASKS)
    folder, console = arguments.runs / "pretrained", Console()
    cells = {task: agent(task, folder / task, console) for task in arguments.cells}
    return Study("scores", cells, text, folder=pretrained.ROOT)


def agent(task: str, folder: Path, console: Console) -> Cell:
    """The cell of a task: a training, and what becomes a part of jaxrl of it."""
    training = scored(experiment(task), folder, console, TASKS[task].cpu_seconds_per_transition)

    def measure() -> dict[str, Any]:
        trained = training.measure()
        best = export(folder, "best", pretrained.folder_of(f"{ALGORITHM}/{task}"))
        return {"trained": trained["transitions"], **best}

    return training._replace(measure=measure)


def experiment(task: str) -> Experiment:
    """The training of an agent."""
    config = override(default_config(ALGORITHM, task)[0], {"total_steps": TASKS[task].steps})
    return Experiment(ALGORITHM, task, config, RUN)


def text(cells: Cells) -> str:
    """The results in Markdown."""
    rows = [
        [
            f"{ALGORITHM}/{task}",
            f"{cells[task]['transitions']:,}",
            *(
                f"{cells[task][mode]:.1f} ± {cells[task][mode + '_deviation']:.1f}"
                for mode in MODES
            ),
        ]
        for task in TASKS
        if task in cells
    ]
    note = (
        f"PPO, seed {SEED}, the policy of the best of ten evaluations. Return of {EPISODES} "
        "episodes in each mode: mean ± standard deviation over episodes."
    )
    return sections(table(["agent", "transitions", *MODES], rows), note)


if __name__ == "__main__":
    run_study(study, Arguments)
