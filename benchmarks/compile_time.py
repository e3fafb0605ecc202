"""Seconds from starting Python to PPO's first compiled chunk,
with an empty compilation cache and with a full one.

    python -m benchmarks.compile_time

Every start is a fresh process with the settings that `jaxrl train ppo --env …` has. A round is a
start with an empty cache folder and a second one with what the first has put there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import jax

from benchmarks.report import ROOT, core_count, device_name, machine, spread, steps, write
from experiments.harness import markdown, start
from jaxrl.train.experiment import versions
from jaxrl.train.output.console import Console

COLUMNS = {
    "first_chunk": "first chunk",
    "import": "of that Python and imports",
    "compile_init": "compiling the first state",
    "compile_chunk": "compiling the chunk",
}


@dataclass(frozen=True)
class Arguments:
    """Seconds from starting Python to PPO's first compiled chunk."""

    environments: tuple[str, ...] = ("CartPole-v1", "Breakout-MinAtar")
    """What to compile for."""
    repeats: int = 3
    """Rounds."""


def main(arguments: Arguments) -> None:
    """Time every start; print and write the results."""
    rows: list[dict[str, Any]] = []
    with steps(2 * arguments.repeats * len(arguments.environments)) as begin:
        for environment in arguments.environments:
            starts: dict[str, list[dict[str, float]]] = {"empty": [], "full": []}
            for turn in range(arguments.repeats):
                with tempfile.TemporaryDirectory() as folder:
                    for cache, timings in starts.items():
                        begin(f"{environment}, {cache} cache, round {turn + 1}")
                        timings.append(one_start(environment, folder))
            for cache, timings in starts.items():
                spreads = {name: spread([timing[name] for timing in timings]) for name in COLUMNS}
                rows.append({"environment": environment, "cache": cache, "seconds": spreads})
    device = jax.devices()[0]
    record = {
        "repeats": arguments.repeats,
        "machine": machine(),
        "versions": versions(),
        "rows": rows,
    }
    name = f"compile_time_{device_name(device.platform, device.device_kind)}"
    Console().note(write(name, record, text(record)))


def one_start(environment: str, cache: str) -> dict[str, float]:
    """Seconds of the parts of one start, with the compilation cache in a folder."""
    command = [sys.executable, "-m", "benchmarks.first_chunk", environment, repr(time.time())]
    variables = os.environ | {"JAX_COMPILATION_CACHE_DIR": cache}
    run = subprocess.run(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, check=True)
    return json.loads(run.stdout)["seconds"]


def text(record: dict[str, Any]) -> str:
    """The record in Markdown."""

    def cell(found: dict[str, Any]) -> str:
        return f"{found['median']:.1f} [{found['min']:.1f}, {found['max']:.1f}]"

    rows = [
        {"environment": row["environment"], "cache": row["cache"]}
        | {title: cell(row["seconds"][name]) for name, title in COLUMNS.items()}
        for row in record["rows"]
    ]
    where = f"{record['machine']['processor']}, {core_count(record['machine'])}"
    return (
        "Seconds from starting Python to PPO's first compiled chunk: median of "
        f"{record['repeats']} starts, in brackets the least and the greatest. {where}, jax "
        f"{record['versions']['jax']}.\n\n"
        f"{markdown(rows)}"
    )


if __name__ == "__main__":
    start(main, Arguments)
