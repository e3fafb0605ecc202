"""Decision Transformer, Mamba and Decision Mamba: actions for a return that is asked for.

    python experiments/sequence_models.py            # everything: an hour of a core
    python experiments/sequence_models.py --quick    # one seed and short trainings
    python experiments/sequence_models.py --cells key-to-door/decision_mamba
    python experiments/sequence_models.py --report-only

Key to door: 16 steps, a return of 1 for who picks up the key and opens the door, learnt from random
actions, of which 13 % succeed; behaviour cloning beside it. Pendulum: episodes of all returns from
the worst to the best, and five returns that are asked for. All models read the same windows, 64
numbers per token, through as many layers as make them equal in parameters within 10 %; all take as
many gradient steps of the same size. The datasets are built first, if they are not there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

if __name__ == "__main__":
    from jaxrl.cli import prepare_process

    prepare_process()  # a CPU core a device; before JAX is imported

import jax
from harness import (
    Cell,
    Cells,
    Study,
    check_choices,
    markdown,
    picture,
    run_study,
    sections,
)
from matplotlib.axes import Axes
from training import TrainingArguments, ensure_built, request, train_or_resume

from jaxrl.algos.registry import load
from jaxrl.analysis.runs import load_run
from jaxrl.analysis.statistics import mean_interval
from jaxrl.analysis.style import headline
from jaxrl.config import flatten, override
from jaxrl.envs.registry import make
from jaxrl.nn.sequence import count_parameters
from jaxrl.train.experiment import Experiment, RunSettings, default_config
from jaxrl.train.output.console import Console


class Task(NamedTuple):
    """A dataset, and what is asked of who has learnt from it."""

    environment: str
    dataset: str
    settings: dict[str, Any]
    seeds: int
    episodes: int  # of each seed and mode
    cloning: str  # the mode of who clones behaviour
    targets: tuple[int, ...] = ()  # none: the best return of the dataset


class Model(NamedTuple):
    """A learner, and what it has of its own."""

    title: str
    algorithm: str
    settings: dict[str, Any]
    seconds: float  # of a core, per gradient step on 64 windows of 20 steps


TASKS = {
    "key-to-door": Task(
        "keydoor/16",
        "key-to-door-random",
        {"context": 16, "total_updates": 1_000},
        5,
        100,
        "stochastic",
    ),
    "pendulum": Task(
        "Pendulum-v1",
        "pendulum-mixed",
        {"context": 20, "total_updates": 1_000},
        3,
        30,
        "deterministic",
        (-1500, -1200, -900, -600, -300),
    ),
}
SHARED: dict[str, Any] = {
    "width": 64,
    "batch_size": 64,
    "learning_rate": 1e-3,
    "warm_up_updates": 100,
    "updates_per_iteration": 100,
}
# Of 64 numbers a token, three blocks of a transformer have as many parameters as five of Mamba
# whose layers are twice as wide, or five of Decision Mamba, two branches each, that are not wider.
MODELS = {
    "decision_transformer": Model(
        "Decision Transformer", "decision_transformer", {"num_layers": 3, "num_heads": 4}, 0.03
    ),
    "mamba": Model(
        "Mamba",
        "decision_mamba",
        {
            "branches": "coarse",
            "num_layers": 5,
            "expand": 2,
            "mixer": "ssd",
            "self_evolution": False,
            "inverse_weight": 0.0,
        },
        0.05,
    ),
    "decision_mamba": Model(
        "Decision Mamba",
        "decision_mamba",
        {"num_layers": 5, "expand": 1, "mixer": "ssd"},
        0.06,
    ),
    "bc": Model("behaviour cloning", "bc", {}, 1e-3),
}
CELLS = [f"{task}/{model}" for task in TASKS for model in MODELS]
QUICK_UPDATES = 200


@dataclass(frozen=True)
class Arguments(TrainingArguments):
    """Actions for a return that is asked for."""

    cells: tuple[str, ...] = tuple(CELLS)
    """Cells to train; the table shows every cell that has been trained."""


def study(arguments: Arguments) -> Study:
    """What is to be trained and written."""
    check_choices("cell", arguments.cells, CELLS)
    name = "sequence_models_quick" if arguments.quick else "sequence_models"
    folder, console = arguments.runs / name, Console()
    cells = {}
    for place in arguments.cells:
        run = experiment(place, arguments.quick)
        steps = run.config.total_updates * run.run.num_seeds
        hours = steps * MODELS[place.split("/")[1]].seconds / 3600
        measure = partial(measured, run, folder / place, console)
        cells[place] = Cell(request(run), measure, hours, type(run.config)())
    return Study(name, cells, text, draw)


def experiment(place: str, quick: bool) -> Experiment:
    """What a cell trains."""
    task, model = (kind[name] for kind, name in zip((TASKS, MODELS), place.split("/"), strict=True))
    config, _ = default_config(model.algorithm, task.environment, use_tuned=False)
    settings = {
        name: value for name, value in (SHARED | task.settings).items() if name in flatten(config)
    }
    settings |= model.settings | {"dataset": task.dataset}
    settings |= {"total_updates": QUICK_UPDATES} if quick else {}
    modes = tuple(f"target={number}" for number in task.targets) or ("target",)
    if model.algorithm == "bc":
        modes = (task.cloning,)
    run = RunSettings(
        num_seeds=1 if quick else task.seeds,
        num_evaluations=2,
        modes=modes,
        evaluation_episodes=task.episodes,
    )
    return Experiment(model.algorithm, task.environment, override(config, settings), run)


def measured(run: Experiment, folder: Path, console: Console) -> dict[str, Any]:
    """The last evaluation of a training, by mode: returns [S]; and the model's size."""
    console.note(f"{folder}")
    ensure_built(run.config.dataset, console)
    train_or_resume(run, folder, console)
    found = load_run(folder)
    returns = {mode: found.evaluations[f"{mode}_returns"][-1, 0] for mode in found.modes}
    return {
        "modes": {mode: each.mean(-1).tolist() for mode, each in returns.items()},
        "parameters": parameters(run),
        "updates": int(found.counts[-1]),
        "training_seconds": found.metrics[-1]["seconds"],
    }


