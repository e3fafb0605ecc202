"""What the benchmarks of whole trainings share: cases, their contenders, and one timing after the
other of each, in processes of their own (benchmarks/workers.py)."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from benchmarks.report import ROOT, device_name, machine, steps, write
from benchmarks.venvs import interpreters
from benchmarks.workers import Job, take_turns
from jaxrl.train.output.console import Console


class Contender(NamedTuple):
    """Where it runs, what it is told beside its case, and what jaxrl's rate is to be of its own."""

    module: str
    venv: str | None = None  # None: our own
    setting: dict[str, Any] = {}
    goal: float | None = None


class Case(NamedTuple):
    """A training, and who is timed at it in the same rounds."""

    title: str
    setting: dict[str, Any]
    contenders: dict[str, Contender]


@dataclass(frozen=True)
class Timing:
    """How long, and by what, every contender is timed."""

    repeats: int = 7
    """Rounds; in each, every contender is timed once."""
    seconds: float = 5.0
    """About how long one timing takes."""
    clock: Literal["processor", "wall"] = "processor"
    """What to time by: the processor's time leaves out what other processes take of the core."""
    core: int | None = None
    """The core that all keep to; none: the last one that this process may use."""
    venvs: Path = ROOT / ".bench"
    """Where the other libraries are installed."""
    label: str = ""
    """Ends the name of the results, which otherwise replace the last ones of this device."""
    quick: bool = False
    """Two rounds of a second; labelled quick."""


def time_all(
    cases: Sequence[Case],
    timing: Timing,
    name: str,
    text: Callable[[dict[str, Any]], str],
    prepare: Callable[[Case], Case] = lambda case: case,
) -> None:
    """Time every contender of every case; print and write the results, `text` of their record.

    A case is timed as `prepare` makes it, and recorded as it is.
    """
    if timing.quick:
        timing = dataclasses.replace(timing, repeats=2, seconds=1.0, label="quick")
    record: dict[str, Any] = {
        "repeats": timing.repeats,
        "seconds": timing.seconds,
        "clock": timing.clock,
        "machine": machine(),
        "device": {"platform": "cpu", "kind": "cpu"},
        "versions": {},
        "missing": {},
        "cases": [],
    }
    asked = [each for case in cases for each in case.contenders.values()]
    venvs = {contender.module: contender.venv for contender in asked}
    file = f"{name}_{device_name('cpu', 'cpu')}" + (f"_{timing.label}" if timing.label else "")
    with steps(len(venvs) + len(asked) * (1 + timing.repeats)) as begin:
        pythons = interpreters(venvs, timing.venvs, record["missing"], begin)
        for case in cases:
            found = time_case(prepare(case), pythons, timing, begin, record["versions"])
            record["cases"].append(found | {"setting": case.setting})
            # After every case: what was measured outlives an interruption.
            written = write(file, record, text(record))
    Console().note(written)


def time_case(
    case: Case, pythons: dict[str, str], timing: Timing, begin: Any, versions: dict[str, Any]
) -> dict[str, Any]:
    """Every contender that could be installed, in turns; their `versions` are noted."""
    setting = case.setting | {
        "seconds": timing.seconds,
        "clock": timing.clock,
        "core": last_core() if timing.core is None else timing.core,
    }
    jobs = {
        name: Job(pythons[each.module], each.module, setting | each.setting)
        for name, each in case.contenders.items()
        if each.module in pythons
    }
    title = case.title
    found = take_turns(jobs, timing.repeats, lambda text: begin(f"{title}, {text}"), alternate=True)
    for name, result in found.items():
        versions[case.contenders[name].module] = result.pop("versions", None)
    goals = {name: each.goal for name, each in case.contenders.items() if each.goal}
    return {"title": title, "setting": case.setting, "goals": goals, "systems": found}


def last_core() -> int:
    """A core to keep to: the last that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(os.sched_getaffinity(0))
    return 0
