"""A policy that turns noise into an action, and the agent that acts with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.config import SEVERAL, configuration, number, size
from jaxrl.core import moments
from jaxrl.core.moments import Moments, normalize_if_kept
from jaxrl.nn.action_units import scale_action
from jaxrl.nn.q_networks import action_size, ensemble_values, init_ensemble
from jaxrl.types import Agent, Array, Key, ObservationSpace, PyTree, Space, View, feed_forward


@configuration
class CandidatesConfig:
    """The mode "best": several actions are drawn, and the target critics choose one."""

    candidates: int = size(50, basic=True)
    """Actions that the mode "best" draws for each observation."""
    candidate_temperature: float = number(0.0, 0, needs={"candidates": SEVERAL})
    """The chosen one is drawn from the softmax of Q over this; at 0 it has the largest Q."""
    candidate_noise: float = number(1.0, 0)
    """Scale of the noise that candidates begin as."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Policy:
    """What acting needs: the actor, and the target critics, which choose among candidates."""

    actor: PyTree
    critic: PyTree  # leaves [C, ...]
    observation_moments: Moments | None


class Generator(Protocol):
    """How noise becomes actions."""

    @property
    def num_noises(self) -> int:
        """S, how many standard normal vectors an action is made of."""
        ...

    def init(self, key: Key, observation: Array, action: Array) -> PyTree:
        """First parameters, for observations [1, *shape] and actions [1, d]."""
        ...

    def make(self, params: PyTree, observation: Array, noise: Array) -> Array:
        """Actions [B, d], in units where [-1, 1] spans the space, of noise [S, B, d]."""
        ...


def draw(generator: Generator, params: PyTree, observation: Array, width: int, key: Key) -> Array:
    """Actions of `width` numbers, [B, width], at observations [B, *shape]."""
    noise = jax.random.normal(key, (generator.num_noises, len(observation), width))
    return generator.make(params, observation, noise)


def sampling_agent(
    generator: Generator,
    critic: nn.Module,
    num_critics: int,
    config: CandidatesConfig,
    *,
    observation_space: ObservationSpace,
    action_space: Space,
    normalize_observations: bool,
) -> Agent:
    """What acts by drawing.

    stochastic:    one draw.
    deterministic: what zero noise becomes. For a flow this is one action among others, neither the
                   mean nor the likeliest one: between two modes it may lie where there is no data.
                   It is there for comparisons without noise.
    best:          the best of several draws by the least of the target critics.
    """
    shape, width = observation_space.shape, action_size(action_space)
    one = (generator.num_noises, 1, width)

    def init(key: Key) -> Policy:
        key_actor, key_critic = jax.random.split(key)
        observation, action = jnp.zeros((1, *shape)), jnp.zeros((1, width))
        return Policy(
            actor=generator.init(key_actor, observation, action),
            critic=init_ensemble(critic, num_critics, key_critic, observation, action),
            observation_moments=moments.init(shape) if normalize_observations else None,
        )

    def made(policy: Policy, observation: Array, noise: Array) -> tuple[Array, Array]:
        """The observation, normalised, n times, and actions [n, d] of noise [S, n, d]."""
        read = normalize_if_kept(policy.observation_moments, observation)
        rows = jnp.broadcast_to(read[None], (noise.shape[1], *shape))
        return rows, generator.make(policy.actor, rows, noise)

    def least_values(policy: Policy, rows: Array, actions: Array) -> Array:
        return jnp.min(ensemble_values(critic, policy.critic, rows, actions), axis=0)

    def stochastic(policy: Policy, observation: Array, key: Key) -> Array:
        _, actions = made(policy, observation, jax.random.normal(key, one))
        return scale_action(actions[0], action_space, squash=False)

    def deterministic(policy: Policy, observation: Array, key: Key) -> Array:
        del key
        _, actions = made(policy, observation, jnp.zeros(one))
        return scale_action(actions[0], action_space, squash=False)

    def best(policy: Policy, observation: Array, key: Key) -> Array:
        key_noise, key_choice = jax.random.split(key)
        noise = jax.random.normal(key_noise, (generator.num_noises, config.candidates, width))
        noise = noise.at[0].multiply(config.candidate_noise)
        rows, actions = made(policy, observation, noise)
        actions = jnp.clip(actions, -1.0, 1.0)
        values = least_values(policy, rows, actions)
        chosen = choose(values, config.candidate_temperature, key_choice)
        return scale_action(actions[chosen], action_space, squash=False)

    def value(policy: Policy, memory: tuple, view: View, key: Key) -> Array:
        """min_k Q_k(s, a) of the target critics, at one draw of a."""
        del memory
        rows, actions = made(policy, view.observation, jax.random.normal(key, one))
        return least_values(policy, rows, actions)[0]

    modes = {
        "stochastic": feed_forward(stochastic),
        "deterministic": feed_forward(deterministic),
        "best": feed_forward(best),
    }
    return Agent(init=init, modes=modes, value=value)


def choose(values: Array, temperature: float | Array, key: Key) -> Array:
    """The index of one of N candidates, by softmax(values / temperature), or the best at 0.

    Values [N] with Gumbel noise of that scale on them: where the largest is, is so distributed.
    """
    return jnp.argmax(values + temperature * jax.random.gumbel(key, values.shape))
