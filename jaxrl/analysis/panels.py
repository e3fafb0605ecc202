"""What one pair of axes shows: curves, a sweep, a grid of settings, the score of a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes

from jaxrl.analysis.runs import Run
from jaxrl.analysis.statistics import bootstrap_interval, interquartile_mean
from jaxrl.analysis.style import FAINT, INK, PALETTE, count_axis, short_number

FEW_SEEDS = 10  # up to here every seed gets a thin line of its own


class Curve(NamedTuple):
    """Scores [K, S] of S seeds after `counts` [K] of a unit, under one name and colour."""

    label: str
    counts: np.ndarray
    scores: np.ndarray
    colour: Any
    unit: str = "transitions"

    @property
    def end(self) -> float:
        """Where the curve ends: its last finite interquartile mean, 0 without any."""
        finite = self.scores[np.isfinite(self.scores).all(axis=1)]
        return interquartile_mean(finite[-1]) if finite.size else 0.0


def intervals(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Interquartile mean, low and high [K] of scores [K, S]; NaN, a gap, if one is not finite."""
    result = np.full((3, len(scores)), np.nan)
    for k, seeds in enumerate(scores):
        if np.isfinite(seeds).all():
            low, high = bootstrap_interval(seeds)
            result[:, k] = interquartile_mean(seeds), low, high
    means, lows, highs = result
    return means, lows, highs


def draw_curves(axes: Axes, curves: Sequence[Curve], thin: bool) -> None:
    """Bands beneath single seeds (where `thin`) beneath means; the first curve lies on top."""
    for depth, curve in enumerate(reversed(curves)):
        middle, low, high = intervals(curve.scores)
        axes.fill_between(curve.counts, low, high, color=curve.colour, alpha=0.16, lw=0, zorder=2)
        if thin and 1 < curve.scores.shape[1] <= FEW_SEEDS:
            axes.plot(curve.counts, curve.scores, color=curve.colour, lw=0.6, alpha=0.35, zorder=3)
        look = {"color": curve.colour, "zorder": 4 + depth}
        axes.plot(curve.counts, middle, lw=1.9, **look)
        if (lone := _lone(middle)).any():
            axes.plot(curve.counts[lone], middle[lone], ls="", marker="o", **look)
    count_axis(axes, max(curve.counts.max() for curve in curves), curves[0].unit)
    axes.margins(y=0.06)
    axes.set_ylim(axes.get_ylim())


def _lone(values: np.ndarray) -> np.ndarray:
    """Which finite values [K] have a gap on either side: no line shows them."""
    finite = np.pad(np.isfinite(values), 1)
    return finite[1:-1] & ~finite[:-2] & ~finite[2:]


def draw_sweep(axes: Axes, run: Run, final: np.ndarray, what: str) -> None:
    """Final scores [H, S] against one hyperparameter: seeds, interval and interquartile mean."""
    (name,) = run.sweep
    values = [setting[name] for setting in run.settings]
    positions, scale = _positions(values)
    middle, low, high = intervals(final)
    if _numeric(values):
        order = np.argsort(positions)
        axes.plot(positions[order], middle[order], color=FAINT, lw=1.4, zorder=2)
    axes.vlines(positions, low, high, color=PALETTE[0], lw=2.2, zorder=3)
    if final.shape[1] > 1:
        small = {"ls": "", "marker": "o", "ms": 3.2, "mew": 0, "alpha": 0.35}
        axes.plot(positions, final, color=PALETTE[0], zorder=2, **small)
    axes.plot(
        positions, middle, color=PALETTE[0], ls="", marker="o", ms=7, mec="white", mew=1.2, zorder=4
    )
    axes.set_xscale(scale)
    axes.minorticks_off()
    axes.set_xticks(positions, [short_number(value) for value in values])
    axes.margins(x=0.08, y=0.08)
    axes.set_xlabel(name)
    axes.set_ylabel(what)


def draw_sampled(
    axes: Axes, name: str, values: Sequence[float], final: np.ndarray, what: str
) -> None:
    """Final scores [H, S] against one of the numbers that were drawn together: mean and interval.

    What the others were differs from dot to dot, and no line joins them.
    """
    numbers = np.asarray(values, np.float64)
    middle, low, high = intervals(final)
    axes.vlines(numbers, low, high, color=PALETTE[0], lw=1.4, alpha=0.5, zorder=2)
    axes.plot(
        numbers, middle, color=PALETTE[0], ls="", marker="o", ms=5.5, mec="white", mew=1.0, zorder=3
    )
    if numbers.min() > 0 and numbers.max() > 10 * numbers.min():
        axes.set_xscale("log")
    axes.margins(x=0.08, y=0.08)
    axes.set_xlabel(name)
    axes.set_ylabel(what)


