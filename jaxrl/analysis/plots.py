"""Figures of runs: learning curves, comparisons, sweeps and scores, each written as one file.

A point is the interquartile mean over seeds of the seeds' mean evaluation returns; a band or a bar
is its 95% bootstrap interval. One seed has no interval, and none is drawn. Where a seed's return is
not finite the curve has a gap. Files are .png, .pdf or .svg; the same data give the same bytes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from jaxrl.analysis.panels import (
    Curve,
    draw_curves,
    draw_grid,
    draw_sampled,
    draw_score,
    draw_sweep,
)
from jaxrl.analysis.records import COUNTS
from jaxrl.analysis.runs import Run, tasks_of
from jaxrl.analysis.series import EVALUATION, bridged, smoothed
from jaxrl.analysis.style import (
    INK,
    MUTED,
    PALETTE,
    count_label,
    headline,
    label_ends,
    new_figure,
    save_figure,
    short_number,
    styled,
)
from jaxrl.errors import JaxrlError

# What a horizontal axis says of what it counts.
AXES = {
    "iteration": "iterations",
    "seconds": "seconds of training",
    "gradient_steps": "gradient steps",
}


@dataclass(frozen=True)
class Look:
    """How figures of runs are drawn.

    metric: what is drawn, by its name (`Run.names`); the return in each run's first mode if None.
    x:      what the horizontal axis counts (`Run.axes`); what the run counts if None.
    smooth: each point is a mean over so many.
    size:   width and height in inches; what suits the figure if None.
    """

    metric: str | None = None
    x: str | None = None
    smooth: int | None = None
    size: tuple[float, float] | None = None

    def figure(self, width: float, height: float) -> Figure:
        """An empty figure, of this size unless another is asked for."""
        return new_figure(*(self.size or (width, height)))

    def words(self, usual: str) -> str:
        """What is drawn, in words; `usual` is what returns are called there."""
        return usual if self.metric is None else self.metric


USUAL = Look()


def plot_learning_curve(
    run: Run, path: str | Path, look: Look = USUAL, label: str | None = None
) -> Path:
    """A curve per setting, of evaluation returns unless the look says otherwise.

    `label` names the one curve of a run that swept nothing; by default it is the mode's name.
    """
    settings = run.settings
    if len(settings) == 1:
        name = label or (run.modes[0] if look.metric is None and run.modes else "")
        curves = [curve_of(run, 0, name, PALETTE[0], look)]
    else:
        colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, len(settings)))
        curves = [
            curve_of(run, h, name, colours[h], look)
            for h, name in enumerate(short_settings(settings))
        ]
    with styled():
        figure = look.figure(7.2, max(3.6, 0.2 * len(curves) + 1.2))
        axes = figure.add_subplot()
        draw_curves(axes, curves, thin=len(settings) == 1)
        label_ends(axes, [(curve.end, curve.label, curve.colour) for curve in curves])
        title = f"{run.algorithm} on {run.environment}"
        headline(axes, title, _note([run], curves, look))
        axes.set_ylabel(look.words("return of an evaluation episode"))
        return save_figure(figure, path)


def plot_comparison(
    runs: Sequence[Run],
    path: str | Path,
    labels: Sequence[str] | None = None,
    look: Look = USUAL,
) -> Path:
    """Curves of several runs, of evaluation returns by default, a pair of axes per environment.

    `labels` names each run; runs with one label share its colour. By default they are the
    algorithms' names, or the folders' names where an algorithm occurs twice in an environment.
    Where returns are drawn and the runs' first modes differ, each label says which it is: such
    curves tell of more than the learners.
    """
    labels = labels_of(runs, labels, look.metric)
    colours = colours_of(labels)
    panels: dict[str, list[Curve]] = {}
    for run, label in zip(runs, labels, strict=True):
        curve = curve_of(run, 0, label, colours[label], look)
        panels.setdefault(run.environment, []).append(curve)
    drawn = [curve for curves in panels.values() for curve in curves]
    units = sorted({curve.unit for curve in drawn})
    if len(units) > 1:
        raise JaxrlError(
            f"the runs count different things: {' and '.join(units)}. Let x be what all of them "
            f"have: {', '.join(_common_axes(runs))}."
        )
    note, what = _note(runs, drawn, look), look.words("evaluation return")
    if len(set(tasks_of(runs))) > len(panels):
        note += "; environments' options differ"
    with styled():
        if len(panels) == 1:
            environment, curves = panels.popitem()
            return save_figure(_one_panel(environment, curves, what, note, look), path)
        return save_figure(_many_panels(panels, colours, what, note, look), path)


def plot_sweep(run: Run, path: str | Path, look: Look = USUAL) -> Path:
    """The last evaluation's return, in the first mode, against one or two swept hyperparameters.

    Dots for one, a heat map for two; where values were drawn, dots against each of them. With a
    metric in the look it is the last value of that.
    """
    if not run.sweep:
        raise ValueError(
            f"{run.folder}: the run swept nothing, so there is nothing to plot it against."
        )
    if len(run.sweep) > 2 and not run.is_sampled:
        names = ", ".join(run.sweep)
        raise ValueError(
            f"{run.folder}: a plot shows one or two swept hyperparameters, not all of {names}."
        )
    series = run.series(look.metric or run.score)
    final, last = series.values[-1], int(series.counts[-1])
    note = f"after {count_label(last)} {run.unit}; {_says([run], look, final.shape[1])}"
    what = f"final {look.words('return')}"
    title = f"{run.algorithm} on {run.environment}"
    with styled():
        if run.is_sampled:
            return save_figure(_against_each(run, final, what, title, note, look), path)
        figure = look.figure(6.4, 3.8)
        axes = figure.add_subplot()
        draw = draw_sweep if len(run.sweep) == 1 else draw_grid
        draw(axes, run, final, what)
        headline(axes, title, note)
        return save_figure(figure, path)


def plot_scores(rows: Sequence[Mapping[str, Any]], path: str | Path) -> Path:
    """A line per task, on a scale of its own: our score with its interval, and the published one.

    A row is a dict with "task", "score" and, where known, "low" and "high" (the interval),
    "published" and "source" (where that number was published).
    """
    if not rows:
        raise ValueError(
            "there are no rows to plot: give a dict with at least task and score for each task."
        )
    for row in rows:
        missing = [key for key in ("task", "score") if row.get(key) is None]
        if missing:
            raise ValueError(f"the row {dict(row)} lacks {' and '.join(missing)}.")
    ours = {"color": PALETTE[0], "marker": "o", "lw": 2.6, "label": "this code, 95% interval"}
    theirs = {"color": PALETTE[1], "marker": "D", "mfc": "white", "mew": 1.5, "ms": 5.5, "lw": 0}
    with styled():
        figure = new_figure(7.6, 0.76 * len(rows) + 0.45)
        every = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
        for axes, row in zip(every, rows, strict=True):
            draw_score(axes, row)
        handles = [Line2D([], [], **ours), Line2D([], [], **theirs, label="published")]
        figure.legend(handles=handles, loc="outside upper left", ncols=2, labelcolor=MUTED)
        return save_figure(figure, path)


def curve_of(run: Run, setting: int, label: str, colour: Any, look: Look = USUAL) -> Curve:
    """One setting of a run as a curve over what the look counts."""
    series = run.series(look.metric or run.score)
    scores = series.values[:, setting]
    if not (look.metric or run.score).startswith(EVALUATION):
        scores = bridged(scores)
    if look.smooth is not None:
        if look.smooth > len(scores):
            raise JaxrlError(
                f"smooth is {look.smooth}, but {run.folder} has only {len(scores)} points of "
                f"{look.metric or run.score}."
            )
        scores = smoothed(scores, look.smooth)
    if not np.isfinite(scores).any():
        name = look.metric or run.score
        raise JaxrlError(f"{run.folder}: no value of {name} is a finite number.")
    counter = COUNTS[run.unit]
    counts = run.along(series, look.x or counter)
    unit = run.unit if look.x in (None, counter) else AXES[look.x]
    return Curve(label, counts, scores, colour, unit)


def short_setting(setting: Mapping[str, Any]) -> str:
    """A setting of a sweep in few letters: "learning_rate 3e-4"."""
    return ", ".join(f"{name} {short_number(value)}" for name, value in setting.items())


def short_settings(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """Settings in few letters, or in as many as tell them apart."""
    short = [short_setting(setting) for setting in settings]
    if len(set(short)) == len(short):
        return short
    return [", ".join(f"{name} {value}" for name, value in each.items()) for each in settings]


def labels_of(
    runs: Sequence[Run], labels: Sequence[str] | None, metric: str | None = None
) -> list[str]:
    """The runs' labels, given or chosen, after checks that the runs can be compared."""
    if not runs:
        raise ValueError("there are no runs to compare.")
    for run in runs:
        if len(run.settings) > 1:
            raise ValueError(
                f"{run.folder} is a sweep of {len(run.settings)} settings: use plot_sweep."
            )
    if labels is not None:
        if len(labels) != len(runs):
            raise ValueError(f"{len(labels)} labels were given for {len(runs)} runs.")
    else:
        labels = _first_distinct(
            runs,
            [run.algorithm for run in runs],
            [run.name for run in runs],
            _short([str(run.folder) for run in runs]),
        )
    if metric is not None or len({run.modes[:1] for run in runs}) == 1:
        return list(labels)
    return [f"{label}, {' '.join(run.modes[:1])}" for label, run in zip(labels, runs, strict=True)]


