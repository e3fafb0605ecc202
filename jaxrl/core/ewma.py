"""What PPO-EWMA holds the policy to: an exponentially weighted mean of past parameters.

Source: Hilton, Cobbe & Schulman, Batch size-invariance for policy optimization (2021).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxrl.types import Array, PyTree, Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Ewma:
    """An exponentially weighted mean of parameters, and the sum of the weights."""

    mean: PyTree
    weight: Float[Array, ""]


def init(params: PyTree) -> Ewma:
    """The mean of the first parameters alone."""
    return Ewma(params, jnp.ones(()))


def update(ewma: Ewma, params: PyTree, center_of_mass: Scalar) -> Ewma:
    """The mean with `params` as its newest entry.

    `center_of_mass` is the mean's age in updates once it has forgotten its start.

        β = COM / (1 + COM),   W′ = β W + 1,   mean′ = (β W mean + θ) / W′

    COM = 0 keeps the newest alone. The weight W corrects the bias of a young mean: it is exact from
    the start.

    Source: section 3.2 and appendix C.
    """
    decay = center_of_mass / (1.0 + center_of_mass)
    weight = decay * ewma.weight + 1.0
    share = 1.0 / weight
    # mean + share (θ − mean) is the same, and does not move where θ equals the mean.
    mean = jax.tree.map(lambda old, new: old + share * (new - old), ewma.mean, params)
    return Ewma(mean, weight)


def anchor(
    ewma: Ewma | None,
    behavior: Float[Array, "*B"],
    log_probability: Callable[[PyTree], Array],
) -> Float[Array, "*B"]:
    """Log-probabilities under the policy that a clipped objective is held to.

    That is the mean of past ones, where one is kept, and else the one that acted, whose are given
    as `behavior`. `log_probability(params)` tells those of other parameters.
    """
    return behavior if ewma is None else log_probability(ewma.mean)
