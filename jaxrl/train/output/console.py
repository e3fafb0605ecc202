"""What a run prints: a live line on a terminal, plain lines in a log, a table at the end."""

from __future__ import annotations

import math
import sys
import time
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

import numpy as np
import rich.console
from rich import box
from rich.progress import BarColumn, TaskID, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from jaxrl.errors import RunWarning
from jaxrl.train.output.voice import Voice
from jaxrl.train.player import Played

WINDOW_SECONDS = 30.0
LINE_SECONDS = 10.0
# An evaluation that may last longer is warned of.
LONG_SECONDS = 600.0
NOTHING = "-"


def human(count: float) -> str:
    """A count in three digits, as 950, 1.2k, 10M or 3.45B."""
    for unit in ("", "k", "M", "B", "T"):
        if abs(count) < 999.5 or unit == "T":
            break
        count /= 1000
    if abs(count) >= 99.95 or not unit:
        digits = 0
    elif abs(count) >= 9.995:
        digits = 1
    else:
        digits = 2
    text = f"{count:.{digits}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text + unit


def duration(seconds: float) -> str:
    """Seconds as 0:05, 12:30, 3:07:00 or 2d 04:00:00."""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02d}:{minutes:02d}:{seconds:02d}"
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def number(value: Any) -> str:
    """A result in four digits; a dash where there is none; the mean where there are several."""
    if value is None:
        return NOTHING
    if isinstance(value, str | int):
        return str(value)
    values = np.asarray(value, np.float64)
    finite = values[np.isfinite(values)]
    if not finite.size:
        return NOTHING
    mean = float(finite.mean())
    return f"{mean:.1f}" if 100 <= abs(mean) < 1e6 else f"{mean:.4g}"


class Rate:
    """Transitions per second over the last half minute; excluded time (compilation) is left out."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._excluded = 0.0
        self._points: deque[tuple[float, int]] = deque()

    def add(self, transitions: int) -> None:
        """Note how far training has come; the first note starts the clock, old ones are dropped."""
        now = self._clock() - self._excluded
        self._points.append((now, transitions))
        while len(self._points) > 2 and self._points[1][0] < now - WINDOW_SECONDS:
            self._points.popleft()

    def exclude(self, seconds: float) -> None:
        """Leave out this much of the time since the last note."""
        self._excluded += seconds

    @property
    def per_second(self) -> float | None:
        """The rate, or None before it is known."""
        if len(self._points) < 2:
            return None
        begun, first = self._points[0]
        now, last = self._points[-1]
        return (last - first) / (now - begun) if now > begun and last > first else None


class Playing:
    """How far an evaluation has come, in words, and how long it may last."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._first: Played | None = None
        self._begun = 0.0
        self._warned = False

    def at(self, played: Played) -> tuple[str, float]:
        """(a line, seconds since the first one of this evaluation).

        A warning, once, where nothing but a distant time limit may end it.
        """
        now = self._clock()
        first = self._first
        if first is None or played.mode != first.mode or played.steps <= first.steps:
            self._first, self._begun = played, now
            first = played
        elapsed = now - self._begun
        steps = played.steps - first.steps
        seconds = elapsed / steps * (played.horizon - played.steps) if steps else None
        if not self._warned and elapsed >= LINE_SECONDS and seconds and seconds > LONG_SECONDS:
            self._warned = True
            warnings.warn(_may_last(played, seconds), RunWarning, stacklevel=2)
        text = (
            f"playing, {played.mode}: step {human(played.steps)} of at most "
            f"{human(played.horizon)}, {played.ended} of {played.episodes} episodes have ended, at "
            f"most {NOTHING if seconds is None else duration(seconds)} left"
        )
        return text, elapsed


def _may_last(played: Played, seconds: float) -> str:
    return (
        f"{played.episodes - played.ended} of {played.episodes} episodes go on, and may until the "
        f"time limit of {played.horizon:,} steps: {duration(seconds)} more. Ctrl-C stops here; an "
        "environment with a shorter time limit (--env-options of train), or fewer episodes, cost "
        "less"
    )


