"""PPO where the present observation is not enough, and where not every action is allowed.

    python experiments/memory.py            # everything: an hour of a core
    python experiments/memory.py --quick    # one seed and short trainings
    python experiments/memory.py --cells memory/chain/gru memory/chain/none

Each task is trained with and without what it is there to show: a memory (a GRU, a Mamba layer), the
mask of actions. Settings are the tuned ones of jaxrl/algos/tuned/ppo.toml, and differ in nothing
else. The score is the undiscounted return of
the last policy with deterministic actions, 100 episodes per seed; the interval is a 95 % bootstrap
over seeds.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    from jaxrl.cli import prepare_process

    prepare_process()  # a CPU core a device; before JAX is imported

from harness import Cells, Study, check_choices, run_study, table
from training import TrainingArguments, draw_curves, interval, scored

from jaxrl.config import override
from jaxrl.train.experiment import Experiment, RunSettings, default_config
from jaxrl.train.output.console import Console

SEEDS, QUICK_SEEDS = 5, 1
QUICK_SHARE = 0.05
EPISODES = 100


class Variant(NamedTuple):
    """A way to train on a task."""

    title: str
    steps: int
    seconds: float  # of a core, per transition of one seed
    settings: dict[str, Any]
    options: dict[str, Any] = {}  # of the environment
    goal: str = ""


MAMBA = {"memory": "mamba", "mixer": "ssd"}  # Mamba-2's: on a CPU several times as fast
CELLS = {
    "memory/chain/none": Variant("no memory", 1_000_000, 1e-5, {"memory": "none"}, goal="≤ 0.2"),
    "memory/chain/gru": Variant("GRU", 1_000_000, 4e-5, {"memory": "gru"}, goal="≥ 0.95"),
    "memory/chain/mamba": Variant("Mamba, heads", 1_000_000, 8e-5, MAMBA, goal="≥ 0.95"),
    "memory/chain/gru-8": Variant(
        "GRU, 8 steps", 500_000, 4e-5, {"memory": "gru"}, {"length": 8}, goal="≥ 0.95"
    ),
    "memory/chain/mamba-8": Variant(
        "Mamba, heads, 8 steps", 500_000, 8e-5, MAMBA, {"length": 8}, goal="≥ 0.95"
    ),
    "memory/chain/gru-64": Variant(
        "GRU, 64 steps", 1_000_000, 4e-5, {"memory": "gru", "num_steps": 128}, {"length": 64}
    ),
    "memory/chain/mamba-64": Variant(
        "Mamba, heads, 64 steps", 1_000_000, 8e-5, MAMBA | {"num_steps": 128}, {"length": 64}
    ),
    "memory/cartpole/none": Variant("no memory", 2_500_000, 1e-5, {"memory": "none"}, goal="≤ 100"),
    "memory/cartpole/gru": Variant("GRU", 2_500_000, 5e-5, {"memory": "gru"}, goal="≥ 450"),
    "memory/t-maze/none": Variant("no memory", 1_000_000, 1e-5, {"memory": "none"}),
    "memory/t-maze/gru": Variant("GRU", 1_000_000, 4e-5, {"memory": "gru"}),
    "dict/locks/mask": Variant("mask", 200_000, 1e-5, {}),
    "dict/locks/none": Variant("no mask", 200_000, 1e-5, {}, {"mask": False}),
}


@dataclass(frozen=True)
class Arguments(TrainingArguments):
    """PPO with memories and masks."""

    cells: tuple[str, ...] = tuple(CELLS)
    """Cells to train; the table shows every cell that has been trained."""


def study(arguments: Arguments) -> Study:
    """What is to be trained and written."""
    check_choices("cell", arguments.cells, CELLS)
    name = "memory_quick" if arguments.quick else "memory"
    folder, console = arguments.runs / name, Console()
    cells = {
        cell: scored(experiment(cell, arguments.quick), folder / cell, console, CELLS[cell].seconds)
        for cell in arguments.cells
    }
    return Study(name, cells, text, partial(draw, folder))


def experiment(cell: str, quick: bool) -> Experiment:
    """One task with its tuned settings and a variant's."""
    task, _, _ = cell.rpartition("/")
    variant = CELLS[cell]
    config, _ = default_config("ppo", task)
    steps = int(variant.steps * (QUICK_SHARE if quick else 1))
    config = override(config, variant.settings | {"total_steps": steps})
    run = RunSettings(
        num_seeds=QUICK_SEEDS if quick else SEEDS, num_evaluations=10, evaluation_episodes=EPISODES
    )
    return Experiment("ppo", task, config, run, environment_options=variant.options)


def text(cells: Cells) -> str:
    """The results in Markdown."""
    lines = [
        [
            cell.rpartition("/")[0],
            variant.title,
            f"{cells[cell]['transitions']:,}",
            len(cells[cell]["seeds"]),
            interval(cells[cell], 2),
            f"{cells[cell]['stochastic']:.2f}",
            variant.goal,
        ]
        for cell, variant in CELLS.items()
        if cell in cells
    ]
    header = ["task", "variant", "steps", "seeds", "return, deterministic [95 %]"]
    return table([*header, "stochastic", "goal"], lines)


def draw(folder: Path, cells: Cells, path: Path) -> None:
    """Learning curves of all variants, a panel per task."""
    draw_curves([folder / cell for cell in CELLS if cell in cells], path)


if __name__ == "__main__":
    run_study(study, Arguments)
