"""A policy of an actor-critic: its parameters and its normaliser, and the agent that acts by them.

A network here is a flax module from observations [..., *shape] to (distribution, values [...]),
with a method `value` for the values alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.core import moments
from jaxrl.core.moments import Moments
from jaxrl.nn.actor_critic import scale_action
from jaxrl.types import Agent, Array, Key, ObservationSpace, PyTree, Space, View, feed_forward


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Policy:
    """What acting needs."""

    params: PyTree
    observation_moments: Moments | None


def apply(network: nn.Module, policy: Policy, observation: Array, method: str = "__call__") -> Any:
    """(distribution, values) at observations, or with method "value" the values alone.

    Observations are normalised if the policy keeps their moments.
    """
    observation = moments.normalize_if_kept(policy.observation_moments, observation)
    return network.apply(policy.params, observation, method=method)


P = TypeVar("P", bound=Any)


def observe(policy: P, observation: Array, axis_name: str | None = None) -> P:
    """The policy, its normaliser renewed by observations [..., *shape], on all devices together.

    It is a dataclass with `observation_moments`; where these are None, nothing is kept.

    After a rollout and the update from it, never between: both must see the same statistics.
    """
    if policy.observation_moments is None:
        return policy
    renewed = moments.update(policy.observation_moments, observation, axis_name)
    return replace(policy, observation_moments=renewed)


def actor_critic_agent(
    network: nn.Module,
    observation_space: ObservationSpace,
    action_space: Space,
    *,
    squash_actions: bool,
    normalize_observations: bool,
) -> Agent:
    """What acts by the mode of the network's distribution, or by a sample of it."""
    shape = observation_space.shape

    def init(key: Key) -> Policy:
        params = network.init(key, jnp.zeros((1, *shape)))
        return Policy(params, moments.init(shape) if normalize_observations else None)

    def deterministic(policy: Policy, observation: Array, key: Key) -> Array:
        del key
        distribution, _ = apply(network, policy, observation)
        return scale_action(distribution.mode(), action_space, squash_actions)

    def stochastic(policy: Policy, observation: Array, key: Key) -> Array:
        distribution, _ = apply(network, policy, observation)
        return scale_action(distribution.sample(key), action_space, squash_actions)

    def value(policy: Policy, memory: tuple, view: View, key: Key) -> Array:
        del memory, key
        return apply(network, policy, view.observation, method="value")

    modes = {"deterministic": feed_forward(deterministic), "stochastic": feed_forward(stochastic)}
    return Agent(init=init, modes=modes, value=value)