def _first_distinct(runs: Sequence[Run], *named: list[str]) -> list[str]:
    """The first of several ways to name runs that tells them apart in each environment."""
    for names in named:
        pairs = {(run.environment, name) for run, name in zip(runs, names, strict=True)}
        if len(pairs) == len(runs):
            return names
    return named[-1]


def _short(paths: Sequence[str]) -> list[str]:
    """Paths without the folders that all of them begin with."""
    parts = [Path(path).parts for path in paths]
    shared = 0
    while (
        len({each[: shared + 1] for each in parts}) == 1 < min(len(each) - shared for each in parts)
    ):
        shared += 1
    return [str(Path(*each[shared:])) for each in parts]


def colours_of(labels: Sequence[str]) -> dict[str, str]:
    """A colour for each name among the labels."""
    names = list(dict.fromkeys(labels))
    if len(names) > len(PALETTE):
        raise ValueError(
            f"{len(names)} labels are given, but only {len(PALETTE)} colours can be told apart."
        )
    return dict(zip(names, PALETTE, strict=False))


def _common_axes(runs: Sequence[Run]) -> list[str]:
    """What all of the runs count."""
    return [name for name in runs[0].axes if all(name in run.axes for run in runs)]


def _note(runs: Sequence[Run], curves: Sequence[Curve], look: Look) -> str:
    """What the lines and bands of curves mean."""
    text = _says(runs, look, *(curve.scores.shape[1] for curve in curves))
    return text if look.smooth is None else f"{text}; means over {look.smooth} points"


