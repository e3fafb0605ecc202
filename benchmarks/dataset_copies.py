"""What a dataset costs a run by its size: compilation, checkpoints, and copies on the device.

    python -m benchmarks.dataset_copies     # two minutes; 2 GB of memory

TD3+BC with 8 seeds on datasets of noise, of 36 numbers observed and 4 of action per step. Each size
is a process of its own, which writes the dataset, trains two iterations through the project's
runner, and counts the buffers on each device that hold the observations.
"""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.inputs import copies_of, in_a_process
from benchmarks.log_checkpoints import process_status
from benchmarks.report import cores, machine, steps, write
from experiments.harness import markdown, start
from jaxrl.data import formats
from jaxrl.data.recorded import Recorded, describe
from jaxrl.envs.api import Environment
from jaxrl.train import loop
from jaxrl.train.build import build
from jaxrl.train.experiment import Experiment, RunSettings, default_config, versions
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.output.console import Console
from jaxrl.types import Array, Box, Key, Timestep

OBSERVED, ACTED, EPISODE = 36, 4, 1000
SEEDS = 8
ENVIRONMENT = "benchmarks.dataset_copies:Still"
SMALL: dict[str, Any] = {
    "total_updates": 8,
    "updates_per_iteration": 4,
    "batch_size": 64,
    "hidden_sizes": (32,),
}


class Still(Environment):
    """Observes zeros; nothing happens. The dataset is what this is about."""

    @property
    def observation_space(self) -> Box:
        """36 numbers."""
        return Box(-np.inf, np.inf, (OBSERVED,))

    @property
    def action_space(self) -> Box:
        """4 numbers."""
        return Box(-1.0, 1.0, (ACTED,))

    @property
    def horizon(self) -> int:
        """Ten steps."""
        return 10

    def reset(self, key: Key) -> tuple[tuple, Array]:
        """Nothing."""
        return (), jnp.zeros(OBSERVED)

    def step(self, key: Key, state: tuple, action: Array) -> tuple[tuple, Timestep]:
        """Nothing."""
        return (), Timestep(jnp.zeros(OBSERVED), jnp.zeros(()), jnp.zeros((), bool))


@dataclass(frozen=True)
class Arguments:
    """How large the datasets are."""

    rows: tuple[int, ...] = (20_000, 2_000_000)
    """Steps of each dataset, measured in a process of its own."""
    only: int | None = None
    """Measure this size here, and print what it took as JSON."""


def main(arguments: Arguments) -> None:
    """Measure every size; print and write the table."""
    if arguments.only is not None:
        Console().note(json.dumps(measure(arguments.only)))
        return
    rows = []
    with steps(len(arguments.rows)) as begin:
        for count in arguments.rows:
            begin(f"{count:,} steps")
            rows.append(in_a_process("benchmarks.dataset_copies", count, cores()))
    record = {"seeds": SEEDS, "machine": machine(), "versions": versions(), "rows": rows}
    Console().note(write("dataset_copies", record, text(record)))


def measure(count: int) -> dict[str, Any]:
    """Train on a dataset of so many steps."""
    with tempfile.TemporaryDirectory(prefix="dataset-") as place:
        path, folder = Path(place) / "noise.npz", Path(place) / "run"
        formats.write_as("own", path, noise(count))
        before = process_status("VmRSS")
        experiment = Experiment(
            "td3_bc",
            ENVIRONMENT,
            default_config("td3_bc", ENVIRONMENT)[0],
            RunSettings(num_seeds=SEEDS, num_evaluations=1, evaluation_episodes=4),
        ).changed(SMALL | {"dataset": str(path)})
        result = loop.train(experiment, folder)
        peak = process_status("VmHWM")
        checkpoint = Checkpoints(folder).newest
        program = build(experiment)
        state, _ = program.chunk(program.init(), 1)
        jax.block_until_ready(state)
        return {
            "rows": count,
            "dataset_bytes": 4 * count * (OBSERVED + ACTED),
            "compile_seconds": result.compile_seconds,
            "memory_before_bytes": before,
            "peak_memory_bytes": peak,
            "checkpoint_bytes": sum(
                file.stat().st_size for file in checkpoint.rglob("*") if file.is_file()
            ),
            "devices": program.layout.devices,
            "copies_per_device": copies_of((count, OBSERVED)),
        }


def noise(count: int) -> Recorded:
    """Episodes of noise."""
    rng = np.random.default_rng(0)
    ends = np.arange(1, count + 1) % EPISODE == 0
    observation = rng.standard_normal((count, OBSERVED), np.float32)
    return Recorded(
        observation=observation,
        action=rng.uniform(-1.0, 1.0, (count, ACTED)).astype(np.float32),
        reward=rng.standard_normal(count, np.float32),
        terminated=np.zeros(count, bool),
        truncated=ends,
        final_observation=observation[ends],
        length=np.full(count // EPISODE, EPISODE, np.int32),
        about=describe("noise", "benchmarks.dataset_copies"),
    )


def text(record: dict[str, Any]) -> str:
    """The record in Markdown."""
    shown = [
        {
            "steps": f"{row['rows']:,}",
            "observations and actions": f"{row['dataset_bytes'] / 1e6:,.0f} MB",
            "compiling, s": f"{row['compile_seconds']:.1f}",
            "newest checkpoint, bytes": f"{row['checkpoint_bytes']:,}",
            f"copies on each of {row['devices']} devices": row["copies_per_device"],
        }
        for row in record["rows"]
    ]
    return f"TD3+BC, {record['seeds']} seeds.\n\n{markdown(shown)}"


if __name__ == "__main__":
    start(main, Arguments)
