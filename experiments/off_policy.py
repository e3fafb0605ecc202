"""TD3 and SAC on Pendulum, MountainCarContinuous and Gymnasium's MuJoCo tasks (v5), beside the
original TD3's curves.

    python experiments/off_policy.py                        # everything: fifteen hours of a core
    python experiments/off_policy.py --quick                # classic control alone: minutes
    python experiments/off_policy.py --cells td3/HalfCheetah-v5/100k
    python experiments/off_policy.py --report-only

Default settings, but for a warm-up of 10,000 transitions, as the original's curves of HalfCheetah
had (1,000 elsewhere), and for classic control, whose settings are those of `jaxrl/algos/tuned/`.
The score is the mean undiscounted return of the last policy with deterministic actions. A cell that
has finished is not trained again, one that was stopped is resumed.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    from jaxrl.cli import prepare_process

    prepare_process()  # a CPU core a device; before JAX is imported

from harness import Cells, Study, check_choices, run_study, sections, table
from training import TrainingArguments, draw_curves, interval, scored

from jaxrl.config import override
from jaxrl.train.experiment import Experiment, RunSettings, default_config
from jaxrl.train.output.console import Console


class Asked(NamedTuple):
    """What a cell trains, what it should reach, and what the original reached."""

    algorithm: str
    task: str
    steps: int
    seeds: int
    goal: float | None
    # Ten seeds of the original TD3's code of 2018, on v1 of the tasks: mean [least, most].
    original: str
    settings: dict[str, Any]
    cpu_seconds_per_transition: float


TUNED: dict[str, Any] = {}
LONG_WARM_UP = {"warm_up": 10_000}
SHORT_WARM_UP = {"warm_up": 1_000}
TD3_SECONDS, SAC_SECONDS = 8e-3, 9e-3
CELLS = {
    "td3/Pendulum-v1": Asked("td3", "Pendulum-v1", 15_000, 6, -200, "", TUNED, 5e-4),
    "sac/Pendulum-v1": Asked("sac", "Pendulum-v1", 15_000, 6, -200, "", TUNED, 8e-4),
    "td3/MountainCarContinuous-v0": Asked(
        "td3", "MountainCarContinuous-v0", 50_000, 6, 90, "", TUNED, 5e-4
    ),
    "sac/MountainCarContinuous-v0": Asked(
        "sac", "MountainCarContinuous-v0", 50_000, 6, 90, "", TUNED, 8e-4
    ),
    "td3/HalfCheetah-v5/100k": Asked(
        "td3",
        "HalfCheetah-v5",
        100_000,
        6,
        4542,
        "5514 [4542, 6355]",
        LONG_WARM_UP,
        TD3_SECONDS,
    ),
    "sac/HalfCheetah-v5/100k": Asked(
        "sac", "HalfCheetah-v5", 100_000, 3, None, "", LONG_WARM_UP, SAC_SECONDS
    ),
    "td3/Hopper-v5/250k": Asked(
        "td3", "Hopper-v5", 250_000, 6, 905, "2031 [279, 3295]", SHORT_WARM_UP, TD3_SECONDS
    ),
    "td3/Walker2d-v5/250k": Asked(
        "td3", "Walker2d-v5", 250_000, 2, None, "2841 [1148, 4035]", SHORT_WARM_UP, TD3_SECONDS
    ),
    "td3/HalfCheetah-v5/1M": Asked(
        "td3",
        "HalfCheetah-v5",
        1_000_000,
        2,
        8110,
        "9567 [8110, 10526]",
        LONG_WARM_UP,
        TD3_SECONDS,
    ),
}
QUICK = tuple(name for name, asked in CELLS.items() if asked.settings is TUNED)


@dataclass(frozen=True)
class Arguments(TrainingArguments):
    """TD3 and SAC, beside the original TD3's curves."""

    cells: tuple[str, ...] = tuple(CELLS)
    """Cells to train; the table shows every cell that has been trained."""


def study(arguments: Arguments) -> Study:
    """What is to be trained and written."""
    check_choices("cell", arguments.cells, CELLS)
    name = "off_policy_quick" if arguments.quick else "off_policy"
    folder, console = arguments.runs / name, Console()
    cells = {}
    for place in arguments.cells:
        if arguments.quick and place not in QUICK:
            continue
        asked = CELLS[place]
        run, seconds = experiment(asked), asked.cpu_seconds_per_transition
        cells[place] = scored(run, folder / place, console, seconds)
    return Study(name, cells, text, partial(draw, folder))


def experiment(asked: Asked) -> Experiment:
    """What a cell trains."""
    config, _ = default_config(asked.algorithm, asked.task, use_tuned=asked.settings is TUNED)
    config = override(config, asked.settings | {"total_steps": asked.steps})
    # Pendulum's returns vary by a hundred from one start to another.
    episodes = 200 if asked.settings is TUNED else 10
    run = RunSettings(num_seeds=asked.seeds, num_evaluations=20, evaluation_episodes=episodes)
    return Experiment(asked.algorithm, asked.task, config, run)


def text(cells: Cells) -> str:
    """The results in Markdown."""
    lines = []
    for place, asked in CELLS.items():
        row = cells.get(place)
        if row is None:
            continue
        goal = ""
        if asked.goal is not None:
            goal = f"{asked.goal:g} ({'met' if row['score'] >= asked.goal else 'not met'})"
        seeds = row["seed_scores"]
        least = f"{min(seeds):.0f} … {max(seeds):.0f}"
        lines.append(
            [
                asked.algorithm,
                asked.task,
                f"{row['transitions']:,}",
                len(seeds),
                interval(row),
                least,
                goal,
                asked.original,
            ]
        )
    header = ["", "task", "steps", "seeds", "return [95 %]", "seeds from … to", "goal"]
    note = (
        "Last policies, deterministic actions, 10 episodes per seed, 200 of classic control. "
        "Original: ten seeds of TD3's authors' code of 2018 on v1 of the tasks, mean [least, most] "
        "at as many steps."
    )
    return sections(table([*header, "original TD3"], lines), note)


def draw(folder: Path, cells: Cells, path: Path) -> None:
    """Learning curves."""
    draw_curves([folder / place for place in CELLS if place in cells], path)


if __name__ == "__main__":
    run_study(study, Arguments)
