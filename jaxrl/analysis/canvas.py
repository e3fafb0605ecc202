"""A sheet to draw on in world coordinates, antialiased by drawing large and scaling down."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

OVERSAMPLE = 3  # pixels drawn per pixel shown, along each side

Point = tuple[float, float]


class Canvas:
    """An image of width × height pixels, drawn in world coordinates.

    A world unit is `unit` pixels, world (0, 0) is at pixel `origin`, and y points up. Points, radii
    and sides are in world units, widths of lines in pixels.
    """

    def __init__(
        self, width: int, height: int, background: str, origin: Point = (0, 0), unit: float = 1.0
    ):
        self._size = (width, height)
        self._origin = np.asarray(origin, np.float64) * OVERSAMPLE
        self._unit = unit * OVERSAMPLE
        self._image = Image.new("RGB", (width * OVERSAMPLE, height * OVERSAMPLE), background)
        self._pen = ImageDraw.Draw(self._image)

    def _at(self, point: Point) -> Point:
        """World to (large) pixels."""
        return (self._origin[0] + point[0] * self._unit, self._origin[1] - point[1] * self._unit)

    def circle(self, centre: Point, radius: float, colour: str) -> None:
        """A disc."""
        x, y = self._at(centre)
        r = radius * self._unit
        self._pen.ellipse((x - r, y - r, x + r, y + r), colour)

    def line(self, points: Sequence[Point], colour: str, width: float) -> None:
        """A line through points, with round ends and joints."""
        pixels = [self._at(point) for point in points]
        self._pen.line(pixels, colour, round(width * OVERSAMPLE), joint="curve")
        r = width * OVERSAMPLE / 2
        for x, y in (pixels[0], pixels[-1]):
            self._pen.ellipse((x - r, y - r, x + r, y + r), colour)

    def polygon(self, points: Sequence[Point], colour: str) -> None:
        """A filled polygon."""
        self._pen.polygon([self._at(point) for point in points], colour)

    def box(
        self, centre: Point, width: float, height: float, colour: str, radius: float = 0.0
    ) -> None:
        """A rectangle with rounded corners."""
        left, top = self._at((centre[0] - width / 2, centre[1] + height / 2))
        right, bottom = self._at((centre[0] + width / 2, centre[1] - height / 2))
        corners = (left, top, right - 1, bottom - 1)
        self._pen.rounded_rectangle(corners, radius * self._unit, colour)

    def image(self) -> Image.Image:
        """The picture at its shown size, RGB."""
        return self._image.reduce(OVERSAMPLE)
