"""Offline learners on tasks whose answers are known: a bandit of four modes, and a large maze.

    python experiments/offline.py                             # everything: an hour of a core
    python experiments/offline.py --quick                     # one seed and short trainings
    python experiments/offline.py --cells pointmaze-large-stitch/ofql
    python experiments/offline.py --report-only

All learners have networks of three layers of 64 units with Mish, critics with LayerNorm, 8,000
gradient steps on batches of 256, step sizes of 1e-3, targets that follow by 0.02 and standardised
observations; what else each has is in METHODS. Its own coefficient is the best
of four on two other seeds of pointmaze-large-stitch (the cells tuning/…). The score is the last
policy's return with one draw per action; the best of several draws by the critics is a column of
its own. The datasets are built first, if they are not there: `jaxrl dataset build NAME`.
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

from harness import Cell, Cells, Study, check_choices, run_study, sections, table
from training import TrainingArguments, ensure_built, is_finished, request, train_or_resume

from jaxrl.analysis.maze import plot_maze
from jaxrl.analysis.runs import load_run
from jaxrl.analysis.statistics import mean_interval
from jaxrl.config import flatten, override
from jaxrl.envs.registry import make
from jaxrl.train.experiment import Experiment, RunSettings, default_config
from jaxrl.train.output.console import Console
from jaxrl.train.recorder import record
from jaxrl.train.saved import open_policy

MAZES = ("pointmaze-large-stitch", "pointmaze-large-navigate", "pointmaze-large-explore")
DATASETS = {"bandit-2d": "bandit/four-modes"} | dict.fromkeys(MAZES, "maze/point-large")
SHARED: dict[str, Any] = {
    "total_updates": 8000,
    "updates_per_iteration": 500,
    "batch_size": 256,
    "hidden_sizes": (64, 64, 64),
    "learning_rate": 1e-3,
    "critic_learning_rate": 1e-3,
    "tau": 0.02,
    "normalize_observations": True,
    "activation": "mish",
    "layer_norm": True,
}
QUICK = {"total_updates": 1000}
SEEDS, TUNING_SEEDS = 5, 2
EPISODES = 50
# A gradient step of three layers of 64 units, in seconds of a core; of OFQL, about.
SECONDS = 4e-3


class Method(NamedTuple):
    """A learner, its settings, and the coefficient that is tuned."""

    title: str
    algorithm: str
    settings: dict[str, Any]
    coefficient: str = ""
    tried: tuple[float, ...] = ()
    modes: tuple[str, ...] = ("deterministic",)  # to evaluate, the score's first


# Averaged actors follow as fast as target critics do: Diffusion-QL's are a thousand gradient steps
# late, and have a million of them; of 8,000 nothing would be learned. At 64 units, layers for times
# of 64 features would cost twice as much as all others.
GENERATIVE = {"ema": 0.98, "ema_interval": 1, "ema_start": 0, "time_width": 16}
DRAWN = ("stochastic", "best")
METHODS = {
    "bc": Method("BC", "bc", {}),
    "best_bc": Method("10 % BC", "bc", {"best_fraction": 0.1}),
    "td3_bc": Method("TD3+BC", "td3_bc", {"alpha": 40.0}, "alpha", (0.5, 2.5, 10.0, 40.0)),
    "rebrac": Method(
        "ReBRAC", "rebrac", {"actor_penalty": 0.003}, "actor_penalty", (0.003, 0.01, 0.03, 0.1)
    ),
    "iql": Method(
        "IQL",
        "iql",
        {"expectile": 0.9, "inverse_temperature": 10.0},
        "inverse_temperature",
        (3.0, 10.0, 30.0, 100.0),
    ),
    "fql": Method(
        "FQL", "fql", {"alpha": 0.01, "normalize_q": True}, "alpha", (0.01, 0.03, 0.1, 0.3), DRAWN
    ),
    "dql": Method(
        "DQL", "dql", GENERATIVE | {"eta": 100.0}, "eta", (2.0, 10.0, 30.0, 100.0), DRAWN
    ),
    "ofql": Method("OFQL", "ofql", GENERATIVE | {"eta": 2.0}, "eta", (0.1, 0.5, 2.0, 10.0), DRAWN),
}
TUNED_ON = "pointmaze-large-stitch"
CELLS = [f"{dataset}/{method}" for dataset in DATASETS for method in METHODS]
CELLS += [f"tuning/{name}" for name, method in METHODS.items() if method.coefficient]


@dataclass(frozen=True)
class Arguments(TrainingArguments):
    """Offline learners on tasks whose answers are known."""

    cells: tuple[str, ...] = tuple(CELLS)
    """Cells to train; the table shows every cell that has been trained."""


def study(arguments: Arguments) -> Study:
    """What is to be trained and written."""
    check_choices("cell", arguments.cells, CELLS)
    name = "offline_quick" if arguments.quick else "offline"
    folder, console = arguments.runs / name, Console()
    cells = {}
    for place in arguments.cells:
        run = experiment(place, arguments.quick)
        seconds = run.config.total_updates * run.run.num_seeds * len(run.settings()) * SECONDS
        measure = partial(measured, run, folder / place, console)
        cells[place] = Cell(request(run), measure, seconds / 3600, type(run.config)())
    return Study(name, cells, text, partial(draw, folder))


def experiment(place: str, quick: bool) -> Experiment:
    """What a cell trains: five seeds, or a sweep of a method's coefficient on two others."""
    where, name = place.split("/")
    tuning, method = where == "tuning", METHODS[name]
    dataset = TUNED_ON if tuning else where
    config, _ = default_config(method.algorithm, DATASETS[dataset], use_tuned=False)
    known = flatten(config)
    settings = {each: value for each, value in SHARED.items() if each in known}
    own = {
        each: value
        for each, value in method.settings.items()
        if not (tuning and each == method.coefficient)
    }
    settings |= own | {"dataset": dataset} | (QUICK if quick else {})
    run = RunSettings(
        seed=100 if tuning else 0,
        num_seeds=1 if quick else (TUNING_SEEDS if tuning else SEEDS),
        num_evaluations=2,
        modes=method.modes,
        evaluation_episodes=EPISODES,
    )
    sweep = {method.coefficient: list(method.tried)} if tuning else {}
    config = override(config, settings)
    return Experiment(method.algorithm, DATASETS[dataset], config, run, sweep)


