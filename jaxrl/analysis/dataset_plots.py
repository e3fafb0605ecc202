"""A figure of a dataset: what its episodes earned, how long they are, and where they went."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from jaxrl.analysis.style import (
    PALETTE,
    count_label,
    headline,
    new_figure,
    save_figure,
    short_number,
    styled,
)

BINS = 40
# Squares along each side of the map of places.
SIDE = 80


def plot_dataset(
    name: str, returns: np.ndarray, lengths: np.ndarray, places: np.ndarray, path: str | Path
) -> Path:
    """Histograms of returns [E] and lengths [E], and a map of the observations [N, ...].

    The map is of their first two coordinates, coloured by how many steps were there; of one
    coordinate it is a histogram, and of images there is none.
    """
    flat = places.reshape(len(places), -1).astype(np.float64) if places.ndim < 3 else None
    with styled():
        figure = new_figure(7.2 if flat is None else 10.2, 3.4)
        panels = figure.subplots(1, 2 if flat is None else 3)
        _histogram(panels[0], returns, "episodes")
        headline(panels[0], "return of an episode", _spread(returns))
        _histogram(panels[1], lengths, "episodes")
        headline(panels[1], "steps of an episode", _spread(lengths))
        if flat is not None:
            _places(panels[2], flat)
        figure.suptitle(name, x=0.01, ha="left", fontsize=11, fontweight="bold")
        return save_figure(figure, path)


def _spread(values: np.ndarray) -> str:
    """The least, the mean and the greatest of numbers, in words."""
    low, mean, high = (short_number(float(each)) for each in _extent(values))
    return f"{low} to {high}, mean {mean}, {count_label(len(values))} episodes"


def _extent(values: np.ndarray) -> tuple[float, float, float]:
    return values.min(), values.mean(), values.max()


def _histogram(axes: Axes, values: np.ndarray, of: str) -> None:
    axes.hist(values, bins=BINS, color=PALETTE[0])
    axes.set_ylabel(of)


def _places(axes: Axes, places: np.ndarray) -> None:
    """Where the steps were, in the first two coordinates [N, d], or in the only one."""
    if places.shape[1] == 1:
        _histogram(axes, places[:, 0], "steps")
        headline(axes, "observations")
        return
    counts, across, up = np.histogram2d(places[:, 0], places[:, 1], bins=SIDE)
    shown = np.ma.masked_equal(np.log10(np.maximum(counts, 1)) + (counts > 0), 0)
    axes.pcolormesh(across, up, shown.T, cmap="viridis", rasterized=True)
    axes.grid(False)
    axes.set_xlabel("observation 0")
    axes.set_ylabel("observation 1")
    covered = np.count_nonzero(counts)
    headline(axes, "places", f"steps were in {covered:,} of {counts.size:,} squares")
