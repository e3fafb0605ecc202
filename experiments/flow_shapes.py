"""One step from noise to shapes in the plane: an average velocity, a velocity, a diffusion.

    python experiments/flow_shapes.py          # three shapes, seven models: eight minutes of a core
    python experiments/flow_shapes.py --quick  # one shape, few updates: a minute

After appendix C of One-Step Flow Q-Learning: the same network (three layers of 128, Mish) and the
same training for all; what differs is what the network stands for. The mean flow evaluates it once.
A velocity is integrated by Euler's method, a diffusion of N steps taken back step by step; with one
step both give the mean of what they could be, so their samples lie near the middle of a shape,
which in the crescent has no data.

`distance` is the energy distance between 2,000 samples x and as many points y of the shape,
√(2 E|x − y| − E|x − x'| − E|y − y'|); `covered` the share of the shape's points with a sample
nearer than 0.1, `astray` that of samples without a point of the shape so near. Shapes lie in
[-1, 1]².
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from harness import Cell, Cells, Study, StudyArguments, picture, run_study, table
from matplotlib.axes import Axes

from jaxrl.analysis.style import INK, PALETTE
from jaxrl.core import adam, diffusion, mean_flow
from jaxrl.nn.flow_networks import FlowNetwork
from jaxrl.nn.q_networks import QNetworkConfig
from jaxrl.types import Array, Key, PyTree

UPDATES, QUICK_UPDATES, BATCH, LEARNING_RATE = 10_000, 200, 512, 2e-3
SAMPLES, SHOWN, NEAR = 2000, 400, 0.1
WIDTH = 64
LAYERS = QNetworkConfig(hidden_sizes=(128, 128, 128), activation="mish")
NETWORK = FlowNetwork(LAYERS, action_size=2, time_width=WIDTH)
CPU_HOURS = 0.0065


@dataclass(frozen=True)
class Arguments(StudyArguments):
    """One step from noise to shapes in the plane."""


# ---- Shapes: (key, n) -> points [n, 2]


def crescent(key: Key, number: int) -> Array:
    """Half a ring, thin at its ends."""
    key_angle, key_radius = jax.random.split(key)
    angle = jnp.pi * jax.random.uniform(key_angle, (number,))
    width = 0.3 * jnp.sin(angle)
    radius = 0.9 - width * jax.random.uniform(key_radius, (number,))
    return jnp.stack([radius * jnp.cos(angle), radius * jnp.sin(angle) - 0.45], axis=1)


def spiral(key: Key, number: int) -> Array:
    """One and a half turns, with a little noise."""
    key_along, key_noise = jax.random.split(key)
    along = jnp.sqrt(0.03 + 0.97 * jax.random.uniform(key_along, (number,)))
    angle = 3.0 * jnp.pi * along
    points = along[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=1)
    return 0.9 * points + 0.02 * jax.random.normal(key_noise, points.shape)


def checkerboard(key: Key, number: int) -> Array:
    """The eight black squares of a board of four by four."""
    key_square, key_place = jax.random.split(key)
    square = jax.random.randint(key_square, (number,), 0, 8)
    row = square // 2
    corner = jnp.stack([2 * (square % 2) + row % 2, row], axis=1)
    return 0.5 * (corner + jax.random.uniform(key_place, (number, 2))) - 1.0


SHAPES = {"crescent": crescent, "spiral": spiral, "checkerboard": checkerboard}


# ---- Models


class Model(NamedTuple):
    """What the network stands for."""

    times: int  # that the network is given
    loss: Callable[[PyTree, Array, Key], Array]  # (parameters, data [B, 2], key) -> []
    sample: Callable[[PyTree, Key], Array]  # (parameters, key) -> points [SAMPLES, 2]
    evaluations: int


def apply(params: PyTree, point: Array, *times: Array) -> Array:
    """The network, which is shown nothing beside a point and times."""
    nothing = jnp.zeros((len(point), 1))
    found: Array = NETWORK.apply(params, nothing, point, *times)
    return found


def mean_flow_model(distribution: mean_flow.TimeDistribution) -> Model:
    """OFQL's policy, at its flow ratio of a half."""

    def loss(params: PyTree, data: Array, key: Key) -> Array:
        key_noise, key_times = jax.random.split(key)
        noise = jax.random.normal(key_noise, data.shape)
        one, other = mean_flow.draw_times(key_times, (2, len(data)), distribution, -0.4, 1.0)
        start, time = mean_flow.time_pairs(one, other, 0.5)
        point, velocity = mean_flow.straight_path(data, noise, time)
        found, target = mean_flow.average_velocity_target(
            partial(apply, params), point, velocity, start, time
        )
        return jnp.mean(mean_flow.squared_error(found, target, "mean"))

    def sample(params: PyTree, key: Key) -> Array:
        noise = jax.random.normal(key, (SAMPLES, 2))
        return mean_flow.one_step(partial(apply, params), noise)

    return Model(2, loss, sample, 1)


