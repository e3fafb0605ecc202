"""How figures look and how they are written: colours, number formats, labels of lines, files.

Figures are made with matplotlib's object-oriented interface: no pyplot, no global state.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from matplotlib.transforms import ScaledTranslation

# Okabe & Ito, "Color Universal Design" (2008): told apart under every common colour blindness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#4D4D4D")
INK = "#24292F"
MUTED = "#6E7781"
FAINT = "#D0D7DE"

STYLE = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#AFB8C1",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.7,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.unicode_minus": True,
    "figure.dpi": 160,
    "figure.facecolor": "white",
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "grid.color": "#EAEEF2",
    "grid.linewidth": 0.8,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "lines.solid_capstyle": "round",
    "savefig.dpi": 160,
    "svg.hashsalt": "jaxrl",
    "xtick.color": "#AFB8C1",
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": 8.5,
    "xtick.major.width": 0.7,
    "ytick.color": "#AFB8C1",
    "ytick.labelcolor": MUTED,
    "ytick.labelsize": 8.5,
    "ytick.major.size": 0.0,
}

# What each format would otherwise stamp into the file: dates and versions, which change its bytes.
STAMPS: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".pdf": {"Creator": None, "Producer": None, "CreationDate": None},
    ".svg": {"Creator": None, "Date": None},
}


@contextmanager
def styled() -> Iterator[None]:
    """A context with the house's parameters of matplotlib; the caller's come back after it.

    All others are matplotlib's own: a matplotlibrc may ask for LaTeX, which may not be there.
    """
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of width × height inches that belongs to no window."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08, wspace=0.04, hspace=0.04)
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as .png, .pdf or .svg; the same figure gives the same bytes."""
    path = Path(path)
    if path.suffix not in STAMPS:
        raise ValueError(
            f"cannot draw {path.name!r}: choose a file name that ends in {', '.join(STAMPS)}."
        )
    buffer = io.BytesIO()
    figure.savefig(buffer, format=path.suffix[1:], metadata=STAMPS[path.suffix])
    return write_bytes(path, buffer.getvalue())


def write_bytes(path: str | Path, content: bytes) -> Path:
    """Write a file whole or not at all, making its folder; a reader never sees half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("xb") as file:  # never through a link that somebody has laid there
            file.write(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def count_label(number: float) -> str:
    """A count as people say it: 0, 500, 100k, 2.5M, 1B."""
    for size, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.4g}{suffix}"
    return f"{number:.4g}"


def short_number(value: Any) -> str:
    """A hyperparameter's or a score's value, short: 0.0003 is 3e-4, 1234.5 is 1234."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        return str(value)
    value = float(value)
    if 0 < abs(value) < 1e-2:
        mantissa, exponent = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(exponent)}"
    if abs(value) >= 1e5:
        return count_label(value)
    text = f"{value:.0f}" if abs(value) >= 100 else f"{value:.4g}"
    return text.replace("-", "\N{MINUS SIGN}")


def count_axis(axes: Axes, last: float, unit: str) -> None:
    """The horizontal axis counts transitions, say: from 0 to the last one, in human numbers."""
    axes.set_xlim(0, last or 1)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda number, _: count_label(number)))
    axes.set_xlabel(unit)


def spread(positions: Sequence[float], gap: float, top: float = 1.0) -> np.ndarray:
    """Positions moved as little as needed to lie `gap` apart and, if there is room, below `top`."""
    wanted = np.asarray(positions, np.float64)
    order = np.argsort(wanted, kind="stable")
    placed = wanted[order]
    for i in range(1, len(placed)):
        placed[i] = max(placed[i], placed[i - 1] + gap)
    ceiling = top
    for i in reversed(range(len(placed))):
        placed[i] = min(placed[i], ceiling)
        ceiling = placed[i] - gap
    result = np.empty_like(placed)
    result[order] = placed
    return result


def label_ends(axes: Axes, ends: Sequence[tuple[float, str, Any]]) -> None:
    """Name every line where it ends, beside the axes, whose limits must be final.

    `ends` are (y, text, colour).
    """
    low, high = axes.get_ylim()
    grid = axes.get_gridspec()
    _, height = axes.figure.get_size_inches()
    height /= grid.nrows if grid else 1
    height *= 0.72 * 72  # points; 0.72: what titles and ticks leave of it
    places = spread([(y - low) / (high - low) for y, _, _ in ends], gap=12.5 / height)
    for place, (_, text, colour) in zip(places, ends, strict=True):
        axes.text(1.012, place, text, color=colour, transform=axes.transAxes, va="center")


def headline(axes: Axes, title: str, note: str = "") -> None:
    """A bold title at the left, a muted line of explanation beneath it."""
    axes.set_title(title, pad=20 if note else 8)
    if note:
        offset = ScaledTranslation(0, 7 / 72, axes.figure.dpi_scale_trans)
        axes.text(0, 1, note, color=MUTED, fontsize=8.5, transform=axes.transAxes + offset)
