"""What the benchmark of off-policy training writes: tables of its record."""

from __future__ import annotations

import statistics
from typing import Any

from benchmarks.peers import off_policy_bound
from benchmarks.throughput_report import rate, ratio, ratios, remarks
from experiments.harness import markdown, sections

CLOCKS = {
    "processor": "by the processor's time, which leaves out what other processes take of the core",
    "wall": "by the wall clock",
}
PINNED = """\
One environment; each of its steps is followed by one gradient step on 256 transitions, so that a
rate counts both. Every contender is a process that is kept to one core, the same for all
(os.sched_setaffinity), with one device and one thread of XLA, OpenMP and OpenBLAS. All are past
their random first steps. Where a ring is named, it is full before it is timed."""
DIFFERENCES = """\
Not equal: rejax draws its batches without replacement, by sorting a random number for each place of
the ring, computes both critics in the actor's step, and takes a time limit for a termination;
noise has the environment's units there. SBX steps Gymnasium's environment and keeps its replay
buffer in NumPy, in Python. jaxrl keeps metrics of episodes and of gradient steps."""


def text(record: dict[str, Any]) -> str:
    """The record in Markdown."""
    rounds = f"{record['repeats']} rounds" if record["repeats"] > 1 else "one round"
    parts = [
        f"Environment steps per second of training: median of {rounds} of about "
        f"{record['seconds']:g} s {CLOCKS[record['clock']]}; in brackets the least and the "
        "greatest. Ratios are of the same round.",
        PINNED,
        markdown([line for row in record["cases"] for line in comparisons(row)]),
    ]
    bounds = [row for row in record["cases"] if "steps_per_second" in _of(row, "bound")]
    parts += [_bound(row) for row in bounds]
    parts.append(DIFFERENCES)
    parts.append("Seconds to build, compile and take the random first steps:")
    parts.append(markdown([startup(row) for row in record["cases"]]))
    device, *notes = remarks(record, [])
    notes += failures(record)
    return sections(*parts, *settings_of(record["cases"]), device, "\n".join(notes))


def _of(row: dict[str, Any], name: str) -> dict[str, Any]:
    """What was found of a contender; nothing, where it was not asked."""
    return row["systems"].get(name, {})


def comparisons(row: dict[str, Any]) -> list[dict[str, str | None]]:
    """The lines of a case, one for each contender beside jaxrl."""
    lines: list[dict[str, str | None]] = []
    for name in row["systems"]:
        if name == "jaxrl":
            continue
        goal = row["goals"].get(name)
        style = "{:.0%}".format if goal is not None and goal < 1 else "{:.2f}×".format
        lines.append(
            {
                "training": row["title"],
                "jaxrl": rate(row, "jaxrl"),
                "beside": name,
                "its rate": rate(row, name),
                "jaxrl / it": ratio(row, name, style),
                "goal": None if goal is None else f"≥ {style(goal)}",
                "met": _met(row, name, goal),
            }
        )
    return lines


def _met(row: dict[str, Any], name: str, goal: float | None) -> str | None:
    """Whether the median of the ratios reaches the goal."""
    found = ratios(row, name)
    if goal is None or not found:
        return None
    return "yes" if statistics.median(found) >= goal else "no"


def _bound(row: dict[str, Any]) -> str:
    """What the bound does, how often in each of its ways, and how fast that is."""
    setting, found = row["setting"], _of(row, "bound")
    operations = off_policy_bound.flops(
        setting["hidden_sizes"], setting["batch_size"], setting["policy_delay"]
    )
    ways = ", ".join(f"{name} {spread['median']:.0f}" for name, spread in found["variants"].items())
    speed = operations * found["steps_per_second"]["median"] / 1e9
    return (
        f"The bound does the matrix products of a gradient step alone: {operations / 1e6:.0f} "
        f"million floating-point operations, at {speed:.0f} billion a second. It does the critics' "
        f"in several ways, of which the fastest counts (gradient steps per second): {ways}."
    )


def startup(row: dict[str, Any]) -> dict[str, str | None]:
    """A line of start-up times."""
    found = {name: result.get("startup_seconds") for name, result in row["systems"].items()}
    cells = {name: None if seconds is None else f"{seconds:.1f}" for name, seconds in found.items()}
    return {"training": row["title"]} | cells


def settings_of(rows: list[dict[str, Any]]) -> list[str]:
    """The settings of every case, those that all share said once."""
    if not rows:
        return []
    shared = {
        name: value
        for name, value in rows[0]["setting"].items()
        if all(row["setting"].get(name) == value for row in rows)
    }
    own = [
        f"- {row['title']}: "
        + _listed({name: row["setting"][name] for name in row["setting"] if name not in shared})
        for row in rows
    ]
    return [f"Settings: {_listed(shared)}." if shared else "Settings:", "\n".join(own)]


def _listed(settings: dict[str, Any]) -> str:
    """Settings in a line."""
    return ", ".join(f"{name} {value}" for name, value in settings.items())


def failures(record: dict[str, Any]) -> list[str]:
    """Contenders that could not be timed."""
    return [
        f"- {name} failed in {row['title']}: {result['error']}"
        for row in record["cases"]
        for name, result in row["systems"].items()
        if "error" in result
    ]
