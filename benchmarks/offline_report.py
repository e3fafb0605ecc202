"""What the benchmark of offline learning writes: tables of its record."""

from __future__ import annotations

from typing import Any

from benchmarks.off_policy_report import CLOCKS, comparisons, failures, settings_of, startup
from benchmarks.peers import offline_bound
from benchmarks.throughput_report import remarks
from experiments.harness import markdown, sections

PINNED = """\
Batches of 256 of 100,000 random rows of Hopper's shape. Every contender is a process that is kept
to one core, the same for all (os.sched_setaffinity), with one thread. jaxrl takes the gradient
steps of an iteration in one compiled scan, with the data on the device; PyTorch takes one after the
other. Two seeds side by side count the gradient steps of both: a ratio of at most 1.20 × says that
a seed takes at most 1.2 times as long as one alone."""
ACTING = """\
Of the last case a rate is of batches of actions: one draw for each observation, compiled."""


def text(record: dict[str, Any]) -> str:
    """The record in Markdown."""
    rounds = f"{record['repeats']} rounds" if record["repeats"] > 1 else "one round"
    parts = [
        f"Gradient steps per second: median of {rounds} of about {record['seconds']:g} s "
        f"{CLOCKS[record['clock']]}; in brackets the least and the greatest. Ratios are of the "
        "same round.",
        PINNED,
        markdown([line for row in record["cases"] for line in comparisons(row)]),
        ACTING,
    ]
    bounds = [
        row for row in record["cases"] if "steps_per_second" in row["systems"].get("bound", {})
    ]
    parts += [_bound(row) for row in bounds]
    parts.append("Seconds to build and compile:")
    parts.append(markdown([startup(row) for row in record["cases"]]))
    device, *notes = remarks(record, [])
    notes += failures(record)
    return sections(*parts, *settings_of(record["cases"]), device, "\n".join(notes))


def _bound(row: dict[str, Any]) -> str:
    """What the bound does, and how fast that is."""
    setting, found = row["setting"], row["systems"]["bound"]
    operations = offline_bound.flops(setting)
    speed = operations * found["steps_per_second"]["median"] / 1e9
    return (
        f"The bound does the matrix products of OFQL's gradient step alone: {operations / 1e6:.0f} "
        f"million floating-point operations, at {speed:.0f} billion a second."
    )
