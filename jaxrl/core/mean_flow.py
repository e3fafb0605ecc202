"""Flows along straight lines, from one distribution to another in time 0 … 1.

A velocity field v(x, t) moves points along the flow. An average velocity u(x, r, t) belongs to a
whole stretch of it: x_t − (t − r) u(x_t, r, t) is where the point was at time r, so that one
evaluation takes the place of an integration. OFQL and MeanFlow have the data at time 0 and noise at
time 1; FQL has them the other way round.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import chex
import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from jaxrl.types import Key, Scalar

# Points [*B, D] and a time, [*B] or one for all of them, to velocities [*B, D].
VelocityField = Callable[[Array, Array], Array]
# Points at time t, an earlier time r, and t, to average velocities [*B, D] between the two.
AverageVelocity = Callable[[Array, Array, Array], Array]

TimeDistribution = Literal["logit_normal", "uniform"]
Reduction = Literal["mean", "sum"]


def straight_path(
    first: Float[Array, "*B D"], last: Float[Array, "*B D"], time: Float[Array, "*B"]
) -> tuple[Float[Array, "*B D"], Float[Array, "*B D"]]:
    """The point at `time` of the straight line between two points, and its velocity.

        x_t = (1 − t) x_0 + t x_1,   v_t = x_1 − x_0

    Averaged over all pairs that pass through a point, v_t is the velocity of the flow there.

    Source: Lipman et al., Flow Matching for Generative Modeling (2023); Liu et al., Flow Straight
    and Fast (2023), equation 1.
    """
    chex.assert_equal_shape([first, last])
    along = time[..., None]
    return (1.0 - along) * first + along * last, last - first


def draw_times(
    key: Key,
    shape: tuple[int, ...],
    distribution: TimeDistribution,
    mean: Scalar = 0.0,
    std: Scalar = 1.0,
) -> Float[Array, "..."]:
    """Times in [0, 1]: uniform, or the sigmoid of a normal variable with `mean` and `std`.

    Source: Esser et al., Scaling Rectified Flow Transformers (2024), section 3.1.
    """
    if distribution == "uniform":
        return jax.random.uniform(key, shape)
    return jax.nn.sigmoid(mean + std * jax.random.normal(key, shape))


def time_pairs(
    one: Float[Array, "B"], other: Float[Array, "B"], flow_ratio: Scalar
) -> tuple[Float[Array, "B"], Float[Array, "B"]]:
    """Ordered pairs r ≤ t; in a share `flow_ratio` of the rows, the first ones, r = t.

    In those the average velocity is the velocity itself, which all of MeanFlow rests on. How many
    they are is fixed, to the nearest whole row: the rows of a batch have to be in random order.

    Source: Geng et al., Mean Flows for One-step Generative Modeling (2025), section 4.3, and its
    code.
    """
    earlier, later = jnp.minimum(one, other), jnp.maximum(one, other)
    same = jnp.arange(len(one)) < jnp.round(flow_ratio * len(one))
    return jnp.where(same, later, earlier), later


def average_velocity_target(
    field: AverageVelocity,
    point: Float[Array, "*B D"],
    velocity: Float[Array, "*B D"],
    start: Float[Array, "*B"],
    time: Float[Array, "*B"],
) -> tuple[Float[Array, "*B D"], Float[Array, "*B D"]]:
    """u(x_t, r, t), and what it should be by the MeanFlow identity.

        target = sg(v_t − (t − r) du/dt),   du/dt = v_t · ∂u/∂x + ∂u/∂t

    It follows from differentiating (t − r) u = ∫_r^t v dτ by t. With the velocity of the flow for
    `velocity`, the true u is its own target; with that of single paths it is so in the mean. Where
    r = t, the target is v_t.

    One forward pass gives both: du/dt is the Jacobian-vector product along (v_t, 0, 1). No gradient
    goes through the target, so no second derivative is ever taken.

    Source: Geng et al., Mean Flows for One-step Generative Modeling (2025), equations 6, 8, 10;
    Nguyen & Yoo, One-Step Flow Q-Learning (2026), equations 13, 14.
    """
    tangents = (velocity, jnp.zeros_like(start), jnp.ones_like(time))
    average, change = jax.jvp(field, (point, start, time), tangents)
    target = velocity - (time - start)[..., None] * change
    return average, jax.lax.stop_gradient(target)


def one_step(field: AverageVelocity, noise: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """From noise at time 1 to the data at time 0 at once: x_0 = x_1 − u(x_1, 0, 1).

    The times are scalars, which a network embeds once for all rows.

    Source: Geng et al. (2025), equation 12.
    """
    return noise - field(noise, jnp.zeros((), noise.dtype), jnp.ones((), noise.dtype))


def euler(
    field: VelocityField, point: Float[Array, "*B D"], num_steps: int
) -> Float[Array, "*B D"]:
    """The flow from time 0 to 1 in equal steps: x ← x + v(x, k / K) / K, for k = 0 … K − 1."""

    def move(index: Array, point: Array) -> Array:
        time = index.astype(point.dtype) / num_steps
        return point + field(point, time) / num_steps

    moved: Array = jax.lax.fori_loop(0, num_steps, move, point)
    return moved


def squared_error(
    prediction: Float[Array, "*B D"], target: Float[Array, "*B D"], reduction: Reduction
) -> Float[Array, "*B"]:
    """The squared error of each row, its mean or its sum over the coordinates."""
    square = jnp.square(prediction - target)
    return jnp.mean(square, axis=-1) if reduction == "mean" else jnp.sum(square, axis=-1)


def adaptive_weight(error: Float[Array, "*B"], power: Scalar) -> Float[Array, "*B"]:
    """What each row's squared error counts in the loss: less, the larger it is.

        w = 1 / (e + 0.01)^p

    `power` is p: with 0 all rows count alike, with 1 those of large errors hardly move the gradient
    more than others. No gradient goes through the weight.

    Source: Geng et al. (2025), equation 22.
    """
    return jax.lax.stop_gradient(1.0 / jnp.power(error + 0.01, power))
