"""How a worker of the throughput benchmark talks: one JSON line for every request.
Standard library only.

A worker is started as `python -m benchmarks.peers.NAME SETTING`, where SETTING is JSON. It builds
what it measures, compiles, warms up, finds how many iterations take about `seconds`, and says so;
from then on each line `run` on its standard input makes it train that many iterations, and answer
how fast that was.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple


class Variant(NamedTuple):
    """Something to time: `train(iterations)` returns when the work is done;
    `steps` transitions an iteration."""

    name: str
    train: Callable[[int], None]
    steps: int


class Calibration(NamedTuple):
    """Iterations that take about the wanted time,
    and what the first one took beyond a later one."""

    iterations: int
    startup_seconds: float


def serve(
    make: Callable[[dict], Sequence[Variant]], modules: Sequence[str], distributions: Sequence[str]
) -> None:
    """Answer requests until the input ends. `modules` are imported before the clock starts.

    The setting's `clock`, if it has one, is what iterations are timed by: see `now`.
    """
    setting = json.loads(sys.argv[1])
    clock = setting.get("clock", "wall")
    # Libraries print what they like; the answers alone go to the real standard output.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    for module in modules:
        importlib.import_module(module)
    begun = time.perf_counter()
    variants = make(setting)
    built = time.perf_counter() - begun
    seconds = setting["seconds"] / len(variants)
    found = {variant.name: calibrate(variant.train, seconds, clock) for variant in variants}
    startup = built + sum(calibration.startup_seconds for calibration in found.values())
    ready = {
        "startup_seconds": startup,
        "iterations": {name: calibration.iterations for name, calibration in found.items()},
        "versions": {name: importlib.metadata.version(name) for name in distributions},
        "device": device(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }
    answer(answers, ready)
    for line in sys.stdin:
        if line.strip() != "run":
            raise ValueError(f"the request is {line!r}, but must be 'run'.")
        taken = {
            variant.name: timed(variant.train, found[variant.name].iterations, clock)
            for variant in variants
        }
        rates = {
            variant.name: variant.steps * found[variant.name].iterations / taken[variant.name]
            for variant in variants
        }
        answer(answers, {"rates": rates, "seconds": taken, "peak_bytes": peak_bytes()})


def calibrate(train: Callable[[int], None], seconds: float, clock: str = "wall") -> Calibration:
    """Compile, warm up, and find how many iterations take about `seconds`."""
    first, later = timed(train, 1, clock), timed(train, 1, clock)
    if later < seconds / 20:
        later = min(later, timed(train, 1, clock), timed(train, 1, clock))
    iterations = max(1, round(seconds / later))
    if iterations > 1:
        train(iterations)  # some systems compile anew for each number
    return Calibration(iterations, first - later)


def timed(train: Callable[[int], None], iterations: int, clock: str = "wall") -> float:
    """Seconds that so many iterations take."""
    begun = now(clock)
    train(iterations)
    return now(clock) - begun


def now(clock: str) -> float:
    """Seconds on the clock "wall" or "processor".

    Of the latter, what other processes take of a core is no part: for workers of one thread.
    """
    return time.process_time() if clock == "processor" else time.perf_counter()


def device() -> dict[str, Any]:
    """Where JAX computes, on how many devices; a worker without JAX computes on the processor."""
    if "jax" not in sys.modules:
        return {"platform": "cpu", "kind": "cpu", "count": 1}
    found = sys.modules["jax"].devices()
    return {"platform": found[0].platform, "kind": found[0].device_kind, "count": len(found)}


def peak_bytes() -> int | None:
    """The most main memory that this process has held, where the system tells it."""
    path = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s*(\d+) kB", path.read_text()) if path.exists() else None
    return int(found[1]) * 1024 if found else None


def answer(stream: Any, content: dict) -> None:
    """One line of JSON, at once."""
    stream.write(json.dumps(content) + "\n")
    stream.flush()
