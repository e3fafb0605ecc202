"""Pictures of grid observations: MinAtar, Catch, DeepSea and others. One colour a channel."""

from __future__ import annotations

import colorsys

import numpy as np
from PIL import Image, ImageColor

from jaxrl.analysis.canvas import Canvas

SIZE = 300  # pixels a side; the grid is centred
FLOOR = "#12161C"
CELL = "#1A2029"

PLAYER, FRIEND, ENEMY, SHOT, PRIZE, BRICK = (
    "#56B4E9",
    "#F0E442",
    "#D55E00",
    "#CC79A7",
    "#E69F00",
    "#009E73",
)
GAUGE, TAIL, TRAIL = "#3E8FD0", "#2F6F9F", "#59636E"

# MinAtar's channels: a colour each, and what lies on top of what (first beneath, the player last).
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

    The first channel, the player by custom, lies on top; in MinAtar's games the order is the
    game's.
    """
    grid = np.clip(np.asarray(grid, np.float64), 0, 1)
    grid = grid[..., None] if grid.ndim == 2 else grid
    rows, columns, channels = grid.shape
    colours, order = MINATAR.get(environment_id, ((), ()))
    if len(colours) != channels:
        colours, order = _colours(channels), tuple(reversed(range(channels)))
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
                    canvas.box(
                        centre, 1 - 3 * gap, 1 - 3 * gap, _blend(colours[channel], amount), 0.18
                    )
    return canvas.image()


def _colours(channels: int) -> tuple[str, ...]:
    """As many colours as channels: the palette's, then hues in between."""
    extra = max(0, channels - len(OTHERS))
    hues = [colorsys.hls_to_rgb((0.08 + 0.618 * i) % 1, 0.65, 0.6) for i in range(extra)]
    more = tuple("#" + "".join(f"{round(255 * part):02X}" for part in hue) for hue in hues)
    return (OTHERS + more)[:channels]


def _blend(colour: str, amount: float) -> str:
    """A colour at `amount` (0 to 1) over an empty cell."""
    front, back = (np.array(ImageColor.getrgb(name)) for name in (colour, CELL))
    return "#" + "".join(
        f"{value:02X}" for value in np.rint(back + amount * (front - back)).astype(int)
    )
