"""`jaxrl report`: all about runs, as one web page."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from jaxrl.analysis.page import Shown, write_page
from jaxrl.analysis.runs import Run
from jaxrl.cli import options
from jaxrl.errors import JaxrlError
from jaxrl.train import members
from jaxrl.train.experiment import Experiment
from jaxrl.train.output.console import Console
from jaxrl.train.output.report import check_new, drawing, read_runs, render
from jaxrl.train.trust import Trust

LARGEST_FILM = 32 * 2**20  # bytes; a page with more is slow to open


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write a web page about runs that needs no other file and no network.

    It holds curves that answer to the mouse, the last evaluations, settings and in which of them
    the runs differ, films, versions, and the command that repeats each run.
    """

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """One run folder or several."""
    output: Path
    """The page to write (.html)."""
    overwrite: bool = False
    """Replace the page, if it is there."""
    films: bool = False
    """Film an episode of each run anew, as jaxrl render does; unless given, the films that it has
    made (plots/episode.gif) are shown."""
    trust: options.TrustOptions = field(default_factory=Trust)


def report(words: list[str]) -> int:
    """Write a page about runs."""
    given = options.parse(Report, "jaxrl report", words)
    if not given.runs:
        raise JaxrlError(
            "jaxrl report needs at least one run folder: jaxrl report runs/mine --output mine.html"
        )
    check_new(given.output, ".html", given.overwrite)
    console = options.console_of(quiet=False)
    shown = [
        Shown(run, _command(run, given.trust), _film(run, given, console))
        for run in read_runs(given.runs)
    ]
    with drawing(given.output):
        write_page(shown, given.output)
    size = given.output.stat().st_size
    console.note(f"wrote {given.output}: {len(shown)} runs, {size / 1e6:.1f} MB")
    return 0


def _command(run: Run, trust: Trust) -> str:
    """The command line that repeats a run, or why it cannot be told."""
    try:
        return members.command_of(Experiment.from_description(run.config, run.folder, trust))
    except JaxrlError as error:
        return f"not known: {error}"


def _film(run: Run, given: Report, console: Console) -> bytes | None:
    """A film of a run as GIF: a new one if it is asked for, or else the one that it has, if any."""
    if given.films:
        with tempfile.TemporaryDirectory() as folder:
            film = Path(folder) / "episode.gif"
            render(run.folder, "best", 0, film, console=console, trust=given.trust)
            return film.read_bytes()
    film = run.folder / "plots" / "episode.gif"
    is_own = film.is_file() and not any(map(os.path.islink, (film, film.parent)))
    if not is_own or film.stat().st_size > LARGEST_FILM:
        return None
    content = film.read_bytes()
    return content if content[:4] == b"GIF8" else None
