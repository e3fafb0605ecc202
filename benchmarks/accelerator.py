"""All that is measured on an accelerator, best first, in as many minutes as it is had for.

    python -m benchmarks.accelerator --minutes 15
    python -m benchmarks.accelerator --quick        # tiny sizes: a trial on a CPU, before a GPU is

Each part is a process with a time limit of its own, and writes its results when it is done; one
that fails or takes too long is named at the end, and takes nothing else with it. rejax is timed
where `python -m benchmarks.venvs` has installed it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any, NamedTuple

from benchmarks.report import ROOT, device_name, machine, write
from experiments.harness import check_choices, markdown, start
from jaxrl.errors import JaxrlError
from jaxrl.train.output.console import Console

MILLION = 1_048_576


class Part(NamedTuple):
    """A command with its sizes on an accelerator, those of a trial, and the minutes it may take."""

    words: str
    sizes: str
    tiny: str
    minutes: float


PARTS = {
    "smoke": Part("-m benchmarks.smoke", "", "--total-steps 100000", 1.5),
    "throughput": Part(
        "-m benchmarks.throughput --systems jaxrl rejax bound --repeats 3",
        f"--sizes 2048 131072 {MILLION} 4194304 --seconds 1.5",
        "--sizes 4 --seconds 0.2 --label accelerator_trial",
        4.0,
    ),
    "updates": Part(
        "-m benchmarks.updates --algorithms ofql dql iql",
        "--repeats 3 --seconds 1",
        "--quick",
        2.5,
    ),
    "scans": Part("-m benchmarks.scan --clock wall", "--repeats 5", "--quick", 2.0),
    "td3 and sac": Part(
        "-m benchmarks.scaling --algorithms td3 sac --environments Pendulum-v1 --repeats 3",
        "--num-envs 1 256 4096 --seconds 1 --label off_policy",
        "--num-envs 1 4 --num-steps 8 --seconds 0.1 --label accelerator_trial",
        2.0,
    ),
    "minibatches": Part(
        "-m benchmarks.scaling --num-steps 16 --repeats 3 --seconds 1",
        f"--num-envs {MILLION} --minibatches 1 4 64 1024 --label minibatches",
        "--num-envs 64 --minibatches 4 16 --label accelerator_trial",
        2.0,
    ),
    "profile": Part(
        "-m jaxrl.cli train ppo --env CartPole-v1 --no-tuned --stagger --profile --overwrite",
        f"--num-envs {MILLION} --num-steps 16 --minibatch-size {MILLION} "
        "--total-steps 1100000000 --folder runs/million",
        "--num-envs 64 --total-steps 200000 --folder runs/accelerator-trial",
        1.5,
    ),
    "tests": Part(
        "-m pytest -q -n 4 --dist loadfile --maxfail 20 tests/core tests/algos",
        "",
        "-k by_hand",
        2.5,
    ),
    "environments": Part(
        "-m benchmarks.environments --environments CartPole-v1 Breakout-MinAtar --repeats 3",
        f"--sizes 2048 16384 131072 {MILLION}",
        "--quick",
        1.5,
    ),
    "mjx": Part(
        "-m benchmarks.scaling --backend mjx --repeats 3",
        "--environments HalfCheetah-v5 --num-envs 2048 16384 --num-steps 16 --seconds 1 "
        "--label mjx",
        # HalfCheetah's contacts take a CPU a quarter of an hour to compile.
        "--environments InvertedPendulum-v5 --num-envs 4 --num-steps 4 --minibatches 1 "
        "--seconds 0.1 --label accelerator_trial",
        2.0,
    ),
    "other environments": Part(
        "-m benchmarks.scaling --environments Pendulum-v1 Breakout-MinAtar --num-steps 16 "
        "--repeats 3 --seconds 1",
        f"--num-envs 2048 131072 {MILLION} --label environments",
        "--num-envs 64 --label accelerator_trial",
        2.0,
    ),
    "memory": Part("-m benchmarks.memory", "", "--num-envs 64 --num-steps 16", 1.0),
    # Of a trial it would replace the results that are kept.
    "compile time": Part("-m benchmarks.compile_time", "", "--help", 2.0),
}


@dataclass(frozen=True)
class Arguments:
    """All that is measured on an accelerator, best first."""

    parts: tuple[str, ...] = tuple(PARTS)
    """What to measure, in this order."""
    minutes: float = 15.0
    """How long all of it may take; what would begin later is left out."""
    quick: bool = False
    """Tiny sizes, on whatever device there is, written beside the others."""


def main(arguments: Arguments) -> int:
    """Run the parts in turn; the status says whether all of them came out."""
    check_choices("part", arguments.parts, PARTS)
    device = device_of_a_child()
    if device["platform"] == "cpu" and not arguments.quick:
        raise JaxrlError("JAX sees no accelerator. A trial on a CPU: --quick.")
    begun, rows, console = time.perf_counter(), [], Console()
    for name in arguments.parts:
        left = 60 * arguments.minutes - (time.perf_counter() - begun)
        console.note(f"--- {name}, {left / 60:.1f} minutes left")
        rows.append({"part": name, **run(PARTS[name], left, arguments.quick)})
        label = "_quick" if arguments.quick else ""
        record = {"machine": machine(), "device": device, "rows": rows}
        title = f"accelerator_{device_name(device['platform'], device['kind'])}{label}"
        written = write(title, record, text(record))
    console.note(written)
    return int(any(row["ended"] != "well" for row in rows))


def run(part: Part, left: float, quick: bool) -> dict[str, Any]:
    """How a part ended, and what it took, in `left` seconds at most."""
    if left < 20:
        return {"ended": "left out", "seconds": 0}
    words = [sys.executable, *part.words.split(), *(part.tiny if quick else part.sizes).split()]
    # Programs of a trial are compiled in haste, as tests/conftest.py has all of its own compiled:
    # not those that run on an accelerator.
    variables = os.environ | {"JAX_DISABLE_MOST_OPTIMIZATIONS": str(int(quick))}
    begun = time.perf_counter()
    try:
        # A trial is for what breaks, on whatever machine: it may take its time.
        limit = left if quick else min(60 * part.minutes, left)
        status = subprocess.run(words, cwd=ROOT, env=variables, timeout=limit, check=False)
        ended = "well" if status.returncode == 0 else f"with status {status.returncode}"
    except subprocess.TimeoutExpired:
        ended = "out of time"
    return {"ended": ended, "seconds": round(time.perf_counter() - begun)}


def device_of_a_child() -> dict[str, str]:
    """The platform and the kind of the device that JAX finds.

    Asked in another process: this one must leave the accelerator's memory to the parts.
    """
    code = "import jax; device = jax.devices()[0]; print(device.platform, device.device_kind)"
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()[-1]
    platform, _, kind = found.partition(" ")
    return {"platform": platform, "kind": kind}


def text(record: dict[str, Any]) -> str:
    """The parts, and how they ended."""
    return f"On {record['device']['kind']}.\n\n{markdown(record['rows'])}"


if __name__ == "__main__":
    start(main, Arguments)