def velocity_model(steps: int) -> Model:
    """Flow matching, as FQL has it: noise at time 0."""

    def loss(params: PyTree, data: Array, key: Key) -> Array:
        key_noise, key_time = jax.random.split(key)
        noise = jax.random.normal(key_noise, data.shape)
        time = mean_flow.draw_times(key_time, (len(data),), "uniform")
        point, velocity = mean_flow.straight_path(noise, data, time)
        return jnp.mean(mean_flow.squared_error(apply(params, point, time), velocity, "mean"))

    def sample(params: PyTree, key: Key) -> Array:
        noise = jax.random.normal(key, (SAMPLES, 2))
        return mean_flow.euler(partial(apply, params), noise, steps)

    return Model(1, loss, sample, steps)


def diffusion_model(steps: int) -> Model:
    """DQL's policy."""
    schedule = diffusion.make_schedule(diffusion.variance_preserving_betas(steps))

    def loss(params: PyTree, data: Array, key: Key) -> Array:
        key_noise, key_step = jax.random.split(key)
        noise = jax.random.normal(key_noise, data.shape)
        step = jax.random.randint(key_step, (len(data),), 0, steps)
        point = diffusion.noised(data, noise, step, schedule)
        found = apply(params, point, step.astype(point.dtype))
        return jnp.mean(mean_flow.squared_error(found, noise, "mean"))

    def sample(params: PyTree, key: Key) -> Array:
        noise = jax.random.normal(key, (steps, SAMPLES, 2))
        return diffusion.generate(partial(apply, params), noise, schedule)

    return Model(1, loss, sample, steps)


MODELS: dict[str, Callable[[], Model]] = {
    "mean flow, logit-normal times": partial(mean_flow_model, "logit_normal"),
    "mean flow, uniform times": partial(mean_flow_model, "uniform"),
    "velocity, 1 step": partial(velocity_model, 1),
    "velocity, 10 steps": partial(velocity_model, 10),
    "velocity, 100 steps": partial(velocity_model, 100),
    "diffusion, 1 step": partial(diffusion_model, 1),
    "diffusion, 10 steps": partial(diffusion_model, 10),
}


# ---- Measuring


def study(arguments: Arguments) -> Study:
    """What is to be trained and drawn."""
    name, shapes, updates = "flow_shapes", list(SHAPES), UPDATES
    if arguments.quick:
        name, shapes, updates = "flow_shapes_quick", ["crescent"], QUICK_UPDATES
    cells = {}
    for shape in shapes:
        for model in MODELS:
            asked = {"shape": shape, "model": model, "updates": updates, "batch": BATCH}
            hours = CPU_HOURS * updates / UPDATES
            cells[f"{shape}, {model}"] = Cell(asked, partial(measure, shape, model, updates), hours)
    return Study(name, cells, text, draw)


def measure(shape: str, name: str, updates: int) -> dict[str, Any]:
    """Train one model on one shape, and compare its samples with the shape."""
    model, points_of = MODELS[name](), SHAPES[shape]
    key_train, key_sample, key_points, key_others = jax.random.split(jax.random.key(0), 4)
    params = train(model, points_of, updates, key_train)
    samples = np.asarray(model.sample(params, key_sample), np.float64)
    points = np.asarray(points_of(key_points, SAMPLES), np.float64)
    others = np.asarray(points_of(key_others, SAMPLES), np.float64)
    return {
        "evaluations": model.evaluations,
        **compared(samples, points),
        "least_distance": compared(others, points)["distance"],
        "samples": np.round(samples[:SHOWN], 3).tolist(),
    }


