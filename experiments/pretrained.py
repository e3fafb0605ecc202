"""The agents that come with jaxrl: PPO on classic control, MinAtar and five MuJoCo tasks.

    python experiments/pretrained.py                       # everything: 49 minutes of a core
    python experiments/pretrained.py --cells CartPole-v1   # one agent
    python experiments/pretrained.py --report-only

Each is trained with tuned settings (jaxrl/algos/tuned/ppo.toml) and one seed, for a budget
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
    """The budget of a training, how long a transition takes, and episodes of an evaluation."""

    steps: int
    cpu_seconds_per_transition: float
    evaluation_episodes: int


SIMPLE, ROBOT = 1.5e-4, 8.6e-4
MANY, FEW = 20, 5
TASKS = {
    "CartPole-v1": Task(500_000, SIMPLE, MANY),
    "Acrobot-v1": Task(500_000, SIMPLE, MANY),
    "Pendulum-v1": Task(1_000_000, SIMPLE, MANY),
    "MountainCar-v0": Task(1_000_000, SIMPLE, MANY),
    "MountainCarContinuous-v0": Task(500_000, SIMPLE, MANY),
    "Breakout-MinAtar": Task(2_000_000, SIMPLE, MANY),
    "SpaceInvaders-MinAtar": Task(2_000_000, SIMPLE, MANY),
    "Asterix-MinAtar": Task(2_000_000, SIMPLE, MANY),
    "Freeway-MinAtar": Task(1_000_000, SIMPLE, FEW),
    "InvertedPendulum-v5": Task(100_000, ROBOT, FEW),
    "Hopper-v5": Task(400_000, ROBOT, FEW),
    "HalfCheetah-v5": Task(400_000, ROBOT, FEW),
    "Swimmer-v5": Task(300_000, ROBOT, FEW),
    "Walker2d-v5": Task(400_000, ROBOT, FEW),
}
# Whose tuned settings a task has that has none of its own.
SETTINGS_OF = {"InvertedPendulum-v5": "Hopper-v5"}
ALGORITHM, SEED = "ppo", 0
NUM_EVALUATIONS = 10


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
    steps, _, episodes = TASKS[task]
    config = override(
        default_config(ALGORITHM, SETTINGS_OF.get(task, task))[0], {"total_steps": steps}
    )
    run = RunSettings(seed=SEED, num_evaluations=NUM_EVALUATIONS, evaluation_episodes=episodes)
    return Experiment(ALGORITHM, task, config, run)


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
        f"PPO, seed {SEED}, the policy of the best of {NUM_EVALUATIONS} evaluations. Return of "
        f"{EPISODES} episodes in each mode: mean ± standard deviation over episodes."
    )
    return sections(table(["agent", "transitions", *MODES], rows), note)


if __name__ == "__main__":
    run_study(study, Arguments)
