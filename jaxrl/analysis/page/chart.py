"""Curves as inline SVG, and beside each the numbers that page.js reads out under the mouse."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

from jaxrl.analysis.page.markup import Markup, element
from jaxrl.analysis.panels import Curve, intervals
from jaxrl.analysis.style import count_label, short_number

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 10, 36  # margins, which hold the words of the axes
MOST_POINTS = 150  # of a curve


class Line(NamedTuple):
    """What is drawn of a curve: interquartile means and intervals [L] at x [L]; NaN is a gap."""

    label: str
    colour: str
    x: np.ndarray
    middle: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Frame(NamedTuple):
    """From data to the pixels of the picture."""

    left: float
    right: float
    bottom: float
    top: float

    def x(self, value: Any) -> Any:
        """Pixels from the left."""
        share = (value - self.left) / (self.right - self.left)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: Any) -> Any:
        """Pixels from the top."""
        share = (value - self.bottom) / (self.top - self.bottom)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def chart(title: str, curves: Sequence[Curve]) -> Markup:
    """A figure of curves over one unit: a legend, the picture, and the numbers in it."""
    lines = [_line(curve) for curve in curves]
    frame = _frame(lines)
    marks = [*_ticks(frame, curves[0].unit)]
    for line in lines:
        marks += _band(line, frame)
    for line in lines:
        marks += _strokes(line, frame)
    picture = element("svg", *marks, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=title)
    keys = [
        element("span", element("i", style=f"background:{line.colour}"), line.label, class_="key")
        for line in lines
    ]
    return element(
        "figure",
        element("figcaption", title),
        element("div", *keys, class_="keys"),
        picture,
        element("div", class_="readout", hidden="hidden"),
        _numbers(lines, frame, curves[0].unit),
        class_="chart",
    )


def _line(curve: Curve) -> Line:
    """A curve at so many points that they can be told apart, the last one always."""
    last = len(curve.counts) - 1
    places = np.unique(np.linspace(0, last, min(last + 1, MOST_POINTS)).round().astype(int))
    middle, low, high = intervals(curve.scores[places])
    return Line(curve.label, curve.colour, curve.counts[places], middle, low, high)


def _frame(lines: Sequence[Line]) -> Frame:
    """All that is finite, and a little room above and below."""
    heights = np.concatenate(
        [part for line in lines for part in (line.middle, line.low, line.high)]
    )
    heights = heights[np.isfinite(heights)]
    low, high = (heights.min(), heights.max()) if heights.size else (0.0, 1.0)
    room = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    return Frame(0.0, max(float(line.x.max()) for line in lines) or 1.0, low - room, high + room)


def _ticks(frame: Frame, unit: str) -> Iterator[Markup]:
    """Lines and numbers of the axes."""
    for value in MaxNLocator(5).tick_values(frame.bottom, frame.top):
        if frame.bottom <= value <= frame.top:
            y = _pixels(frame.y(value))
            yield element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid")
            yield element("text", short_number(value), x=LEFT - 6, y=y, dy=4, text_anchor="end")
    for value in MaxNLocator(5).tick_values(frame.left, frame.right):
        if frame.left <= value <= frame.right:
            x = _pixels(frame.x(value))
            yield element("text", count_label(value), x=x, y=HEIGHT - 20, text_anchor="middle")
    yield element("text", unit, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 5, text_anchor="middle")


def _band(line: Line, frame: Frame) -> Iterator[Markup]:
    """The interval: a polygon for each stretch without a gap."""
    for stretch in _stretches(line.low + line.high):
        x, low, high = line.x[stretch], line.low[stretch], line.high[stretch]
        edge = [*zip(x, low, strict=True), *zip(x[::-1], high[::-1], strict=True)]
        points = " ".join(f"{_pixels(frame.x(a))},{_pixels(frame.y(b))}" for a, b in edge)
        yield element("polygon", points=points, fill=line.colour, class_="band")


def _strokes(line: Line, frame: Frame) -> Iterator[Markup]:
    """The interquartile mean: a line for each stretch without a gap, a dot for a lone point."""
    for stretch in _stretches(line.middle):
        x, y = frame.x(line.x[stretch]), frame.y(line.middle[stretch])
        if len(x) == 1:
            yield element("circle", cx=_pixels(x[0]), cy=_pixels(y[0]), r=3, fill=line.colour)
        else:
            points = " ".join(f"{_pixels(a)},{_pixels(b)}" for a, b in zip(x, y, strict=True))
            yield element("polyline", points=points, stroke=line.colour, class_="line")


def _stretches(values: np.ndarray) -> list[slice]:
    """Where values are finite without a gap."""
    finite = np.concatenate([[False], np.isfinite(values), [False]])
    begins = np.flatnonzero(finite[1:] & ~finite[:-1])
    ends = np.flatnonzero(~finite[1:] & finite[:-1])
    return [slice(begin, end) for begin, end in zip(begins, ends, strict=True)]


def _numbers(lines: Sequence[Line], frame: Frame, unit: str) -> Markup:
    """What the mouse is answered with, as JSON in which no "<" could end the element."""
    data = {
        "unit": unit,
        "frame": list(frame),
        "box": [LEFT, WIDTH - RIGHT, HEIGHT - BOTTOM, TOP],
        "lines": [
            {
                "label": line.label,
                "colour": line.colour,
                **{
                    name: [_rounded(value) for value in getattr(line, name)]
                    for name in ("x", "middle", "low", "high")
                },
            }
            for line in lines
        ],
    }
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return Markup(f'<script type="application/json">{text}</script>')


def _rounded(value: float) -> float | None:
    """A number with as many digits as anyone reads; None, JSON's null, for a gap."""
    return float(f"{value:.6g}") if np.isfinite(value) else None


def _pixels(value: float) -> str:
    """A place in the picture."""
    return f"{value:.1f}"
