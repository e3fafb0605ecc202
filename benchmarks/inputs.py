"""What an input costs, by its size: the length of the program's text, compilation,
memory, checkpoints, copies.

    python -m benchmarks.inputs

The toy algorithm `averaging` moves weights towards rows of a matrix of noise that it is given as an
input. Each size is a process of its own, which trains one seed through the project's runner, and
then builds a population of 8 seeds on all of the processor's cores, one device each, and counts the
buffers that hold the matrix. Memory is read from /proc: Linux alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.log_checkpoints import process_status
from benchmarks.report import ROOT, cores, machine, steps, write
from experiments.harness import markdown, start
from jaxrl.config import budget, configuration, number, option, size
from jaxrl.envs.api import Environment
from jaxrl.errors import JaxrlError
from jaxrl.train import loop
from jaxrl.train.build import build
from jaxrl.train.experiment import Experiment, RunSettings, default_config, versions
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.output.console import Console
from jaxrl.train.program import Program
from jaxrl.types import Agent, Algorithm, Array, Budget, Key, Mean, Metrics, feed_forward

ALGORITHM, ENVIRONMENT = "benchmarks.inputs:averaging", "probe/two-lengths"
WIDTH, SEEDS = 100, 8
BYTES_PER_ROW = 4 * WIDTH


class Noise(NamedTuple):
    """A matrix of noise, float32 [rows, WIDTH]."""

    rows: Array

    @classmethod
    def read(cls, path: PathLike, env: Environment) -> Noise:
        """The matrix in an .npy file; any environment will do."""
        del env
        return cls(jnp.asarray(np.load(path)))


@configuration
class AveragingConfig:
    """Settings of averaging."""

    noise: str = option("")
    """File of the matrix (.npy)."""
    total_steps: int = budget(100, unit="gradient steps")
    """Steps to train for."""
    batch_size: int = size(256)
    """Rows of a step."""
    learning_rate: float = number(0.1, 0, 1)
    """How far the weights move towards the mean of those rows."""


class AveragingState(NamedTuple):
    """The weights, [WIDTH], and the key."""

    weights: Array
    key: Key


def averaging(env: Environment, config: AveragingConfig, *, noise: Noise) -> Algorithm:
    """Weights that follow rows of the `noise`."""
    agent = averaging_agent(env, config)

    def step(state: AveragingState) -> tuple[AveragingState, Metrics]:
        key, of_rows = jax.random.split(state.key)
        drawn = noise.rows[jax.random.randint(of_rows, (config.batch_size,), 0, len(noise.rows))]
        weights = state.weights + config.learning_rate * (jnp.mean(drawn, axis=0) - state.weights)
        return AveragingState(weights, key), {"size": Mean.of(jnp.linalg.norm(weights))}

    return Algorithm(
        init=lambda key: AveragingState(agent.init(key), key),
        step=step,
        policy=lambda state: state.weights,
        agent=agent,
        budget=Budget("gradient steps", 1, config.total_steps),
    )


def averaging_agent(env: Environment, config: AveragingConfig) -> Agent:
    """Acts by the sign of all weights together: it is the input that this is about."""
    space = env.action_space

    def act(weights: Array, observation: Array, key: Key) -> Array:
        return jnp.full(space.shape, jnp.sum(weights) > 0, space.dtype)

    return Agent(init=lambda key: jnp.zeros(WIDTH), modes={"deterministic": feed_forward(act)})


@dataclass(frozen=True)
class Arguments:
    """How large the inputs are."""

    megabytes: tuple[int, ...] = (1, 40, 400)
    """Sizes of the matrix, each measured in a process of its own."""
    only: int | None = None
    """Measure this size here, and print what it took as JSON."""


def main(arguments: Arguments) -> None:
    """Measure every size; print and write the table."""
    if arguments.only is not None:
        Console().note(json.dumps(measure(arguments.only)))
        return
    rows = []
    with steps(len(arguments.megabytes)) as begin:
        for megabytes in arguments.megabytes:
            begin(f"an input of {megabytes} MB")
            rows.append(in_a_process("benchmarks.inputs", megabytes, cores()))
    for row in rows:
        row["text_relative"] = row["text_length"] / rows[0]["text_length"]
    record = {"seeds": SEEDS, "machine": machine(), "versions": versions(), "rows": rows}
    Console().note(write("inputs", record, text(record)))


def in_a_process(module: str, size: int, devices: int) -> dict[str, Any]:
    """What `python -m MODULE --only SIZE` measures, in a process with so many devices."""
    words = [sys.executable, "-m", module, "--only", str(size)]
    env = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices), "COLUMNS": "10000"}
    env.pop("JAX_COMPILATION_CACHE_DIR", None)  # what compiling takes is asked
    done = subprocess.run(words, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise JaxrlError(f"the process for {size:,} failed:\n{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(megabytes: int) -> dict[str, Any]:
    """One size: a run of one seed, then a population."""
    with tempfile.TemporaryDirectory(prefix="inputs-") as place:
        path, folder = Path(place) / "noise.npy", Path(place) / "run"
        _write_noise(path, megabytes)
        before = process_status("VmRSS")
        Path("/proc/self/clear_refs").write_text("5")  # the peak is that of what follows
        result = loop.train(_experiment(path, num_seeds=1, devices=1), folder)
        peak = process_status("VmHWM")
        newest = Checkpoints(folder).newest
        checkpoint = sum(file.stat().st_size for file in newest.rglob("*") if file.is_file())
        alone = build(_experiment(path, num_seeds=1, devices=1))
        length = len(_lowered(alone))
        del alone
        program = build(_experiment(path, num_seeds=SEEDS, devices=None))
        shape = program.population.inputs["noise"].rows.shape
        state, _ = program.chunk(program.init(), 10)
        jax.block_until_ready(state)
        copies = copies_of(shape)
    return {
        "megabytes": megabytes,
        "text_length": length,
        "compile_seconds": result.compile_seconds,
        "memory_before_bytes": before,
        "peak_memory_bytes": peak,
        "peak_memory_per_input": (peak - before) / (megabytes * 1e6),
        "checkpoint_bytes": checkpoint,
        "devices": program.layout.devices,
        "copies_per_device": copies,
    }


def _write_noise(path: Path, megabytes: int) -> None:
    """The file, in pieces that take no memory worth the name."""
    count = int(megabytes * 1e6) // BYTES_PER_ROW
    matrix = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(count, WIDTH))
    rng = np.random.default_rng(0)
    for first in range(0, count, 2000):
        rows = matrix[first : first + 2000]
        rows[:] = rng.standard_normal(rows.shape, np.float32)
    matrix.flush()


def _experiment(path: Path, *, num_seeds: int, devices: int | None) -> Experiment:
    """The run on a matrix."""
    config = default_config(ALGORITHM, ENVIRONMENT)[0].replace(noise=str(path))
    run = RunSettings(
        num_seeds=num_seeds, num_evaluations=1, evaluation_episodes=4, devices=devices
    )
    return Experiment(ALGORITHM, ENVIRONMENT, config, run)


def _lowered(program: Program) -> str:
    """The text of a chunk, as the compiler is given it."""
    population = program.population
    arguments = (
        population.env,
        population.config,
        population.inputs,
        program.abstract_state(),
        jnp.int32(1),
    )
    return jax.jit(program._chunk).lower(*arguments).as_text()


def copies_of(shape: tuple[int, ...]) -> int:
    """The most buffers of a shape that any one device holds."""
    held: dict[Any, set[int]] = {}
    for array in jax.live_arrays():
        if array.shape == shape:
            for shard in array.addressable_shards:
                held.setdefault(shard.device, set()).add(shard.data.unsafe_buffer_pointer())
    return max((len(buffers) for buffers in held.values()), default=0)


def text(record: dict[str, Any]) -> str:
    """The record in Markdown."""
    shown = [
        {
            "input": f"{row['megabytes']} MB",
            "text of a chunk, relative": f"{row['text_relative']:.4f}",
            "compiling, s": f"{row['compile_seconds']:.1f}",
            "peak memory, MB": f"{row['peak_memory_bytes'] / 1e6:.0f}",
            "beyond that before, per byte of input": f"{row['peak_memory_per_input']:.2f}",
            "newest checkpoint, bytes": row["checkpoint_bytes"],
            f"copies on each of {row['devices']} devices, {SEEDS} seeds": row["copies_per_device"],
        }
        for row in record["rows"]
    ]
    return markdown(shown)


if __name__ == "__main__":
    start(main, Arguments)
