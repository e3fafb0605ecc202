"""`jaxrl plot` and `jaxrl render`: pictures and films of runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from jaxrl.cli import options
from jaxrl.errors import JaxrlError
from jaxrl.train.output import report
from jaxrl.train.output.report import Film


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Draw the learning curve of a run, the result of a sweep, or a comparison of several runs."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """One run folder or several."""
    output: Path | None = None
    """The picture to write (.png, .pdf or .svg); in the first run's plots/ unless given."""


@dataclass(frozen=True, kw_only=True)
class Render(options.Saved):
    """Draw an episode of a saved policy as a GIF; needs no display."""

    seed: int = 0
    """Seed of the episode."""
    member: options.Assignments = ()
    """Of a population, the member to draw: settings and seed, as learning_rate=3e-3,seed=2; the
    best unless given."""
    mode: str | None = None
    """The mode to act in, as NAME or NAME=NUMBER (target=3600); the first that the run evaluates
    unless given."""
    steps: int | None = None
    """Draw no more than the first so many steps; the whole episode unless given."""
    frames_per_second: float = 30.0
    """The most frames per second: the film keeps the time of the environment."""
    width: int | None = None
    """Pixels across, beneath the size that states are drawn at: a smaller file."""
    output: Path | None = None
    """The GIF to write; in the run's plots/ unless given."""


def plot(words: list[str]) -> int:
    """Draw learning curves."""
    given = options.parse(Plot, "jaxrl plot", words)
    if not given.runs:
        raise JaxrlError("jaxrl plot needs at least one run folder: jaxrl plot runs/mine")
    options.console_of(quiet=False).note(f"wrote {report.plot(list(given.runs), given.output)}")
    return 0


def render(words: list[str]) -> int:
    """Draw an episode of a saved policy as a GIF."""
    given = options.parse(Render, "jaxrl render", words)
    if given.output is not None and given.output.suffix.lower() != ".gif":
        raise JaxrlError(
            f"output is {given.output}, but a film is written as a GIF: end it in .gif."
        )
    film = Film(given.steps, given.frames_per_second, given.width)
    film.check()
    console = options.console_of(quiet=False)
    written = report.render(
        given.run,
        given.checkpoint,
        given.seed,
        given.output,
        console=console,
        mode=given.mode,
        member=options.member(given.member),
        trust=given.trust,
        film=film,
    )
    console.note(f"wrote {written}")
    return 0
