"""`jaxrl export`: what runs recorded, as a table that other programs read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from jaxrl.analysis.long import write_csv
from jaxrl.cli import options
from jaxrl.errors import JaxrlError
from jaxrl.train.output import report


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write all that runs recorded as one table in long format: a row per number.

    Columns: run, algorithm, environment, setting (swept values), seed, iteration, transitions (or
    updates, episodes), seconds, metric, value. Metrics of training have their names, evaluations
    (means over episodes) begin with evaluation/.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """One run folder or several."""
    csv: Path
    """The file to write (.csv)."""
    overwrite: bool = False
    """Replace the file, if it is there."""


def export(words: list[str]) -> int:
    """Write runs as CSV."""
    given = options.parse(Export, "jaxrl export", words)
    if not given.runs:
        raise JaxrlError(
            "jaxrl export needs at least one run folder: jaxrl export runs/mine --csv mine.csv"
        )
    report.check_new(given.csv, ".csv", given.overwrite, option="--csv")
    runs = report.read_runs(given.runs)
    with report.drawing(given.csv):
        count = write_csv(runs, given.csv)
    options.console_of(quiet=False).note(f"wrote {given.csv}: {count:,} rows")
    return 0
