"""Algorithms that break the contract: their policies hold a log, or are not what their agent acts with."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from jaxrl.config import budget, configuration
from jaxrl.envs.api import Environment
from jaxrl.types import Agent, Algorithm, Budget, Log, Mean, feed_forward


@configuration
class HoardingConfig:
    """Settings of both."""

    total_steps: int = budget(2, unit="episodes")
    """Iterations."""


def hoarding(env: Environment, config: HoardingConfig) -> Algorithm:
    """A learner that gives its log away with its policy."""
    agent = hoarding_agent(env, config)
    return Algorithm(
        init=agent.init,
        step=lambda state: (state | {"log": state["log"].append(jnp.zeros((1, 2)))}, {"rows": Mean.of(1.0)}),
        policy=lambda state: state,
        agent=agent,
        budget=Budget("episodes", 1, config.total_steps),
    )


def hoarding_agent(env: Environment, config: HoardingConfig) -> Agent:
    """Always pulls the first lever."""

    def init(key: Any) -> dict[str, Any]:
        return {"weight": jnp.zeros(()), "log": Log.empty(4, jnp.zeros(2))}

    mode = feed_forward(lambda policy, observation, key: jnp.zeros((), jnp.int32))
    return Agent(init=init, modes={"deterministic": mode})


def withholding(env: Environment, config: HoardingConfig) -> Algorithm:
    """A learner whose policies are of another shape than its agent's."""
    agent = withholding_agent(env, config)
    begun = {"weight": jnp.zeros(())}
    step = {"rows": Mean.of(1.0)}
    return hoarding(env, config)._replace(init=lambda key: begun, step=lambda state: (state, step), agent=agent)


def withholding_agent(env: Environment, config: HoardingConfig) -> Agent:
    """The same, with two weights."""
    return dataclasses.replace(hoarding_agent(env, config), init=lambda key: {"weight": jnp.zeros(2)})
