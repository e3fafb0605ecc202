"""Draws docs/map.md from the imports: which package needs which, and what each file is for.

python docs/map.py          # writes docs/map.md
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "map.md"
# Where a reader asks for something, and where it is.
ANSWERS = {
    "Where are the flags of a command parsed?": "cli/train.py",
    "Where do an algorithm's settings become flags?": "cli/forms.py",
    "Where is a run trained, evaluated and saved?": "train/runner.py",
    "Where are the compiled functions made?": "train/program.py",
    "Where is a policy loaded?": "train/saved.py",
    "Where does a loaded policy act on NumPy arrays?": "train/acting.py",
    "Where do episodes begin?": "envs/starts/fresh.py",
    "Where does an environment reset itself?": "envs/vector.py",
    "Where are policies rolled out, and whole episodes played?": "envs/collect.py",
    "Where are gradient steps due, and transitions kept, off-policy?": "data/interaction.py",
    "Where is what a run reads from disk?": "train/inputs.py",
    "Where are configurations declared?": "config/fields.py",
}


def packages() -> list[str]:
    """The package's rooms, as `envs`, and its files that every room may use."""
    folders = [path.name for path in (ROOT / "jaxrl").iterdir() if (path / "__init__.py").exists()]
    return [*sorted(folders), "types", "errors"]


def files_of(package: str) -> list[Path]:
    """The files of a room."""
    path = ROOT / "jaxrl" / package
    return sorted(path.rglob("*.py")) if path.is_dir() else [path.with_suffix(".py")]


def imports_of(path: Path) -> Iterator[str]:
    """The rooms that a file imports from."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            names = [parts[1]] if len(parts) > 1 else [alias.name for alias in node.names]
            if parts[0] == "jaxrl":
                yield from names


def needs() -> dict[str, set[str]]:
    """Which rooms each room imports from."""
    known = packages()
    return {
        package: {
            other
            for path in files_of(package)
            for other in imports_of(path)
            if other in known and other != package
        }
        for package in known
    }


def layers(graph: dict[str, set[str]]) -> list[list[str]]:
    """The rooms from the lowest on: each needs only those in layers before its own."""
    placed: list[list[str]] = []
    left = dict(graph)
    while left:
        below = {package for layer in placed for package in layer}
        layer = sorted(package for package, needed in left.items() if needed <= below)
        if not layer:
            raise SystemExit(f"these import each other in a circle: {', '.join(sorted(left))}")
        placed.append(layer)
        for package in layer:
            del left[package]
    return placed


def about(path: Path) -> str:
    """The first line of a file's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]


def page() -> str:
    """The page."""
    graph = needs()
    lines = [
        "# Map",
        "",
        "Drawn by `python docs/map.py` from the imports. A room needs only those above it.",
        "",
        "```text",
    ]
    for layer in layers(graph):
        for package in layer:
            lines.append(f"{package:10} needs {', '.join(sorted(graph[package])) or 'nothing'}")
    lines += ["```", "", "| question | file |", "|---|---|"]
    lines += [f"| {question} | [{file}](../jaxrl/{file}) |" for question, file in ANSWERS.items()]
    for layer in layers(graph):
        for package in layer:
            lines += ["", f"## {package}", "", "| file | what it is for |", "|---|---|"]
            for path in files_of(package):
                if text := about(path):
                    shown = path.relative_to(ROOT / "jaxrl").as_posix()
                    lines.append(
                        f"| [{shown}](../jaxrl/{shown}) | {text.replace('|', chr(92) + '|')} |"
                    )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