class Console:
    """Where a run prints: to standard output unless told otherwise, and nothing if `quiet`.

    What cannot be printed there is dropped, and stops nobody.
    """

    def __init__(self, quiet: bool = False, stream: TextIO | None = None) -> None:
        voice: Any = Voice(stream or sys.stdout)
        kind: dict[str, Any] = {}
        if not voice.isatty():
            # Only a terminal gets control codes, whatever FORCE_COLOR or TTY_INTERACTIVE say; in a
            # log, tables are not folded to 80 columns.
            kind = {"force_terminal": False, "force_interactive": False, "width": 200}
        self.rich = rich.console.Console(file=voice, quiet=quiet, **kind)

    @property
    def live(self) -> bool:
        """Whether a bar can be drawn."""
        return self.rich.is_interactive and not self.rich.quiet

    def note(self, text: str) -> None:
        """Print a line of text, above the bar if there is one."""
        self.rich.print(text, markup=False, highlight=False, soft_wrap=True)

    def summary(self, rows: list[dict[str, Any]], title: str | None = None) -> None:
        """Print rows as a table; the columns are the keys of the rows, in order."""
        table = Table(
            title=None if title is None else Text(title),
            box=box.SIMPLE_HEAD if self.live else box.ASCII2,
        )
        names = list(dict.fromkeys(name for row in rows for name in row))
        for name in names:
            text = any(isinstance(row.get(name), str) for row in rows)
            table.add_column(Text(name.replace("_", " ")), justify="left" if text else "right")
        for row in rows:
            table.add_row(*(Text(number(row.get(name))) for name in names))
        if rows:
            self.rich.print(table)

    def progress(
        self, num_iterations: int, samples_per_step: int, num_members: int = 1
    ) -> Progress:
        """The progress of a run; its rate is that of all members of a population together."""
        return Progress(self, num_iterations, samples_per_step, num_members)

    def playing(self) -> Progress:
        """The progress of episodes that are played outside of a run; nothing of it stays."""
        return Progress(self, 1, 1, transient=True)


class Progress:
    """The state of a run as it goes: a live bar on a terminal, or plain lines ten seconds apart.

    with console.progress(num_iterations, samples_per_step) as progress:
        progress.update(iteration)  # from here on the rate is measured
        progress.exclude(compile_seconds)
        progress.update(iteration, episode_return=…, evaluation_return=…)
    """

    def __init__(
        self,
        console: Console,
        num_iterations: int,
        samples_per_step: int,
        num_members: int = 1,
        clock: Callable[[], float] = time.monotonic,
        transient: bool = False,
    ) -> None:
        self._console = console
        self._num_iterations = num_iterations
        self._samples_per_step = samples_per_step
        self._num_members = num_members
        self._clock = clock
        self._transient = transient
        self._rate = Rate(clock)
        self._playing = Playing(clock)
        self._begun = clock()
        self._last_line = -math.inf
        self._results: dict[str, Any] = {"return": None, "evaluation": None}
        self._bar: Bar | None = None

    def __enter__(self) -> Progress:
        self._begun = self._clock()
        if self._console.live:
            self._bar = Bar(
                BarColumn(20),
                TextColumn("{task.description}", markup=False),
                console=self._console.rich,
                refresh_per_second=4,
                transient=self._transient,
            )
            self._bar.add_task("compiling", total=self._num_iterations)
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def exclude(self, seconds: float) -> None:
        """Count this much of the time since the last update as compilation, not as training."""
        self._rate.exclude(seconds)

    def evaluating(self, played: Played) -> None:
        """Show how far a long evaluation has come."""
        text, elapsed = self._playing.at(played)
        now = self._clock()
        if self._bar is not None:
            self._bar.update(TaskID(0), description=text)
        elif min(elapsed, now - self._last_line) >= LINE_SECONDS:
            self._last_line = now
            self._console.note(text)

    def update(
        self, iteration: int, episode_return: Any = None, evaluation_return: Any = None
    ) -> None:
        """Show how far the run has come; returns may be arrays, and None keeps the last one."""
        self._rate.add(iteration * self._samples_per_step)
        if episode_return is not None:
            self._results["return"] = episode_return
        if evaluation_return is not None:
            self._results["evaluation"] = evaluation_return
        text = self._line(iteration)
        if self._bar is not None:
            self._bar.update(TaskID(0), completed=iteration, description=text)
            return
        now = self._clock()
        waited = now - self._last_line >= LINE_SECONDS
        if waited or evaluation_return is not None or iteration >= self._num_iterations:
            self._last_line = now
            self._console.note(text)

    def _line(self, iteration: int) -> str:
        """The run in one line."""
        done = iteration * self._samples_per_step
        total = self._num_iterations * self._samples_per_step
        rate = self._rate.per_second
        speed = human(rate * self._num_members) if rate else NOTHING
        left = duration((total - done) / rate) if rate else NOTHING
        results = (f"{name} {number(value)}" for name, value in self._results.items())
        time_text = f"{duration(self._clock() - self._begun)} < {left}"
        progress = f"{iteration}/{self._num_iterations}", f"{human(done)} / {human(total)}"
        return "  ".join([*progress, f"{speed} steps/s", *results, time_text])
