"""PPO on Gymnasium's MuJoCo tasks (v5) beside CleanRL's and Stable-Baselines3's published scores.

    python experiments/mujoco_ppo.py          # everything: some three hours on two cores
    python experiments/mujoco_ppo.py --quick  # 100k steps, three tasks: some minutes
    python experiments/mujoco_ppo.py --settings tuned --tasks Hopper-v5 Swimmer-v5
    python experiments/mujoco_ppo.py --report-only

Two settings: `reference` has the hyperparameters of CleanRL's ppo_continuous_action (one
environment, 64x64 tanh), to show that this is the same algorithm; `tuned` is ours
(jaxrl/algos/tuned/ppo.toml). A million steps, five seeds in one program. The score is the mean
undiscounted return of the last policy with deterministic actions, 20 episodes per seed. A task that
has finished is not trained again, one that was stopped is resumed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

if __name__ == "__main__":
    from jaxrl.cli import prepare_process

    prepare_process()  # a CPU core a device; before JAX is imported

from harness import (
    Cells,
    Study,
    check_choices,
    run_study,
    sections,
    table,
)
from training import TrainingArguments, draw_curves, interval, scored

from jaxrl.config import override
from jaxrl.envs.suites.mujoco import TASKS as MODELS
from jaxrl.train.experiment import Experiment, RunSettings, default_config
from jaxrl.train.output.console import Console

STEPS, SEEDS, QUICK_STEPS = 1_000_000, 5, 100_000
CPU_SECONDS_PER_TRANSITION = 2.7e-4  # of one seed
SETTINGS = ("reference", "tuned")
REFERENCE = {
    "num_envs": 1,
    "num_steps": 2048,
    "minibatch_size": 64,
    "num_epochs": 10,
    "learning_rate": 3e-4,
    "value_clip_epsilon": 0.2,
    "entropy_coefficient": 0.0,
    "normalize_observations": True,
    "scale_rewards": True,
}


class Published(NamedTuple):
    """Mean and spread of CleanRL (v4, three seeds, stochastic actions), and SB3's zoo (v3,
    one tuned run)."""

    cleanrl: tuple[float, float] | None = None
    zoo: float | None = None


TASKS = {
    "HalfCheetah-v5": Published((1443, 46), 5819),
    "Hopper-v5": Published((2383, 272), 2410),
    "Walker2d-v5": Published((2288, 572), 3479),
    "Ant-v5": Published(None, 1327),
    "Swimmer-v5": Published(None, 282),
    "InvertedPendulum-v5": Published((963, 22)),
    "Pusher-v5": Published((-40, 7)),
    "Humanoid-v5": Published((716, 49)),
}
QUICK_TASKS = ("HalfCheetah-v5", "Hopper-v5", "InvertedPendulum-v5")


@dataclass(frozen=True)
class Arguments(TrainingArguments):
    """PPO on Gymnasium's MuJoCo tasks, beside published scores."""

    tasks: tuple[str, ...] = tuple(TASKS)
    """Tasks to train; the table shows every task that has been trained."""
    settings: tuple[str, ...] = SETTINGS
    """Settings to train: reference, tuned."""


def study(arguments: Arguments) -> Study:
    """What is to be trained and written."""
    check_choices("task", arguments.tasks, TASKS)
    check_choices("setting", arguments.settings, SETTINGS)
    name = "mujoco_ppo_quick" if arguments.quick else "mujoco_ppo"
    folder, console = arguments.runs / name, Console()
    cells = {}
    for setting in arguments.settings:
        for task in arguments.tasks:
            if not arguments.quick or task in QUICK_TASKS:
                trained = experiment(task, setting, arguments.quick)
                place, seconds = f"{setting}/{task}", CPU_SECONDS_PER_TRANSITION
                cells[place] = scored(trained, folder / place, console, seconds)
    return Study(name, cells, text, partial(draw, folder))


def experiment(task: str, settings: str, quick: bool) -> Experiment:
    """One task under one of the settings."""
    config, _ = default_config("ppo", task, use_tuned=settings == "tuned")
    if settings == "reference":
        # CleanRL's policies begin with a deviation of 1 in the environment's units, ours in units
        # of the bounds.
        config = override(config, REFERENCE | {"initial_log_std": -math.log(MODELS[task].BOUND)})
    config = override(config, {"total_steps": QUICK_STEPS if quick else STEPS})
    run = RunSettings(num_seeds=SEEDS, num_evaluations=5, evaluation_episodes=20)
    return Experiment("ppo", task, config, run)


def text(cells: Cells) -> str:
    """The results in Markdown, both settings side by side."""
    lines = []
    for task, published in TASKS.items():
        found = [cells.get(f"{setting}/{task}") for setting in SETTINGS]
        if not any(found):
            continue
        ours = [[interval(row), f"{row['stochastic']:.0f}" if row else ""] for row in found]
        cleanrl = "{:g} ± {:g}".format(*published.cleanrl) if published.cleanrl else ""
        lines.append([task, *ours[0], cleanrl, *ours[1], published.zoo or ""])
    header = [
        "task",
        "reference [95 %]",
        "stochastic",
        "CleanRL (v4)",
        "tuned [95 %]",
        "stochastic",
        "SB3 zoo (v3)",
    ]
    seeds = {len(row["seeds"]) for row in cells.values()}
    steps = {row["transitions"] for row in cells.values()}
    least, most = min(steps, default=0), max(steps, default=0)
    budget = f"{least:,}" if least == most else f"{least:,} to {most:,}"
    note = f"Seeds 0 … {max(seeds, default=1) - 1}; {budget} steps per seed."
    return sections(table(header, lines), note)


def draw(folder: Path, cells: Cells, path: Path) -> None:
    """Learning curves, a picture per setting."""
    for setting in SETTINGS:
        places = [f"{setting}/{task}" for task in TASKS]
        finished = [folder / place for place in places if place in cells]
        draw_curves(finished, path.with_stem(f"{path.stem}_{setting}"))


if __name__ == "__main__":
    run_study(study, Arguments)
