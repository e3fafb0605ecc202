"""`jaxrl plot` and `jaxrl render`: pictures and films of runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from jaxrl.analysis.plots import Look
from jaxrl.cli import options
from jaxrl.errors import JaxrlError, check_range
from jaxrl.train.output import report
from jaxrl.train.output.report import Film

INCHES = (1.0, 50.0)  # the least and the most of a side of a picture


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Draw the learning curve of a run, the result of a sweep, or a comparison of several runs."""

    runs: tyro.conf.Positional[tuple[Path, ...]]
    """One run folder or several."""
    kind: Literal["curve", "final", "profile", "improvement"] | None = None
    """curve: values over the run. final: a sweep's last ones against what was swept. profile: the
    share of seeds above each score. improvement: how probably one learner beats another. Unless
    given, final for a sweep of one or two numbers, and curve for all others."""
    metric: str | None = None
    """What is drawn: whatever was recorded, as loss or evaluation/stochastic_return; the evaluation
    return in the first mode unless given."""
    x: str | None = None
    """What the horizontal axis of curves counts: iteration, transitions (or updates, episodes),
    seconds, gradient_steps, as far as the run has them; what the run counts unless given."""
    labels: tuple[str, ...] = ()
    """A name for each run; runs with one name are one learner, and share a colour."""
    smooth: int | None = None
    """Draw moving means over so many points of a curve."""
    size: options.Pair | None = None
    """Width and height in inches."""
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
    if given.smooth is not None and given.smooth < 2:
        raise JaxrlError(f"smooth is {given.smooth}, but must be at least 2 points.")
    if given.size is not None:
        for name, inches in zip(("width", "height"), given.size, strict=True):
            check_range(f"size ({name})", inches, *INCHES)
    look = Look(given.metric, given.x, given.smooth, given.size)
    drawn = report.plot(given.runs, given.output, given.kind, given.labels or None, look)
    options.console_of(quiet=False).note(f"wrote {drawn}")
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
