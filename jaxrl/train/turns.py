"""A sweep over sizes and choices: each has a program of its own, and so they are trained in turn.

The folder of such a sweep holds a run folder for each, and sweep.json, which says what differs and
in which order they are trained. All run folders are there before the first is trained, so that to
go on is to resume each: those that are finished stay as they are.
"""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl.analysis.records import read_json
from jaxrl.errors import JaxrlError, RunWarning
from jaxrl.train import loop, resuming
from jaxrl.train.build import build
from jaxrl.train.devices import distributed
from jaxrl.train.experiment import Experiment
from jaxrl.train.files import folder as run_folder
from jaxrl.train.files.folder import TURNS
from jaxrl.train.files.lock import locked
from jaxrl.train.output.console import Console
from jaxrl.train.runner import Diverged, Result
from jaxrl.train.trust import NOBODY, Trust


class Turns(NamedTuple):
    """What a sweep in turn holds."""

    varied: list[str]  # the settings in which its runs differ
    runs: list[str]  # the run folders in it, in order


def combinations(turns: dict[str, list[Any]]) -> list[dict[str, Any]]:
    """Every combination of sizes and choices."""
    return [dict(zip(turns, row, strict=True)) for row in itertools.product(*turns.values())]


def begin(
    experiments: dict[str, Experiment], varied: Sequence[str], folder: Path | None, overwrite: bool
) -> Path:
    """Make the folder of a sweep whose runs are `experiments`, by name; nothing is trained yet.

    What cannot be trained is refused before there is a folder.
    """
    described = {}
    for name, experiment in experiments.items():
        try:
            described[name] = resuming.describe(experiment, build(experiment))
        except JaxrlError as error:
            raise JaxrlError(f"{name}: {error}") from error
    first = next(iter(experiments.values()))

    def fresh_folder() -> str:
        return str(run_folder.fresh_folder(first.algorithm, first.environment))

    path = Path(folder or distributed.broadcast_text(fresh_folder))
    distributed.check_agreed(described | {"folder": path, "overwrite": overwrite})

    def make() -> None:
        run_folder.check_free(path, overwrite=False, for_sweep=True)
        for name in described:
            run_folder.check_free(path / name, overwrite)
        with ExitStack() as held:  # all of them before anything is changed
            for name in described:
                held.enter_context(locked(path / name))
            for name, description in described.items():
                run_folder.create(path / name, description, overwrite)
        turns = {"varied": list(varied), "runs": list(described)}
        run_folder.write_atomically(path / TURNS, f"{json.dumps(turns, indent=2)}\n".encode())

    distributed.on_first_process(make)
    return path


def is_one(folder: Path) -> bool:
    """Whether a folder is that of a sweep in turn; one that may not be read is taken for a run."""
    try:
        return (folder / TURNS).is_file()
    except OSError:
        return False


def read(folder: Path) -> Turns:
    """What the folder of a sweep in turn says that it holds."""
    path = folder / TURNS
    with run_folder.file_errors("read", path), run_folder.problems():
        found = read_json(path)
    match found:
        case {"varied": [*varied], "runs": [*runs]} if runs and all(
            isinstance(each, str) and Path(each).name == each for each in [*varied, *runs]
        ):
            return Turns(varied, runs)
    raise JaxrlError(f"{path} is damaged: it should name what is varied, and the runs beside it.")


def train(
    folder: Path,
    *,
    sinks: tuple[str, ...] = (),
    console: Console,
    trust: Trust = NOBODY,
    **resumed: Any,
) -> Iterator[Result]:
    """Train the runs of a sweep in turn, each from where it is, until one is stopped.

    One that diverges is named, has no result, and does not keep the others from their turns.
    `resumed` is what else `loop.resume` takes.
    """
    names = read(folder).runs
    for index, name in enumerate(names, start=1):
        console.note(f"{index} of {len(names)}: {folder / name}")
        try:
            result = loop.resume(
                folder / name, sinks=sinks, console=console, trust=trust, **resumed
            )
        except Diverged as error:
            warnings.warn(f"{name} diverged: {error} The others go on", RunWarning, stacklevel=2)
            continue
        yield result
        if result.signal:
            return
