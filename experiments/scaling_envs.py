"""PPO with more environments: what an iteration's batch buys, and which settings have to change with it.

    python experiments/scaling_envs.py                    # both parts: an hour to an hour and a half on two CPU cores
    python experiments/scaling_envs.py --quick            # a few small cells of both parts: a few minutes
    python experiments/scaling_envs.py --full             # part 2 for an accelerator, up to 16 384 environments
    python experiments/scaling_envs.py --parts bandit     # one part alone

Part 1, `bandit`, is a contextual bandit with exact regret (jaxrl/envs/suites/bandit.py): where PPO stops learning, what
moves that point, and what releases a run that sits on it. Part 2, `minatar`, scales the environments of MinAtar
games by the rules R1 to R4 of jaxrl/core/co_scaling.py at equal transitions. Every cell is several seeds in one
program; it is written to the JSON as soon as it is finished and skipped from then on, unless its settings change.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

if __name__ == "__main__":
    from jaxrl.cli import prepare_process

    prepare_process()  # a CPU core a device; before JAX is imported

import jax
import numpy as np
import tyro
from scaling_figures import draw
from scaling_report import markdown

from jaxrl.algos.ppo import PPOConfig
from jaxrl.analysis.ranking import member_scores
from jaxrl.config import flatten, without_unchosen
from jaxrl.core.co_scaling import co_scale
from jaxrl.core.tree import copy
from jaxrl.envs.suites.bandit import fixed_states
from jaxrl.nn.actor_critic import NetworkConfig
from jaxrl.train.build import build
from jaxrl.train.experiment import Experiment, RunSettings, versions
from jaxrl.train.files.folder import plain, write_atomically
from jaxrl.train.output.console import Console
from jaxrl.train.program import Program
from jaxrl.types import View

RESULTS = Path(__file__).parent / "results"
BANDIT = "bandit/contextual"
BASE = 1024  # transitions of an iteration in the bandit, from which rules scale and runs are released
POINTS = 20  # scores a run


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
NORMAL = Budget(4, BATCHES, 400, 200, (4, 16), 200, True, environments=SCALED, transitions=1_000_000)
FEW = ((16, ("R1",)), (64, ("R1", "R4")))
QUICK = Budget(4, (256, 1024, 4096), 200, 100, (4,), 80, False, environments=FEW, transitions=131_072, episodes=20)
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


class Cell(NamedTuple):
    """One program to train; `releases` maps names to the settings with which it then goes on, each by itself."""

    experiment: Experiment
    iterations: int
    releases: dict[str, dict[str, Any]] = {}
    released: int = 0

    def asked(self) -> dict[str, Any]:
        """All that decides its numbers, as plain data."""
        more: dict[str, Any] = {"iterations": self.iterations, "releases": self.releases, "released": self.released}
        run = self.experiment.run  # but for devices: seeds may be dealt out to any number
        more["run"] = {name: getattr(run, name) for name in ("seed", "num_seeds", "evaluation_episodes")}
        return plain(self.experiment.description() | more)


@dataclass(frozen=True)
class Arguments:
    """PPO with more environments: what an iteration's batch buys, and which settings have to change with it."""

    parts: tuple[str, ...] = ("bandit", "minatar")
    """Parts to train; the tables show every cell that has been trained."""
    quick: bool = False
    """A few small cells, minutes. Its results are written under another name."""
    full: bool = False
    """MinAtar at the size of an accelerator. Its results are written under another name."""
    report: Annotated[bool, tyro.conf.arg(name="report-only")] = False
    """Train nothing; write the tables from the finished cells."""


