"""Training throughput of PPO on CartPole: jaxrl beside rejax, SBX, Stable-Baselines3,
and the products alone.

    python -m benchmarks.throughput            # everything: seven sizes, five rounds each
    python -m benchmarks.throughput --quick    # small sizes, one repeat

Every system trains with the same settings in a process of its own, which compiles and warms up once
for each number of environments. Then they take turns, A B C A B C …, each training for about
`--seconds`; only one works at a time. A rate counts environment steps of whole iterations, rollout
and update. "bound" does the matrix products of rollout and update and nothing else: see
benchmarks/peers/bound.py. Other libraries are installed into environments under `--venvs`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.report import RESULTS, ROOT, device_name, machine, steps, write
from benchmarks.throughput_report import draw, text
from benchmarks.venvs import interpreters
from benchmarks.workers import Job, take_turns
from experiments.harness import check_choices, start
from jaxrl.train.output.console import Console

SETTINGS: dict[str, Any] = {
    "environment": "CartPole-v1",
    "hidden_sizes": [64, 64],
    "activation": "tanh",
    "num_epochs": 4,
    "num_minibatches": 4,
    "learning_rate": 2.5e-4,
    "gamma": 0.99,
    "gae_lambda": 0.95,
    "clip_epsilon": 0.2,
    "entropy_coefficient": 0.01,
    "value_coefficient": 0.5,
    "max_grad_norm": 0.5,
}
# More environments than this take shorter rollouts, so that a batch fits into the 24 GiB of a small
# machine.
LONG_ROLLOUTS, LONG, SHORT = 16_384, 128, 16


class System(NamedTuple):
    """Where a system runs, and the most environments it is asked for."""

    module: str
    venv: str | None = None  # None: our own
    most: int = sys.maxsize


# SBX and SB3 step their environments one by one in Python.
SYSTEMS = {
    "jaxrl": System("jaxrl_ppo"),
    "rejax": System("rejax_ppo", "rejax"),
    "sbx": System("sbx_ppo", "sb3", 2048),
    "sb3": System("sb3_ppo", "sb3", 2048),
    "bound": System("bound"),
}


@dataclass(frozen=True)
class Arguments:
    """Training throughput of PPO on CartPole: jaxrl beside other libraries,
    and the matrix products alone."""

    sizes: tuple[int, ...] = (4, 64, 512, 2048, 16_384, 131_072, 1_048_576)
    """Numbers of environments."""
    repeats: int = 5
    """Rounds; in each, every system is timed once."""
    seconds: float = 5.0
    """About how long one timing takes."""
    systems: tuple[str, ...] = tuple(SYSTEMS)
    """What to time."""
    venvs: Path = ROOT / ".bench"
    """Where the other libraries are installed."""
    label: str = ""
    """Ends the name of the results, which otherwise replace the last ones of this device."""
    quick: bool = False
    """4, 64 and 512 environments, one repeat of a second, jaxrl, rejax and bound;
    labelled quick."""


def main(arguments: Arguments) -> None:
    """Time every system at every size; print and write the results."""
    check_choices("system", arguments.systems, SYSTEMS)
    if arguments.quick:
        arguments = dataclasses.replace(
            arguments,
            sizes=(4, 64, 512),
            repeats=1,
            seconds=1.0,
            systems=("jaxrl", "rejax", "bound"),
            label="quick",
        )
    record: dict[str, Any] = {
        "settings": SETTINGS,
        "repeats": arguments.repeats,
        "seconds": arguments.seconds,
        "machine": machine(),
        "device": {"platform": "cpu", "kind": "cpu"},
        "versions": {},
        "missing": {},
        "sizes": [],
    }
    asked = {
        size: [name for name in arguments.systems if size <= SYSTEMS[name].most]
        for size in arguments.sizes
    }
    with steps(
        len(arguments.systems) + sum(map(len, asked.values())) * (1 + arguments.repeats)
    ) as begin:
        venvs = {name: SYSTEMS[name].venv for name in arguments.systems}
        pythons = interpreters(venvs, arguments.venvs, record["missing"], begin)
        for size, names in asked.items():
            present = {name: pythons[name] for name in names if name in pythons}
            row = time_size(size, present, arguments, begin)
            for name, result in row["systems"].items():
                record["versions"][name] = result.pop("versions", record["versions"].get(name))
                if result.get("device", record["device"])["platform"] != "cpu":
                    record["device"] = result["device"]
            record["sizes"].append(row)
            # After every size: what was measured outlives an interruption.
            written = save(record, arguments.label)
    Console().note(written)


def save(record: dict[str, Any], label: str) -> str:
    """JSON, Markdown and a picture under benchmarks/results/, named after the device;
    what is to be printed of them."""
    device = device_name(record["device"]["platform"], record["device"]["kind"])
    name = f"throughput_{device}" + (f"_{label}" if label else "")
    draw(record, RESULTS / f"{name}.png")
    return write(name, record, text(record))


def time_size(
    num_envs: int, pythons: dict[str, str], arguments: Arguments, begin: Callable[[str], None]
) -> dict[str, Any]:
    """Every system with so many environments: start all,
    then rounds in which each is timed once."""
    num_steps = LONG if num_envs <= LONG_ROLLOUTS else SHORT
    setting = SETTINGS | {
        "num_envs": num_envs,
        "num_steps": num_steps,
        "seconds": arguments.seconds,
    }
    jobs = {name: Job(python, SYSTEMS[name].module, setting) for name, python in pythons.items()}
    results = take_turns(
        jobs, arguments.repeats, lambda text: begin(f"{num_envs} environments, {text}")
    )
    return {"num_envs": num_envs, "num_steps": num_steps, "systems": results}


if __name__ == "__main__":
    start(main, Arguments)
