"""Pictures of grid observations: MinAtar, Catch, DeepSea and others. One colour per channel."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageColor

from jaxrl.analysis.canvas import Canvas

SIZE = 300  # pixels of each side; the grid is centred
FLOOR = "#12161C"
CELL = "#1A2029"

PLAYER = "#56B4E9"
FRIEND = "#F0E442"
ENEMY = "#D55E00"
SHOT = "#CC79A7"
PRIZE = "#E69F00"
BRICK = "#009E73"
GAUGE = "#3E8FD0"
TAIL = "#2F6F9F"
TRAIL = "#59636E"

# MinAtar's channels: their colours, and the order in which they are drawn, the player last.
MINATAR: dict[str, tuple[tuple[str, ...], tuple[int, ...]]] = {
    "Asterix-MinAtar": ((PLAYER, ENEMY, TRAIL, PRIZE), (2, 3, 1, 0)),
    "Breakout-MinAtar": ((PLAYER, FRIEND, TRAIL, BRICK), (3, 2, 1, 0)),
    "Freeway-MinAtar": (
        (PLAYER, ENEMY, "#3A424C", "#4A535E", "#59636E", "#6B7682", "#7F8A96"),
        (2, 3, 4, 5, 6, 1, 0),
    ),
    "Seaquest-MinAtar": (
        (PLAYER, TAIL, FRIEND, TRAIL, SHOT, BRICK, ENEMY, GAUGE, PRIZE, "#F6F8FA"),
        (7, 8, 3, 9, 5, 6, 4, 2, 1, 0),
    ),
    "SpaceInvaders-MinAtar": ((PLAYER, BRICK, BRICK, BRICK, FRIEND, ENEMY), (2, 3, 1, 5, 4, 0)),
}
OTHERS = (PLAYER, ENEMY, PRIZE, BRICK, SHOT, FRIEND, "#8C8CF0", "#B8C4CE")


def draw_grid(environment_id: str, grid: np.ndarray) -> Image.Image:
    """One observation [H, W] or [H, W, C], entries from 0 (nothing there) to 1.

    The first channel, the player by custom, lies on top; MinAtar's games have their own orders.
    """
    grid = np.clip(np.asarray(grid, np.float64), 0, 1)
    if grid.ndim == 2:
        grid = grid[..., None]
    rows, columns, channels = grid.shape
    colours, order = MINATAR.get(environment_id, ((), ()))
    if len(colours) != channels:
        colours = _colours(channels)
        order = tuple(reversed(range(channels)))
    side = max(1, SIZE // max(rows, columns))
    gap = 1 / side if side >= 6 else 0.0
    size = max(SIZE, side * max(rows, columns))
    origin = ((size - columns * side) / 2, (size + rows * side) / 2)
    canvas = Canvas(size, size, FLOOR, origin, unit=side)
    for row in range(rows):
        for column in range(columns):
            centre = (column + 0.5, rows - row - 0.5)
            canvas.box(centre, 1 - gap, 1 - gap, CELL, radius=0.1)
            for channel in order:
                amount = grid[row, column, channel]
                if amount > 0:
                    colour = _blend(colours[channel], amount)
                    canvas.box(centre, 1 - 3 * gap, 1 - 3 * gap, colour, radius=0.18)
    return canvas.image()


def _colours(channels: int) -> tuple[str, ...]:
    """As many colours as channels: the palette's, then hues in between."""
    extra = max(0, channels - len(OTHERS))
    hues = [colorsys.hls_to_rgb((0.08 + 0.618 * i) % 1, 0.65, 0.6) for i in range(extra)]
    more = [_hexadecimal([round(255 * part) for part in hue]) for hue in hues]
    return (*OTHERS, *more)[:channels]


def _blend(colour: str, amount: float) -> str:
    """A colour at `amount` (0 to 1) over an empty cell."""
    front = np.array(ImageColor.getrgb(colour))
    back = np.array(ImageColor.getrgb(CELL))
    return _hexadecimal(np.rint(back + amount * (front - back)).astype(int))


def _hexadecimal(colour: Iterable[int]) -> str:
    """Red, green and blue, 0 to 255, as #RRGGBB."""
    return "#" + "".join(f"{part:02X}" for part in colour)
