"""TD3 and SAC on Pendulum, MountainCarContinuous and Gymnasium's MuJoCo tasks (v5), beside SBX and
the original TD3's curves.

    python experiments/off_policy.py                        # everything: some six hours of a core
    python experiments/off_policy.py --quick                # classic control alone: minutes
    python experiments/off_policy.py --cells td3/HalfCheetah-v5/100k
    python experiments/off_policy.py --report-only

Default settings, but for a warm-up of 10,000 transitions, as the original's curves of HalfCheetah
had (1,000 elsewhere), for step sizes where the cell names them, and for classic control, whose
settings are those of `jaxrl/algos/tuned/`.
The score is the mean undiscounted return of the last policy with deterministic actions. A cell that
has finished is not trained again, one that was stopped is resumed. SBX is installed into an
environment under `--venvs`, given the same settings, and begins a stopped seed anew.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    from jaxrl.cli import prepare_process

    prepare_process()  # a CPU core a device; before JAX is imported

from harness import ROOT, Cell, Cells, Study, check_choices, run_study, save, sections, table
from training import TrainingArguments, draw_curves, interval, over_seeds, request, scored

from jaxrl.config import flatten, override
from jaxrl.train.experiment import Experiment, RunSettings, default_config
from jaxrl.train.files.folder import plain
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
    by_sbx: bool = False


TUNED: dict[str, Any] = {}
LONG_WARM_UP = {"warm_up": 10_000}
SHORT_WARM_UP = {"warm_up": 1_000}
# The step sizes of the original's curves. Its code of today has 3e-4, as the defaults have.
LONG_STEPS = {"learning_rate": 1e-3, "critic_learning_rate": 1e-3}
TD3_SECONDS, SAC_SECONDS, SBX_SECONDS = 3.2e-3, 4e-3, 5e-3
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
    "td3/HalfCheetah-v5/100k/1e-3": Asked(
        "td3",
        "HalfCheetah-v5",
        100_000,
        6,
        4542,
        "5514 [4542, 6355]",
        LONG_WARM_UP | LONG_STEPS,
        TD3_SECONDS,
    ),
    "sac/HalfCheetah-v5/100k": Asked(
        "sac", "HalfCheetah-v5", 100_000, 3, None, "", LONG_WARM_UP, SAC_SECONDS
    ),
    "sbx-td3/HalfCheetah-v5/100k": Asked(
        "td3", "HalfCheetah-v5", 100_000, 3, None, "", LONG_WARM_UP, SBX_SECONDS, by_sbx=True
    ),
    "sbx-sac/HalfCheetah-v5/100k": Asked(
        "sac", "HalfCheetah-v5", 100_000, 3, None, "", LONG_WARM_UP, SBX_SECONDS, by_sbx=True
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
    venvs: Path = ROOT / ".bench"
    """Where the environments of other libraries are made."""


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
        if asked.by_sbx:
            measure = partial(scored_by_sbx, run, folder / place, arguments.venvs, console)
            hours = asked.steps * asked.seeds * seconds / 3600
            cells[place] = Cell(request(run), measure, hours, type(run.config)())
        else:
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


def scored_by_sbx(run: Experiment, folder: Path, venvs: Path, console: Console) -> dict[str, Any]:
    """Scores of SBX's learner of the same name, with the same settings: a process for each seed."""
    sys.path.append(str(ROOT))  # where benchmarks/ is
    from benchmarks.venvs import python_of

    python = python_of("sb3", venvs)
    setting = {"algorithm": run.algorithm, "environment": run.environment, **flatten(run.config)}
    setting["evaluation_episodes"] = run.run.evaluation_episodes
    found = []
    for seed in range(run.run.num_seeds):
        path, asked = folder / f"seed_{seed}.json", plain(setting | {"seed": seed})
        kept = json.loads(path.read_text()) if path.exists() else {}
        if kept.get("setting") != asked:
            console.note(f"{folder}: seed {seed}")
            given = [python, "-m", "benchmarks.peers.off_policy_sbx_score", json.dumps(asked)]
            played = subprocess.run(given, cwd=ROOT, check=True, stdout=subprocess.PIPE)
            kept = json.loads(played.stdout) | {"setting": asked}
            save(path, json.dumps(kept))
        found.append(kept)
    return {
        "task": run.environment,
        **over_seeds([sum(each["returns"]) / len(each["returns"]) for each in found]),
        "episodes_per_seed": run.run.evaluation_episodes,
        "transitions": run.config.total_steps,
        "training_seconds": sum(each["seconds"] for each in found),
        "versions": found[-1]["versions"],
    }


def named_steps(asked: Asked) -> str:
    """Which step sizes a cell has, if they are not the usual ones."""
    return ", steps of 1e-3" if LONG_STEPS.items() <= asked.settings.items() else ""


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
                f"SBX's {asked.algorithm}" if asked.by_sbx else asked.algorithm,
                asked.task + named_steps(asked),
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
    ours = [place for place, asked in CELLS.items() if place in cells and not asked.by_sbx]
    labels = [f"{place.partition('/')[0].upper()}{named_steps(CELLS[place])}" for place in ours]
    draw_curves([folder / place for place in ours], path, labels)


if __name__ == "__main__":
    run_study(study, Arguments)
