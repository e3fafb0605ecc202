"""Figures of runs: learning curves, comparisons, sweeps and scores, each written as one file.

A point is the interquartile mean over seeds of the seeds' mean evaluation returns; a band or a bar
is its 95% bootstrap interval. One seed has no interval, and none is drawn. Where a seed's return is
not finite the curve has a gap. Files are .png, .pdf or .svg; the same data give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.lines import Line2D

from jaxrl.analysis.panels import Curve, draw_curves, draw_grid, draw_score, draw_sweep
from jaxrl.analysis.runs import Run
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


def plot_learning_curve(run: Run, path: str | Path) -> Path:
    """Evaluation return against what the run counts, in the first mode: a curve per setting."""
    counts, returns = _counts(run), run.returns()
    settings = run.settings
    if len(settings) == 1:
        curves = [Curve(run.modes[0], counts, returns[:, 0], PALETTE[0], run.unit)]
    else:
        colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, len(settings)))
        curves = []
        for h, setting in enumerate(settings):
            label = ", ".join(f"{name} {short_number(value)}" for name, value in setting.items())
            curves.append(Curve(label, counts, returns[:, h], colours[h], run.unit))
    with styled():
        figure = new_figure(7.2, max(3.6, 0.2 * len(curves) + 1.2))
        axes = figure.add_subplot()
        draw_curves(axes, curves, thin=len(settings) == 1)
        label_ends(axes, [(curve.end, curve.label, curve.colour) for curve in curves])
        headline(axes, f"{run.algorithm} on {run.environment}", _note([run], returns.shape[2]))
        axes.set_ylabel("return of an evaluation episode")
        return save_figure(figure, path)


def plot_comparison(
    runs: Sequence[Run], path: str | Path, labels: Sequence[str] | None = None
) -> Path:
    """Evaluation returns of several runs, one pair of axes per environment.

    Each run's first mode is drawn. `labels` names each run; runs with one label share its colour.
    By default they are the algorithms' names, or the folders' names where an algorithm occurs twice
    in an environment. Where the runs' first modes differ, each label says which it is: such curves
    tell of more than the learners.
    """
    labels = _labels(runs, labels)
    units = sorted({run.unit for run in runs})
    if len(units) > 1:
        raise ValueError(f"the runs count different things: {' and '.join(units)}.")
    names = list(dict.fromkeys(labels))
    if len(names) > len(PALETTE):
        raise ValueError(
            f"{len(names)} labels are given, but only {len(PALETTE)} colours can be told apart."
        )
    colours = dict(zip(names, PALETTE, strict=False))
    panels: dict[str, list[Curve]] = {}
    for run, label in zip(runs, labels, strict=True):
        curve = Curve(label, _counts(run), run.returns()[:, 0], colours[label], run.unit)
        panels.setdefault(run.environment, []).append(curve)
    seeds = [curve.scores.shape[1] for curves in panels.values() for curve in curves]
    note = _note(runs, *seeds)
    with styled():
        if len(panels) == 1:
            environment, curves = panels.popitem()
            return save_figure(_one_panel(environment, curves, note), path)
        return save_figure(_many_panels(panels, colours, note), path)


def plot_sweep(run: Run, path: str | Path) -> Path:
    """The last evaluation's return, in the first mode, against one or two swept hyperparameters.

    Dots for one, a heat map for two.
    """
    if not run.sweep:
        raise ValueError(
            f"{run.folder}: the run swept nothing, so there is nothing to plot it against."
        )
    if len(run.sweep) > 2:
        names = ", ".join(run.sweep)
        raise ValueError(
            f"{run.folder}: a plot shows one or two swept hyperparameters, not all of {names}."
        )
    counts, final = _counts(run), run.returns()[-1]
    note = f"after {count_label(int(counts[-1]))} {run.unit}; {_note([run], final.shape[1])}"
    draw = draw_sweep if len(run.sweep) == 1 else draw_grid
    with styled():
        figure = new_figure(6.4, 3.8)
        axes = figure.add_subplot()
        draw(axes, run, final)
        headline(axes, f"{run.algorithm} on {run.environment}", note)
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


def _counts(run: Run) -> np.ndarray:
    """How far a run that was evaluated at least once was each time, [K]."""
    if not run.returns().size:
        raise ValueError(f"{run.folder}: the run was not evaluated yet.")
    return run.counts


def _labels(runs: Sequence[Run], labels: Sequence[str] | None) -> list[str]:
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
        distinct = len({(run.algorithm, run.environment) for run in runs}) == len(runs)
        labels = [run.algorithm if distinct else run.name for run in runs]
    if len({run.modes[:1] for run in runs}) == 1:
        return list(labels)
    return [f"{label}, {' '.join(run.modes[:1])}" for label, run in zip(labels, runs, strict=True)]


def _note(runs: Sequence[Run], *seeds: int) -> str:
    """What the lines and bands of runs with so many seeds mean; and which of several modes."""
    low, high = min(seeds), max(seeds)
    count = str(low) if low == high else f"{low} to {high}"
    text = f"interquartile mean of {count} seeds, 95% bootstrap interval"
    if high == 1:
        text = "one seed, hence no interval"
    firsts = {run.modes[0] for run in runs}
    says_which = len(firsts) == 1 and any(len(run.modes) > 1 for run in runs)
    return f"{firsts.pop()} mode; {text}" if says_which else text


def _one_panel(environment: str, curves: Sequence[Curve], note: str) -> Any:
    """Runs in one environment, named where their curves end."""
    figure = new_figure(7.2, 3.8)
    axes = figure.add_subplot()
    draw_curves(axes, curves, thin=len(curves) == 1)
    label_ends(axes, [(curve.end, curve.label, curve.colour) for curve in curves])
    headline(axes, environment, note)
    axes.set_ylabel("evaluation return")
    return figure


def _many_panels(
    panels: Mapping[str, Sequence[Curve]], colours: Mapping[str, str], note: str
) -> Any:
    """Small multiples, one per environment, under one legend."""
    columns = 2 if len(panels) in (2, 4) else 3
    rows = -(-len(panels) // columns)
    figure = new_figure(3.1 * columns, 2.4 * rows + 0.6)
    for place, (environment, curves) in enumerate(panels.items()):
        axes = figure.add_subplot(rows, columns, place + 1)
        draw_curves(axes, curves, thin=False)
        headline(axes, environment)
        if place % columns == 0:
            axes.set_ylabel("evaluation return")
        if place + columns < len(panels):
            axes.set_xlabel("")
    handles = [Line2D([], [], color=colour, lw=2.2, label=name) for name, colour in colours.items()]
    figure.legend(
        handles=handles, loc="outside upper left", ncols=min(len(handles), 5), labelcolor=INK
    )
    figure.supxlabel(note, fontsize=8.5, color=MUTED)
    return figure
