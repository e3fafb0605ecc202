"""What the scripts of experiments/ and benchmarks/ share: the command line, cells that resume,
tables, pictures, files.

A study is a dictionary of cells. Each has a name, says what it was asked, and is measured once: it
is written to the JSON as soon as it is finished, and skipped from then on unless it is asked
something else. Tables and picture are made from the JSON alone, by `--report-only` as well.

Experiments run as `python experiments/x.py` and import this as `harness`; benchmarks run as
`python -m benchmarks.x` from the root of the repository and import it as `experiments.harness`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

# Scripts draw into files alone, as `jaxrl` does (jaxrl.cli.prepare_process): MPLBACKEND may name a
# notebook's window that is not there, and then nothing begins that imports matplotlib.
os.environ["MPLBACKEND"] = "agg"

import tyro
from matplotlib.axes import Axes

from jaxrl.algos.registry import load
from jaxrl.analysis.style import new_figure, save_figure, styled
from jaxrl.config import flatten, without_unchosen
from jaxrl.errors import JaxrlError, check_choice
from jaxrl.train.files.folder import plain, write_atomically
from jaxrl.train.output.console import Console

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "experiments" / "results"
MISSING = "–"
NUMBER = re.compile(r"[-+−~]?[\d.]")

Cells = dict[str, dict[str, Any]]  # what was measured, by the cell's name
Panel = Callable[[Axes], None]


# ---- The command line


@dataclass(frozen=True)
class StudyArguments:
    """What every study can be asked."""

    quick: bool = False
    """A small version, in minutes. Its results are written under another name."""
    report: Annotated[bool, tyro.conf.arg(name="report-only")] = False
    """Measure nothing; write tables and pictures of the finished cells."""


def start(main: Callable[[Any], int | None], arguments: type) -> None:
    """Run a script: read the command line into `arguments`, and end with the status of `main`.

    What cannot be served ends it with one line, and status 2, as `jaxrl` does.
    """
    try:
        status = main(tyro.cli(arguments))
    except JaxrlError as error:
        sys.stderr.write(f"error: {error}\n")
        status = 2
    sys.exit(status)


def check_choices(kind: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Refuse names that are not among the allowed ones."""
    allowed = tuple(allowed)
    for name in given:
        check_choice(kind, name, allowed)


def command_line() -> str:
    """The command that runs, as it is typed in the root of the repository."""
    spec = sys.modules["__main__"].__spec__  # there is one only for `python -m`
    script = (
        ["-m", spec.name.removesuffix(".__main__")]
        if spec
        else [os.path.relpath(sys.argv[0], ROOT)]
    )
    return shlex.join(["python", *script, *sys.argv[1:]])


# ---- Cells that resume


class Cell(NamedTuple):
    """One thing to measure."""

    asked: dict[str, Any]  # all that decides its numbers
    measure: Callable[[], dict[str, Any]]
    cpu_hours: float  # that this takes, about
    # The configuration under asked["config"] with every option at its default.
    defaults: Any = None


class Study(NamedTuple):
    """Cells, and what becomes of them: tables and pictures in the folder of the JSON."""

    name: str  # of its files
    cells: dict[str, Cell]
    text: Callable[[Cells], str]
    draw: Callable[[Cells, Path], None] | None = None  # given the path NAME.png
    folder: Path = RESULTS


def run_study(study: Callable[[Any], Study], arguments: type) -> None:
    """Run an experiment: the study that its command line asks for."""
    start(lambda given: conduct(study(given), given.report), arguments)


def conduct(study: Study, report_only: bool = False) -> None:
    """Measure the cells that are missing, then write and print what all finished ones say."""
    begun, console = time.perf_counter(), Console()
    path = study.folder / f"{study.name}.json"
    record = read(path)
    if not report_only:
        measure_missing(study.cells, record, path, console)
    text = signed(study.text(record["cells"]), record["commands"])
    save(path.with_suffix(".md"), text)
    if study.draw:
        study.draw(record["cells"], path.with_suffix(".png"))
    seconds = time.perf_counter() - begun
    console.note(f"{text}\n\nwrote {os.path.relpath(path.with_suffix('.*'))} in {seconds:.0f} s")


def read(path: Path) -> dict[str, Any]:
    """The record of a study: {"commands": those that measured its cells, "cells": by name}."""
    return json.loads(path.read_text()) if path.exists() else {"commands": [], "cells": {}}


def measure_missing(
    cells: dict[str, Cell], record: dict[str, Any], path: Path, console: Console
) -> None:
    """Measure the cells that `record` lacks, or has for something else that was asked.

    Each is written to `path` as soon as it is finished; one that is stopped is not there, and is
    measured anew. How long all will take is said before the first begins.
    """
    from jaxrl.train.experiment import versions

    done = record["cells"]
    missing = {name: cell for name, cell in cells.items() if not is_finished(cell, done.get(name))}
    if not missing:
        return
    hours = sum(cell.cpu_hours for cell in missing.values())
    console.note(f"{len(missing)} of {len(cells)} cells are missing: some {hours:.2f} CPU-hours")
    for name, cell in missing.items():
        begun = time.perf_counter()
        found = cell.measure()
        seconds = time.perf_counter() - begun
        # A process beside this one may have finished other cells.
        found_beside = read(path)
        done |= {
            name: cell
            for name, cell in found_beside["cells"].items()
            if name not in missing or is_finished(missing[name], cell)
        }
        about = {"asked": cell.asked, "versions": versions(cell.asked.get("environment", ""))}
        done[name] = plain(about | {"seconds": round(seconds, 1)} | found)
        commands = [*found_beside["commands"], *record["commands"], command_line()]
        record["commands"] = list(dict.fromkeys(commands))
        save(path, as_json(record))
        console.note(f"{name}: {seconds:.0f} s")


