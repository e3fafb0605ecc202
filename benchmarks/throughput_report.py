"""What the throughput benchmark writes: tables and a picture of its record."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator

from benchmarks.report import core_count
from experiments.harness import markdown, picture, sections
from jaxrl.analysis.style import PALETTE, headline
from jaxrl.analysis.style import count_label as plain_count
from jaxrl.train.output.console import human

DIFFERENCES = """\
Not equal: rejax clips each entry of a gradient where the others scale its norm, clips the value
loss, and takes a time limit for a termination. SBX and SB3 step gymnasium's environments one after
another in Python. jaxrl lowers its learning rate over the run, bootstraps at time limits, sums its
metrics and episode statistics, shuffles without sorting, and where minibatches are large shares its
environments between a device for each core, which shuffle their own. All else of a system is as it
comes."""
BOUND = """\
The bound does the matrix products of rollout and update alone. Its variants, tile × devices, do
them whole or in tiles of so many rows, on one XLA device or on one for each core; the fastest
counts. A share above 100 % says that the training found a better way to do them."""


def text(record: dict[str, Any]) -> str:
    """The record in Markdown."""
    names = list(dict.fromkeys(name for row in record["sizes"] for name in row["systems"]))
    settings = record["settings"]
    repeats = f"{record['repeats']} rounds" if record["repeats"] > 1 else "one round"
    parts = [
        f"PPO on {settings['environment']}, environment steps per second of training: median of "
        f"{repeats} of about {record['seconds']:g} s, in brackets the least and the greatest. "
        "Ratios are of the same round.",
        markdown([_rates(row, names) for row in record["sizes"]]),
        "Seconds from the settings to a first finished iteration less a second one (building, "
        "compiling, first resets; no imports):",
        markdown([_startups(row, names) for row in record["sizes"]]),
    ]
    if "bound" in names:
        parts += [BOUND, markdown([_variants(row) for row in record["sizes"]])]
    parts.append(DIFFERENCES)
    parts.append(
        "Settings: " + ", ".join(f"{name} {value}" for name, value in settings.items()) + "."
    )
    return sections(*parts, *remarks(record, record["sizes"]))


def remarks(record: dict[str, Any], rows: list[dict[str, Any]]) -> list[str]:
    """The machine, the versions, and what could not be installed or timed."""
    machine = record["machine"]
    memory = f", {machine['memory_gib']:g} GiB" if machine["memory_gib"] else ""
    parts = [
        f"Device: {record['device']['kind']}; {machine['processor']}, "
        f"{core_count(machine)}{memory}."
    ]
    for name, versions in record["versions"].items():
        if versions:
            parts.append(
                f"- {name}: "
                + ", ".join(f"{package} {version}" for package, version in versions.items())
            )
    parts += [f"- {name} is missing: {reason}" for name, reason in record["missing"].items()]
    for row in rows:
        errors = {
            name: result["error"] for name, result in row["systems"].items() if "error" in result
        }
        parts += [
            f"- {name} failed with {row['num_envs']:,} environments: {error}"
            for name, error in errors.items()
        ]
    return parts


def ratios(row: dict[str, Any], other: str) -> list[float]:
    """jaxrl's steps per second over those of `other`, round by round;
    empty where either is missing."""
    found = [row["systems"].get(name, {}).get("steps_per_second") for name in ("jaxrl", other)]
    if None in found:
        return []
    mine, theirs = (each["samples"] for each in found)
    return [ours / other for ours, other in zip(mine, theirs, strict=True)]


def _rates(row: dict[str, Any], names: list[str]) -> dict[str, str | None]:
    """A line of the first table."""
    cells: dict[str, str | None] = {
        "environments": f"{row['num_envs']:,}",
        "rollout steps": str(row["num_steps"]),
    }
    cells |= {name: rate(row, name) for name in names}
    for name in names:
        if name != "jaxrl" and "jaxrl" in names:
            style = "{:.0%}".format if name == "bound" else "{:.2f}×".format
            cells[f"jaxrl / {name}"] = ratio(row, name, style)
    return cells


def rate(row: dict[str, Any], name: str) -> str | None:
    """A system's steps per second; None where it was not asked."""
    result = row["systems"].get(name, {})
    found = result.get("steps_per_second")
    if found:
        return human(found["median"]) + _between([found["min"], found["max"]], human)
    return "failed" if "error" in result else None


def ratio(row: dict[str, Any], other: str, style: Callable[[float], str]) -> str | None:
    """What jaxrl's rate is of another's; None where either is missing."""
    found = ratios(row, other)
    return (
        style(statistics.median(found)) + _between([min(found), max(found)], style)
        if found
        else None
    )


def _between(ends: list[float], style: Any) -> str:
    """The least and the greatest in brackets; nothing where they are one."""
    low, high = map(style, ends)
    return "" if ends[0] == ends[1] else f" [{low}, {high}]"


def _startups(row: dict[str, Any], names: list[str]) -> dict[str, str | None]:
    """A line of the table of start-up times; the bound's is of all its variants."""
    cells: dict[str, str | None] = {"environments": f"{row['num_envs']:,}"}
    for name in names:
        seconds = row["systems"].get(name, {}).get("startup_seconds")
        cells[name] = None if seconds is None else f"{seconds:.1f}"
    return cells


def _variants(row: dict[str, Any]) -> dict[str, str]:
    """A line of the table of the bound's variants; the best one is bold."""
    result = row["systems"].get("bound", {})
    cells = {"environments": f"{row['num_envs']:,}"}
    for name, rate in result.get("variants", {}).items():
        cell = human(rate["median"])
        cells[f"{name}"] = f"**{cell}**" if name == result["best"] else cell
    return cells


def draw(record: dict[str, Any], path: Path) -> None:
    """Steps per second against the number of environments: a line for each system,
    its least and greatest as a band."""

    def panel(axes: Axes) -> None:
        curves(axes, record["sizes"], {"bound": "matrix products alone"})
        headline(axes, f"PPO on {record['settings']['environment']}: training", band_of(record))
        axes.legend()

    picture(path, [panel], 7.2, 4.2)


def band_of(record: dict[str, Any]) -> str:
    """What was timed on, and what the bands of its curves are."""
    kind = (
        record["device"]["kind"]
        if record["device"]["platform"] != "cpu"
        else core_count(record["machine"])
    )
    return f"{kind}; band: least to greatest round"


def curves(axes: Axes, rows: list[dict[str, Any]], bounds: dict[str, str]) -> None:
    """Steps per second of every system of `rows`; those in `bounds` are dashed and black,
    and called what it says."""
    names = list(dict.fromkeys(name for row in rows for name in row["systems"]))
    colours = dict(
        zip((name for name in names if name not in bounds), itertools.cycle(PALETTE), strict=False)
    )
    for name in names:
        colour = colours.get(name, "black")
        done = [row for row in rows if "steps_per_second" in row["systems"].get(name, {})]
        sizes = [row["num_envs"] for row in done]
        rates = [row["systems"][name]["steps_per_second"] for row in done]
        low, middle, high = (
            np.array([rate[end] for rate in rates]) for end in ("min", "median", "max")
        )
        axes.fill_between(sizes, low, high, color=colour, alpha=0.16, lw=0)
        line = "--" if name in bounds else "-"
        axes.plot(
            sizes,
            middle,
            color=colour,
            lw=1.9,
            ls=line,
            marker="o",
            ms=4,
            label=bounds.get(name, name),
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks([row["num_envs"] for row in rows])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda number, _: plain_count(number)))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.minorticks_off()
    axes.set_xlabel("environments")
    axes.set_ylabel("environment steps per second")
