"""Pictures of the classic control tasks, in the conventions of gymnax's states."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from jaxrl.analysis.canvas import Canvas

SKY = "#FBFCFD"
GROUND = "#AFB8C1"
GUIDE = "#E3E8ED"
BODY = "#24405C"
LIMB = "#E08A3C"
JOINT = "#F6F8FA"
GOAL = "#009E73"
HILL = "#DDE5EC"


def cartpole(x: float, theta: float) -> Image.Image:
    """A cart at x, between ±2.4, with a pole that leans theta (radians, clockwise from upright)."""
    canvas = Canvas(400, 200, SKY, origin=(200, 158), unit=74)
    for edge in (-2.4, 2.4):
        canvas.line([(edge, -0.1), (edge, 1.7)], GUIDE, 2)
    canvas.line([(-3, -0.14), (3, -0.14)], GROUND, 2)
    for wheel in (-0.17, 0.17):
        canvas.circle((x + wheel, -0.07), 0.07, BODY)
    canvas.box((x, 0.12), 0.64, 0.32, BODY, radius=0.06)
    pivot = (x, 0.24)
    canvas.line([pivot, (x + math.sin(theta), 0.24 + math.cos(theta))], LIMB, 9)
    canvas.circle(pivot, 0.035, JOINT)
    return canvas.image()


def pendulum(theta: float) -> Image.Image:
    """A rod at angle theta (radians, counter-clockwise from upright)."""
    canvas = Canvas(300, 300, SKY, origin=(150, 150), unit=104)
    canvas.circle((0, 0), 1.2, GUIDE)
    canvas.circle((0, 0), 1.185, SKY)
    canvas.line([(0, 1.13), (0, 1.26)], GOAL, 4)
    tip = (-math.sin(theta), math.cos(theta))
    canvas.line([(0, 0), tip], LIMB, 16)
    canvas.circle((0, 0), 0.11, BODY)
    canvas.circle((0, 0), 0.04, JOINT)
    return canvas.image()


def acrobot(joint_angle1: float, joint_angle2: float) -> Image.Image:
    """Two links hanging from (0, 0).

    The first is at joint_angle1 from straight down, the second at joint_angle2 from the first. The
    tip is to rise above the line at height 1.
    """
    canvas = Canvas(300, 300, SKY, origin=(150, 150), unit=66)
    for dash in np.arange(-2.2, 2.2, 0.2):
        canvas.line([(dash, 1), (dash + 0.1, 1)], GOAL, 2)
    elbow = (math.sin(joint_angle1), -math.cos(joint_angle1))
    both = joint_angle1 + joint_angle2
    tip = (elbow[0] + math.sin(both), elbow[1] - math.cos(both))
    canvas.line([(0, 0), elbow], BODY, 12)
    canvas.line([elbow, tip], LIMB, 12)
    for joint in ((0, 0), elbow):
        canvas.circle(joint, 0.045, JOINT)
    return canvas.image()


def mountain_car(position: float, goal: float) -> Image.Image:
    """A car at `position` in the valley of height sin(3·position), with a flag at `goal`."""
    canvas = Canvas(400, 260, SKY, origin=(400 * 1.25 / 1.9, 142), unit=400 / 1.9)
    xs = np.linspace(-1.3, 0.7, 161)
    surface = [(x, _height(x)) for x in xs]
    canvas.polygon([(-1.3, -2), *surface, (0.7, -2)], HILL)
    canvas.line(surface, GROUND, 2)
    foot = _height(goal)
    canvas.line([(goal, foot), (goal, foot + 0.2)], BODY, 2)
    canvas.polygon([(goal, foot + 0.2), (goal + 0.1, foot + 0.165), (goal, foot + 0.13)], GOAL)
    _draw_car(canvas, position)
    return canvas.image()


def _draw_car(canvas: Canvas, position: float) -> None:
    """A car that stands on the slope."""
    slope = math.atan(3 * 0.45 * math.cos(3 * position))
    cosine, sine = math.cos(slope), math.sin(slope)
    base = _height(position)

    def on_car(along: float, above: float) -> tuple[float, float]:
        return position + along * cosine - above * sine, base + along * sine + above * cosine

    body = [
        (-0.085, 0.03),
        (0.085, 0.03),
        (0.085, 0.065),
        (0.04, 0.07),
        (0.025, 0.105),
        (-0.04, 0.105),
    ]
    canvas.polygon([on_car(*corner) for corner in [*body, (-0.055, 0.07), (-0.085, 0.065)]], LIMB)
    for wheel in (-0.047, 0.047):
        canvas.circle(on_car(wheel, 0.03), 0.027, BODY)
        canvas.circle(on_car(wheel, 0.03), 0.01, JOINT)


def _height(position: float) -> float:
    """The valley's height; 0.45 is what gym's picture scales it by."""
    return 0.45 * math.sin(3 * position)


# The picture of a state, and the state's fields that it takes.
CONTROL: dict[str, tuple[Callable[..., Image.Image], tuple[str, ...]]] = {
    "CartPole-v1": (cartpole, ("x", "theta")),
    "Pendulum-v1": (pendulum, ("theta",)),
    "Acrobot-v1": (acrobot, ("joint_angle1", "joint_angle2")),
    "MountainCar-v0": (lambda position: mountain_car(position, 0.5), ("position",)),
    "MountainCarContinuous-v0": (lambda position: mountain_car(position, 0.45), ("position",)),
}
