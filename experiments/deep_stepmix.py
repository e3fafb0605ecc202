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
stopped is resumed, and what the JSON has is not run again.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter
from published import RESULTS, markdown, train_or_resume, write

from jaxrl.algos.deep_stepmix import DeepStepMixConfig
from jaxrl.algos.ppo import PPOConfig
from jaxrl.analysis.runs import load_run
from jaxrl.analysis.style import (
    INK,
    MUTED,
    PALETTE,
    count_label,
    headline,
    new_figure,
    save_figure,
    styled,
)
from jaxrl.config import flatten, override
from jaxrl.envs.registry import make
from jaxrl.errors import JaxrlError
from jaxrl.train.experiment import Experiment, RunSettings, versions
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
CPU_HOURS_PER_RUN = 0.02  # of one seed with one method


class Size(NamedTuple):
    """How much is trained and measured."""

    seeds: int
    episodes: int  # of each measurement
    measure: str  # of deep StepMix's rounds, with as many episodes
    folder: Path


NORMAL = Size(5, 2048, "round_returns", RUNS / "full")
QUICK = Size(2, 204, "round_returns_quick", RUNS / "quick")


@dataclass(frozen=True)
class Arguments:
    """Deep StepMix on CartPole behind a mediocre baseline."""

    quick: bool = False
    """Two seeds and a tenth of the measuring episodes: ten minutes on a core;
    written under another name."""
    report: Annotated[bool, tyro.conf.arg(name="report-only")] = False
    """Run nothing; write the table and the picture from the JSON."""


def main(arguments: Arguments) -> None:
    """Train the baselines and with every method, as far as the JSON lacks it; write JSON,
    table and picture."""
    name = f"deep_stepmix{'_quick' if arguments.quick else ''}"
    console, path = Console(), RESULTS / f"{name}.json"
    if not arguments.report:
        train_missing(QUICK if arguments.quick else NORMAL, path, console)
    record = json.loads(path.read_text())
    write(name, record, text(record))
    draw(record, path.with_suffix(".png"))
    console.note(f"{text(record)}\n\nwrote {path}, .md and .png")


def train_missing(size: Size, path: Path, console: Console) -> None:
    """Train with all methods that `path` does not hold yet,
    and add each to it as soon as it has finished."""
    settings = {"baseline": BASELINE, "ppo": flatten(override(PPOConfig(), PPO_SETTINGS))}
    settings["deep"] = flatten(override(DeepStepMixConfig(), DEEP_SETTINGS))
    record: dict[str, Any] = {
        "baselines": {},
        "methods": {},
        "task": TASK,
        "seeds": list(range(size.seeds)),
    }
    record |= {
        "episodes_a_measurement": size.episodes,
        "versions": versions(TASK),
        "settings": settings,
    }
    if path.exists():
        record = json.loads(path.read_text())
    runs = {name: methods(RUNS / name, size) for name in BASELINE_SEEDS}
    missing = {method for each in runs.values() for method in each} - record["methods"].keys()
    if missing:
        hours = len(missing) * size.seeds * CPU_HOURS_PER_RUN
        console.note(f"{', '.join(sorted(missing))} are to be trained: some {hours:.2f} CPU-hours")
    for name, seed in BASELINE_SEEDS.items():
        if not missing & runs[name].keys() and name in record["baselines"]:
            continue
        record["baselines"][name] = train_baseline(RUNS / name, seed, 10 * size.episodes, console)
        for method, experiment in runs[name].items():
            if method not in record["methods"]:
                folder = size.folder / method
                train_or_resume(experiment, folder, console)
                record["methods"][method] = measured(folder)
                write(path.stem, record, "")


def train_baseline(folder: Path, seed: int, episodes: int, console: Console) -> dict[str, Any]:
    """A baseline, trained into `folder`, and what it earns by itself: undiscounted,
    with deterministic actions."""
    # Deep StepMix follows a run's best policy, and init_from goes on with its last: they are one if
    # ranked by what they earn with stochastic actions, for an untrained policy may do well with
    # deterministic ones.
    run = RunSettings(seed=seed, num_evaluations=1, modes=("stochastic", "deterministic"))
    train_or_resume(Experiment("ppo", TASK, override(PPOConfig(), BASELINE), run), folder, console)
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
        "seed": seed,
        "mean": mean,
        "deviation": float(np.std(returns)),
        "threshold": LEVEL * mean,
    }


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


def measured(folder: Path) -> dict[str, Any]:
    """What the collecting policy of every iteration earns, [seeds, iterations],
    and the last learner by itself."""
    run = load_run(folder)  # whose first axis is one longer: the last evaluation is that of the end
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


def text(record: dict[str, Any]) -> str:
    """A table for each baseline."""
    parts = [
        f"{record['task']}, seeds {record['seeds']}. The collecting policy of each iteration is "
        f"measured in {record['episodes_a_measurement']:,} fresh episodes; those whose mean is "
        "below the constraint are counted."
    ]
    for name, baseline in record["baselines"].items():
        rows = [line(record, method, name) for method in NAMES]
        header = ["method", "transitions", "violating iterations, by seed", "least return"]
        header += [
            "last learner, stochastic",
            "deterministic",
            f"transitions to a round of {REACHED:g}, by seed",
        ]
        parts.append(
            f"The {name} baseline earns {baseline['mean']:.1f} ± {baseline['deviation']:.1f} an "
            f"episode; constraint {baseline['threshold']:.1f}."
        )
        parts.append(markdown(header, rows))
    return "\n\n".join(parts)


def found_of(record: dict[str, Any], method: str, baseline: str) -> dict[str, Any]:
    """What a method did beside a baseline; PPO from scratch knows none."""
    return record["methods"][method if method == "scratch" else f"{baseline}/{method}"]


def line(record: dict[str, Any], method: str, baseline: str) -> list[str]:
    """A method's row in the table of one baseline."""
    found = found_of(record, method, baseline)
    returns, samples = np.array(found["returns"]), found["samples_per_iteration"]
    violating = (returns < record["baselines"][baseline]["threshold"]).sum(1).tolist()
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


def draw(record: dict[str, Any], path: Path) -> None:
    """A panel for each baseline."""
    with styled():
        figure = new_figure(9.6, 3.9)
        for place, name in enumerate(record["baselines"]):
            panel(figure.add_subplot(1, len(record["baselines"]), place + 1), record, name)
        save_figure(figure, path)


def panel(axes: Axes, record: dict[str, Any], name: str) -> None:
    """Expected return of the collecting policy against transitions: a thin line a seed,
    a thick one their mean."""
    baseline = record["baselines"][name]
    for method, label in NAMES.items():
        found = found_of(record, method, name)
        returns = np.array(found["returns"])
        samples = np.arange(returns.shape[1]) * found["samples_per_iteration"]
        axes.plot(samples, returns.T, color=COLOURS[method], lw=0.5, alpha=0.5)
        axes.plot(samples, returns.mean(0), color=COLOURS[method], lw=1.9, label=label)
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
    spread = f"{baseline['mean']:.0f} ± {baseline['deviation']:.0f} an episode"
    headline(
        axes,
        f"Behind the {name} baseline",
        f"{record['task']}, baseline {spread}; {len(record['seeds'])} seeds",
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
