"""Gradient steps per second of offline learners, by the seeds that learn side by side.

    python -m benchmarks.updates                # on whatever device there is; 15 seconds a setting
    python -m benchmarks.updates --algorithms ofql --seeds 1 64
    python -m benchmarks.updates --quick        # two rounds of a tenth of a second; labelled quick

The networks, settings and data are those of benchmarks/offline.py, which times one core beside
PyTorch: here is what a device makes of many seeds, of which each has its own networks and draws,
and all have one dataset. A gradient step of eight seeds counts eight times. Each rate of OFQL
stands beside that of the matrix products of its gradient step on one seed, as many as the device
does of them one after the other.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any

import jax

from benchmarks.offline import CASES
from benchmarks.peers import offline_bound, offline_jaxrl
from benchmarks.peers.protocol import Variant
from benchmarks.report import device_name, machine, spread, steps, write
from experiments.harness import check_choices, markdown, sections, start
from jaxrl.train.experiment import versions
from jaxrl.train.output.console import Console

# Those of the case that is named after it in benchmarks/offline.py.
SETTINGS: dict[str, dict[str, Any]] = {
    name: case.setting for name, case in CASES.items() if name != "acting"
}
PRODUCTS = "products"


@dataclass(frozen=True)
class Arguments:
    """Gradient steps per second of offline learners, by seeds side by side."""

    algorithms: tuple[str, ...] = tuple(SETTINGS)
    """What to train."""
    seeds: tuple[int, ...] = (1, 8, 64)
    """Numbers of seeds side by side."""
    repeats: int = 5
    """Rounds of each setting."""
    seconds: float = 2.0
    """About how long a round lasts."""
    label: str = ""
    """Ends the name of the results, which otherwise replace the last ones of this device."""
    quick: bool = False
    """Two rounds of a tenth of a second, of one and of two seeds; labelled quick."""


def main(arguments: Arguments) -> None:
    """Time every setting; print and write the rates after each."""
    check_choices("algorithm", arguments.algorithms, SETTINGS)
    if arguments.quick:
        short = {"seeds": (1, 2), "repeats": 2, "seconds": 0.1, "label": "quick"}
        arguments = dataclasses.replace(arguments, **short)
    device = jax.devices()[0]
    title = f"updates_{device_name(device.platform, device.device_kind)}"
    title += f"_{arguments.label}" if arguments.label else ""
    record: dict[str, Any] = {
        "machine": machine(),
        "device": device.device_kind,
        "versions": versions(),
        "repeats": arguments.repeats,
        "rows": [],
    }
    asked = [(name, seeds) for name in arguments.algorithms for seeds in arguments.seeds]
    asked += [(PRODUCTS, 1)] * ("ofql" in arguments.algorithms)
    written = ""
    with steps(len(asked)) as begin:
        for name, seeds in asked:
            begin(f"{name}, {seeds} seeds")
            record["rows"].append(measured(name, seeds, arguments))
            written = write(title, record, text(record))
    Console().note(written)


def measured(name: str, seeds: int, arguments: Arguments) -> dict[str, Any]:
    """The rates of one setting, and how long it took to compile and warm up."""
    begun = time.perf_counter()
    if name == PRODUCTS:
        (variant,) = offline_bound.make(SETTINGS["ofql"])
    else:
        (variant,) = offline_jaxrl.make(SETTINGS[name] | {"seeds": seeds})
    variant.train(1)
    startup = time.perf_counter() - begun
    iterations = max(1, round(arguments.seconds / seconds_of(variant, 1)))
    rates = [
        iterations * variant.steps / seconds_of(variant, iterations)
        for _ in range(arguments.repeats)
    ]
    return {
        "algorithm": name,
        "seeds": seeds,
        "updates_per_second": spread(rates),
        "startup_seconds": startup,
    }


def seconds_of(variant: Variant, iterations: int) -> float:
    """How long so many iterations take."""
    begun = time.perf_counter()
    variant.train(iterations)
    return time.perf_counter() - begun


def text(record: dict[str, Any]) -> str:
    """The rates in Markdown."""
    rows = record["rows"]
    alone = {
        row["algorithm"]: row["updates_per_second"]["median"] for row in rows if row["seeds"] == 1
    }
    lines = [
        {
            "algorithm": row["algorithm"],
            "seeds": row["seeds"],
            "updates/s": f"{row['updates_per_second']['median']:,.0f}",
            "least … greatest": "{min:,.0f} … {max:,.0f}".format(**row["updates_per_second"]),
            "µs per update": f"{1e6 / row['updates_per_second']['median']:,.1f}",
            "/ one seed": (
                f"{row['updates_per_second']['median'] / alone[row['algorithm']]:.2f}"
                if row["algorithm"] in alone
                else None
            ),
            "compiles in, s": f"{row['startup_seconds']:.1f}",
        }
        for row in rows
    ]
    device = "a CPU" if record["device"] == "cpu" else record["device"]
    note = (
        f"Medians of {record['repeats']} rounds on {device}. An update is a gradient step of one "
        f"seed on a batch of 256; “{PRODUCTS}”: the matrix products of one of OFQL alone, one "
        f"after the other. By jax {record['versions']['jax']}."
    )
    return sections(markdown(lines), note)


if __name__ == "__main__":
    start(main, Arguments)
