"""Reward scaling by the running deviation of the discounted return (Engstrom et al. 2020).

Rewards are divided by the deviation known *before* the rollout, which is renewed after it, like
every normaliser here.

    scaled = clip(r / √(variance + 1e-8), ±10)

As Gymnasium's NormalizeReward divides, and Stable-Baselines3's VecNormalize and CleanRL clip. Those
renew the variance on every step, so that the first reward of a sparse task is in the deviation that
it is divided by. Here it is not: nothing is divided by the deviation of returns that have not
varied yet, which would be multiplied by 1e4. And the first rollout, which is not scaled, is not
clipped either.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jaxrl.core import moments
from jaxrl.core.moments import Moments
from jaxrl.types import Array, Scalar

# Added to the variance; returns that vary by less have not varied.
EPSILON = 1e-8
# The most that a scaled reward can be.
LARGEST = 10.0


class RewardScaler(NamedTuple):
    """Running discounted return of each environment, and the moments of all of them."""

    discounted_return: Float[Array, "N"]
    moments: Moments


SHARDED = RewardScaler(True, False)  # type: ignore[arg-type]  # what has a row per environment


def init(num_envs: int) -> RewardScaler:
    """Scale 1 until the first rollout has been seen."""
    return RewardScaler(jnp.zeros(num_envs), moments.init(()))


def scale(
    scaler: RewardScaler | None,
    reward: Float[Array, "T N"],
    ended: Bool[Array, "T N"],
    gamma: Scalar,
    axis_name: str | None = None,
) -> tuple[RewardScaler | None, Float[Array, "T N"]]:
    """The renewed scaler, and the rewards over the deviation known before them, clipped.

    The scaler is renewed by the rewards of all devices of `axis_name`. Without a scaler, None,
    rewards stay as they are.
    """
    if scaler is None:
        return None, reward
    running, returns = moments.discounted_returns(scaler.discounted_return, reward, ended, gamma)
    variance = scaler.moments.variance
    factor = jnp.where(variance > EPSILON, jax.lax.rsqrt(variance + EPSILON), 1.0)
    largest = jnp.where(scaler.moments.count > 0, LARGEST, jnp.inf)
    # Clipped first: the product then meets the sums that it goes into as it always has, and where
    # nothing is clipped their bits are those without a clip.
    scaled = jnp.clip(reward, -largest / factor, largest / factor) * factor
    return RewardScaler(running, moments.update(scaler.moments, returns, axis_name)), scaled