def train(model: Model, points_of: Callable[[Key, int], Array], updates: int, key: Key) -> PyTree:
    """The network's parameters after so many steps of Adam, along a cosine."""
    key_params, key_steps = jax.random.split(key)
    times = [jnp.zeros(())] * model.times
    params = NETWORK.init(key_params, jnp.zeros((1, 1)), jnp.zeros((1, 2)), *times)
    share = optax.cosine_decay_schedule(1.0, updates)

    def step(carry: tuple[PyTree, PyTree], each: tuple[Key, Array]) -> tuple[Any, None]:
        params, state = carry
        key, index = each
        key_data, key_loss = jax.random.split(key)
        data = points_of(key_data, BATCH)
        gradient = jax.grad(model.loss)(params, data, key_loss)
        return adam.descend(params, gradient, state, LEARNING_RATE * share(index)), None

    keys = jax.random.split(key_steps, updates)

    @jax.jit
    def run(params: PyTree) -> PyTree:
        begun = (params, adam.init(params))
        (trained, _), _ = jax.lax.scan(step, begun, (keys, jnp.arange(updates)))
        return trained

    return run(params)


def compared(samples: np.ndarray, points: np.ndarray) -> dict[str, float]:
    """Energy distance, and the shares that are covered and astray, of [n, 2] and [n, 2]."""
    across = distances(samples, points)
    energy = 2 * across.mean() - distances(samples, samples).mean()
    energy -= distances(points, points).mean()
    return {
        "distance": float(np.sqrt(max(energy, 0.0))),
        "covered": float((across.min(axis=0) < NEAR).mean()),
        "astray": float((across.min(axis=1) >= NEAR).mean()),
    }


def distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """|x_i − y_j|, [n, m]."""
    return np.linalg.norm(one[:, None] - other[None], axis=2)


# ---- What is written


def text(cells: Cells) -> str:
    """A row for each model on each shape."""
    rows = [
        [
            cell["asked"]["shape"],
            cell["asked"]["model"],
            cell["evaluations"],
            f"{cell['distance']:.3f}",
            f"{100 * cell['covered']:.0f} %",
            f"{100 * cell['astray']:.0f} %",
        ]
        for cell in cells.values()
    ]
    least = max((cell["least_distance"] for cell in cells.values()), default=0.0)
    header = ["shape", "model", "evaluations", "distance", "covered", "astray"]
    caption = (
        "Samples of one small network, trained alike, against the shape that it was trained on; "
        f"two draws of one shape are up to {least:.3f} apart."
    )
    return table(header, rows, caption)


def draw(cells: Cells, path: Path) -> None:
    """A row of panels for each shape: the shape itself, then what each model draws."""
    panels = []
    for shape, points_of in SHAPES.items():
        drawn = [cell for cell in cells.values() if cell["asked"]["shape"] == shape]
        if drawn:
            points = np.asarray(points_of(jax.random.key(0), SHOWN))
            panels.append(partial(scatter, points, shape, INK))
            panels += [partial(draw_cell, cell) for cell in drawn]
    picture(path, panels, width=1.9, height=2.1, columns=1 + len(MODELS))


def draw_cell(cell: dict[str, Any], axes: Axes) -> None:
    """The samples of one cell."""
    model = cell["asked"]["model"]
    colour = PALETTE[list(MODELS).index(model)]
    scatter(np.array(cell["samples"]), model.replace("mean flow, ", "mean flow,\n"), colour, axes)
    axes.set_xlabel(f"covered {100 * cell['covered']:.0f} %, astray {100 * cell['astray']:.0f} %")


def scatter(points: np.ndarray, title: str, colour: str, axes: Axes) -> None:
    """Points [n, 2]."""
    axes.scatter(*points.T, s=2.0, color=colour, linewidths=0)
    axes.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), xticks=[], yticks=[], aspect="equal")
    axes.set_title(title, fontsize=7.5)


if __name__ == "__main__":
    run_study(study, Arguments)
