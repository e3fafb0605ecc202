"""Reward scaling by the running deviation of the discounted return (Engstrom et al. 2020).

Rewards are divided by the deviation known *before* the rollout, which is renewed after it, like
every normaliser here.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jaxrl.core import moments
from jaxrl.core.moments import Moments
from jaxrl.types import Array, Scalar


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
    """The renewed scaler, and the rewards over the deviation known before them.

    The scaler is renewed by the rewards of all devices of `axis_name`. Without a scaler, None,
    rewards stay as they are.
    """
    if scaler is None:
        return None, reward
    running, returns = moments.discounted_returns(scaler.discounted_return, reward, ended, gamma)
    scaled = reward * jax.lax.rsqrt(scaler.moments.variance + 1e-8)
    return RewardScaler(running, moments.update(scaler.moments, returns, axis_name)), scaled
