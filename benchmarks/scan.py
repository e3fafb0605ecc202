"""Selective scans, forward and backward: their time and their scratch memory, side by side.

    taskset -c 1 python -m benchmarks.scan   # everything, on one core: five minutes, 10 GiB
    python -m benchmarks.scan --quick        # small sequences, two rounds; labelled quick

Each contender computes the weighted outputs and last state of `batch` sequences and the gradient
with respect to all seven arguments, in one compiled function. All of a size take turns, A B C,
C B A, …, each with one call before the one that is timed. Times are the processor's, all threads
together, unless `--clock wall` is asked for: what other processes take of the cores is left out.
Memory is the compiler's own account of scratch space (`memory_analysis`), in units of all states of
the sequences, batch × length × channels × states × 4 bytes. "ssd" is Mamba-2's: another model, of
the same state. `mambapy`, another library's scan for PyTorch, joins where it is installed; it has
no initial state and no resets.

The fastest S6 at each length becomes the table in jaxrl/core/scan.py (which a test compares).
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.report import core_count, device_name, machine, spread, steps, write
from experiments.harness import check_choices, markdown, sections, start
from jaxrl.core.scan import METHODS, selective_scan, ssd_scan
from jaxrl.train.experiment import versions
from jaxrl.train.output.console import Console

HEAD = 32  # channels of a head of the SSD
BYTES = 4
CLOCKS = {"processor": time.process_time, "wall": time.perf_counter}
BASELINES = ("associative", "sequential")


class Size(NamedTuple):
    """Sequences side by side, tokens of each, channels, and numbers in a channel's state."""

    batch: int
    length: int
    channels: int
    states: int

    def __str__(self) -> str:
        return f"({', '.join(map(str, self))})"

    @property
    def state_bytes(self) -> int:
        """Of all states of all sequences together."""
        return BYTES * self.batch * self.length * self.channels * self.states


SIZES = (Size(64, 60, 128, 16), Size(64, 256, 128, 16), Size(8, 4096, 128, 16))
SIZES += (Size(1, 65536, 64, 16),)
SHORT = (Size(64, 3, 128, 16), Size(64, 16, 128, 16))  # for the table alone
# Of methods whose times differ by no more than this share, the one with least memory is chosen. On
# three tokens a millisecond is spent either way, and what wins there loses by far on sixteen.
ALIKE = 0.25
QUICK = (Size(8, 16, 32, 8), Size(8, 60, 32, 8), Size(8, 256, 32, 8), Size(2, 1024, 32, 8))
FIRST_WITH_GOALS = 60
# What is asked of the fastest method, from a length on: (least length, most state tensors).
MEMORY_GOALS = ((0, 1.2), (256, 0.6))
# How many times as fast as a baseline, from a length on.
SPEED_GOALS = {"associative": ((60, 2.0), (256, 3.0)), "sequential": ((256, 1.5),)}
SSD_GOAL = 2.0


class Contender(NamedTuple):
    """One way to compute it: a call that waits for its result, and what the compiler says."""

    call: Callable[[], Any]
    temporary_bytes: int | None
    compile_seconds: float


@dataclass(frozen=True)
class Arguments:
    """Selective scans, forward and backward: time and scratch memory."""

    contenders: tuple[str, ...] = (*METHODS, "ssd", "mambapy")
    """What to time."""
    repeats: int = 7
    """Rounds; in each, every contender is timed once."""
    clock: Literal["processor", "wall"] = "processor"
    """What to time by."""
    label: str = ""
    """Ends the name of the results, which otherwise replace the last ones of this device."""
    quick: bool = False
    """Small sequences and two rounds; labelled quick."""


def main(arguments: Arguments) -> None:
    """Time every contender at every size; print and write the results."""
    check_choices("contender", arguments.contenders, (*METHODS, "ssd", "mambapy"))
    if arguments.quick:
        arguments = dataclasses.replace(arguments, repeats=2, label="quick")
    sizes = QUICK if arguments.quick else (*SHORT, *SIZES)
    names = [name for name in arguments.contenders if name != "mambapy" or has_mambapy()]
    device = jax.devices()[0]
    title = f"scan_{device_name(device.platform, device.device_kind)}"
    title += f"_{arguments.label}" if arguments.label else ""
    rows: list[dict[str, Any]] = []
    record = {
        "repeats": arguments.repeats,
        "clock": arguments.clock,
        "machine": machine(),
        "device": device.device_kind,
        "versions": versions(),
        "rows": rows,
    }
    written = ""
    with steps(len(sizes) * (len(names) + arguments.repeats)) as begin:
        for size in sizes:
            rows.append(time_size(size, names, arguments, begin))
            # After every size: what was measured outlives an interruption.
            record["fastest"] = {device.platform: fastest(rows)}
            written = write(title, record, text(record))
    Console().note(written)


