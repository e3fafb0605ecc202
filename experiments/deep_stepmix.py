"""Deep StepMix on CartPole behind mediocre baselines: violations of the constraint,
and their price in samples.

    python experiments/deep_stepmix.py          # everything, five seeds: half an hour on a core
    python experiments/deep_stepmix.py --quick  # two seeds, fewer measuring episodes: ten minutes
    python experiments/deep_stepmix.py --report-only

Three ways to a good policy: PPO from scratch, PPO that begins with the baseline's weights, and deep
StepMix, whose learner begins from scratch too. The baselines are PPO stopped early, one with
episodes much alike and one without. Before every iteration the policy that is about to collect data
plays fresh episodes apart from the training; an iteration violates the constraint if their mean is
below nine tenths of the baseline's. Every method is a run in a folder under runs/: one that was
stopped is trained anew, and what the JSON has is not run again.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from harness import Cell, Cells, Study, StudyArguments, picture, run_study, sections, table
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from training import request, train_anew, train_or_resume

from jaxrl.algos.deep_stepmix import DeepStepMixConfig
from jaxrl.algos.ppo import PPOConfig
from jaxrl.analysis.runs import Run, load_run
from jaxrl.analysis.style import INK, MUTED, PALETTE, count_label, headline
from jaxrl.config import override
from jaxrl.envs.registry import make
from jaxrl.errors import JaxrlError
from jaxrl.train.experiment import Experiment, RunSettings
from jaxrl.train.output.console import Console
from jaxrl.train.saved import open_policies

RUNS = Path("runs/deep_stepmix")
TASK, LEVEL, BUDGET = "CartPole-v1", 0.9, 2_048_000
BASELINE_SEEDS = {"steady": 1, "erratic": 0}
BASELINE = {"total_steps": 40_960, "num_envs": 8, "num_steps": 128, "minibatch_size": 256}
SHARED = {"num_envs": 512, "minibatch_size": 2000, "learning_rate": 1e-3}
PPO_SETTINGS = SHARED | {"total_steps": BUDGET, "num_steps": 125}
DEEP_SETTINGS = SHARED | {"total_steps": 2 * BUDGET, "return_high": 500.0}
NAMES = {"scratch": "PPO from scratch", "finetuned": "PPO from its weights", "deep": "deep StepMix"}
COLOURS = dict(zip(NAMES, (PALETTE[1], PALETTE[4], PALETTE[0]), strict=True))
REACHED = 475.0
EVALUATION_SEED = 1_000_000  # of the baselines' episodes: no run has it
CPU_HOURS_PER_SEED = 0.02  # of one method


class Size(NamedTuple):
    """How much is trained and measured."""

    seeds: int
    episodes: int  # of each measurement
    measure: str  # of deep StepMix's rounds, with as many episodes
    folder: Path


NORMAL = Size(5, 2048, "round_returns", RUNS / "full")
QUICK = Size(2, 204, "round_returns_quick", RUNS / "quick")


@dataclass(frozen=True)
class Arguments(StudyArguments):
    """Deep StepMix on CartPole behind a mediocre baseline."""


def study(arguments: Arguments) -> Study:
    """The baselines and every method, and what is written of them."""
    name, size = ("deep_stepmix_quick", QUICK) if arguments.quick else ("deep_stepmix", NORMAL)
    return Study(name, cells_of(size, Console()), text, draw)


def cells_of(size: Size, console: Console) -> dict[str, Cell]:
    """The baselines, each followed by the methods behind it."""
    cells, hours = {}, size.seeds * CPU_HOURS_PER_SEED
    for name, seed in BASELINE_SEEDS.items():
        baseline, folder, episodes = baseline_run(seed), RUNS / name, 10 * size.episodes
        behind = {"baseline": request(baseline)}
        cells[f"baseline/{name}"] = Cell(
            request(baseline) | {"episodes": episodes, "level": LEVEL},
            partial(measure_baseline, baseline, folder, episodes, console),
            CPU_HOURS_PER_SEED,
            PPOConfig(),
        )
        for method, experiment in methods(folder, size).items():
            asked = request(experiment)
            asked["config"].pop("baseline", None)  # a path; what is there is asked below
            asked |= {} if method == "scratch" else behind
            place = size.folder / method
            measure = partial(measure_method, baseline, folder, experiment, place, console)
            # The method without a baseline is the same beside both.
            cells.setdefault(method, Cell(asked, measure, hours, type(experiment.config)()))
    return cells


def baseline_run(seed: int) -> Experiment:
    """PPO that is stopped early."""
    # Deep StepMix follows a run's best policy, and init_from goes on with its last: they are one if
    # ranked by what they earn with stochastic actions, for an untrained policy may do well with
    # deterministic ones.
    run = RunSettings(seed=seed, num_evaluations=1, modes=("stochastic", "deterministic"))
    return Experiment("ppo", TASK, override(PPOConfig(), BASELINE), run)


def measure_baseline(
    baseline: Experiment, folder: Path, episodes: int, console: Console
) -> dict[str, Any]:
    """A baseline, trained into `folder`, and what it earns by itself: undiscounted,
    with deterministic actions."""
    train_or_resume(baseline, folder, console)
    before, after = load_run(folder).returns("stochastic")[:, 0, 0]
    if after < before:
        raise JaxrlError(
            f"{folder} earns {before:.1f} untrained and {after:.1f} trained: it is no baseline."
        )
    saved = open_policies(folder, "last", episodes, EVALUATION_SEED, modes=("deterministic",))
    returns = saved.player.evaluate(saved.policies, saved.iteration)["deterministic"].returns
    mean = float(np.mean(returns))
    console.note(f"{folder} earns {mean:.1f} ± {np.std(returns):.1f}")
    return {
        "mean": mean,
        "deviation": float(np.std(returns)),
        "threshold": LEVEL * mean,
    }


def measure_method(
    baseline: Experiment, behind: Path, experiment: Experiment, folder: Path, console: Console
) -> dict[str, Any]:
    """What a method does, trained into `folder`, whose baseline has to be in `behind`."""
    train_or_resume(baseline, behind, console)
    return measured(train_anew(experiment, folder, console))


def methods(folder: Path, size: Size) -> dict[str, Experiment]:
    """The experiments behind the baseline in `folder`, by the method's name in the JSON.

    Each is evaluated before every iteration, and once more at the end.
    """
    config = override(PPOConfig(), PPO_SETTINGS)
    deep = override(DeepStepMixConfig(), DEEP_SETTINGS | {"baseline": str(folder)})
    iterations = config.total_steps // (config.num_envs * config.num_steps)
    rounds = deep.total_steps // (deep.num_envs * make(TASK).horizon)
    modes = ("stochastic", "deterministic")
    alone = RunSettings(
        num_seeds=size.seeds,
        num_evaluations=iterations,
        evaluation_episodes=size.episodes,
        modes=modes,
    )
    from_weights = dataclasses.replace(alone, init_from=str(folder))
    guided = dataclasses.replace(
        alone, num_evaluations=rounds, measures=(f"measures:{size.measure}",)
    )
    return {
        "scratch": Experiment("ppo", TASK, config, alone),
        f"{folder.name}/finetuned": Experiment("ppo", TASK, config, from_weights),
        f"{folder.name}/deep": Experiment("deep_stepmix", TASK, deep, guided),
    }


def measured(run: Run) -> dict[str, Any]:
    """What the collecting policy of every iteration earns, [seeds, iterations],
    and the last learner by itself."""
    # The first axis of its evaluations is one longer: the last one is that of the end.
    if run.algorithm == "deep_stepmix":
        measure = run.config["run"]["measures"][0].partition(":")[2]
        means, errors, handovers = np.moveaxis(run.measure(measure), -1, 0)
    else:  # the learner by itself, which acts from step 0
        played = run.evaluations["stochastic_returns"].astype(np.float64)
        means, errors = played.mean(axis=-1), played.std(axis=-1) / np.sqrt(played.shape[-1])
        handovers = np.zeros_like(means)

    def by_seed(values: np.ndarray) -> list[list[float]]:
        return values[:-1, 0].T.astype(np.float64).round(3).tolist()

    return {
        "samples_per_iteration": run.config["samples_per_step"],
        "returns": by_seed(means),
        "standard_errors": by_seed(errors),
        "handover_steps": by_seed(handovers),
        "final_stochastic": run.returns("stochastic")[-1, 0].tolist(),
        "final_deterministic": run.returns("deterministic")[-1, 0].tolist(),
    }


def text(cells: Cells) -> str:
    """A table for each baseline."""
    if "scratch" not in cells:
        return ""
    run = cells["scratch"]["asked"]["run"]
    parts = [
        f"{TASK}, seeds {list(range(run['num_seeds']))}. The collecting policy of each iteration "
        f"is measured in {run['evaluation_episodes']:,} fresh episodes; those whose mean is "
        "below the constraint are counted."
    ]
    header = ["method", "transitions", "violating iterations, by seed", "least return"]
    header += [
        "last learner, stochastic",
        "deterministic",
        f"transitions to a round of {REACHED:g}, by seed",
    ]
    for name, baseline in baselines(cells).items():
        rows = [line(found, method, baseline) for method, found in behind(cells, name).items()]
        caption = (
            f"The {name} baseline earns {baseline['mean']:.1f} ± {baseline['deviation']:.1f} "
            f"per episode; constraint {baseline['threshold']:.1f}."
        )
        parts.append(table(header, rows, caption))
    return sections(*parts)


def baselines(cells: Cells) -> Cells:
    """What was found of the baselines, by their names."""
    names = {name: f"baseline/{name}" for name in BASELINE_SEEDS}
    return {name: cells[cell] for name, cell in names.items() if cell in cells}


def behind(cells: Cells, baseline: str) -> Cells:
    """What each method did beside a baseline; PPO from scratch knows none."""
    places = {name: name if name == "scratch" else f"{baseline}/{name}" for name in NAMES}
    return {name: cells[place] for name, place in places.items() if place in cells}


def line(found: dict[str, Any], method: str, baseline: dict[str, Any]) -> list[str]:
    """A method's row in the table of one baseline."""
    returns, samples = np.array(found["returns"]), found["samples_per_iteration"]
    violating = (returns < baseline["threshold"]).sum(1).tolist()
    good = [np.flatnonzero(row >= REACHED) for row in returns]
    reached = [count_label(float(each[0] * samples)) if len(each) else "–" for each in good]
    final = [f"{np.mean(found[kind]):.1f}" for kind in ("final_stochastic", "final_deterministic")]
    total = count_label(float(samples * returns.shape[1]))
    return [
        NAMES[method],
        total,
        f"{violating} of {returns.shape[1]}",
        f"{returns.min():.1f}",
        *final,
        ", ".join(reached),
    ]


