"""Figures of learners against each other: performance profiles, and probabilities of improvement.

The score of a seed is the last value of the metric, by default of the evaluation return in the
first mode. Runs with one label are one learner, and their environments, with their options, its
tasks; of a single sweep the settings are the learners. Definitions are those of
jaxrl/analysis/statistics.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from jaxrl.analysis.plots import USUAL, Look, colours_of, labels_of, short_settings
from jaxrl.analysis.runs import Run, tasks_of
from jaxrl.analysis.statistics import (
    improvement_interval,
    normalised,
    performance_profile,
    probability_of_improvement,
)
from jaxrl.analysis.style import (
    FAINT,
    INK,
    PALETTE,
    count_label,
    headline,
    save_figure,
    styled,
)
from jaxrl.errors import JaxrlError

THRESHOLDS = 201  # of a profile, evenly from below the lowest score to above the highest
LONGEST = 24  # letters of a label that has room beside another one

Learners = dict[str, np.ndarray]  # scores [seeds, tasks] by label


def plot_profiles(
    runs: Sequence[Run],
    path: str | Path,
    labels: Sequence[str] | None = None,
    look: Look = USUAL,
) -> Path:
    """The share of seeds whose score is above each threshold: the higher, the better.

    Returns in several environments are put on one scale, 0 for random actions and 100 for an
    expert's, so that every run has to know what these earn.
    """
    several = len(set(tasks_of(runs))) > 1
    learners = _learners(runs, labels, look, on_one_scale=several)
    colours = colours_of(list(learners))
    pooled = np.concatenate([scores.ravel() for scores in learners.values()])
    margin = 0.03 * (np.ptp(pooled) or 1.0)
    thresholds = np.linspace(pooled.min() - margin, pooled.max() + margin, THRESHOLDS)
    what = f"last {look.words('evaluation return')}"
    with styled():
        figure = look.figure(7.2, 3.8)
        axes = figure.add_subplot()
        for label, scores in learners.items():
            share, low, high = performance_profile(scores, thresholds)
            axes.fill_between(
                thresholds, low, high, color=colours[label], alpha=0.16, lw=0, step="post"
            )
            axes.step(thresholds, share, color=colours[label], lw=1.9, where="post", label=label)
        axes.set(ylim=(-0.02, 1.02), xlabel=f"normalised {what}" if several else what)
        axes.set_ylabel("share of seeds above")
        axes.margins(x=0)
        axes.legend(labelcolor=INK)
        note = _counted(learners, "pointwise 95% bootstrap intervals") + _reached(runs, look)
        headline(axes, f"Performance profile, {_place(runs)}", note)
        return save_figure(figure, path)


def plot_improvement(
    runs: Sequence[Run],
    path: str | Path,
    labels: Sequence[str] | None = None,
    look: Look = USUAL,
) -> Path:
    """The probability that a seed of one learner scores more than one of another, pair by pair.

    It is a mean over environments, whose returns need no common scale.
    """
    learners = _learners(runs, labels, look)
    pairs = list(itertools.combinations(learners, 2))
    if not pairs:
        raise JaxrlError(
            f"there is only {next(iter(learners))!r}, but an improvement is one over another: "
            "give runs with at least two labels, or a sweep."
        )
    places = np.arange(len(pairs))[::-1]
    is_long = max(map(len, learners)) > LONGEST
    over = "\nover " if is_long else " over "
    with styled():
        figure = look.figure(7.2, (0.5 if is_long else 0.34) * len(pairs) + 1.5)
        axes = figure.add_subplot()
        axes.axvline(0.5, color=FAINT, lw=1.4, zorder=1)
        for place, (first, second) in zip(places, pairs, strict=True):
            probability = probability_of_improvement(learners[first], learners[second])
            low, high = improvement_interval(learners[first], learners[second])
            axes.hlines(place, low, high, color=PALETTE[0], lw=2.6, zorder=3)
            axes.plot(
                probability, place, color=PALETTE[0], marker="o", ms=7.5, mec="white", zorder=4
            )
            words = f"{probability:.2f}"
            if np.isfinite(low):
                words += f"  [{low:.2f}, {high:.2f}]"
            axes.text(1.03, place, words, va="center", transform=axes.get_yaxis_transform())
        axes.set(xlim=(-0.02, 1.02), ylim=(-0.6, len(pairs) - 0.4))
        axes.set_yticks(places, [over.join(pair) for pair in pairs])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.grid(False)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"probability of a higher last {look.words('evaluation return')}")
        note = _counted(learners, "95% bootstrap intervals") + _reached(runs, look)
        headline(axes, f"Probability of improvement, {_place(runs)}", note)
        return save_figure(figure, path)


def _learners(
    runs: Sequence[Run], labels: Sequence[str] | None, look: Look, on_one_scale: bool = False
) -> Learners:
    """The last scores of every learner, by label."""
    if len(runs) == 1 and len(runs[0].settings) > 1:
        last = _last(runs[0], look)
        names = short_settings(runs[0].settings)
        return {name: scores[:, None] for name, scores in zip(names, last, strict=True)}
    found: dict[str, dict[str, list[np.ndarray]]] = {}
    tasks = tasks_of(runs)
    for run, task, label in zip(runs, tasks, labels_of(runs, labels, look.metric), strict=True):
        scores = _last(run, look)[0]
        if on_one_scale:
            scores = _normalised(run, scores, look)
        found.setdefault(label, {}).setdefault(task, []).append(scores)
    distinct = sorted(set(tasks))
    return {label: _stacked(label, scores, distinct) for label, scores in found.items()}


def _last(run: Run, look: Look) -> np.ndarray:
    """The last values [H, S] of what is drawn, all of them finite."""
    name = look.metric or run.score
    last = run.series(name).values[-1]
    if failed := int(np.count_nonzero(~np.isfinite(last))):
        raise JaxrlError(
            f"{run.folder}: {failed} of {last.size} last values of {name} are not finite. Leaving "
            "them out would flatter the rest."
        )
    return last


def _normalised(run: Run, scores: np.ndarray, look: Look) -> np.ndarray:
    """Returns on the scale of their environment."""
    match run.config.get("reference_scores"):
        case [int() | float() as random, int() | float() as expert] if look.metric is None:
            return np.asarray(normalised(scores, random, expert))
    raise JaxrlError(
        f"{run.folder}: a profile of several environments is one of normalised returns, and the "
        f"run does not say what random and expert policies earn in {run.environment}. Draw one "
        "environment at a time, or probabilities of improvement."
    )


def _stacked(label: str, found: Mapping[str, Sequence[np.ndarray]], tasks: list[str]) -> np.ndarray:
    """One learner's scores [seeds, tasks], of runs by environment."""
    columns = [np.concatenate(found[task]) for task in tasks if task in found]
    if len(columns) < len(tasks):
        missing = [task for task in tasks if task not in found]
        raise JaxrlError(f"{label} has no run in {', '.join(missing)}, where another one has.")
    sizes = sorted({len(column) for column in columns})
    if len(sizes) > 1:
        raise JaxrlError(
            f"{label} has {' and '.join(map(str, sizes))} seeds in different environments, but "
            "must have as many in each."
        )
    return np.stack(columns, axis=1)


def _counted(learners: Learners, intervals: str) -> str:
    """How many seeds there are, and which intervals of them."""
    sizes = sorted({len(scores) for scores in learners.values()})
    if sizes == [1]:
        return "one seed each, hence no interval"
    seeds = f"{sizes[0]} seeds" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]} seeds"
    return f"{seeds}, {intervals}"


def _reached(runs: Sequence[Run], look: Look) -> str:
    """How far the runs had come, where some had come farther than others."""
    counts = [run.series(look.metric or run.score).counts[-1] for run in runs]
    units = {run.unit for run in runs}
    if len(units) > 1 or min(counts) == max(counts):
        return ""
    return f"; after {count_label(min(counts))} to {count_label(max(counts))} {units.pop()}"


def _place(runs: Sequence[Run]) -> str:
    """Where runs were."""
    places = set(tasks_of(runs))
    return places.pop() if len(places) == 1 else f"{len(places)} environments"
