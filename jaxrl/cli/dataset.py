"""`jaxrl dataset`: what datasets there are, building them, looking into them, converting them."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from jaxrl.cli import options
from jaxrl.data import formats, quality, reference_scores, store
from jaxrl.data.formats import own
from jaxrl.data.recorded import Recorded, describe
from jaxrl.envs.registry import make
from jaxrl.envs.suites.maze.exact import action_gap
from jaxrl.envs.suites.maze.point import PointMaze
from jaxrl.errors import JaxrlError, unknown
from jaxrl.train import datasets
from jaxrl.train.files.folder import file_errors
from jaxrl.train.output.console import duration

USAGE = """usage: jaxrl dataset COMMAND ...

  list                    what is there, and what can be built    jaxrl dataset list
  build NAME ...|all      make datasets here, of our own          jaxrl dataset build bandit-2d
  info DATASET            sizes, returns, scores, coverage        jaxrl dataset info bandit-2d
  convert DATASET TARGET  write it in another format              jaxrl dataset convert \\
                                                                    data.hdf5 mine --to own
  plot DATASET            draw returns, lengths and places        jaxrl dataset plot bandit-2d

A DATASET is a name of the list, minari:ID, or a path: its format is recognised by its contents.
jaxrl dataset COMMAND --help explains a command.
"""

# What every dataset says of itself; `info` prints what else one says in numbers or words.
DESCRIBED = {*describe("", ""), "minari_observation_space", "minari_action_space"}


@dataclass(frozen=True, kw_only=True)
class List:
    """List the datasets that are here, and those that can be built."""


@dataclass(frozen=True, kw_only=True)
class Build:
    """Build datasets of our own, into $JAXRL_DATASETS or ~/.jaxrl/datasets."""

    names: tyro.conf.Positional[tuple[str, ...]]
    """Their names, or all: those that are not there yet."""
    small: bool = False
    """A small one of the same name, for trying things out."""
    overwrite: bool = False
    """Replace what is there."""
    quiet: bool = False
    """Print errors only."""


@dataclass(frozen=True, kw_only=True)
class Info:
    """Print what is in a dataset: sizes, returns, ends, scores and coverage."""

    dataset: tyro.conf.Positional[str]
    """A name, minari:ID, or a path."""
    reference: str | None = None
    """The dataset whose different pairs of state and action SACo is relative to."""


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Write a dataset in another format, to the last bit what was read."""

    dataset: tyro.conf.Positional[str]
    """A name, minari:ID, or a path."""
    target: tyro.conf.Positional[str]
    """The file or folder to write; a name, or minari:ID, of a dataset to put beside the others."""
    to: str
    """The format: own, minari, d4rl or ogbench."""
    overwrite: bool = False
    """Replace the target, if it is there."""


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Draw the returns and the lengths of a dataset's episodes, and where its steps were."""

    dataset: tyro.conf.Positional[str]
    """A name, minari:ID, or a path."""
    output: Path | None = None
    """The picture to write (.png, .pdf or .svg); beside the dataset unless given."""


def dataset(words: list[str]) -> int:
    """Run one of the commands on datasets."""
    name, *rest = words or ["--help"]
    if name in ("-h", "--help", "help"):
        sys.stdout.write(USAGE)
        return 0
    if name not in COMMANDS:
        raise unknown("command of jaxrl dataset", name, COMMANDS)
    kind, command = COMMANDS[name]
    command(options.parse(kind, f"jaxrl dataset {name}", rest))
    return 0


def show_list(given: List) -> None:
    """One row per dataset that is here, or can be built."""
    del given
    rows: list[dict[str, Any]] = []
    known = datasets.names()
    for name in sorted({*store.stored(), *known}):
        path = store.place(name)
        here = _outline(path) if path.exists() else {"here": "no"}
        what = datasets.summary(name) if name in known else ""
        rows.append({"dataset": name, **here, "what": what})
    console = options.console_of(quiet=False)
    console.note(f"datasets in {store.root()}")
    console.summary(rows)
    if missing := [name for name in known if not store.place(name).exists()]:
        console.note(f"what is not here can be built: jaxrl dataset build {missing[0]}")


