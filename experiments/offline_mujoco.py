"""Offline learners on MuJoCo: seven methods on four sets, OFQL's parts and size, going on online.

    python experiments/offline_mujoco.py                                # everything: ten hours
    python experiments/offline_mujoco.py --quick                        # one seed, short trainings
    python experiments/offline_mujoco.py --cells hopper-medium-replay/ofql
    python experiments/offline_mujoco.py --report-only

All learners have networks of three layers of 128 units with Mish, critics with LayerNorm, 30,000
gradient steps on batches of 256, step sizes of 1e-3 and standardised observations. The coefficient
of each is the best of four by the mean normalised score of two other seeds after 10,000 gradient
steps on two of the sets (the cells tuning/…; beyond/… where that is the first or the last of the
four; grid/… trains the best of the four where one beyond did better), one choice for all four sets.
The score is the last
policy's with one draw per action, of 0 for random actions and 100 for the teacher of the set. The
sets are built first, if they are not there: `jaxrl dataset build NAME`. Online (the cells
online/…), three of the methods go on in the environment for 50,000 steps from their last offline
policies, with a gradient step after each; SAC begins there from nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    from jaxrl.cli import prepare_process

    prepare_process()  # a CPU core a device; before JAX is imported

from harness import Cell, Study, check_choices, run_study
from offline import METHODS
from offline_mujoco_report import (
    ABLATED_ON,
    EPISODES,
    FULL,
    FULL_ON,
    NAMES,
    ONLINE,
    TASKS,
    TUNED_ON,
    draw,
    text,
)
from training import TrainingArguments, ensure_built, request, train_or_resume

from jaxrl.analysis.runs import load_run
from jaxrl.analysis.statistics import normalised
from jaxrl.config import flatten, override
from jaxrl.data import store
from jaxrl.data.formats import own
from jaxrl.train.experiment import Experiment, RunSettings, default_config
from jaxrl.train.output.console import Console

SHARED: dict[str, Any] = {
    "total_updates": 30_000,
    "updates_per_iteration": 1000,
    "batch_size": 256,
    "hidden_sizes": (128, 128, 128),
    "learning_rate": 1e-3,
    "critic_learning_rate": 1e-3,
    "normalize_observations": True,
    "activation": "mish",
    "layer_norm": True,
}
FULL_SIZE: dict[str, Any] = {"hidden_sizes": (256, 256, 256), "total_updates": 50_000}
TUNING, QUICK = {"total_updates": 10_000}, {"total_updates": 1000}
# Averaged actors follow as fast as target critics do, from the first step on.
GENERATIVE = {"ema": 0.995, "ema_interval": 1, "ema_start": 0, "time_width": 16}
CHOICES: dict[str, tuple[float, ...]] = {
    "td3_bc": (1.0, 2.5, 5.0, 10.0),
    "rebrac": (0.003, 0.01, 0.03, 0.1),
    "iql": (1.0, 3.0, 6.0, 10.0),
    "fql": (0.1, 0.3, 1.0, 3.0),
    "dql": (0.3, 1.0, 3.0, 10.0),
    "ofql": (0.1, 0.3, 1.0, 3.0),
}
# Where the best of the four was the first or the last, two more lie beyond it.
BEYOND: dict[str, tuple[float, ...]] = {
    "td3_bc": (0.25, 0.5),
    "rebrac": (0.3, 1.0),
    "iql": (0.1, 0.3),
    "dql": (0.03, 0.1),
    "ofql": (0.01, 0.03),
}
CHOSEN: dict[str, float] = {
    "td3_bc": 0.25,
    "rebrac": 0.1,
    "iql": 0.3,
    "fql": 1.0,
    "dql": 0.1,
    "ofql": 0.1,
}
# The best of the four, where one beyond was better.
FIRST: dict[str, float] = {"td3_bc": 1.0, "iql": 1.0, "dql": 0.3}
OWN: dict[str, dict[str, Any]] = {
    "iql": {"expectile": 0.7},
    "fql": {"normalize_q": True},
    "dql": GENERATIVE,
    "ofql": GENERATIVE,
}
# Beside the methods as they are, which are cells of the table.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "flow-0": ("ofql", {"flow_ratio": 0.0}),
    "flow-1": ("ofql", {"flow_ratio": 1.0}),
    "uniform": ("ofql", {"time_distribution": "uniform"}),
    "dql-1": ("dql", {"diffusion_steps": 1}),
}
ONLINE_STEPS = 50_000
SEEDS, FEW_SEEDS, TUNING_SEEDS, FIRST_TUNING_SEED = 5, 2, 2, 100
CELLS = [f"{name}/{method}" for name in TASKS for method in NAMES]
CELLS += [f"tuning/{name}/{method}" for method in CHOICES for name in TUNED_ON]
CELLS += [f"beyond/{name}/{method}" for method in BEYOND for name in TUNED_ON]
CELLS += [f"grid/{name}/{method}" for method in FIRST for name in TASKS]
CELLS += [f"ablation/{name}" for name in VARIANTS]
CELLS += [f"full/{name}" for name in FULL]
CELLS += [f"online/{name}" for name in ONLINE]
# Seconds of a core per gradient step of three layers of 128 units (SAC: of two), with all that
# belongs to a cell.
SECONDS = {
    "bc": 0.45e-3,
    "td3_bc": 1.9e-3,
    "rebrac": 2e-3,
    "iql": 2.5e-3,
    "fql": 4.8e-3,
    "dql": 7.8e-3,
    "ofql": 3.9e-3,
    "sac": 1.4e-3,
}


@dataclass(frozen=True)
class Arguments(TrainingArguments):
    """Offline learners on MuJoCo."""

    cells: tuple[str, ...] = tuple(CELLS)
    """Cells to train; the table shows every cell that has been trained."""


def study(arguments: Arguments) -> Study:
    """What is to be trained and written."""
    check_choices("cell", arguments.cells, CELLS)
    name = "offline_mujoco_quick" if arguments.quick else "offline_mujoco"
    folder, console = arguments.runs / name, Console()
    cells = {}
    for place in arguments.cells:
        run = experiment(place, arguments.quick)
        members = run.run.num_seeds * len(run.settings())
        seconds = steps_of(run) * members * SECONDS[run.algorithm]
        if place.startswith("full/"):
            seconds *= 4
        measure = partial(measured, run, folder / place, console)
        if place.startswith("online/"):
            measure = partial(go_on, place, arguments.quick, folder, console)
        asked = request(run)
        if place.startswith("online/") and run.algorithm != "sac":
            offline = experiment(place.replace("online", FULL_ON), arguments.quick)
            asked["offline"] = request(offline)
        cells[place] = Cell(asked, measure, seconds / 3600, type(run.config)())
    return Study(name, cells, text, draw)


def steps_of(run: Experiment) -> int:
    """The gradient steps of a training, about."""
    config = run.config
    return config.total_steps if run.algorithm == "sac" else config.total_updates


def experiment(place: str, quick: bool) -> Experiment:
    """What a cell trains."""
    kind, _, rest = place.partition("/")
    if rest == "sac":
        return from_nothing(quick)
    seeds, seed, sweep, settings = SEEDS, 0, {}, {}
    coefficients = FIRST if kind == "grid" else CHOSEN
    if kind in ("tuning", "beyond"):
        dataset, _, name = rest.partition("/")
        tried = BEYOND if kind == "beyond" else CHOICES
        sweep = {METHODS[name].coefficient: list(tried[name])}
        seeds, seed, settings = TUNING_SEEDS, FIRST_TUNING_SEED, TUNING
    elif kind == "grid":
        dataset, _, name = rest.partition("/")
    elif kind == "ablation":
        dataset, (name, settings) = ABLATED_ON, VARIANTS[rest]
    elif kind == "full":
        dataset, name, seeds, settings = FULL_ON, rest, FEW_SEEDS, FULL_SIZE
    elif kind == "online":
        dataset, name = FULL_ON, rest
        settings = {"online": True, "total_updates": ONLINE_STEPS}
    else:
        dataset, name = kind, rest
    method = METHODS[name]
    config, _ = default_config(method.algorithm, TASKS[dataset], use_tuned=False)
    known = flatten(config)
    shared = {each: value for each, value in SHARED.items() if each in known}
    chosen = {}
    if name in coefficients and not sweep:
        chosen = {method.coefficient: coefficients[name]}
    changes = shared | OWN.get(name, {}) | chosen | settings | {"dataset": dataset}
    config = override(config, changes | (QUICK if quick else {}))
    run = RunSettings(
        seed=seed,
        num_seeds=1 if quick else seeds,
        num_evaluations=2,
        modes=method.modes[:1] if sweep else method.modes,
        evaluation_episodes=EPISODES,
    )
    return Experiment(method.algorithm, TASKS[dataset], config, run, sweep)


def from_nothing(quick: bool) -> Experiment:
    """SAC with as many steps in the environment, networks of the same width, and no dataset."""
    task = TASKS[FULL_ON]
    config, _ = default_config("sac", task, use_tuned=False)
    settings = {
        "total_steps": 2000 if quick else ONLINE_STEPS,
        "hidden_sizes": (128, 128),
        "warm_up": 1000,
    }
    run = RunSettings(
        num_seeds=1 if quick else SEEDS,
        num_evaluations=2,
        modes=("deterministic",),
        evaluation_episodes=EPISODES,
    )
    return Experiment("sac", task, override(config, settings), run)


def go_on(place: str, quick: bool, folder: Path, console: Console) -> dict[str, Any]:
    """The score after going on online, from the method's own offline run, which must be there."""
    run, name = experiment(place, quick), place.partition("/")[2]
    if name == "sac":
        return measured(run, folder / place, console)
    offline = experiment(f"{FULL_ON}/{name}", quick)
    measured(offline, folder / FULL_ON / name, console)
    begun = replace(run, run=replace(run.run, init_from=str(folder / FULL_ON / name)))
    return measured(begun, folder / place, console)


def measured(run: Experiment, folder: Path, console: Console) -> dict[str, Any]:
    """The last evaluation of a training, by mode, normalised: scores [H][S]."""
    console.note(f"{folder}")
    dataset = getattr(run.config, "dataset", FULL_ON)
    ensure_built(dataset, console)
    train_or_resume(run, folder, console)
    found, random_expert = load_run(folder), reference_scores(dataset)
    scores = {
        mode: normalised(found.evaluations[f"{mode}_returns"][-1].mean(-1), *random_expert).tolist()
        for mode in found.modes
    }
    return {
        "scores": scores,
        "reference_scores": random_expert,
        "sweep": found.sweep,
        "updates": int(found.counts[-1]),
        "training_seconds": found.metrics[-1]["seconds"],
    }


def reference_scores(dataset: str) -> tuple[float, float]:
    """Returns of random actions and of the teacher, as a set knows them."""
    about, _ = own.outline(store.place(dataset))
    random, expert = about["reference_scores"]
    return float(random), float(expert)


if __name__ == "__main__":
    run_study(study, Arguments)
