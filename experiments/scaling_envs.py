"""PPO with more environments: what an iteration's batch buys,
and which settings have to change with it.

    python experiments/scaling_envs.py                 # both parts: an hour and a half
    python experiments/scaling_envs.py --quick         # a few small cells: a few minutes
    python experiments/scaling_envs.py --full          # part 2 with up to 16 384 environments
    python experiments/scaling_envs.py --parts bandit  # one part alone

Part 1, `bandit`, is a contextual bandit with exact regret (jaxrl/envs/suites/bandit.py): where PPO
stops learning, what moves that point, and what releases a run that sits on it. Part 2, `minatar`,
scales the environments of MinAtar games by the rules R1 to R4 of jaxrl/core/co_scaling.py at equal
transitions. Every cell is several seeds in one run, in a folder under runs/; it is written to the
JSON as soon as it is finished and skipped from then on, unless its settings change. One that was
stopped is trained anew.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

if __name__ == "__main__":
    from jaxrl.cli import prepare_process

    prepare_process()  # a CPU core a device; before JAX is imported

import jax
import numpy as np
from harness import Cell, Study, StudyArguments, check_choices, run_study
from scaling_figures import draw
from scaling_report import text
from training import request, train_anew

from jaxrl.algos.ppo import PPOConfig
from jaxrl.core.co_scaling import co_scale
from jaxrl.nn.actor_critic import NetworkConfig
from jaxrl.train.experiment import Experiment, RunSettings
from jaxrl.train.files.folder import plain
from jaxrl.train.output.console import Console

RUNS = Path("runs")
BANDIT = "bandit/contextual"
BASE = (
    1024  # transitions of an iteration in the bandit, from which rules scale and runs are released
)
POINTS = 20  # scores of a run
# Metrics that are kept: those of which each iteration counts as much. All others are in the run
# folders.
LATE = ("kl", "kl_to_previous", "clip_fraction", "gradient_norm", "gradient_steps")
# Of one member, for each transition that a gradient step reads, with all that comes before and
# after it.
CPU_SECONDS_PER_TRANSITION = {"bandit": 5e-6, "minatar": 3e-5}
CPU_SECONDS_PER_COMPILATION = 20.0


class Budget(NamedTuple):
    """What is trained. Iterations in the bandit, transitions in MinAtar."""

    seeds: int
    batches: tuple[int, ...]  # transitions of an iteration, in the bandit
    plateau: int  # iterations until a run counts as stuck
    released: int  # iterations after that, with one setting changed
    factors: tuple[int, ...]  # times as many environments as BASE, for the rules
    compared: int  # iterations of the rules
    swept: bool  # whether learning rate, clipping and epochs are swept
    games: tuple[str, ...] = ("Breakout-MinAtar",)
    environments: tuple[tuple[int, tuple[str, ...]], ...] = ()  # with the rules at each
    transitions: int = 0
    num_steps: int = 32  # of a rollout in MinAtar
    minibatch_size: int = 256  # there, with the fewest environments
    episodes: int = 50  # of each score there


RULES = ("R1", "R2", "R3", "R4")
BATCHES = (256, 512, 1024, 2048, 4096)
SCALED = ((16, ("R1",)), (64, RULES), (256, RULES), (1024, RULES), (4096, ("R1", "R2")))
NORMAL = Budget(
    4, BATCHES, 400, 200, (4, 16), 200, True, environments=SCALED, transitions=1_000_000
)
FEW = ((16, ("R1",)), (64, ("R1", "R4")))
QUICK = Budget(
    4,
    (256, 1024, 4096),
    200,
    100,
    (4,),
    80,
    False,
    environments=FEW,
    transitions=131_072,
    episodes=20,
)
FULL = NORMAL._replace(
    seeds=5,
    games=("Breakout-MinAtar", "SpaceInvaders-MinAtar"),
    environments=((64, ("R1",)), *((number, RULES) for number in (256, 1024, 4096, 16_384))),
    transitions=100_000_000,
    num_steps=128,
    minibatch_size=1024,
)

BANDIT_CONFIG = PPOConfig(
    num_envs=BASE,
    num_steps=1,
    minibatch_size=256,
    num_epochs=4,
    learning_rate=1e-3,
    anneal_learning_rate=False,
    entropy_coefficient=0.0,
    network=NetworkConfig(hidden_sizes=(64, 64), initial_log_std=math.log(0.3), train_std=False),
)
MINATAR_CONFIG = PPOConfig(
    num_epochs=4,
    learning_rate=1e-3,
    anneal_learning_rate=False,
    network=NetworkConfig(hidden_sizes=(64, 64), activation="relu"),
)
# An iteration of BASE anchors its gradient steps to a policy (16 - 1) / 2 steps old on average.
RELEASES: dict[str, dict[str, Any]] = {
    "continue": {},
    "learning rate / 5": {"learning_rate": 2e-4},
    "clip epsilon / 4": {"clip_epsilon": 0.05},
    "environments x 4 (R1)": {"num_envs": 4 * BASE},
    "EWMA anchor, 4 x as old": {"ewma_center_of_mass": 30.0},
    "outer step 0.5": {"outer_step_size": 0.5},
}
SWEEPS = {
    "learning_rate": [2e-3, 1e-3, 5e-4, 2.5e-4, 1.25e-4],
    "clip_epsilon": [0.4, 0.2, 0.1, 0.05, 0.025],
}
EPOCHS = (1, 2, 4, 8)


class Trial(NamedTuple):
    """One run to train; `releases` maps names to the settings with which it then goes on,
    each by itself."""

    experiment: Experiment
    iterations: int
    releases: dict[str, dict[str, Any]] = {}
    released: int = 0

    def asked(self) -> dict[str, Any]:
        """All that decides its numbers."""
        return request(self.experiment) | {
            "iterations": self.iterations,
            "releases": self.releases,
            "released": self.released,
        }

    def cell(self, folder: Path, console: Console) -> Cell:
        """The trial as it is measured, in a run folder and those beside it."""
        measure = partial(train_trial, self, folder, console)
        return Cell(self.asked(), measure, cpu_hours(self), PPOConfig())


@dataclass(frozen=True)
class Arguments(StudyArguments):
    """PPO with more environments: what an iteration's batch buys,
    and which settings have to change with it."""

    parts: tuple[str, ...] = ("bandit", "minatar")
    """Parts to train; the tables show every cell that has been trained."""
    full: bool = False
    """MinAtar at the size of an accelerator. Its results are written under another name."""


def study(arguments: Arguments) -> Study:
    """What is to be trained and written."""
    trials = {"bandit": bandit_trials, "minatar": minatar_trials}
    check_choices("part", arguments.parts, trials)
    name, budget = "scaling_envs", NORMAL
    if arguments.quick:
        name, budget = "scaling_envs_quick", QUICK
    elif arguments.full:
        name, budget = "scaling_envs_full", FULL
    console = Console()
    cells = {
        place: trial.cell(RUNS / name / place, console)
        for part in arguments.parts
        for place, trial in trials[part](budget)
    }
    return Study(name, cells, text, draw)


def run_settings(budget: Budget) -> RunSettings:
    """Seeds dealt out to as many devices as divide them:
    what each computes does not depend on the others."""
    devices = max(
        k for k in range(1, budget.seeds + 1) if budget.seeds % k == 0 and k <= len(jax.devices())
    )
    return RunSettings(
        num_seeds=budget.seeds,
        num_evaluations=POINTS,
        evaluation_episodes=budget.episodes,
        modes=("deterministic",),
        devices=devices,
    )


def bandit_trials(budget: Budget) -> Iterator[tuple[str, Trial]]:
    """The trials of part 1 by the names of their cells."""

    run = dataclasses.replace(run_settings(budget), measures=("measures:regret",))

    def trial(iterations: int, config: PPOConfig, sweep: dict | None = None) -> Trial:
        config = config.replace(total_steps=iterations * config.num_envs)
        return Trial(Experiment("ppo", BANDIT, config, run, sweep or {}), iterations)

    for batch in budget.batches:
        yield (
            f"bandit/plateau/{batch}",
            trial(budget.plateau, BANDIT_CONFIG.replace(num_envs=batch)),
        )
    stuck = trial(budget.plateau, BANDIT_CONFIG)
    yield "bandit/release", stuck._replace(releases=RELEASES, released=budget.released)
    for factor in budget.factors:
        for rule in RULES:
            config = co_scale(BANDIT_CONFIG.replace(num_envs=factor * BASE), BASE, rule)
            yield f"bandit/rules/{factor}/{rule}", trial(budget.compared, config)
    if budget.swept:
        for name, values in SWEEPS.items():
            yield f"bandit/sweep/{name}", trial(budget.plateau, BANDIT_CONFIG, {name: values})
        for epochs in EPOCHS:
            yield (
                f"bandit/sweep/num_epochs/{epochs}",
                trial(budget.plateau, BANDIT_CONFIG.replace(num_epochs=epochs)),
            )


def minatar_trials(budget: Budget) -> Iterator[tuple[str, Trial]]:
    """The trials of part 2 by the names of their cells."""
    run, base = run_settings(budget), budget.environments[0][0]
    for game in budget.games:
        for num_envs, rules in budget.environments:
            for rule in rules:
                sizes = {"num_steps": budget.num_steps, "minibatch_size": budget.minibatch_size}
                config = MINATAR_CONFIG.replace(
                    num_envs=num_envs, total_steps=budget.transitions, **sizes
                )
                config = co_scale(config, base, rule)
                iterations = budget.transitions // (num_envs * config.num_steps)
                yield (
                    f"minatar/{game}/{num_envs}/{rule}",
                    Trial(Experiment("ppo", game, config, run), iterations),
                )


def cpu_hours(trial: Trial) -> float:
    """What a trial takes on a CPU, by the transitions that its gradient steps read;
    compiling included."""
    arms = [trial.experiment, *(arm for arm, _ in releases(trial).values())]
    members = len(trial.experiment.settings()) * trial.experiment.run.num_seeds
    part = "bandit" if trial.experiment.environment == BANDIT else "minatar"
    read = sum(arm.config.total_steps * arm.config.num_epochs for arm in arms) * members
    return (
        read * CPU_SECONDS_PER_TRANSITION[part] + len(arms) * CPU_SECONDS_PER_COMPILATION
    ) / 3600


def releases(trial: Trial, folder: Path = RUNS) -> dict[str, tuple[Experiment, Path]]:
    """By name, the runs that go on with the policies that the trial's run in `folder` ends with,
    and their folders."""
    run = dataclasses.replace(trial.experiment.run, init_from=str(folder))
    found = {}
    for name, changes in trial.releases.items():
        arm = dataclasses.replace(trial.experiment.changed(changes), run=run)
        steps = trial.released * arm.config.num_envs * arm.config.num_steps
        words = re.sub(r"\W+", "-", name).strip("-")
        found[name] = (
            arm.changed({"total_steps": steps}),
            folder.with_name(f"{folder.name}-{words}"),
        )
    return found


def train_trial(trial: Trial, folder: Path, console: Console) -> dict[str, Any]:
    """Scores and metrics of a trial, trained into `folder`, and of its releases,
    into those beside it."""
    record = train(trial.experiment, folder, console)
    arms = releases(trial, folder)
    return record | {
        "releases": {name: train(arm, beside, console) for name, (arm, beside) in arms.items()}
    }


def train(experiment: Experiment, folder: Path, console: Console) -> dict[str, Any]:
    """The record of a run, trained anew into `folder`.

    `scores` are [K, H, S] after `iterations` [K]: exact regret in the bandit, elsewhere the mean
    return of deterministic episodes. `late` are metrics [H, S] over the iterations of the last
    quarter.
    """
    run = train_anew(experiment, folder, console)
    shape = len(experiment.settings()), experiment.run.num_seeds
    record = {
        "batch": run.config["samples_per_step"],
        "iterations": run.evaluations["iteration"],
        "scores": run.measure("regret")
        if experiment.run.measures
        else run.returns("deterministic"),
        "late": late_metrics(run.metrics, 0.75 * run.config["num_iterations"], shape),
        "training_seconds": run.metrics[-1]["seconds"],
    }
    return shortened(record)


def late_metrics(
    rows: list[dict[str, Any]], after: float, shape: tuple[int, int]
) -> dict[str, np.ndarray]:
    """The metrics LATE [H, S], averaged over the iterations after that many."""
    spans = np.diff([0, *(row["iteration"] for row in rows)])
    late = [(row, span) for row, span in zip(rows, spans, strict=True) if row["iteration"] > after]
    weights = [span for _, span in late]
    values = {
        name: np.array([row[name] for row, _ in late], np.float64).reshape(-1, *shape)
        for name in LATE
    }
    return {name: np.average(each, axis=0, weights=weights) for name, each in values.items()}


def shortened(value: Any) -> Any:
    """Plain data with five digits a number."""
    if isinstance(value, dict):
        return {name: shortened(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | list):
        return [shortened(item) for item in plain(value)]
    return (
        value
        if isinstance(value, int | None)
        else float(f"{value:.5g}")
        if math.isfinite(value)
        else None
    )


if __name__ == "__main__":
    run_study(study, Arguments)