def measured(run: Experiment, folder: Path, console: Console) -> dict[str, Any]:
    """The last evaluation of a training, by mode: returns and successes [H][S]."""
    console.note(f"{folder}")
    ensure_built(run.config.dataset, console)
    train_or_resume(run, folder, console)
    return score(folder)


def score(folder: Path) -> dict[str, Any]:
    """What a finished run earned, by mode; the first one is the score."""
    run = load_run(folder)
    modes = {}
    for mode in run.modes:
        returns = run.evaluations[f"{mode}_returns"][-1]
        modes[mode] = {
            "returns": returns.mean(-1).tolist(),
            "successes": (returns > failure(run.environment)).mean(-1).tolist(),
        }
    return {
        "modes": modes,
        "sweep": run.sweep,
        "updates": int(run.counts[-1]),
        "training_seconds": run.metrics[-1]["seconds"],
    }


def failure(environment: str) -> float:
    """The return of an episode that does not succeed: all of its steps, or nothing."""
    return 0.5 if environment.startswith("bandit") else -float(make(environment).horizon)


def text(cells: Cells) -> str:
    """The results in Markdown."""
    parts = []
    for dataset in DATASETS:
        lines = [
            line(METHODS[name], cells[f"{dataset}/{name}"])
            for name in METHODS
            if f"{dataset}/{name}" in cells
        ]
        lines.sort(key=lambda found: -found[0])
        header = ["method", "return [95 %]", "success", "best of 50", "success", "seeds"]
        if lines:
            parts += [f"**{dataset}**", table(header, [found[1] for found in lines])]
    chosen = [
        tuning_line(method, cells[f"tuning/{name}"])
        for name, method in METHODS.items()
        if f"tuning/{name}" in cells
    ]
    if chosen:
        parts.append(f"Coefficients, by the mean return of two other seeds on {TUNED_ON}:")
        parts.append(table(["method", "coefficient", "tried (return)", "chosen"], chosen))
    parts.append(
        f"Last policies, {EPISODES} episodes per seed. Return: the first of the method's modes, "
        "one draw per action of what draws; in the mazes it is minus the steps to the goal, 150 at "
        "most. Best of 50: of as many draws the one that the target critics value most."
    )
    return sections(*parts)


def line(method: Method, cell: dict[str, Any]) -> tuple[float, list[Any]]:
    """(score, cells of a table's line)."""
    first = next(iter(cell["modes"].values()))
    returns = np.asarray(first["returns"][0])
    row: list[Any] = [method.title, with_interval(returns), percent(first)]
    best = cell["modes"].get("best")
    row += [with_interval(np.asarray(best["returns"][0])), percent(best)] if best else ["", ""]
    return float(returns.mean()), [*row, len(returns)]


def with_interval(returns: np.ndarray) -> str:
    """A mean over seeds with its interval."""
    if len(returns) < 2:
        return f"{returns.mean():.1f}"
    low, high = mean_interval(returns)
    return f"{returns.mean():.1f} [{low:.1f}, {high:.1f}]"


def percent(found: dict[str, Any]) -> str:
    """How often episodes succeed, over all seeds."""
    return f"{100 * float(np.mean(found['successes'])):.0f} %"


def tuning_line(method: Method, cell: dict[str, Any]) -> list[Any]:
    """What was tried, what each value earned, and which is the best."""
    first = next(iter(cell["modes"].values()))
    means = np.asarray(first["returns"]).mean(1)
    tried = ", ".join(
        f"{value:g} ({mean:.1f})" for value, mean in zip(method.tried, means, strict=True)
    )
    return [method.title, method.coefficient, tried, f"{method.tried[int(means.argmax())]:g}"]


def draw(folder: Path, cells: Cells, path: Path) -> None:
    """What each method does in the maze, where its run folder is there: 20 episodes of seed 0."""
    env = make(DATASETS[TUNED_ON])
    paths, notes = {}, {}
    for name, method in METHODS.items():
        place = f"{TUNED_ON}/{name}"
        if place not in cells or not is_finished(folder / place):
            return  # the picture that there is stays as it is
        saved = open_policy(folder / place, "last", member=("seed=0",))
        found = record(saved, 20)
        paths[method.title] = [
            np.concatenate([found.observation[rows], found.next_observation[rows][-1:]])
            for rows in (found.episode == number for number in range(20))
        ]
        notes[method.title] = f"{percent(next(iter(cells[place]['modes'].values())))} arrive"
    plot_maze(env.walls, paths, path, goal=env.goal, notes=notes)


if __name__ == "__main__":
    run_study(study, Arguments)