def has_mambapy() -> bool:
    """Whether that library is installed, with what it needs."""
    return all(importlib.util.find_spec(name) is not None for name in ("mambapy", "torch"))


def time_size(
    size: Size, names: list[str], arguments: Arguments, begin: Callable[[str], None]
) -> dict[str, Any]:
    """Every contender at one size, in turns."""
    contenders = {}
    for name in names:
        begin(f"{size}, {name}: compiles")
        contenders[name] = of_torch(size) if name == "mambapy" else of_jax(name, size)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    clock = CLOCKS[arguments.clock]
    for turn in range(arguments.repeats):
        begin(f"{size}: round {turn + 1}")
        for name in names if turn % 2 == 0 else reversed(names):
            contenders[name].call()  # the kernel still tidies up what the one before it has freed
            started = clock()
            contenders[name].call()
            seconds[name].append(clock() - started)
    return {
        "size": list(size),
        "state_bytes": size.state_bytes,
        "contenders": {
            name: {
                "seconds": spread(seconds[name]),
                "temporary_bytes": each.temporary_bytes,
                "compile_seconds": each.compile_seconds,
            }
            for name, each in contenders.items()
        },
    }


def numbers(size: Size) -> dict[str, np.ndarray]:
    """Arguments of S6 for a batch, by name; float32."""
    rng = np.random.default_rng(0)
    batch, length, channels, states = size
    drawn = {
        "u": rng.normal(size=(batch, length, channels)),
        "delta": rng.uniform(1e-3, 0.1, (batch, length, channels)),
        "A": -rng.uniform(1.0, states, (states, channels)),
        "B": rng.normal(size=(batch, length, states)),
        "C": rng.normal(size=(batch, length, states)),
        "D": rng.normal(size=channels),
        "initial": rng.normal(size=(batch, states, channels)),
    }
    return {name: each.astype(np.float32) for name, each in drawn.items()}


def of_jax(name: str, size: Size) -> Contender:
    """One of our own scans."""
    given = {key: jnp.asarray(each) for key, each in numbers(size).items()}
    scan: Callable = functools.partial(selective_scan, method=name)
    if name == "ssd":
        given, scan = headed(given), ssd_scan
    reset = jax.random.bernoulli(jax.random.key(0), 0.02, (size.batch, size.length))

    def loss(given: dict[str, jax.Array]) -> jax.Array:
        shared = {key: given[key] for key in ("A", "D")}
        rows = {key: each for key, each in given.items() if key not in shared}
        y, last = jax.vmap(lambda row, reset: scan(**row, **shared, reset=reset))(rows, reset)
        return jnp.sum(jnp.square(y)) + jnp.sum(jnp.square(last))

    started = time.process_time()
    compiled = jax.jit(jax.grad(loss)).lower(given).compile()
    seconds = time.process_time() - started
    jax.block_until_ready(compiled(given))
    analysis = compiled.memory_analysis()
    return Contender(
        call=lambda: jax.block_until_ready(compiled(given)),
        temporary_bytes=analysis.temp_size_in_bytes,
        compile_seconds=seconds,
    )


