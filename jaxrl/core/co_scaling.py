"""Co-scaling: settings tuned for some number of environments, made fit for more of them."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeVar

from jaxrl.errors import JaxrlError, check_choice, check_positive_int

Config = TypeVar("Config")

# What co_scale reads or changes.
SCALED = ("num_envs", "num_steps", "minibatch_size", "learning_rate")
RULES = {
    "R1": "minibatch_size and learning_rate stay; "
    "an iteration takes c times as many gradient steps",
    "R2": "minibatch_size times c, learning_rate stays",
    "R3": "minibatch_size times c, learning_rate times the square root of c",
    "R4": "minibatch_size times c, learning_rate times c",
    "R5": "num_steps divided by c; minibatch_size, learning_rate and the batch stay",
}


def co_scale(config: Config, scale_from: int, rule: str) -> Config:
    """Settings tuned at `scale_from` environments, made fit for the `num_envs` of `config`.

    With c = num_envs / scale_from, m the minibatch, α the learning rate, T the rollout's steps, E
    the epochs:

        rule   m     α      T     gradient steps per iteration
        R1     m     α      T     c · E N₀ T / m
        R2     c m   α      T     E N₀ T / m
        R3     c m   √c α   T     E N₀ T / m
        R4     c m   c α    T     E N₀ T / m
        R5     m     α      T/c   E N₀ T / m

    Args:
        config: a PPOConfig, or any other dataclass with the four fields that change.
        scale_from: N₀, the number of environments that the other settings were chosen for; it
            divides num_envs.
        rule: one of RULES.

    Source: Beukman et al., Preventing Learning Stagnation in PPO by Scaling to 1 Million Parallel
    Environments (2026), arXiv 2603.06009, whose recipe is R1 and who reject R3; R2 is what happens
    where the *number* of minibatches is configured, R4 the linear rule of supervised learning, R5
    the habit of massively parallel simulation.
    """
    check_choice("scale_rule", rule, RULES)
    check_positive_int("scale_from", scale_from)
    old: Any = config
    factor, rest = divmod(old.num_envs, scale_from)
    if rest:
        raise JaxrlError(
            f"scale_from is {scale_from}, but must divide num_envs, {old.num_envs}: "
            "scaling is by a whole number."
        )
    if rule == "R1":
        return config
    if rule == "R5":
        return _replace(config, num_steps=_shorter(old.num_steps, factor))
    gain = {"R2": 1.0, "R3": math.sqrt(factor), "R4": float(factor)}[rule]
    return _replace(
        config, minibatch_size=factor * old.minibatch_size, learning_rate=gain * old.learning_rate
    )


def _shorter(num_steps: int, factor: int) -> int:
    if num_steps % factor:
        raise JaxrlError(
            f"num_steps is {num_steps}, but scale_rule R5 divides it by "
            f"num_envs / scale_from = {factor}."
        )
    return num_steps // factor


def _replace(config: Config, **changes: Any) -> Config:
    return dataclasses.replace(config, **changes)  # type: ignore[type-var]
