"""Pictures of policies without a display: states drawn with pillow, films written as GIF.

For example, with arrays [T]:
`write_gif(caption(draw_frames("Pendulum-v1", {"theta": theta}), returns), path)`.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from jaxrl.analysis.control import CONTROL
from jaxrl.analysis.grids import draw_grid
from jaxrl.analysis.style import write_bytes

SMALLEST_GRID = 3  # cells along each side; smaller observations are vectors in disguise
FRAMES_PER_SECOND = 30  # by default
FASTEST = 50  # frames per second that viewers of GIFs honour
STRIP = 30  # pixels that a caption takes
STRIP_COLOURS = ("#F6F8FA", "#57606A", "#24292F")  # background, words, numbers


def can_draw(environment_id: str, observation_shape: Sequence[int]) -> bool:
    """Whether `draw_frames` knows the environment, or can show its observations as grids.

    Those are [H, W] or [H, W, C].
    """
    if environment_id in CONTROL:
        return True
    return len(observation_shape) in (2, 3) and min(observation_shape[:2]) >= SMALLEST_GRID


def draw_frames(environment_id: str, frames: Mapping[str, Any]) -> list[np.ndarray]:
    """One image per step of an episode.

    Args:
        environment_id: gymnax's name, for example "Acrobot-v1" or "Breakout-MinAtar".
        frames: arrays over time. For classic control the fields of gymnax's state that the picture
            needs, each [T]: x and theta (CartPole), theta (Pendulum), joint_angle1 and joint_angle2
            (Acrobot), position (MountainCar). For everything else "observation" [T, H, W] or
            [T, H, W, C], whose entries say how much (0 to 1) of a thing is in a cell, one thing per
            channel.

    Returns:
        T arrays uint8 [height, width, 3].
    """
    if environment_id in CONTROL:
        return _draw_control(environment_id, frames)
    shape = np.shape(frames.get("observation", ()))
    if not can_draw(environment_id, shape[1:]):
        got = f"the keys {sorted(frames)}"
        if "observation" in frames:
            got = f"one of shape {shape}"
        raise ValueError(
            f"cannot draw {environment_id!r}. What can be drawn: {', '.join(CONTROL)}, and any "
            "environment whose observations are grids, given as 'observation' [T, H, W] or "
            f"[T, H, W, C]; got {got}."
        )
    grids = np.asarray(frames["observation"])
    return [np.asarray(draw_grid(environment_id, grid)) for grid in grids]


def pace(seconds: float, most: float = FRAMES_PER_SECOND) -> tuple[int, float]:
    """(every, frames per second): a film of each `every`-th step lasts as long as the steps did.

    A step lasts `seconds`. There are about `most` frames per second at most; steps longer than a
    second are shown for one second each.
    """
    every = max(1, round(1 / (most * seconds)))
    return every, min(max(1.0, 1 / (every * seconds)), FASTEST)


def caption(
    images: Sequence[np.ndarray], returns: Any, title: str = "", every: int = 1
) -> list[np.ndarray]:
    """A strip beneath every image: title (where there is room), step from 0, return so far.

    Args:
        images: T arrays uint8 [height, width, 3].
        returns: [T], the sum of the rewards received before each image.
        title: words at the left.
        every: steps from one image to the next.

    Returns:
        T arrays uint8 [height + STRIP, width, 3].
    """
    if len(returns) != len(images):
        raise ValueError(f"{len(returns)} returns were given for {len(images)} images.")
    background, words, numbers = STRIP_COLOURS
    font = ImageFont.load_default(size=13)
    # Adding 0.0 turns -0.0 into 0.0.
    totals = [f"return {round(float(total), 1) + 0.0:.1f}" for total in returns]
    steps = [f"step {every * index}" for index in range(len(images))]
    captioned = []
    for image, step, total in zip(images, steps, totals, strict=True):
        width = image.shape[1]
        middle = width - 28 - max(map(font.getlength, totals))
        strip = Image.new("RGB", (width, STRIP), background)
        pen = ImageDraw.Draw(strip)
        if 24 + font.getlength(title) < middle - max(map(font.getlength, steps)):
            pen.text((12, STRIP / 2), title, words, font, anchor="lm")
        pen.text((middle, STRIP / 2), step, words, font, anchor="rm")
        pen.text((width - 12, STRIP / 2), total, numbers, font, anchor="rm")
        captioned.append(np.concatenate([image, np.asarray(strip)]))
    return captioned


def narrowed(images: Sequence[np.ndarray], width: int | None) -> list[np.ndarray]:
    """Images uint8 [height, width, 3] at `width` pixels across, in their proportions.

    None, or no less than they have, leaves them as they are.
    """
    if not len(images) or width is None or width >= images[0].shape[1]:
        return list(images)
    height = max(1, round(images[0].shape[0] * width / images[0].shape[1]))
    return [
        np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS))
        for image in images
    ]


def write_gif(
    images: Sequence[np.ndarray], path: str | Path, frames_per_second: float = FRAMES_PER_SECOND
) -> Path:
    """Write images uint8 [height, width, 3] as a looping GIF; the same images give the same bytes.

    GIF counts time in hundredths of a second: 30 frames per second become 33, and 50 are the most
    that viewers honour. All frames share one palette, so that still colours do not flicker.
    """
    if not images:
        raise ValueError("there are no images to write.")
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        raise ValueError(f"the images have different shapes: {sorted(shapes)}.")
    if not 1 <= frames_per_second <= FASTEST:
        raise ValueError(
            f"frames_per_second is {frames_per_second:g}, but must lie between 1 and {FASTEST}."
        )
    pictures = [Image.fromarray(image) for image in images]
    palette = _palette(pictures)
    frames = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    buffer = io.BytesIO()
    duration = 10 * round(100 / frames_per_second)
    frames[0].save(
        buffer, "GIF", save_all=True, append_images=frames[1:], duration=duration, loop=0
    )
    return write_bytes(path, buffer.getvalue())


def _palette(frames: Sequence[Image.Image]) -> Image.Image:
    """At most 256 colours for a film; every frame counts, or a rare thing would change colour.

    Where there are more, half are the most frequent ones, which wide surfaces keep, and half are
    spread over all the others, each counted once: the shades of a small body are as many as those
    of a floor.
    """
    counts: Counter[Any] = Counter()
    for frame in frames:
        for count, colour in frame.getcolors(frame.width * frame.height) or []:
            counts[colour] += count
    kept = sorted(counts, key=lambda colour: (-counts[colour], colour))
    colours = [part for colour in kept[:256] for part in colour]
    if len(kept) > 256:
        others = Image.fromarray(np.array([sorted(kept[128:])], np.uint8))
        reduced = others.quantize(128, Image.Quantize.MEDIANCUT)
        colours[3 * 128 :] = reduced.getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette(colours)
    return palette


def _draw_control(environment_id: str, frames: Mapping[str, Any]) -> list[np.ndarray]:
    """Classic control, from the named state fields [T] that its picture needs."""
    picture, fields = CONTROL[environment_id]
    missing = [field for field in fields if field not in frames]
    if missing:
        raise ValueError(
            f"drawing {environment_id} needs {' and '.join(missing)}; got {sorted(frames)}."
        )
    columns = [np.asarray(frames[field], np.float64) for field in fields]
    if any(column.shape != columns[0].shape or column.ndim != 1 for column in columns):
        shapes = ", ".join(f"{f} {column.shape}" for f, column in zip(fields, columns, strict=True))
        raise ValueError(
            f"drawing {environment_id} needs one number per step, [T] each; got {shapes}."
        )
    return [np.asarray(picture(*map(float, values))) for values in zip(*columns, strict=True)]
