"""The constraint that a baseline meets, and what data certify of one learnt from them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int32

from jaxrl.core.safety import confidence
from jaxrl.errors import JaxrlError
from jaxrl.types import Array, Number, Scalar

LARGEST_FACTOR = 2**20
STEPS_PER_OCTAVE = 4


class Certificate(NamedTuple):
    """A policy learnt offline, and what it is certified to earn."""

    policy: Float[Array, "H S A"]
    lower: Float[Array, ""]  # a bound on its expected return that holds with probability 1 − δ
    # Multiple of the data that would lift `lower` to the threshold; inf: none.
    factor: Float[Array, ""]


def certify(
    counts: Int32[Array, "H S A S"],
    rewards: Float[Array, "H S A"],
    initial: Float[Array, "S"],
    threshold: Scalar,
    failure: Scalar = 0.1,
    scale: Scalar = 1.0,
) -> Certificate:
    """A policy learnt pessimistically from counts, and how much data it would take.

    The factor is an estimate: it supposes that more data would look like these, k m_h(s, a, s') for
    m, and is found to a fourth of an octave. What the behaviour never visits stays unvisited, so no
    factor may be enough.
    """

    def learn(factor: Float[Array, ""]) -> tuple[Float[Array, "H S A"], Float[Array, ""]]:
        model = confidence.estimate(counts.astype(rewards.dtype) * factor, rewards, failure)
        return confidence.pessimistic(model, initial, scale)

    policy, lower = learn(jnp.ones((), rewards.dtype))
    octaves = LARGEST_FACTOR.bit_length() - 1
    steps = jnp.arange(octaves * STEPS_PER_OCTAVE + 1, dtype=rewards.dtype)
    factors = 2.0 ** (steps / STEPS_PER_OCTAVE)

    def is_enough(factor: Float[Array, ""]) -> Bool[Array, ""]:
        _, lower = learn(factor)
        return lower >= threshold

    enough = jax.lax.map(is_enough, factors)
    return Certificate(policy, lower, jnp.min(jnp.where(enough, factors, jnp.inf)))


def check_constraint(
    baseline_value: float, optimal_value: float, threshold: float, *, tolerance: float, learnt: bool
) -> None:
    """Refuse a constraint that the baseline does not meet; a `learnt` one is certified instead."""
    if threshold > optimal_value + tolerance:
        raise JaxrlError(
            f"the constraint is {threshold:.4g}, but no policy earns more than {optimal_value:.4g}."
        )
    if threshold > baseline_value + tolerance and not learnt:
        raise JaxrlError(
            f"the constraint is {threshold:.4g}, but the baseline, which has to meet it, "
            f"earns {baseline_value:.4g}. Lower constraint_level, or choose a better baseline."
        )


def check_certificate(lower: Number, factor: Number, threshold: Number, num_episodes: int) -> None:
    """Refuse a dataset that does not show that the baseline learnt from it meets the constraint."""
    if lower >= threshold:
        return
    advice = "no number of episodes like these would do: they never visit what it takes"
    if np.isfinite(factor):
        advice = f"about {factor * num_episodes:,.0f} episodes like these would do"
    raise JaxrlError(
        f"the dataset's {num_episodes:,} episodes show that the baseline learnt from them "
        f"earns {lower:.4g} or more, but the constraint is {threshold:.4g}; {advice}."
    )
