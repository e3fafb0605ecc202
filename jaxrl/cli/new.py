"""`jaxrl new`: an algorithm or an environment of one's own, begun from one that works."""

from __future__ import annotations

import keyword
import os
import re
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import tyro

from jaxrl.cli import options
from jaxrl.config import installed
from jaxrl.errors import JaxrlError, unknown
from jaxrl.train.files.folder import file_errors

USAGE = """usage: jaxrl new algorithm|environment PATH

  algorithm PATH    write an algorithm to begin with: A2C, or one without gradients
                      jaxrl new algorithm mine.py
                      jaxrl new algorithm mine.py --template ars
  environment PATH  write an environment to begin with
                      jaxrl new environment corridor.py

The file runs as it is. Nothing of jaxrl is edited.
"""
CLASSES = {"corridor": "Corridor"}


@dataclass(frozen=True, kw_only=True)
class NewAlgorithm:
    """Write an algorithm to begin with, a file that runs as it is."""

    path: tyro.conf.Positional[Path]
    """The file to write (.py)."""
    template: Literal["a2c", "ars"] = "a2c"
    """a2c: advantage actor-critic, a policy gradient; ars: augmented random search, without
    gradients."""


@dataclass(frozen=True, kw_only=True)
class NewEnvironment:
    """Write an environment to begin with, a file that runs as it is."""

    path: tyro.conf.Positional[Path]
    """The file to write (.py)."""
    template: Literal["corridor"] = "corridor"
    """corridor: a line to walk along."""


def new(words: list[str]) -> int:
    """Write an algorithm or an environment to begin with."""
    name, *rest = words or ["--help"]
    if name in ("-h", "--help", "help"):
        sys.stdout.write(USAGE)
        return 0
    if name not in KINDS:
        raise unknown("kind of jaxrl new", name, KINDS)
    kind, following = KINDS[name]
    given: Any = options.parse(kind, f"jaxrl new {name}", rest)
    path: Path = given.path
    check_path(path, f"{given.template}.py")
    template = resources.files("jaxrl.templates") / f"{given.template}.py"
    source = template.read_text(encoding="utf-8")
    with file_errors("write", path), open(path, "x", encoding="utf-8") as file:
        file.write(source)
    made = f"{path.stem}:{CLASSES.get(given.template, given.template)}"
    lines = [f"wrote {path}, which runs as it is:", "", *following(made)]
    if path.resolve().parent != Path.cwd():
        lines.insert(2, f"cd {shlex.quote(str(path.parent))}")
    console = options.console_of(quiet=False)
    for line in (lines[0], *(f"  {line}".rstrip() for line in lines[1:])):
        console.note(line)
    return 0


def after_algorithm(made: str) -> list[str]:
    """What to do next with an algorithm."""
    return [
        f"jaxrl check {made}",
        f"jaxrl train {made} --env CartPole-v1",
        f"jaxrl train {made} --help",
    ]


def after_environment(made: str) -> list[str]:
    """What to do next with an environment."""
    return [f"jaxrl check {made}", f"jaxrl train ppo --env {made} --total-steps 65536"]


KINDS: dict[str, tuple[type, Callable[[str], list[str]]]] = {
    "algorithm": (NewAlgorithm, after_algorithm),
    "environment": (NewEnvironment, after_environment),
}


def check_path(path: Path, usual: str) -> None:
    """Refuse a file that could not be imported, that is there, or whose folder is not."""
    if path.is_dir():
        raise JaxrlError(f"{path} is a folder: name a file in it, {path / usual}.")
    if path.suffix != ".py":
        raise JaxrlError(f"{path} is not the name of a Python file: {path.with_suffix('.py')}?")
    better = path.with_name(f"{_module_name(path.stem)}.py")
    if better != path:
        raise JaxrlError(f"{path} could not be imported: {path.stem!r} is no name. {better}?")
    if not path.parent.is_dir():
        nearest = next(each for each in path.resolve().parents if each.is_dir())
        raise JaxrlError(
            f"there is no folder {path.parent}; {nearest} is there. "
            f"Make it: mkdir -p {shlex.quote(str(path.parent))}"
        )
    if os.path.lexists(path):
        raise JaxrlError(f"{path} is there, and is never overwritten: choose another name.")
    if path.stem in sys.stdlib_module_names or installed(path.stem):
        raise JaxrlError(
            f"{path.stem!r} is the name of a package that is installed, which would be imported in "
            f"its place: {path.with_name(f'my_{path.stem}.py')}?"
        )


def _module_name(stem: str) -> str:
    """A stem as the nearest name that Python can import."""
    name = re.sub(r"\W+", "_", stem).strip("_") or "mine"
    if name[0].isdigit() or keyword.iskeyword(name):
        name = f"my_{name}"
    return stem if stem.isidentifier() and not keyword.iskeyword(stem) else name