def is_finished(cell: Cell, found: dict[str, Any] | None) -> bool:
    """Whether what was found is of what the cell asks."""
    return found is not None and same_request(cell.asked, found["asked"], cell.defaults)


def same_request(asked: dict[str, Any], before: dict[str, Any], defaults: Any = None) -> bool:
    """Whether the same was asked before.

    An option that the configuration has got since then counts only where it is used: where its
    value is not that of `defaults`. So it is with the requests of other runs that it stands on.
    What an earlier record does not tell of a run's settings is not held against it.
    """
    asked = json.loads(json.dumps(plain(asked)))
    if "run" in asked:
        told = before.get("run", {})
        asked["run"] = {name: value for name, value in asked["run"].items() if name in told}
    for name in [name for name, value in asked.items() if is_request(value)]:
        other = asked.pop(name)
        usual = load(other["algorithm"]).config_class()
        if name not in before or not same_request(other, before[name], usual):
            return False
        before = {key: value for key, value in before.items() if key != name}
    if defaults is not None:
        usual, known = flatten(defaults), without_unchosen(defaults, before["config"])
        before = before | {"config": known}
        asked["config"] = {
            name: value
            for name, value in asked["config"].items()
            if name in known or value != usual.get(name)
        }
    return asked == before


def is_request(value: Any) -> bool:
    """Whether a part of a request is itself one of a run."""
    return isinstance(value, dict) and {"algorithm", "config"} <= set(value)


def as_json(record: dict[str, Any]) -> str:
    """The record of a study with a line per cell, so that a difference shows what changed."""
    lines = [
        f"{json.dumps(name)}: {json.dumps(cell, allow_nan=False)}"
        for name, cell in record["cells"].items()
    ]
    cells = ",\n".join(lines)
    return f'{{"commands": {json.dumps(record["commands"])},\n"cells": {{\n{cells}\n}}}}'


# ---- What is written


def write(path: Path, record: dict[str, Any], text: str) -> str:
    """PATH.json and PATH.md of a record that was measured in one go; the text as it is written."""
    record = {"commands": [command_line()], **record}
    text = signed(text.rstrip(), record["commands"])
    save(path.with_suffix(".json"), json.dumps(plain(record), indent=1))
    save(path.with_suffix(".md"), text)
    return text


def save(path: Path, text: str) -> None:
    """Write a file whole or not at all, with one line break at its end."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (text.rstrip() + "\n").encode())


def signed(text: str, commands: Sequence[str]) -> str:
    """`text`, and below it the commands that measured what it says."""
    return sections(text, f"Made by `{'`, `'.join(commands)}`." if commands else "")


def sections(*parts: str) -> str:
    """Paragraphs and tables one below the other; empty ones are left out."""
    return "\n\n".join(part for part in parts if part)


def markdown(rows: Sequence[dict[str, Any]], caption: str = "") -> str:
    """Rows as a table; the columns are the keys of the rows, in order."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return table(names, [[row.get(name) for name in names] for row in rows], caption)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]], caption: str = "") -> str:
    """A table in Markdown that lines up as plain text too, below its caption.

    A dash stands for None. Columns of numbers are flush right. Without rows there is no table.
    """
    if not rows:
        return ""
    cells = [[MISSING if value is None else str(value) for value in row] for row in rows]
    columns = list(zip(header, *cells, strict=True))
    widths = [max(3, *map(len, column)) for column in columns]
    right = [_holds_numbers(column[1:]) for column in columns]

    def line(values: Iterable[str]) -> str:
        padded = [
            value.rjust(width) if flush else value.ljust(width)
            for value, width, flush in zip(values, widths, right, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * (width - 1) + (":" if flush else "-")
        for width, flush in zip(widths, right, strict=True)
    ]
    return sections(caption, "\n".join(map(line, [header, rule, *cells])))


def _holds_numbers(values: Sequence[str]) -> bool:
    """Whether every cell of a column begins with a number, or is empty."""
    filled = [value for value in values if value not in ("", MISSING)]
    return bool(filled) and all(NUMBER.match(value) for value in filled)


def picture(
    path: Path, panels: Sequence[Panel], width: float, height: float, columns: int = 2
) -> None:
    """Panels of width × height inches in one file, row by row; none, if there are no panels.

    No screen is needed: figures are drawn by Agg (jaxrl/analysis/style.py).
    """
    if not panels:
        return
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    with styled():
        figure = new_figure(width * columns, height * rows)
        for place, panel in enumerate(panels):
            panel(figure.add_subplot(rows, columns, place + 1))
        save_figure(figure, path)
