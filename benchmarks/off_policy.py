"""Training speed of TD3 and SAC in one environment: jaxrl beside SBX, rejax,
and the matrix products alone.

    python -m benchmarks.off_policy          # everything: some 20 minutes
    python -m benchmarks.off_policy --quick  # two rounds of a second; labelled quick

Every contender trains with the same settings in a process of its own, which compiles and takes its
random first steps, on one core, the same for all (os.sched_setaffinity), with one thread. Then they
take turns, A B C, C B A, …, each training for about `--seconds`; only one works at a time.
Each environment step is followed by one gradient step, so that one rate counts both. "bound" does
the matrix products of the gradient steps alone: see benchmarks/peers/off_policy_bound.py.
Other libraries are installed into environments under `--venvs`.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmarks.off_policy_report import text
from benchmarks.report import ROOT, device_name, machine, steps, write
from benchmarks.venvs import interpreters
from benchmarks.workers import Job, take_turns
from experiments.harness import check_choices, start
from jaxrl.train.output.console import Console

COMMON: dict[str, Any] = {
    "num_envs": 1,
    "num_steps": 1000,  # of an iteration of jaxrl
    "batch_size": 256,
    "warm_up": 256,
    "activation": "relu",
    "num_critics": 2,
    "learning_rate": 3e-4,
    "critic_learning_rate": 3e-4,
    "tau": 0.005,
    "gamma": 0.99,
}
TD3 = COMMON | {
    "algorithm": "td3",
    "policy_delay": 2,
    "exploration_noise": 0.1,
    "target_noise": 0.2,
    "target_noise_clip": 0.5,
}
SAC = COMMON | {"algorithm": "sac", "policy_delay": 1}
CHEETAH = {"environment": "HalfCheetah-v5", "hidden_sizes": [256, 256]}
PENDULUM = {"environment": "Pendulum-v1", "hidden_sizes": [64, 64]}
# Whether the replay buffer is full, of copies of its first rows, before it is timed.
SHORT = {"replay_capacity": 100_000, "full": False}
SMALL = {"replay_capacity": 10_000, "full": True}
LARGE = {"replay_capacity": 1_000_000, "full": True}


class Contender(NamedTuple):
    """Where it runs, what it is told beside its case, and what jaxrl's rate is to be of its own."""

    module: str
    venv: str | None = None  # None: our own
    setting: dict[str, Any] = {}
    goal: float | None = None


class Case(NamedTuple):
    """A training, and who is timed at it in the same rounds."""

    title: str
    setting: dict[str, Any]
    contenders: dict[str, Contender]


JAXRL = Contender("off_policy_jaxrl")
SMALL_RING = Contender("off_policy_jaxrl", setting=SMALL, goal=0.8)


def _rejax(goal: float) -> Contender:
    return Contender("off_policy_rejax", "rejax", goal=goal)


CASES = {
    "td3": Case(
        "TD3 on HalfCheetah-v5, 256 × 256",
        TD3 | CHEETAH | SHORT,
        {
            "jaxrl": JAXRL,
            "sbx": Contender("off_policy_sbx", "sb3", goal=2.2),
            "bound": Contender("off_policy_bound", goal=0.8),
        },
    ),
    "sac": Case(
        "SAC on HalfCheetah-v5, 256 × 256",
        SAC | CHEETAH | SHORT,
        {"jaxrl": JAXRL, "sbx": Contender("off_policy_sbx", "sb3")},
    ),
    "pendulum": Case(
        "TD3 on Pendulum-v1, 64 × 64, ring of 10,000",
        TD3 | PENDULUM | SMALL,
        {"jaxrl": JAXRL, "rejax": _rejax(1.3)},
    ),
    "pendulum_large": Case(
        "TD3 on Pendulum-v1, 64 × 64, ring of 1,000,000",
        TD3 | PENDULUM | LARGE,
        {"jaxrl": JAXRL, "rejax": _rejax(10.0), "jaxrl, ring of 10,000": SMALL_RING},
    ),
    "td3_large": Case(
        "TD3 on HalfCheetah-v5, 256 × 256, ring of 1,000,000",
        TD3 | CHEETAH | LARGE,
        {"jaxrl": JAXRL, "jaxrl, ring of 10,000": SMALL_RING},
    ),
}


@dataclass(frozen=True)
class Arguments:
    """Training speed of TD3 and SAC in one environment: jaxrl beside other libraries,
    and the matrix products alone."""

    cases: tuple[str, ...] = tuple(CASES)
    """What to time."""
    repeats: int = 7
    """Rounds; in each, every contender is timed once."""
    seconds: float = 5.0
    """About how long one timing takes."""
    clock: Literal["processor", "wall"] = "processor"
    """What to time by: the processor's time leaves out what other processes take of the core."""
    core: int | None = None
    """The core that all keep to; none: the last one that this process may use."""
    venvs: Path = ROOT / ".bench"
    """Where the other libraries are installed."""
    label: str = ""
    """Ends the name of the results, which otherwise replace the last ones of this device."""
    quick: bool = False
    """Two rounds of a second; labelled quick."""


def main(arguments: Arguments) -> None:
    """Time every contender of every case; print and write the results."""
    check_choices("case", arguments.cases, CASES)
    if arguments.quick:
        arguments = dataclasses.replace(arguments, repeats=2, seconds=1.0, label="quick")
    record: dict[str, Any] = {
        "repeats": arguments.repeats,
        "seconds": arguments.seconds,
        "clock": arguments.clock,
        "machine": machine(),
        "device": {"platform": "cpu", "kind": "cpu"},
        "versions": {},
        "missing": {},
        "cases": [],
    }
    cases = [CASES[name] for name in arguments.cases]
    asked = [each for case in cases for each in case.contenders.values()]
    venvs = {contender.module: contender.venv for contender in asked}
    with steps(len(venvs) + len(asked) * (1 + arguments.repeats)) as begin:
        pythons = interpreters(venvs, arguments.venvs, record["missing"], begin)
        for case in cases:
            record["cases"].append(time_case(case, pythons, arguments, begin, record["versions"]))
            # After every case: what was measured outlives an interruption.
            written = save(record, arguments.label)
    Console().note(written)


def time_case(
    case: Case, pythons: dict[str, str], arguments: Arguments, begin: Any, versions: dict[str, Any]
) -> dict[str, Any]:
    """Every contender that could be installed, in turns; their `versions` are noted."""
    setting = case.setting | {
        "seconds": arguments.seconds,
        "clock": arguments.clock,
        "core": last_core() if arguments.core is None else arguments.core,
    }
    jobs = {
        name: Job(pythons[each.module], each.module, setting | each.setting)
        for name, each in case.contenders.items()
        if each.module in pythons
    }
    title = case.title
    found = take_turns(
        jobs, arguments.repeats, lambda text: begin(f"{title}, {text}"), alternate=True
    )
    for name, result in found.items():
        versions[case.contenders[name].module] = result.pop("versions", None)
    goals = {name: each.goal for name, each in case.contenders.items() if each.goal}
    return {"title": title, "setting": case.setting, "goals": goals, "systems": found}


def last_core() -> int:
    """A core to keep to: the last that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(os.sched_getaffinity(0))
    return 0


def save(record: dict[str, Any], label: str) -> str:
    """JSON and Markdown under benchmarks/results/, named after the device;
    what is to be printed of them."""
    name = f"off_policy_{device_name('cpu', 'cpu')}" + (f"_{label}" if label else "")
    return write(name, record, text(record))


if __name__ == "__main__":
    start(main, Arguments)