def draw(cells: Cells, path: Path) -> None:
    """A panel for each baseline."""
    picture(path, [partial(panel, cells=cells, name=name) for name in baselines(cells)], 4.8, 3.9)


def panel(axes: Axes, cells: Cells, name: str) -> None:
    """Expected return of the collecting policy against transitions: a thin line per seed,
    a thick one for their mean."""
    baseline, seeds = baselines(cells)[name], 0
    for method, found in behind(cells, name).items():
        returns, colour = np.array(found["returns"]), COLOURS[method]
        seeds = len(returns)
        samples = np.arange(returns.shape[1]) * found["samples_per_iteration"]
        axes.plot(samples, returns.T, color=colour, lw=0.5, alpha=0.5)
        axes.plot(samples, returns.mean(0), color=colour, lw=1.9, label=NAMES[method])
    axes.axhline(baseline["threshold"], color=INK, lw=1.1, ls="--", zorder=1, label="constraint")
    axes.axhline(baseline["mean"], color=MUTED, lw=1.1, ls=":", zorder=1, label="baseline")
    axes.set(
        xlabel="transitions",
        ylabel="expected return of the collecting policy",
        ylim=(0, None),
        xlim=(0, None),
    )
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: count_label(value)))
    axes.legend(loc="lower right")
    spread = f"{baseline['mean']:.0f} ± {baseline['deviation']:.0f} per episode"
    headline(
        axes,
        f"Behind the {name} baseline",
        f"{TASK}, baseline {spread}; {seeds} seeds",
    )


if __name__ == "__main__":
    run_study(study, Arguments)
