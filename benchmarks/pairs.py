"""Whether a change leaves training as fast as it was: two revisions take turns,
and pairs of neighbours are compared.

    python -m benchmarks.pairs c807188  # that revision and the working tree: some 15 minutes
    python -m benchmarks.pairs c807188 --pairs 2 --sizes cartpole-4 cartpole-64

Each revision trains PPO by benchmarks/peers/jaxrl_ppo.py of its own, in a process that compiles
once for each size and stays alive; only one works at a time. The order alternates (old new, new
old, …), so that a drift of the machine falls on both alike. The exit status is 1 if the median of
new / old lies below 0.97 for some size, or one of them fails.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro

from benchmarks.report import device_name, machine, steps, write
from benchmarks.revisions import WORKING_TREE, Revision, copies
from benchmarks.throughput import SETTINGS
from benchmarks.workers import Job, take_turns
from experiments.harness import check_choices, markdown, start
from jaxrl.errors import check_positive_int
from jaxrl.train.output.console import Console

LEAST_RATIO = 0.97


class Size(NamedTuple):
    """What is trained: N environments, T steps of a rollout, in minibatches of N T / 4."""

    environment: str
    num_envs: int
    num_steps: int


SIZES = {
    "cartpole-4": Size("CartPole-v1", 4, 128),
    "cartpole-64": Size("CartPole-v1", 64, 128),
    "cartpole-2048": Size("CartPole-v1", 2048, 32),
    "cartpole-131072": Size("CartPole-v1", 131_072, 8),
    "hopper-64": Size("Hopper-v5", 64, 128),
}


@dataclass(frozen=True)
class Arguments:
    """Training throughput of two revisions, in pairs of neighbours."""

    old: tyro.conf.Positional[str]
    """A revision: a hash, a branch, a tag."""
    new: tyro.conf.Positional[str] = WORKING_TREE
    """The revision to compare with it."""
    pairs: int = 7
    """Pairs of each size."""
    seconds: float = 4.0
    """About how long one timing takes."""
    sizes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...")] = tuple(SIZES)
    """What to train. Of some sizes nothing is written."""


def main(arguments: Arguments) -> int:
    """Time every size; print the table, write the results,
    and say whether all is as fast as it must be."""
    check_positive_int("pairs", arguments.pairs)
    check_choices("size", arguments.sizes, SIZES)
    record: dict[str, Any] = {
        "pairs": arguments.pairs,
        "seconds": arguments.seconds,
        "least_ratio": LEAST_RATIO,
        "settings": SETTINGS,
        "machine": machine(),
        "device": {},
        "versions": {},
        "sizes": {},
    }
    turns = len(arguments.sizes) * 2 * (1 + arguments.pairs)
    with copies(arguments.old, arguments.new) as revisions, steps(turns) as begin:
        record["revisions"] = {
            side: revision.described()
            for side, revision in zip(("old", "new"), revisions, strict=True)
        }
        for name in arguments.sizes:
            result = time_size(name, revisions, arguments, begin)
            for part in ("versions", "device"):
                record[part] = result.pop(part) or record[part]
            record["sizes"][name] = result
            if arguments.sizes == tuple(SIZES):
                write(
                    "pairs", record, text(record)
                )  # after every size: it outlives an interruption
    Console().note(text(record))
    return int(any(result["verdict"] != "as fast" for result in record["sizes"].values()))


def time_size(
    name: str, revisions: list[Revision], arguments: Arguments, begin: Callable[[str], None]
) -> dict[str, Any]:
    """Both revisions at one size: the pairs, and what is to be said of their ratios."""
    size = SIZES[name]
    setting = SETTINGS | size._asdict() | {"seconds": arguments.seconds}
    jobs = {
        side: Job(sys.executable, "jaxrl_ppo", setting, code=revision.path)
        for side, revision in zip(("old", "new"), revisions, strict=True)
    }
    found = take_turns(jobs, arguments.pairs, lambda text: begin(f"{name}, {text}"), alternate=True)
    known = next((each for each in found.values() if "error" not in each), {})
    about = size._asdict() | {"versions": known.get("versions"), "device": known.get("device")}
    errors = {side: each["error"] for side, each in found.items() if "error" in each}
    if errors:
        return about | {"errors": errors, "verdict": "FAILED"}
    rates = {side: each["steps_per_second"]["samples"] for side, each in found.items()}
    layouts = {side: each["best"] for side, each in found.items()}
    startups = {side: each["startup_seconds"] for side, each in found.items()}
    return (
        about
        | {"layouts": layouts, "startup_seconds": startups}
        | compare(rates["old"], rates["new"])
    )


def compare(old: list[float], new: list[float]) -> dict[str, Any]:
    """Ratios new / old of the pairs, their quartiles, and the verdict."""
    ratios = np.divide(new, old)
    low, median, high = (float(each) for each in np.percentile(ratios, (25, 50, 75)))
    return {
        "pairs": [{"old": one, "new": other} for one, other in zip(old, new, strict=True)],
        "ratio": {"median": median, "low": low, "high": high},
        "verdict": "as fast" if median >= LEAST_RATIO else "SLOWER",
    }


def text(record: dict[str, Any]) -> str:
    """The record in Markdown."""
    labels = {side: revision["label"] for side, revision in record["revisions"].items()}
    device = (
        device_name(
            record["device"]["platform"], record["device"]["kind"], record["machine"]["cores"]
        )
        if record["device"]
        else "no device"
    )
    lines = [
        f"PPO by {labels['old']} and by {labels['new']}, {record['pairs']} pairs of "
        f"{record['seconds']:g} s each ({device}, {record['machine']['processor']}). A ratio of "
        f"{record['least_ratio']} is as fast.",
        "",
        markdown([row(name, result) for name, result in record["sizes"].items()]),
    ]
    for name, result in record["sizes"].items():
        lines += [
            f"\n{name}, {side} revision: {error}"
            for side, error in result.get("errors", {}).items()
        ]
    return "\n".join(lines)


def row(name: str, result: dict[str, Any]) -> dict[str, Any]:
    """A size as a row of the table."""
    if "errors" in result:
        return {"size": name, "verdict": result["verdict"]}
    ratio = result["ratio"]
    rates = {side: np.median([pair[side] for pair in result["pairs"]]) for side in ("old", "new")}
    return {
        "size": name,
        **{f"{side}, steps per second": f"{rate:,.0f}" for side, rate in rates.items()},
        "median of new / old": f"{ratio['median']:.3f}",
        "quartiles": f"{ratio['low']:.3f}, {ratio['high']:.3f}",
        "verdict": result["verdict"],
    }


if __name__ == "__main__":
    start(main, Arguments)
