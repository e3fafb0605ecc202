"""A policy that counts its steps: it pulls the levers in turn, and learns nothing.
Others may follow it."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from jaxrl.config import budget, check, configuration
from jaxrl.envs.api import Environment
from jaxrl.types import Agent, Algorithm, Array, Budget, Key, Mean, Metrics, Mode, View


@configuration
class TurnsConfig:
    """Settings of turns."""

    total_steps: int = budget(2, unit="episodes")
    """Iterations in which nothing happens."""


class TurnsState(NamedTuple):
    """The lever that is pulled first, int32 [], and how often nothing happened."""

    first: Array
    iteration: Array


def turns(env: Environment, config: TurnsConfig) -> Algorithm:
    """A learner of nothing."""
    check(config)
    agent = turns_agent(env, config)

    def step(state: TurnsState) -> tuple[TurnsState, Metrics]:
        return TurnsState(state.first, state.iteration + 1), {
            "iterations": Mean.of(state.iteration)
        }

    return Algorithm(
        init=lambda key: TurnsState(agent.init(key), jnp.zeros((), jnp.int32)),
        step=step,
        policy=lambda state: state.first,
        agent=agent,
        budget=Budget("episodes", 1, config.total_steps),
    )


def turns_agent(env: Environment, config: TurnsConfig) -> Agent:
    """Acts by its memory alone, the number of steps in the episode."""

    def act(first: Array, count: Array, view: View, key: Key) -> tuple[Array, Array]:
        return (first + count) % 2, count + 1

    zero = jnp.zeros((), jnp.int32)
    return Agent(init=lambda key: zero, modes={"in_turn": Mode(act)}, memory=lambda policy: zero)
