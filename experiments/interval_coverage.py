"""What a 95 % interval over few seeds covers: bootstrap intervals of scores whose truth is known.

    python experiments/interval_coverage.py

Scores are drawn from four distributions, the interval of `jaxrl.analysis.statistics` is taken of
each set of seeds, and counted is how often it holds what an endless number of seeds would give.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.analysis.statistics import bootstrap_interval, interquartile_mean

RESULTS = Path(__file__).resolve().parent / "results" / "interval_coverage"
SEEDS = (3, 5, 10, 20)
SETS, REPETITIONS, ENDLESS = 2000, 1000, 1_000_000
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


def coverage(distribution: str, statistic: str, seeds: int) -> float:
    """The share of sets of so many seeds whose interval holds the truth."""
    draw, reduce = DISTRIBUTIONS[distribution], STATISTICS[statistic]
    generator = np.random.default_rng(seeds)
    # Of a few seeds the statistic itself may be biased (three are not trimmed): what counts is what
    # the interval is read as, that of all seeds there could be.
    truth = reduce(draw(generator, ENDLESS))
    held = 0
    for trial in range(SETS):
        scores = draw(generator, seeds)
        low, high = bootstrap_interval(scores, reduce, repetitions=REPETITIONS, seed=trial)
        held += low <= truth <= high
    return held / SETS


def main() -> None:
    """Every distribution, statistic and number of seeds, as JSON and as a table."""
    cells = [
        {
            "scores": distribution,
            "statistic": statistic,
            "coverage": {seeds: coverage(distribution, statistic, seeds) for seeds in SEEDS},
        }
        for distribution in DISTRIBUTIONS
        for statistic in STATISTICS
    ]
    asked = {"confidence": 0.95, "sets": SETS, "repetitions": REPETITIONS}
    RESULTS.with_suffix(".json").write_text(json.dumps(asked | {"cells": cells}, indent=1) + "\n")
    lines = [
        "| scores | interval of the | " + " | ".join(f"{seeds} seeds" for seeds in SEEDS) + " |",
        "|---|---|" + "---|" * len(SEEDS),
    ]
    for cell in cells:
        shares = " | ".join(f"{100 * share:.0f} %" for share in cell["coverage"].values())
        lines.append(f"| {cell['scores']} | {cell['statistic']} | {shares} |")
    RESULTS.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