def _says(runs: Sequence[Run], look: Look, *seeds: int) -> str:
    """What is said of so many seeds; and of returns, in which of several modes."""
    low, high = min(seeds), max(seeds)
    count = str(low) if low == high else f"{low} to {high}"
    text = f"interquartile mean of {count} seeds, 95% bootstrap interval"
    if high == 1:
        text = "one seed, hence no interval"
    if look.metric is not None:
        return text
    firsts = {run.modes[0] for run in runs}
    says_which = len(firsts) == 1 and any(len(run.modes) > 1 for run in runs)
    return f"{firsts.pop()} mode; {text}" if says_which else text


def _one_panel(
    environment: str, curves: Sequence[Curve], what: str, note: str, look: Look
) -> Figure:
    """Runs in one environment, named where their curves end."""
    figure = look.figure(7.2, 3.8)
    axes = figure.add_subplot()
    draw_curves(axes, curves, thin=len(curves) == 1)
    label_ends(axes, [(curve.end, curve.label, curve.colour) for curve in curves])
    headline(axes, environment, note)
    axes.set_ylabel(what)
    return figure


def _against_each(
    run: Run, final: np.ndarray, what: str, title: str, note: str, look: Look
) -> Figure:
    """Drawn settings, with a panel for each of the numbers that were drawn."""
    figure = look.figure(max(6.4, 3.2 * len(run.sweep)), 3.8)
    panels = figure.subplots(1, len(run.sweep), squeeze=False, sharey=True)[0]
    for axes, (name, values) in zip(panels, run.sweep.items(), strict=True):
        draw_sampled(axes, name, values, final, what if axes is panels[0] else "")
    headline(panels[0], title)
    figure.supxlabel(note, fontsize=8.5, color=MUTED)
    return figure


def _legend_columns(names: Collection[str], inches: float) -> int:
    """How many of the names stand side by side in a figure so wide, each behind its line."""
    longest = max(map(len, names))
    return max(1, min(len(names), 5, int(inches / (0.5 + 0.085 * longest))))


def _many_panels(
    panels: Mapping[str, Sequence[Curve]],
    colours: Mapping[str, str],
    what: str,
    note: str,
    look: Look,
) -> Figure:
    """Small multiples, one per environment, under one legend."""
    columns = 2 if len(panels) in (2, 4) else 3
    rows = -(-len(panels) // columns)
    figure = look.figure(3.1 * columns, 2.4 * rows + 0.6)
    for place, (environment, curves) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, place + 1)
        draw_curves(axes, curves, thin=False)
        headline(axes, environment)
        if place % columns == 0:
            axes.set_ylabel(what)
        if place + columns < len(panels):
            axes.set_xlabel("")
    handles = [Line2D([], [], color=colour, lw=2.2, label=name) for name, colour in colours.items()]
    columns = _legend_columns(colours, figure.get_figwidth())
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, labelcolor=INK)
    figure.supxlabel(note, fontsize=8.5, color=MUTED)
    return figure
