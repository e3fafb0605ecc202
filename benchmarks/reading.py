"""How the code reads: tokens per line, and the widest files.

    python -m benchmarks.reading             # the package
    python -m benchmarks.reading jaxrl/algos benchmarks

A line of code is one that holds a token which is no comment and no part of a docstring.
"""

from __future__ import annotations

import ast
import io
import tokenize
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from benchmarks.report import ROOT
from experiments.harness import markdown, start
from jaxrl.train.output.console import Console

WIDE = 100
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


class Reading(NamedTuple):
    """What is counted in one file."""

    path: Path
    lines: int  # of code
    tokens: int
    wide: int  # lines of any kind beyond WIDE columns


@dataclass(frozen=True)
class Arguments:
    """How the code reads: tokens per line, and the widest files."""

    folders: tyro.conf.Positional[tuple[Path, ...]] = (ROOT / "jaxrl",)
    """Folders or files to read."""
    files: Annotated[int, tyro.conf.arg(metavar="N")] = 15
    """How many of the densest files to show."""


def main(arguments: Arguments) -> None:
    """Print the table."""
    paths = [path for folder in arguments.folders for path in python_files(folder)]
    readings = [read(path) for path in paths]
    densest = sorted(readings, key=lambda each: -each.tokens / max(each.lines, 1))
    everything = Reading(
        Path("all of them"),
        sum(each.lines for each in readings),
        sum(each.tokens for each in readings),
        sum(each.wide for each in readings),
    )
    rows = [row(each) for each in [everything, *densest[: arguments.files]]]
    Console().note(markdown(rows))


def python_files(path: Path) -> list[Path]:
    """A file, or those below a folder."""
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


def read(path: Path) -> Reading:
    """Count a file's lines of code, its tokens and its wide lines."""
    source = path.read_text()
    documented = docstring_lines(source)
    tokens = [
        token
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type not in LAYOUT and token.start[0] not in documented
    ]
    lines = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    wide = sum(len(line) > WIDE for line in source.splitlines())
    return Reading(path, len(lines), len(tokens), wide)


def docstring_lines(source: str) -> set[int]:
    """The lines of docstrings, those under fields too."""
    found: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            continue
        if isinstance(node.value.value, str):
            found |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return found


def row(reading: Reading) -> dict[str, Any]:
    """A file as a row of the table."""
    path = reading.path
    shown = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    return {
        "file": str(shown),
        "lines of code": f"{reading.lines:,}",
        "tokens per line": f"{reading.tokens / max(reading.lines, 1):.1f}",
        f"lines beyond {WIDE} columns": reading.wide,
    }


if __name__ == "__main__":
    start(main, Arguments)