def _outline(path: Path) -> dict[str, Any]:
    """What the list says of a dataset that is here."""
    try:
        with file_errors("read", path):
            about, length = own.outline(path)
            size = path.stat().st_size
    except JaxrlError as error:  # one bad file does not hide the others
        return {"here": str(error)}
    return {
        "here": f"{size / 1e6:.1f} MB",
        "steps": int(length.sum()),
        "episodes": len(length),
        "environment": about.get("environment", ""),
    }


def build(given: Build) -> None:
    """Build datasets, one after the other."""
    known = datasets.names()
    if not given.names:
        raise JaxrlError("jaxrl dataset build needs a name, or all: jaxrl dataset build bandit-2d")
    for name in given.names:
        if name not in (*known, "all"):
            raise unknown("dataset", name, [*known, "all"])
    console = options.console_of(quiet=given.quiet)
    names = list(known) if "all" in given.names else list(dict.fromkeys(given.names))
    if not given.overwrite:
        there = [name for name in names if store.place(name).exists()]
        if there and "all" not in given.names:
            raise JaxrlError(f"{store.place(there[0])} exists: give --overwrite to build it again.")
        for name in there:
            console.note(f"{name} is here already (--overwrite builds it again)")
        names = [name for name in names if name not in there]
    with file_errors("write", store.root()):
        store.root().mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, start=1):
        console.note(f"building {name} ({number} of {len(names)})")
        begun = time.monotonic()
        recorded = datasets.build(name, given.small)
        path = store.place(name)
        with file_errors("write", path):
            formats.write_as(own.NAME, path, recorded)
        took = duration(time.monotonic() - begun)
        console.note(f"{_written(path, recorded)}, {took}")


def info(given: Info) -> None:
    """Print what is in a dataset, a fact per line."""
    path, recorded = _read(given.dataset)
    console = options.console_of(quiet=False)
    facts = [*_facts(path, recorded), *_scores(recorded), *_pairs(recorded, given)]
    facts += _action_gap(recorded.about)
    for label, text in (*facts, *_more(recorded)):
        console.note(f"{label:<18}{text}")


def convert(given: Convert) -> None:
    """Write a dataset in another format."""
    writers = {name for name, module in formats.formats().items() if hasattr(module, "write")}
    if given.to not in writers:
        raise unknown("format to write", given.to, writers)
    target = _target(given.target, given.to)
    if target.exists() and not given.overwrite:
        raise JaxrlError(f"{target} exists: name another target, or give --overwrite.")
    _, recorded = _read(given.dataset)
    with file_errors("write", target):
        if given.target != str(target):  # among the datasets, whose folder may not be there yet
            target.parent.mkdir(parents=True, exist_ok=True)
        formats.write_as(given.to, target, recorded)
    options.console_of(quiet=False).note(_written(target, recorded))


def plot(given: Plot) -> None:
    """Draw a dataset."""
    from jaxrl.analysis.dataset_plots import plot_dataset

    path, recorded = _read(given.dataset)
    named = path if path.name not in ("", "..") else path.resolve()
    target = given.output or named.with_name(f"{named.name.removesuffix(named.suffix)}.png")
    with file_errors("write", target):
        try:
            plot_dataset(
                recorded.about["name"],
                recorded.episode_returns,
                recorded.length,
                recorded.observation,
                target,
            )
        except JaxrlError:
            raise
        except ValueError as error:  # of what cannot be drawn
            raise JaxrlError(str(error)) from error
    options.console_of(quiet=False).note(f"wrote {target}")


COMMANDS: dict[str, tuple[Any, Callable[[Any], None]]] = {
    "list": (List, show_list),
    "build": (Build, build),
    "info": (Info, info),
    "convert": (Convert, convert),
    "plot": (Plot, plot),
}


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """What is wrong with a file, as an error that names it."""
    with file_errors("read", path):
        try:
            yield
        except JaxrlError as error:
            raise JaxrlError(f"{path}: {error}") from error


def _read(text: str) -> tuple[Path, Recorded]:
    """Where a dataset stands, and what is in it."""
    path = store.located(text)
    with _reading(path):
        return path, formats.read_any(path)


def _target(text: str, to: str) -> Path:
    """Where a dataset is to be written: a path, or a name among the datasets."""
    if text.startswith(store.MINARI):
        if to != "minari":
            raise JaxrlError(f"{text} is a place for Minari's format: --to minari, not {to}.")
        return store.minari_place(text.removeprefix(store.MINARI))
    return store.place(text) if to == own.NAME and store.is_name(text) else Path(text)


