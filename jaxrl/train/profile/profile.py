"""Where the time of a run goes: a trace of a few iterations, and their share of what is possible.

What the device can do is measured, at that moment: the rate of a large matrix product, and of a
large triad.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.core.tree import copy
from jaxrl.train.output.console import Console
from jaxrl.train.profile.flops import Work, count
from jaxrl.train.profile.memory_traffic import Traffic, traffic
from jaxrl.train.program import Program
from jaxrl.types import Array, PyTree

TRACED_CHUNKS = 3
# A measurement lasts about this long, and there are at most so many of them.
SECONDS = 0.3
REPETITIONS = 5
TOTAL_SECONDS = 5.0
LARGEST_PRODUCT = 8192
TRIAD_NUMBERS = 2**25  # arrays of 128 MiB: more than caches hold
TRIAD_ROUNDS = 8
MOST_ROUNDS = 10_000
NOTE = (
    "Operations are counted in the program as traced: 2 m k n per product, one per element for "
    "other arithmetic, none for whole numbers. Bytes are counted in the program as compiled: "
    "operands and results of each fused kernel, cached or not. Both with the lengths of loops. "
    "Peaks were measured just now: a large matrix product, and the faster of a large triad and one "
    "in as much memory as the program holds."
)


@dataclass(frozen=True)
class Peak:
    """What the device attains on the simplest programs, per second."""

    flops: float
    bytes: float


@dataclass(frozen=True)
class Profile:
    """What one iteration takes, on each of its devices."""

    work: Work
    traffic: Traffic
    seconds: float
    peak: Peak
    memory: dict[str, float]  # bytes that the compiled program holds, by purpose
    by_xla: dict[str, float]  # XLA's own counts, in which the body of a loop counts once

    @property
    def bounds(self) -> dict[str, float]:
        """Seconds that the operations, and that the bytes, would take at the device's peak."""
        return {
            "arithmetic": self.work.total / self.peak.flops,
            "memory": self.traffic.bytes / self.peak.bytes,
        }

    def rows(self) -> list[dict[str, str]]:
        """A table of amounts, rates and shares of the peak."""
        products = sum(self.work.products.values())
        peak = self.peak
        seconds = self.seconds
        bounds = self.bounds
        slowest = max(bounds, key=lambda name: bounds[name])
        by_size = sorted(self.work.products, key=lambda kind: -self.work.products[kind])
        kinds = ", ".join(by_size) or "none"
        table = [
            (f"matrix products ({kinds})", products, "FLOP", peak.flops),
            ("all arithmetic", self.work.total, "FLOP", peak.flops),
            ("memory traffic", self.traffic.bytes, "B", peak.bytes),
        ]
        rows = [
            {
                "an iteration": name,
                "amount": si(amount, unit),
                "rate": si(amount / seconds, f"{unit}/s"),
                "device's peak": si(best, f"{unit}/s"),
                "share": percent(amount / seconds / best),
            }
            for name, amount, unit, best in table
        ]
        roofline = {"amount": si(seconds, "s"), "device's peak": si(bounds[slowest], "s")}
        share = {"share": percent(bounds[slowest] / seconds)}
        return [*rows, {"an iteration": f"time (roofline: {slowest})", **roofline, **share}]

    def notes(self) -> list[str]:
        """What the table does not say."""
        held = ", ".join(f"{name} {si(size, 'B')}" for name, size in self.memory.items())
        counted = ", ".join(
            f"{name} {si(amount, '')}".rstrip() for name, amount in self.by_xla.items()
        )
        lines = [
            NOTE,
            f"XLA's own count, which takes the body of each loop once: {counted or 'none'}",
        ]
        # The loop over iterations, of which one is counted, is itself of unknown length.
        unknown = max(self.work.unbounded, self.traffic.unbounded) - 1
        if unknown > 0:
            lines.append(
                "loops of unknown length inside an iteration, counted as if they ran once: "
                f"{unknown}"
            )
        return [*lines, f"memory: {held}"] if held else lines


