"""A bank of snapshots as a picture: the values of its rows over time, and in clusters."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from jaxrl.analysis.style import MUTED, headline, new_figure, save_figure, styled


def plot_bank(
    step: np.ndarray,
    value: np.ndarray,
    label: np.ndarray,
    path: str | Path,
    title: str,
    note: str = "",
) -> Path:
    """Rows [R] by the step of their episode, their value and their cluster, as one file."""
    names = np.unique(label)
    colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.92, len(names)))
    with styled():
        figure = new_figure(10.0, 3.4)
        by_time, by_value, shares = figure.subplots(1, 3, width_ratios=(1.4, 1, 1))
        bins = np.histogram_bin_edges(value, 30)
        below = np.zeros(len(bins) - 1)
        for name, colour in zip(names, colours, strict=True):
            own = label == name
            by_time.plot(step[own], value[own], ls="", marker="o", ms=3, mew=0, color=colour)
            count, _ = np.histogram(value[own], bins)
            by_value.barh(
                bins[:-1], count, np.diff(bins), left=below, align="edge", color=colour, lw=0
            )
            below += count
        by_time.set(xlabel="step of the recorded episode", ylabel="value")
        headline(by_time, title, note)
        by_value.set(xlabel="rows")
        headline(by_value, "by value")
        _draw_shares(shares, np.array([np.mean(label == name) for name in names]), colours)
        return save_figure(figure, path)


def _draw_shares(axes: Axes, rows: np.ndarray, colours: np.ndarray) -> None:
    """Of each cluster its share of the rows, as a bar, and a line at its share of the starts."""
    places = np.arange(len(rows))
    axes.barh(places, rows, 0.7, color=colours, lw=0)
    axes.axvline(1 / len(rows), color=MUTED, lw=1.2, ls="--")
    axes.set_yticks(places, [str(place + 1) for place in places])
    axes.set(xlabel="share of the rows; dashed: of the starts", ylabel="cluster")
    headline(axes, "by cluster")