def main(arguments: Arguments) -> None:
    """Train what is missing, then write the results."""
    suffix, budget = ("_quick", QUICK) if arguments.quick else ("_full", FULL) if arguments.full else ("", NORMAL)
    console, path = Console(), RESULTS / f"scaling_envs{suffix}.json"
    results = json.loads(path.read_text()) if path.exists() else {"versions": versions(), "cells": {}}
    cells = {"bandit": bandit_cells, "minatar": minatar_cells}
    for part in () if arguments.report else arguments.parts:
        train_missing(dict(cells[part](budget)), results, path, console)
    write_atomically(path.with_suffix(".md"), markdown(results["cells"]).encode())
    draw(results["cells"], path.with_suffix(".png"))
    console.note(markdown(results["cells"]))


def run_settings(budget: Budget) -> RunSettings:
    """Seeds dealt out to as many devices as divide them: what each computes does not depend on the others."""
    devices = max(k for k in range(1, budget.seeds + 1) if budget.seeds % k == 0 and k <= len(jax.devices()))
    return RunSettings(num_seeds=budget.seeds, evaluation_episodes=budget.episodes, devices=devices)


def bandit_cells(budget: Budget) -> Iterator[tuple[str, Cell]]:
    """The cells of part 1 by name."""

    run = run_settings(budget)

    def cell(iterations: int, config: PPOConfig, sweep: dict | None = None) -> Cell:
        config = config.replace(total_steps=iterations * config.num_envs)
        return Cell(Experiment("ppo", BANDIT, config, run, sweep or {}), iterations)

    for batch in budget.batches:
        yield f"bandit/plateau/{batch}", cell(budget.plateau, BANDIT_CONFIG.replace(num_envs=batch))
    stuck = cell(budget.plateau, BANDIT_CONFIG)
    yield "bandit/release", stuck._replace(releases=RELEASES, released=budget.released)
    for factor in budget.factors:
        for rule in RULES:
            config = co_scale(BANDIT_CONFIG.replace(num_envs=factor * BASE), BASE, rule)
            yield f"bandit/rules/{factor}/{rule}", cell(budget.compared, config)
    if budget.swept:
        for name, values in SWEEPS.items():
            yield f"bandit/sweep/{name}", cell(budget.plateau, BANDIT_CONFIG, {name: values})
        for epochs in EPOCHS:
            yield f"bandit/sweep/num_epochs/{epochs}", cell(budget.plateau, BANDIT_CONFIG.replace(num_epochs=epochs))


def minatar_cells(budget: Budget) -> Iterator[tuple[str, Cell]]:
    """The cells of part 2 by name."""
    run, base = run_settings(budget), budget.environments[0][0]
    for game in budget.games:
        for num_envs, rules in budget.environments:
            for rule in rules:
                sizes = {"num_steps": budget.num_steps, "minibatch_size": budget.minibatch_size}
                config = MINATAR_CONFIG.replace(num_envs=num_envs, total_steps=budget.transitions, **sizes)
                config = co_scale(config, base, rule)
                iterations = budget.transitions // (num_envs * config.num_steps)
                yield f"minatar/{game}/{num_envs}/{rule}", Cell(Experiment("ppo", game, config, run), iterations)


def train_missing(cells: dict[str, Cell], results: dict, path: Path, console: Console) -> None:
    """Train the cells that `results` lacks, or has under other settings; write each as soon as it is finished."""
    for name, cell in cells.items():
        if not is_finished(cell, results["cells"].get(name)):
            begun = time.perf_counter()
            results["cells"][name] = {"asked": cell.asked(), **train_cell(cell)}
            write_atomically(path, (json.dumps(results) + "\n").encode())
            console.note(f"{name}: {time.perf_counter() - begun:.0f} s")


def is_finished(cell: Cell, record: dict[str, Any] | None) -> bool:
    """Whether a record is of these settings; options that PPO got since then count only where they are used."""
    if record is None:
        return False
    asked, defaults = json.loads(json.dumps(cell.asked())), flatten(PPOConfig())
    known = without_unchosen(PPOConfig(), record["asked"]["config"])
    asked["config"] = {name: x for name, x in asked["config"].items() if name in known or x != defaults.get(name)}
    return asked == record["asked"] | {"config": known}


