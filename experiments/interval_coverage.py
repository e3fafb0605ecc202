"""What a 95 % interval over few seeds covers: bootstrap intervals of scores whose truth is known.

    python experiments/interval_coverage.py          # two minutes of a core
    python experiments/interval_coverage.py --quick  # fifty sets of each: seconds

Scores are drawn from four distributions, the interval of `jaxrl.analysis.statistics` is taken of
each set of seeds, and counted is how often it holds what an endless number of seeds would give.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from harness import Cell, Cells, Study, StudyArguments, run_study, sections, table

from jaxrl.analysis.statistics import bootstrap_interval, interquartile_mean

SEEDS = (3, 5, 10, 20)
SETS, QUICK_SETS, REPETITIONS, ENDLESS = 2000, 50, 1000, 1_000_000
CPU_HOURS = 0.004  # of a cell
STATISTICS = {"mean": np.mean, "interquartile mean": interquartile_mean}
DISTRIBUTIONS: dict[str, Callable[[np.random.Generator, Any], np.ndarray]] = {
    "normal": lambda generator, size: generator.normal(100.0, 20.0, size),
    "skewed (lognormal)": lambda generator, size: 100 * generator.lognormal(0.0, 0.8, size),
    "half of the seeds fail": lambda generator, size: (
        generator.normal(20.0, 5.0, size) + 80.0 * (generator.random(size) < 0.5)
    ),
    "one seed in five fails": lambda generator, size: (
        generator.normal(20.0, 5.0, size) + 80.0 * (generator.random(size) < 0.8)
    ),
}


@dataclass(frozen=True)
class Arguments(StudyArguments):
    """What a 95 % interval over few seeds covers."""


def study(arguments: Arguments) -> Study:
    """What is to be counted and written."""
    name = "interval_coverage_quick" if arguments.quick else "interval_coverage"
    sets = QUICK_SETS if arguments.quick else SETS
    cells = {
        f"{distribution}/{statistic}": Cell(
            {"sets": sets, "repetitions": REPETITIONS, "seeds": list(SEEDS)},
            partial(coverages, distribution, statistic, sets),
            CPU_HOURS * sets / SETS,
        )
        for distribution in DISTRIBUTIONS
        for statistic in STATISTICS
    }
    return Study(name, cells, text)


def coverages(distribution: str, statistic: str, sets: int) -> dict[str, Any]:
    """The shares of sets whose interval holds the truth, by the number of seeds of a set."""
    return {
        "coverage": {str(seeds): coverage(distribution, statistic, seeds, sets) for seeds in SEEDS}
    }


def coverage(distribution: str, statistic: str, seeds: int, sets: int) -> float:
    """The share of sets of so many seeds whose interval holds the truth."""
    draw, reduce = DISTRIBUTIONS[distribution], STATISTICS[statistic]
    generator = np.random.default_rng(seeds)
    # Of a few seeds the statistic itself may be biased (three are not trimmed): what counts is what
    # the interval is read as, that of all seeds there could be.
    truth = reduce(draw(generator, ENDLESS))
    held = 0
    for trial in range(sets):
        scores = draw(generator, seeds)
        low, high = bootstrap_interval(scores, reduce, repetitions=REPETITIONS, seed=trial)
        held += low <= truth <= high
    return held / sets


def text(cells: Cells) -> str:
    """The results in Markdown."""
    rows = [
        [*name.split("/"), *(f"{100 * share:.0f} %" for share in cell["coverage"].values())]
        for name, cell in cells.items()
    ]
    sets = next(iter(cells.values()))["asked"]["sets"] if cells else SETS
    note = (
        f"Share of {sets:,} sets of seeds whose interval of nominal 95 % holds the truth; "
        f"intervals by {REPETITIONS:,} bootstrap samples."
    )
    header = ["scores", "interval of the", *(f"{seeds} seeds" for seeds in SEEDS)]
    return sections(note, table(header, rows))


if __name__ == "__main__":
    run_study(study, Arguments)
