"""A sweep in one program against the same runs one after another:
16 seeds × 8 learning rates of PPO on CartPole.

    python -m benchmarks.sweep

Three ways to the same 128 trained policies are timed in one process, compilation apart:
  together   one program, both axes vmapped
  in turn    one compiled single-run program, called for each member (numbers and seeds are
             arguments)
  commands   `jaxrl train`, one process per member: start-up and compilation (from the persistent
             cache) each time; `--commands` of them are run, and their median is multiplied up
"""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from benchmarks.report import machine, write
from experiments.harness import markdown, start
from jaxrl.algos.ppo import ppo
from jaxrl.config import override
from jaxrl.envs.registry import make
from jaxrl.train.experiment import default_config, versions
from jaxrl.train.output.console import Console, number
from jaxrl.train.program import Program

ENVIRONMENT = "CartPole-v1"


@dataclass(frozen=True)
class Arguments:
    """A sweep in one program against the same runs one after another."""

    seeds: int = 16
    """Seeds of each setting."""
    learning_rates: tuple[float, ...] = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 3e-3, 5e-3, 1e-2)
    """Settings."""
    total_steps: int = 50_000
    """Budget of each member."""
    commands: int = 3
    """Members trained as processes of their own."""


def main(arguments: Arguments) -> None:
    """Time the three ways, print and save the ratios."""
    env = make(ENVIRONMENT)
    config = override(default_config("ppo", ENVIRONMENT)[0], {"total_steps": arguments.total_steps})
    members = arguments.seeds * len(arguments.learning_rates)

    rates = np.asarray(arguments.learning_rates, np.float32)
    swept = dataclasses.replace(config, learning_rate=rates)
    seeds = list(range(arguments.seeds))
    together, population = timed(Program(ppo, env, swept, seeds, num_settings=len(rates)))

    in_turn, single_compile, compiled = 0.0, 0.0, {}
    for rate in arguments.learning_rates:
        for seed in seeds:
            member = dataclasses.replace(config, learning_rate=rate)
            seconds, program = timed(Program(ppo, env, member, [seed], compiled=compiled))
            in_turn += seconds
            single_compile += program.compile_seconds
    command = float(
        np.median([one_command(arguments.total_steps, seed) for seed in range(arguments.commands)])
    )

    row = {
        "members": members,
        "steps_per_member": program.algorithm.budget.steps * program.algorithm.budget.per_step,
        "together_seconds": together,
        "together_compile_seconds": population.compile_seconds,
        "in_turn_seconds": in_turn,
        "in_turn_compile_seconds": single_compile,
        "command_seconds_each": command,
        "commands_seconds": command * members,
        "in_turn_over_together_training_alone": in_turn / together,
        "in_turn_over_together": (in_turn + single_compile)
        / (together + population.compile_seconds),
        "commands_over_together": command * members / (together + population.compile_seconds),
    }
    about = {"arguments": dataclasses.asdict(arguments), "machine": machine()}
    record = about | {"versions": versions()} | row
    Console().note(write("sweep_cpu", record, text(row)))


def text(row: dict[str, Any]) -> str:
    """The quantities in Markdown."""
    return markdown([{"quantity": name, "value": number(value)} for name, value in row.items()])


def timed(program: Program) -> tuple[float, Program]:
    """Seconds of training every member to the end, without compilation."""
    state = program.init()
    state, metrics = program.chunk(state, 0)
    begun = time.perf_counter()
    jax.block_until_ready(program.chunk(state, program.algorithm.budget.steps))
    return time.perf_counter() - begun, program


def one_command(total_steps: int, seed: int) -> float:
    """Seconds of one `jaxrl train` without evaluations but the first and the last."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "jaxrl.cli", "train", "ppo", "--env", ENVIRONMENT]
        command += [
            "--total-steps",
            str(total_steps),
            "--seed",
            str(seed),
            "--num-evaluations",
            "1",
        ]
        command += ["--evaluation-episodes", "1", "--folder", folder + "/run", "--quiet"]
        begun = time.perf_counter()
        subprocess.run(command, check=True)
        return time.perf_counter() - begun


if __name__ == "__main__":
    start(main, Arguments)
