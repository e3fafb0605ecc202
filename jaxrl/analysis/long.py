"""Runs as a table in long format: a row per number."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from math import isnan
from pathlib import Path

from jaxrl.analysis.runs import Run, columns, names_of
from jaxrl.analysis.style import write_bytes


def write_csv(runs: Sequence[Run], path: str | Path) -> int:
    """Write runs as CSV, UTF-8 with a line of names (see `Run.rows`); the number of rows.

    What is not known is empty: a count of another run's, or a value where nothing was averaged.
    """
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns(runs), restval="", lineterminator="\n")
    table.writeheader()
    count = 0
    for run, name in zip(runs, names_of(runs), strict=True):
        for row in run.rows(name):
            undefined = [
                key for key, cell in row.items() if isinstance(cell, float) and isnan(cell)
            ]
            table.writerow(row | dict.fromkeys(undefined, ""))
            count += 1
    write_bytes(path, text.getvalue().encode())
    return count
