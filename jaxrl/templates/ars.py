"""Augmented random search, version V1 of Mania et al. (2018), arXiv 1803.07055: no gradients.

An installed package gives it a name by an entry point, "package.module:ars", of jaxrl.algorithms.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.config import budget, check, configuration, number, size
from jaxrl.envs.api import Environment
from jaxrl.envs.play import play
from jaxrl.errors import JaxrlError
from jaxrl.types import Agent, Algorithm, Budget, Discrete, Mean, feed_forward


@configuration
class ARSConfig:
    """Settings of augmented random search."""

    total_steps: int = budget(1_000_000, unit="transitions")
    """Environment transitions to train for; every episode counts with its full time limit."""
    num_directions: int = size(32)
    """Perturbations of one iteration; each is tried with both signs."""
    noise: float = number(0.1, 0, open_low=True)
    """Size of a perturbation."""
    learning_rate: float = number(0.1, 0)
    """Size of an update."""


class ARSState(NamedTuple):
    """Everything that resuming needs."""

    weights: jax.Array
    key: jax.Array


def ars_agent(env: Environment, config: ARSConfig) -> Agent:
    """What acts: the policy is the weights, [actions, observation + 1], of a linear function."""
    if not isinstance(env.action_space, Discrete):
        raise JaxrlError(
            f"ars is for discrete actions, but this environment has {env.action_space}."
        )
    shape = (env.action_space.n, env.observation_space.shape[0] + 1)

    def logits(weights, observation):
        return weights @ jnp.append(observation, 1.0)

    def deterministic(weights, observation, key):
        return jnp.argmax(logits(weights, observation)).astype(jnp.int32)

    def stochastic(weights, observation, key):
        return jax.random.categorical(key, logits(weights, observation)).astype(jnp.int32)

    modes = {"deterministic": feed_forward(deterministic), "stochastic": feed_forward(stochastic)}
    return Agent(init=lambda key: jnp.zeros(shape), modes=modes)


def ars(env: Environment, config: ARSConfig) -> Algorithm:
    """Augmented random search for a linear policy over discrete actions."""
    check(config)
    agent = ars_agent(env, config)
    transitions = 2 * config.num_directions * env.horizon
    if config.total_steps < transitions:
        raise JaxrlError(
            f"total_steps is {config.total_steps}, but one iteration takes {transitions}."
        )

    def init(key):
        return ARSState(agent.init(key), key)

    def step(state):
        key_directions, key_play, key = jax.random.split(state.key, 3)
        directions = jax.random.normal(
            key_directions, (config.num_directions, *state.weights.shape)
        )
        signed = config.noise * jnp.concatenate([directions, -directions])
        keys = jax.random.split(key_play, len(signed))
        episodes = jax.vmap(
            lambda weights, key: play(env, agent, weights, key, 1, "deterministic")
        )(state.weights[None] + signed, keys)
        returns = episodes.returns[:, 0]
        slope = (returns[: len(directions)] - returns[len(directions) :]) / (returns.std() + 1e-8)
        update = jnp.tensordot(slope, directions, axes=1) / len(directions)
        metrics = {"episode_return": Mean.of(returns), "episode_length": Mean.of(episodes.lengths)}
        return ARSState(state.weights + config.learning_rate * update, key), metrics

    return Algorithm(
        init=init,
        step=step,
        policy=lambda state: state.weights,
        agent=agent,
        budget=Budget("transitions", transitions, config.total_steps // transitions),
    )
