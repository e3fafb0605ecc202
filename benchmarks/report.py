"""What the benchmarks share beside experiments/harness.py: the machine they ran on, spreads,
progress."""

from __future__ import annotations

import os
import platform
import re
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from experiments import harness
from jaxrl.train.output.console import Console

ROOT = harness.ROOT
RESULTS = ROOT / "benchmarks" / "results"


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_name(platform_name: str, kind: str, count: int | None = None) -> str:
    """A device as part of a file's name: cpu2 (two cores), nvidia_h100_80gb_hbm3.

    `count` are the cores of a machine that something was measured on; by default this one's.
    """
    if platform_name == "cpu":
        return f"cpu{count or cores()}"
    return re.sub(r"[^a-z0-9]+", "_", kind.lower()).strip("_")


def machine() -> dict[str, Any]:
    """What a timing depends on besides software, and nothing that names the machine."""
    return {
        "processor": _processor(),
        "cores": cores(),
        "memory_gib": _memory_gib(),
        "system": platform.system(),
    }


def core_count(machine: dict[str, Any]) -> str:
    """How many cores it has, in words."""
    return f"{machine['cores']} core{'s' if machine['cores'] > 1 else ''}"


def _processor() -> str:
    """The processor's model as Linux tells it, else its architecture."""
    path = Path("/proc/cpuinfo")
    found = (
        re.search(r"^model name\s*:\s*(.+)$", path.read_text(), re.MULTILINE)
        if path.exists()
        else None
    )
    return found[1] if found else platform.machine()


def _memory_gib() -> float | None:
    """Main memory, where the system tells it."""
    if not hasattr(os, "sysconf") or "SC_PHYS_PAGES" not in os.sysconf_names:
        return None
    return round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)


def spread(samples: Sequence[float]) -> dict[str, Any]:
    """Median, least and greatest of the repeats, and the repeats themselves."""
    values = list(samples)
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "samples": values,
    }


def write(name: str, record: dict[str, Any], text: str) -> str:
    """NAME.json and NAME.md under benchmarks/results/; what is to be printed of them."""
    written = harness.write(RESULTS / name, record, text)
    return f"{written}\n\nwrote {os.path.relpath(RESULTS / name)}.*"


@contextmanager
def steps(total: int) -> Iterator[Callable[[str], None]]:
    """A function that names the next of `total` steps on standard error:
    in a bar on a terminal, else as a line."""
    console, done = Console(stream=sys.stderr), 0
    columns = (
        BarColumn(20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    bar = Progress(*columns, console=console.rich) if console.live else None
    task = bar.add_task("", total=total) if bar else None

    def begin(text: str) -> None:
        nonlocal done
        if bar is None or task is None:
            console.note(f"[{done + 1}/{total}] {text}")
        else:
            bar.update(task, completed=done, description=text)
        done += 1

    if bar is None:
        yield begin
    else:
        with bar:
            yield begin
