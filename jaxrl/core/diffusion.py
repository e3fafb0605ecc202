"""Denoising diffusion of few steps: noise is added to data step by step, and taken away again."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

# Points [*B, D] and the number n = 0 … N − 1 of a step, float32, [*B] or one for all of them, to
# the noise in the points, [*B, D].
NoiseModel = Callable[[Array, Array], Array]


class Schedule(NamedTuple):
    """How much noise there is after each of N steps, and how one of them is taken back.

    With ᾱ_n = Π_{m≤n} (1 − β_m), a point after step n is signal · x_0 + noise · ε. Given x_0 and
    that point, the one before has the mean from_clean · x_0 + from_noisy · x_n and the standard
    deviation `deviation`, which is 0 at n = 0. All float32 [N].
    """

    signal: Float[Array, "N"]  # √ᾱ_n
    noise: Float[Array, "N"]  # √(1 − ᾱ_n)
    from_clean: Float[Array, "N"]  # β_n √ᾱ_{n−1} / (1 − ᾱ_n)
    from_noisy: Float[Array, "N"]  # √(1 − β_n) (1 − ᾱ_{n−1}) / (1 − ᾱ_n)
    deviation: Float[Array, "N"]  # √(β_n (1 − ᾱ_{n−1}) / (1 − ᾱ_n))


def variance_preserving_betas(num_steps: int) -> np.ndarray:
    """β_n of N steps, float64 [N]: those of a continuous diffusion from 0.1 to 10, cut into N.

        β_n = 1 − exp(−0.1 / N − ½ (10 − 0.1) (2 n − 1) / N²),   n = 1 … N

    Source: Xiao et al., Tackling the Generative Learning Trilemma (2022), as used by Wang et al.,
    Diffusion Policies as an Expressive Policy Class (2023), appendix B.
    """
    number = np.arange(1, num_steps + 1, dtype=np.float64)
    rate = 0.1 / num_steps + 0.5 * 9.9 * (2.0 * number - 1.0) / num_steps**2
    return -np.expm1(-rate)


def make_schedule(beta: np.ndarray) -> Schedule:
    """The schedule of β_n, float64 [N], computed in float64.

    Source: Ho et al., Denoising Diffusion Probabilistic Models (2020), equations 4 and 7.
    """
    kept = np.cumprod(1.0 - beta)  # ᾱ_n
    before = np.concatenate([[1.0], kept[:-1]])  # ᾱ_{n−1}
    lost = 1.0 - kept
    columns = (
        np.sqrt(kept),
        np.sqrt(lost),
        beta * np.sqrt(before) / lost,
        np.sqrt(1.0 - beta) * (1.0 - before) / lost,
        np.sqrt(beta * (1.0 - before) / lost),
    )
    signal, noise, from_clean, from_noisy, deviation = (
        jnp.asarray(column, jnp.float32) for column in columns
    )
    return Schedule(signal, noise, from_clean, from_noisy, deviation)


def noised(
    clean: Float[Array, "*B D"],
    noise: Float[Array, "*B D"],
    step: Int[Array, "*B"],
    schedule: Schedule,
) -> Float[Array, "*B D"]:
    """Points after step n: √ᾱ_n x_0 + √(1 − ᾱ_n) ε.

    Source: Ho et al. (2020), equation 4.
    """
    return schedule.signal[step][..., None] * clean + schedule.noise[step][..., None] * noise


def generate(
    model: NoiseModel, noise: Float[Array, "N *B D"], schedule: Schedule
) -> Float[Array, "*B D"]:
    """Data from noise, in [-1, 1], by taking all steps back.

        x̂_0 = clip((x_n − √(1 − ᾱ_n) ε̂(x_n, n)) / √ᾱ_n, −1, 1)
        x_{n−1} = from_clean · x̂_0 + from_noisy · x_n + deviation · ε_n

    for n = N − 1 … 0. `noise` holds the point to begin with, and then what is added after each step
    but the last: standard normal, or zeros for a deterministic result. Gradients go through all
    steps.

    Source: Ho et al. (2020), algorithm 2; the clipping is that of Wang et al. (2023).
    """
    steps = jnp.arange(len(schedule.signal))
    added = jnp.concatenate([noise[1:], jnp.zeros_like(noise[:1])])

    def back(point: Array, each: tuple[Array, Array, Schedule]) -> tuple[Array, None]:
        step, extra, at = each
        guess = model(point, step.astype(point.dtype))
        clean = jnp.clip((point - at.noise * guess) / at.signal, -1.0, 1.0)
        mean = at.from_clean * clean + at.from_noisy * point
        return mean + at.deviation * extra, None

    from_last = jax.tree.map(lambda column: column[::-1], (steps, schedule))
    data, _ = jax.lax.scan(back, noise[0], (from_last[0], added, from_last[1]))
    return jnp.clip(data, -1.0, 1.0)
