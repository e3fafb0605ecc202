"""Whether an accelerator computes what a CPU does, and whether PPO learns on it.

    python -m benchmarks.smoke

The first iteration of PPO on CartPole, and of TD3 and SAC on Pendulum, in the same bits of a
beginning, on the accelerator and on the CPU, with the products in full float32; then a training of
PPO to the highest score.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import ROOT, device_name, machine, write
from experiments.harness import markdown, start
from jaxrl.train.output.console import Console

# Sixteen gradient steps each.
OFF_POLICY = {"num_envs": 4, "num_steps": 12, "warm_up": 32, "batch_size": 64, "total_steps": 4800}
FIRST = {
    "ppo": (
        "CartPole-v1",
        {"num_envs": 64, "num_steps": 16, "minibatch_size": 256, "total_steps": 64 * 16 * 100},
    ),
    "td3": ("Pendulum-v1", OFF_POLICY),
    "sac": ("Pendulum-v1", OFF_POLICY),
}
LEARNING = {"num_envs": 256, "num_steps": 32, "minibatch_size": 2048, "learning_rate": 1e-3}
# Rounding moves a parameter by some 1e-7 in each of sixteen gradient steps; Adam's first steps,
# which divide by the size of a gradient, make more of it.
TOLERANCE = 1e-3
GOAL = 475.0  # at which Gymnasium takes CartPole for solved


@dataclass(frozen=True)
class Arguments:
    """Whether an accelerator computes what a CPU does, and whether PPO learns on it."""

    total_steps: int = 1_000_000
    """Transitions of the training."""
    first: Path | None = None
    """Only write what the first iteration of each algorithm makes of the policy to this file."""


def main(arguments: Arguments) -> int:
    """Compare, train, write; the status says whether both came out."""
    if arguments.first is not None:
        leaves = {name: first_iteration(name) for name in FIRST}
        np.savez(
            arguments.first,
            **{f"{name} {k}": leaf for name in FIRST for k, leaf in enumerate(leaves[name])},
        )
        return 0
    import jax

    from jaxrl.train.experiment import versions

    device = jax.devices()[0]
    record: dict[str, Any] = {
        "devices": [str(each) for each in jax.devices()],
        "machine": machine(),
        "versions": versions(),
        "differences": differences(),
        "tolerance": TOLERANCE,
        "goal": GOAL,
        **learned(arguments.total_steps),
    }
    name = f"smoke_{device_name(device.platform, device.device_kind)}"
    Console().note(write(name, record, text(record)))
    largest = max(record["differences"].values())
    return int(largest > TOLERANCE or record["score"] < GOAL)


def first_iteration(algorithm: str) -> list[np.ndarray]:
    """The policy's leaves after one iteration."""
    import jax

    from jaxrl.train.build import build
    from jaxrl.train.experiment import Experiment, RunSettings, default_config

    environment, sizes = FIRST[algorithm]
    config = default_config(algorithm, environment, use_tuned=False)[0]
    run = RunSettings(devices=1)
    program = build(Experiment(algorithm, environment, config, run).changed(sizes))
    state, _ = program.chunk(program.init(), 1)
    return [np.asarray(leaf) for leaf in jax.tree.leaves(program.algorithm.policy(state))]


def differences() -> dict[str, float]:
    """The largest difference of a parameter between this device and the CPU, by algorithm."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for platform in ({}, {"JAX_PLATFORMS": "cpu"}):
            path = Path(folder) / f"{len(found)}.npz"
            variables = os.environ | {"JAX_DEFAULT_MATMUL_PRECISION": "highest"} | platform
            command = [sys.executable, "-m", "benchmarks.smoke", "--first", str(path)]
            # Of this process's memory nothing is given up: a GPU must hold both.
            variables["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
            subprocess.run(command, cwd=ROOT, env=variables, check=True)
            with np.load(path) as file:
                found.append({name: file[name] for name in file.files})
    here, there = found
    return {
        algorithm: max(
            float(np.abs(here[name] - there[name]).max())
            for name in here
            if name.split()[0] == algorithm
        )
        for algorithm in FIRST
    }


def learned(total_steps: int) -> dict[str, Any]:
    """The score of a training, and how long it took."""
    import jaxrl
    from jaxrl.analysis.runs import load_run

    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        settings = LEARNING | {"total_steps": total_steps}
        result = jaxrl.train("ppo", "CartPole-v1", folder=Path(folder) / "run", **settings)
        returns = load_run(result.folder).returns("deterministic")
    return {
        "score": float(returns[-1].mean()),
        "transitions": total_steps,
        "seconds": time.perf_counter() - begun,
    }


def text(record: dict[str, Any]) -> str:
    """The record in Markdown."""
    rows = [
        {
            "what": f"{algorithm}: largest difference of a parameter after one iteration, from the "
            "CPU's",
            "measured": f"{difference:.1e}",
            "goal": f"≤ {record['tolerance']:.0e}",
        }
        for algorithm, difference in record["differences"].items()
    ]
    rows += [
        {
            "what": f"return on CartPole after {record['transitions']:,} transitions, "
            f"in {record['seconds']:.0f} s with compiling",
            "measured": f"{record['score']:.1f}",
            "goal": f"≥ {record['goal']:g}",
        },
    ]
    return f"{', '.join(record['devices'])}.\n\n{markdown(rows)}"


if __name__ == "__main__":
    start(main, Arguments)