def train_cell(cell: Cell) -> dict[str, Any]:
    """Scores and metrics of a cell and of its releases."""
    record, policy = train(cell.experiment, cell.iterations)
    released = {}
    for name, changes in cell.releases.items():
        arm = cell.experiment.changed(changes | {"total_steps": cell.released * 4 * BASE})
        released[name], _ = train(arm, cell.released, policy)
    return record | {"releases": released}


def train(experiment: Experiment, iterations: int, policy: Any = None) -> tuple[dict[str, Any], Any]:
    """(record, last policy) of `iterations`, begun from `policy` where given, with everything else fresh.

    In the record, `scores` are [K, H, S] after `iterations` [K]; `late` are metrics [H, S] over the last quarter.
    """
    program = build(experiment)
    score, state = scorer(program), program.init()
    if policy is not None:
        state = begin_from(program, state, policy)
    marks = np.unique(np.linspace(0, iterations, POINTS + 1).astype(int))
    scores, late, seconds = [score(state, 0)], [], 0.0
    for done, until in zip(marks[:-1], marks[1:], strict=True):
        begun, compiled = time.perf_counter(), program.compile_seconds
        state, metrics = jax.block_until_ready(program.chunk(state, int(until - done)))
        seconds += time.perf_counter() - begun - (program.compile_seconds - compiled)
        scores.append(score(state, int(until)))
        if until > 0.75 * iterations:
            late.append(jax.device_get(metrics))
    total = jax.tree.map(lambda *leaves: np.sum(leaves, axis=0), *late)
    with np.errstate(invalid="ignore", divide="ignore"):  # no episode may have ended, no step may have been taken
        means = {name: mean.sum / mean.count for name, mean in total.items()}
    record = {
        "batch": program.algorithm.budget.per_step,
        "iterations": marks,
        "scores": np.stack(scores),
        "late": {name: value.reshape(program.shape) for name, value in means.items()},
        "training_seconds": seconds,
    }
    return shortened(record), program.whole(program.policies(state))


def begin_from(program: Program, state: Any, policy: Any) -> Any:
    """A first state with the policy of another run, [H, S, ...]: optimiser, anchor and environments are fresh."""
    begin = program.algorithm.begin_from
    assert begin is not None
    return program.place(over_members(program, begin)(program.whole(state), copy(policy)))


def over_members(program: Program, function: Callable) -> Callable:
    """Map a function of leaves [...] over those of all members, as they are saved."""
    return jax.vmap(jax.vmap(function)) if program.population.is_population else function


def scorer(program: Program) -> Callable[[Any, int], np.ndarray]:
    """(state, iteration) -> [H, S]: exact regret in the bandit, elsewhere the mean return of greedy episodes."""
    if not hasattr(program.env, "gap"):

        def mean_return(state: Any, iteration: int) -> np.ndarray:
            return member_scores(program.evaluate(program.policies(state), iteration)["deterministic"].returns)

        return mean_return
    states, agent = fixed_states(), program.algorithm.agent

    def regret(policy: Any) -> jax.Array:
        key = jax.random.key(0)  # not read: the deterministic action is no draw
        views = jax.vmap(lambda state: View.at_start(state, program.env.action_space))(states)
        act = jax.vmap(agent.modes["deterministic"].act, in_axes=(None, None, 0, None))
        return program.env.gap(states, act(policy, agent.memory(policy), views, key)[0])

    compiled = jax.jit(over_members(program, regret))
    return lambda state, _: np.asarray(compiled(program.whole(program.policies(state)))).reshape(program.shape)


def shortened(value: Any) -> Any:
    """Plain data with five digits a number."""
    if isinstance(value, dict):
        return {name: shortened(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | list):
        return [shortened(item) for item in plain(value)]
    return value if isinstance(value, int | None) else float(f"{value:.5g}") if math.isfinite(value) else None


if __name__ == "__main__":
    main(tyro.cli(Arguments))
