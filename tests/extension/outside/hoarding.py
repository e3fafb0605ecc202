"""Algorithms that break the contract: their policies hold a log,
or are not what their agent acts with, or have none.

None of the latter is ever called.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp

from jaxrl.config import budget, configuration, part
from jaxrl.envs.api import Environment
from jaxrl.envs.starts.api import StartsConfig
from jaxrl.envs.starts.family import STARTS
from jaxrl.types import Agent, Algorithm, Budget, Log, Mean, feed_forward
from tests.extension.outside.cloning import CloningConfig, Recorded


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
        step=lambda state: (
            state | {"log": state["log"].append(jnp.zeros((1, 2)))},
            {"rows": Mean.of(1.0)},
        ),
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
    return hoarding(env, config)._replace(
        init=lambda key: begun, step=lambda state: (state, step), agent=agent
    )


def withholding_agent(env: Environment, config: HoardingConfig) -> Agent:
    """The same, with two weights."""
    return dataclasses.replace(
        hoarding_agent(env, config), init=lambda key: {"weight": jnp.zeros(2)}
    )


def deserting(env: Environment, config: CloningConfig, *, dataset: Recorded) -> Algorithm:
    """A learner from a file with no agent beside it:
    its policies could not be used without the file."""
    raise NotImplementedError


def clinging(env: Environment, config: CloningConfig, *, dataset: Recorded) -> Algorithm:
    """The same, whose agent wants the file too."""
    raise NotImplementedError


def clinging_agent(env: Environment, config: CloningConfig, dataset: Recorded) -> Agent:
    """What needs too much."""
    raise NotImplementedError


@configuration
class LeaningConfig:
    """A start distribution, which may read something."""

    starts: StartsConfig = part(STARTS, "fresh")
    """Where episodes begin."""


def leaning(env: Environment, config: LeaningConfig, **inputs: Any) -> Algorithm:
    """A learner with no agent beside it, which reads what its start distribution does."""
    raise NotImplementedError


def splitting(env: Environment, config: HoardingConfig) -> Algorithm:
    """A learner that does not say how its log lies on devices."""
    log = Log.empty(4, jnp.zeros(2))
    state = {"weight": jnp.zeros(()), "log": log}
    return withholding(env, config)._replace(init=lambda key: state, sharded={"weight": False})


def locking(env: Environment, config: HoardingConfig) -> Algorithm:
    """A learner whose log holds keys."""
    return withholding(env, config)._replace(init=lambda key: {"log": Log.empty(4, key)})


splitting_agent = locking_agent = withholding_agent