def parameters(run: Experiment) -> int | None:
    """Numbers that the model learns; None of what is no sequence model."""
    agent = load(run.algorithm).agent(make(run.environment), run.config)
    policy = jax.eval_shape(agent.init, jax.random.key(0))
    return count_parameters(policy.params) if hasattr(policy, "params") else None


def text(cells: Cells) -> str:
    """The results in Markdown."""
    parts = []
    for task, about in TASKS.items():
        lines = [
            line(model, cells[f"{task}/{name}"])
            for name, model in MODELS.items()
            if f"{task}/{name}" in cells
        ]
        if lines:
            title = f"**{task}**, {about.episodes} episodes per seed"
            parts += [title, markdown(lines)]
    note = (
        "Means over seeds of the last policies' returns, in brackets a 95 % interval over seeds. "
        "A column for each return that was asked for."
    )
    return sections(*parts, note)


def line(model: Model, cell: dict[str, Any]) -> dict[str, Any]:
    """A table's line."""
    first: dict[str, Any] = {"model": model.title, "parameters": size_of(cell)}
    scores = {mode: with_interval(np.asarray(each)) for mode, each in cell["modes"].items()}
    if len(scores) == 1:
        scores = {"return [95 %]": next(iter(scores.values()))}
    seeds = len(next(iter(cell["modes"].values())))
    return first | scores | {"seeds": seeds, "updates": f"{cell['updates']:,}"}


def size_of(cell: dict[str, Any]) -> str | None:
    """The number of a model's parameters."""
    return None if cell["parameters"] is None else f"{cell['parameters']:,}"


def with_interval(returns: np.ndarray) -> str:
    """A mean over seeds with its interval."""
    digits = 2 if np.abs(returns).max() < 10 else 0
    if len(returns) < 2:
        return f"{returns.mean():.{digits}f}"
    low, high = mean_interval(returns)
    return f"{returns.mean():.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def draw(cells: Cells, path: Path) -> None:
    """What was asked of each model, and what it obtained."""
    panels = [
        partial(asked_and_obtained, task=task, cells=cells)
        for task, about in TASKS.items()
        if about.targets and any(place.startswith(f"{task}/") for place in cells)
    ]
    picture(path, panels, 5.0, 4.0)


def asked_and_obtained(axes: Axes, task: str, cells: Cells) -> None:
    """A line per model over the returns that were asked for."""
    targets = np.asarray(TASKS[task].targets)
    axes.plot(targets, targets, color="0.6", linestyle="--", label="as asked")
    for name, model in MODELS.items():
        cell = cells.get(f"{task}/{name}")
        if cell is None:
            continue
        returns = np.asarray(list(cell["modes"].values()))  # [target, seed]
        if len(returns) < len(targets):
            axes.axhline(returns.mean(), color="0.3", linestyle=":", label=model.title)
            continue
        (drawn,) = axes.plot(targets, returns.mean(-1), marker="o", label=model.title)
        axes.fill_between(
            targets, returns.min(-1), returns.max(-1), color=drawn.get_color(), alpha=0.2
        )
    axes.set(xlabel="return asked for", ylabel="return obtained")
    axes.legend()
    headline(axes, TASKS[task].environment, "means over seeds; band: least to greatest seed")


if __name__ == "__main__":
    run_study(study, Arguments)