def headed(given: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """The arguments with one decay for each head."""
    *batch_and_length, channels = given["u"].shape
    heads = channels // HEAD
    states = given["A"].shape[0]
    return given | {
        "u": given["u"].reshape(*batch_and_length, heads, HEAD),
        "delta": given["delta"][..., ::HEAD],
        "A": given["A"][0, ::HEAD],
        "D": given["D"][::HEAD],
        "initial": given["initial"].reshape(-1, states, heads, HEAD),
    }


def of_torch(size: Size) -> Contender:
    """The parallel scan of `mambapy`, with S6 around it as its own layer has it."""
    import torch
    from mambapy.pscan import pscan

    given = {
        name: torch.tensor(each, requires_grad=True)
        for name, each in numbers(size).items()
        if name != "initial"
    }
    u, delta, B, C = (given[name] for name in ("u", "delta", "B", "C"))

    def call() -> None:
        decay = torch.exp(delta[..., None] * given["A"].T)
        entering = (delta * u)[..., None] * B[:, :, None]
        y = (pscan(decay, entering) @ C[..., None])[..., 0] + given["D"] * u
        torch.autograd.grad((y**2).sum(), tuple(given.values()))

    call()
    return Contender(call, temporary_bytes=None, compile_seconds=0.0)


def fastest(rows: list[dict[str, Any]]) -> list[tuple[int, str]]:
    """The fastest S6 from each measured length on, where it is another than before.

    The first is taken for what is shorter, too.
    """
    found: list[tuple[int, str]] = []
    for row in sorted(rows, key=lambda row: row["size"][1]):
        best = chosen(row["contenders"])
        if not found:
            found.append((1, best))
        elif found[-1][1] != best:
            found.append((row["size"][1], best))
    return found


def chosen(contenders: dict[str, Any]) -> str:
    """The fastest S6, or of those about as fast the one with least memory."""
    of_s6 = {name: each for name, each in contenders.items() if name in METHODS}
    least = min(each["seconds"]["median"] for each in of_s6.values())
    alike = [
        name for name, each in of_s6.items() if each["seconds"]["median"] <= (1.0 + ALIKE) * least
    ]
    return min(alike, key=lambda name: of_s6[name]["temporary_bytes"])


def text(record: dict[str, Any]) -> str:
    """The record in Markdown."""
    lines = [line for row in record["rows"] for line in of_row(row)]
    goals = [line for row in record["rows"] for line in of_goals(row)]
    device = record.get("device", "cpu")
    where = f"{record['machine']['processor']}, {core_count(record['machine'])}"
    where = where if device == "cpu" else f"{device}, beside {where}"
    return sections(
        "Forward and backward with respect to all seven arguments: median milliseconds of "
        f"{record['repeats']} rounds in turns by the {record['clock']} clock, in brackets the "
        "least and the greatest; scratch memory in tensors of all states. Ratios are of medians.",
        markdown(lines),
        "Goals:",
        markdown(goals),
        f"The table of jaxrl/core/scan.py, from each length on: {record['fastest']}.",
        f"By jax {record['versions']['jax']} on {where}.",
    )


def of_row(row: dict[str, Any]) -> list[dict[str, str | None]]:
    """A line for each contender of a size."""
    lines: list[dict[str, str | None]] = []
    for name, each in row["contenders"].items():
        times = each["seconds"]
        low, middle, high = (1e3 * times[key] for key in ("min", "median", "max"))
        line = {
            "(batch, length, channels, states)": str(Size(*row["size"])),
            "scan": name,
            "ms": f"{middle:.1f} [{low:.1f}, {high:.1f}]",
            "state tensors": tensors(row, name),
        }
        line |= {f"its speed / {other}": ratio(row, name, other) for other in BASELINES}
        line["compiles in, processor s"] = f"{each['compile_seconds']:.1f}"
        lines.append(line)
    return lines


def tensors(row: dict[str, Any], name: str) -> str | None:
    """Scratch memory in tensors of all states."""
    found = row["contenders"][name]["temporary_bytes"]
    return None if found is None else f"{found / row['state_bytes']:.2f}"


def speed(row: dict[str, Any], name: str, other: str) -> float | None:
    """How many times as fast one contender is as another."""
    both = [row["contenders"].get(each) for each in (other, name)]
    if None in both:
        return None
    slow, fast = (each["seconds"]["median"] for each in both if each)
    return slow / fast


def ratio(row: dict[str, Any], name: str, other: str) -> str | None:
    """`speed`, as it is shown."""
    found = speed(row, name, other)
    return None if found is None else f"{found:.1f}×"


def due(goals: tuple[tuple[int, float], ...], length: int) -> float | None:
    """The goal for a length, if there is one."""
    found = [goal for shortest, goal in goals if length >= shortest]
    return found[-1] if found else None


def of_goals(row: dict[str, Any]) -> list[dict[str, str | None]]:
    """What is asked at a size, what was found, and whether it was met."""
    size = Size(*row["size"])
    if "chunked" not in row["contenders"] or size.length < FIRST_WITH_GOALS:
        return []
    memory = row["contenders"]["chunked"]["temporary_bytes"] / row["state_bytes"]
    most = due(MEMORY_GOALS, size.length)
    lines = [goal_line(size, "chunked, state tensors", memory, at_most=most)]
    for other, goals in SPEED_GOALS.items():
        least = due(goals, size.length)
        found = speed(row, "chunked", other)
        lines.append(goal_line(size, f"chunked / {other}", found, at_least=least))
    of_s6 = [name for name in row["contenders"] if name in METHODS]
    best = min(of_s6, key=lambda name: time_of(row, name))
    lines.append(goal_line(size, f"ssd / {best}", speed(row, "ssd", best), at_least=SSD_GOAL))
    return [line for line in lines if line]


def goal_line(
    size: Size,
    what: str,
    found: float | None,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> dict[str, str | None]:
    """A line of the goals; empty where nothing was found, or is asked."""
    goal = at_least if at_most is None else at_most
    if found is None or goal is None:
        return {}
    met = found >= goal if at_most is None else found <= goal
    return {
        "size": str(size),
        "goal": f"{what} {'≥' if at_most is None else '≤'} {goal:g}",
        "found": f"{found:.2f}",
        "met": "yes" if met else "no",
    }


def time_of(row: dict[str, Any], name: str) -> float:
    """The median seconds of a contender."""
    return row["contenders"][name]["seconds"]["median"]


if __name__ == "__main__":
    start(main, Arguments)