def _written(path: Path, recorded: Recorded) -> str:
    """A line on what was written."""
    return (
        f"wrote {path}: {len(recorded):,} steps of {len(recorded.length):,} episodes, mean return "
        f"{recorded.episode_returns.mean():.4g}, sha256 {recorded.sha256}"
    )


def _facts(path: Path, recorded: Recorded) -> Iterator[tuple[str, str]]:
    """What there is to say of a dataset: (what, how much)."""
    about = recorded.about
    given = ", ".join(f"{name}={value}" for name, value in about["environment_options"].items())
    yield "name", about["name"]
    yield "file", f"{path} ({formats.format_of(path).NAME})"
    yield "source", about["source"]
    yield "environment", f"{about['environment'] or 'none that jaxrl has'} {given}".rstrip()
    yield "steps", f"{len(recorded):,} in {len(recorded.length):,} episodes"
    yield "lengths", _extent(recorded.length)
    yield "returns", _extent(recorded.episode_returns)
    yield "rewards", _extent(recorded.reward)
    yield "episodes end", _ends(recorded)
    yield "observations", _array(recorded.observation)
    yield "actions", _array(recorded.action)


def _ends(recorded: Recorded) -> str:
    """How episodes end, and whether a recorder went on after a goal."""
    ends = recorded.ends
    terminated, truncated = recorded.terminated[ends], recorded.truncated[ends]
    text = f"{terminated.mean():.1%} terminated, {truncated.mean():.1%} truncated"
    inside = int(recorded.terminated.sum() - terminated.sum())
    return f"{text}; {inside:,} terminations before an end" if inside else text


def _scores(recorded: Recorded) -> Iterator[tuple[str, str]]:
    """What returns are worth, where it is known what random and expert policies earn."""
    scores = recorded.about.get("reference_scores")
    if scores is None:
        yield "TQ", "unknown: there are no returns of a random and of an expert policy to compare"
        return
    mean = reference_scores.normalized(recorded.episode_returns, scores).mean()
    yield "reference returns", f"random {scores[0]:g}, expert {scores[1]:g}"
    yield "normalised return", f"{mean:.2f} (random 0, expert 100)"
    yield "TQ", f"{quality.trajectory_quality(recorded, scores):.4f}"


def _action_gap(about: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """How much a decision matters in a maze, where it is known exactly."""
    if not about["environment"].startswith("maze/"):
        return
    env = make(about["environment"], **about["environment_options"])
    assert isinstance(env, PointMaze)
    gap = action_gap(env)
    yield "action gap", f"{gap:.3f} of the mean |Q| (gamma 0.99); below 0.01 an eta of 0.5 clones"


def _pairs(recorded: Recorded, given: Info) -> Iterator[tuple[str, str]]:
    """How many different pairs of state and action there are, alone and relative to a reference."""
    distinct = quality.distinct_pairs(recorded)
    repeated = 1 - distinct / len(recorded)
    yield "state-actions", f"{distinct:,} different, {repeated:.2%} repeated"
    if given.reference is None:
        yield "SACo", "relative to another dataset: --reference NAME"
    else:
        _, reference = _read(given.reference)
        share = quality.coverage(recorded, reference)
        yield "SACo", f"{share:.4f} of the different ones of {given.reference}"


def _more(recorded: Recorded) -> Iterator[tuple[str, str]]:
    """What else a dataset says of itself in numbers or words, and its checksum."""
    for key, value in recorded.about.items():
        if key not in DESCRIBED and isinstance(value, str | int | float):
            yield key.replace("_", " "), f"{value}"
    yield "sha256", recorded.sha256


def _extent(values: np.ndarray) -> str:
    """The least, the mean and the greatest of numbers."""
    low, high = values.min(), values.max()
    return f"{low:.6g} to {high:.6g}, mean {values.mean(dtype=np.float64):.6g}"


def _array(array: np.ndarray) -> str:
    """The type and the shape of a row, and the range of its numbers."""
    return f"{array.dtype} {list(array.shape[1:])}, {array.min():.6g} to {array.max():.6g}"