def draw_grid(axes: Axes, run: Run, final: np.ndarray, what: str) -> None:
    """Final scores [H, S] over two hyperparameters: a heat map, with numbers in its cells."""
    first, second = run.sweep
    across = list(dict.fromkeys(run.sweep[second]))
    up = list(dict.fromkeys(run.sweep[first]))
    places = [(up.index(setting[first]), across.index(setting[second])) for setting in run.settings]
    middle, low, high = intervals(final)
    cells = np.full((len(up), len(across)), np.nan)
    for place, mean in zip(places, middle, strict=True):
        cells[place] = mean
    image = axes.imshow(cells, cmap="cividis", origin="lower", aspect="auto")
    for (row, column), mean, bottom, top in zip(places, middle, low, high, strict=True):
        if not np.isfinite(mean):
            continue
        ink = "white" if image.norm(mean) < 0.5 else INK
        whole = np.isfinite(bottom)
        words = {"color": ink, "ha": "center", "va": "bottom" if whole else "center"}
        axes.text(column, row, short_number(mean), fontsize=10, **words)
        if whole:
            small = {"fontsize": 7.5, "color": ink, "ha": "center", "va": "top"}
            axes.text(column, row - 0.06, f"{short_number(bottom)} – {short_number(top)}", **small)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks(range(len(across)), [short_number(value) for value in across])
    axes.set_yticks(range(len(up)), [short_number(value) for value in up])
    axes.set(xlabel=second, ylabel=first)
    axes.figure.colorbar(image, ax=axes, label=what, pad=0.02).outline.set_visible(False)


def draw_score(axes: Axes, row: Mapping[str, Any]) -> None:
    """One task in two lanes, with words: our dot and interval, beneath it the published diamond."""
    score, low, high, published = (
        np.nan if row.get(key) is None else float(row[key])
        for key in ("score", "low", "high", "published")
    )
    interval = f"  [{short_number(low)}, {short_number(high)}]" if np.isfinite(low + high) else ""
    source = f"  {row['source']}" if row.get("source") else ""
    ours = 0.45 if np.isfinite(published) else 0.0
    axes.plot([low, high], [ours, ours], color=PALETTE[0], lw=2.6, zorder=3)
    axes.plot(score, ours, color=PALETTE[0], marker="o", ms=7.5, mec="white", mew=1.2, zorder=4)
    lanes = [(ours, short_number(score) + interval, PALETTE[0])]
    if np.isfinite(published):
        axes.plot(
            published, -0.45, color=PALETTE[1], marker="D", mfc="white", mew=1.5, ms=5.5, zorder=4
        )
        lanes.append((-0.45, short_number(published) + source, PALETTE[1]))
    for height, words, colour in lanes:
        axes.axhline(height, color="#EAEEF2", lw=1.0, zorder=1)
        axes.text(
            1.03, height, words, color=colour, va="center", transform=axes.get_yaxis_transform()
        )
    axes.set(
        ylim=(-1, 1),
        yticks=[0],
        yticklabels=[row["task"]],
        xlim=_window(score, low, high, published),
    )
    axes.tick_params(axis="y", labelcolor=INK, labelsize=9.5)
    axes.locator_params(axis="x", nbins=4)
    axes.grid(False)
    axes.spines["left"].set_visible(False)


def _window(*values: float) -> tuple[float, float]:
    """Limits around all finite values, at least a quarter of the largest apart.

    So a small difference looks small.
    """
    finite = np.array([value for value in values if np.isfinite(value)])
    span = 1.3 * max(np.ptp(finite), 0.2 * np.abs(finite).max(), 1e-9)
    middle = (finite.min() + finite.max()) / 2
    return middle - span / 2, middle + span / 2


def _numeric(values: Sequence[Any]) -> bool:
    """Whether all values are numbers that have an order worth a scale."""
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _positions(values: Sequence[Any]) -> tuple[np.ndarray, str]:
    """Where values go on an axis, and its scale; no numbers, or crowded ones, go by rank."""
    if not _numeric(values) or len(values) < 2:
        return np.arange(len(values), dtype=np.float64), "linear"
    numbers = np.asarray(values, np.float64)
    logarithmic = numbers.min() > 0 and numbers.max() > 10 * numbers.min()
    gaps = np.diff(np.sort(np.log(numbers) if logarithmic else numbers))
    if gaps.min() < 0.07 * gaps.sum():
        return np.argsort(np.argsort(numbers)).astype(np.float64), "linear"
    return numbers, "log" if logarithmic else "linear"