def profile(program: Program, state: PyTree, folder: Path, console: Console) -> Profile:
    """Measure and trace a few iterations from `state`, into folder/profile, and print the result.

    They run on copies of `state`: training goes on from `state` with the same bits as without.
    """
    console.note(f"{folder}: measuring a few iterations; compiling comes first")
    seconds = _seconds_per_iteration(program, state)
    target = folder / "profile"
    written = _trace(program, state, target)
    work, compiled = _anatomy(program, state)
    kind = max(work.products, key=lambda name: work.products[name], default="float32")
    memory = _memory(compiled)
    # A program whose arrays stay in caches is not held up by the memory behind them.
    own = max(1024, min(int(sum(memory.values())) // 12, TRIAD_NUMBERS))
    peak = Peak(product_rate(kind), max(triad_rate(TRIAD_NUMBERS), triad_rate(own)))
    found = Profile(work, traffic(compiled.as_text()), seconds, peak, memory, _costs(compiled))
    each = f", each of {program.layout.devices}" if program.layout.devices > 1 else ""
    console.summary(found.rows(), f"profile on {jax.devices()[0].device_kind}{each}")
    for line in found.notes():
        console.note(line)
    console.note(f"trace: {written} (for ui.perfetto.dev, or tensorboard --logdir {target})")
    return found


def si(amount: float, unit: str) -> str:
    """Three digits and a decimal prefix: 61.2 MFLOP, 950 B, 4.3 ms."""
    for prefix, size in zip("TGMk", (1e12, 1e9, 1e6, 1e3), strict=True):
        if amount >= 0.9995 * size:
            return f"{amount / size:.3g} {prefix}{unit}"
    if unit == "s" and 0.0 < amount < 1.0:
        return f"{amount * 1e3:.3g} ms" if amount >= 1e-3 else f"{amount * 1e6:.3g} µs"
    return f"{amount:.3g} {unit}".rstrip()


def percent(share: float) -> str:
    """A share in two digits: 0.5 %, 27 %."""
    digits = 0 if share >= 0.0995 else 1
    return f"{100 * share:.{digits}f} %"


def product_rate(dtype: str, largest: int = LARGEST_PRODUCT) -> float:
    """Operations per second of a square matrix product, at JAX's default precision.

    The product grows until it takes a moment, or is the largest allowed.
    """
    size, seconds = 256, 0.0
    while size < largest and seconds < 0.02:
        size *= 2
        matrix = jnp.ones((size, size), dtype)
        seconds = _best_seconds(lambda matrix: matrix @ matrix, matrix)
    return 2.0 * size**3 / seconds


def triad_rate(numbers: int) -> float:
    """Bytes per second of a ← a / 2 + b on so many float32 numbers: two reads and a write each."""
    rounds = min(TRIAD_ROUNDS * TRIAD_NUMBERS // numbers, MOST_ROUNDS)

    def triad(a: Array) -> Array:
        # Written over itself in a loop, so that the cost of fresh memory is not measured.
        b = jax.lax.optimization_barrier(jnp.ones(numbers, jnp.float32))
        return jax.lax.fori_loop(0, rounds, lambda _, a: 0.5 * a + b, a)

    return 12.0 * numbers * rounds / _best_seconds(triad, jnp.ones(numbers, jnp.float32))


def _best_seconds(function: Callable[[Array], Array], argument: Array) -> float:
    """The fastest of a few runs, after one that compiles."""
    run = jax.jit(function)
    jax.block_until_ready(run(argument))
    return min(_timed(lambda: run(argument)) for _ in range(REPETITIONS))


def _timed(run: Callable[[], PyTree]) -> float:
    begun = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - begun


def _chunk_seconds(program: Program, state: PyTree, iterations: int) -> float:
    """Seconds of one chunk on a copy of `state`."""
    copied = jax.block_until_ready(copy(state))
    return _timed(lambda: program.chunk(copied, iterations))


def _seconds_per_iteration(program: Program, state: PyTree) -> float:
    """Seconds per iteration, in the fastest of a few chunks that are long enough to time.

    Peaks, too, are those of an undisturbed device.
    """
    _chunk_seconds(program, state, 1)  # compiles
    once = _chunk_seconds(program, state, 1)
    iterations = max(1, min(round(SECONDS / once), program.algorithm.budget.steps))
    repetitions = max(2, min(round(TOTAL_SECONDS / (once * iterations)), REPETITIONS))
    fastest = min(_chunk_seconds(program, state, iterations) for _ in range(repetitions))
    return fastest / iterations


def _trace(program: Program, state: PyTree, target: Path) -> Path:
    """Write a trace of a few chunks of one iteration each; returns the file that Perfetto opens."""
    options = jax.profiler.ProfileOptions()
    options.python_tracer_level = 0  # what Python does between the chunks is not the program's
    copied = jax.block_until_ready(copy(state))
    with jax.profiler.trace(target, profiler_options=options):
        for index in range(TRACED_CHUNKS):
            with jax.profiler.StepTraceAnnotation("iteration", step_num=index):
                copied, metrics = program.chunk(copied, 1)
                jax.block_until_ready(metrics)
    return max(target.glob("plugins/profile/*/*.trace.json.gz"), default=target)


def _anatomy(program: Program, state: PyTree) -> tuple[Work, Any]:
    """The work of an iteration on one of its devices, and the compiled chunk."""
    return count(program.traced_chunk(state)), program.population.compiled["chunk"]


def _memory(compiled: Any) -> dict[str, float]:
    """What the compiled program holds while it runs; nothing where the device does not say."""
    analysis = compiled.memory_analysis()
    names = {"arguments": "argument_size_in_bytes", "temporaries": "temp_size_in_bytes"}
    if not analysis:
        return {}
    return {name: float(getattr(analysis, field)) for name, field in names.items()}


def _costs(compiled: Any) -> dict[str, float]:
    """XLA's own counts; those that the device does not say are left out."""
    analysis = compiled.cost_analysis() or {}
    names = {"operations": "flops", "bytes": "bytes accessed"}
    return {
        name: float(analysis[field])
        for name, field in names.items()
        if analysis.get(field, -1.0) >= 0.0
    }
