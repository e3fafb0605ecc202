"""Behavior cloning (BC): acting as was recorded. With `best_fraction` 0.1, 10 %-BC.

    continuous:  L(μ) = mean (μ(s) − a)², over coordinates too, or with `gaussian`
                 L(π) = −mean log π(a|s)
    discrete:    L(π) = −mean log π(a|s), which is the cross-entropy

Continuous actions are in units where [-1, 1] spans the action space.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.config import check, configuration, nested, number, option, size
from jaxrl.core import adam, moments
from jaxrl.core.moments import Moments, normalize_if_kept
from jaxrl.data.dataset import Dataset
from jaxrl.data.offline import DatasetConfig, Learns, Offline
from jaxrl.data.transitions import Batch
from jaxrl.envs.api import Environment
from jaxrl.errors import JaxrlError
from jaxrl.nn.action_units import scale_action
from jaxrl.nn.offline_networks import CategoricalActor, GaussianActor
from jaxrl.nn.q_networks import (
    DeterministicActor,
    QLayersConfig,
    action_size,
    check_single_box,
    check_spaces,
)
from jaxrl.types import Agent, Algorithm, Array, Box, Discrete, Key, PyTree, feed_forward


@configuration
class BCConfig(DatasetConfig):
    """Settings of BC. Real numbers are traced: a sweep over them compiles once."""

    GONE: ClassVar[tuple[str, ...]] = ("layer_norm", "num_critics")
    """Options of critics, which there are none of: run folders of 0.2.0 still hold them."""

    batch_size: int = size(256, basic=True)
    """Steps per gradient step."""
    best_fraction: float = option(1.0, 0, 1, open_low=True, basic=True)
    """Share of the episodes to clone, those of the highest returns."""
    gaussian: bool = option(False)
    """Learn a Gaussian of continuous actions by its likelihood, instead of their mean."""
    learning_rate: float = number(3e-4, 0, basic=True)
    """Adam's step size."""
    normalize_observations: bool = option(True, basic=True)
    """Standardise observations by the dataset's statistics, which are saved with the policy."""
    network: QLayersConfig = nested(QLayersConfig())
    """Layers of the actor."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Policy:
    """What acting needs."""

    actor: PyTree
    observation_moments: Moments | None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Learner:
    """What gradient steps change."""

    policy: Policy
    optimizer: PyTree


def bc(env: Environment, config: BCConfig, *, dataset: Dataset) -> Algorithm:
    """BC for `env`, whose actions are continuous and bounded, or discrete."""
    check(config)
    agent = bc_agent(env, config)
    rules = BC(config, make_actor(env, config))

    def draw(learner: Learner, key: Key) -> Batch:
        # Of what is drawn, rewards and successors are not read.
        batch = dataset.sample(key, config.batch_size, 0.0, env.action_space, config.best_fraction)
        kept = learner.policy.observation_moments
        return replace(batch, observation=normalize_if_kept(kept, batch.observation))

    learns = Learns(rules.begin, rules.update, draw)
    return Offline(config, env, dataset, agent, learns).algorithm()


def make_actor(env: Environment, config: BCConfig) -> nn.Module:
    """The actor for these actions: choices, a Gaussian or a mean; refuses what it cannot act in."""
    check_single_box("bc", env.observation_space)
    space, event_ndim = env.action_space, len(env.observation_space.shape)
    if isinstance(space, Discrete):
        if config.gaussian:
            raise JaxrlError(
                f"gaussian is for continuous actions, but this environment has {space}."
            )
        return CategoricalActor(config.network, event_ndim, space.n)
    if not isinstance(space, Box):
        raise JaxrlError(f"bc clones continuous or discrete actions, but these are {space}.")
    check_spaces("bc", env.observation_space, space)
    kind = GaussianActor if config.gaussian else DeterministicActor
    return kind(config.network, event_ndim, action_size(space))


def bc_agent(env: Environment, config: BCConfig) -> Agent:
    """What acts as was recorded: by the mean or mode, or, of a distribution, by a sample too."""
    actor, shape = make_actor(env, config), env.observation_space.shape

    def init(key: Key) -> Policy:
        return Policy(
            actor=actor.init(key, jnp.zeros((1, *shape))),
            observation_moments=moments.init(shape) if config.normalize_observations else None,
        )

    def deterministic(policy: Policy, observation: Array, key: Key) -> Array:
        del key
        found = actor.apply(
            policy.actor, normalize_if_kept(policy.observation_moments, observation)
        )
        action = found if isinstance(actor, DeterministicActor) else found.mode()
        return scale_action(action, env.action_space, squash=False)

    def stochastic(policy: Policy, observation: Array, key: Key) -> Array:
        found = actor.apply(
            policy.actor, normalize_if_kept(policy.observation_moments, observation)
        )
        return scale_action(found.sample(key), env.action_space, squash=False)

    modes = {"deterministic": feed_forward(deterministic)}
    if not isinstance(actor, DeterministicActor):
        modes["stochastic"] = feed_forward(stochastic)
    return Agent(init=init, modes=modes)


@dataclass(frozen=True)
class BC:
    """What is done with a learner, over the configuration and the actor."""

    config: BCConfig
    actor: nn.Module

    def begin(self, policy: Policy) -> Learner:
        """A learner before its first gradient step."""
        return Learner(policy, adam.init(policy.actor))

    def update(self, learner: Learner, batch: Batch, key: Key) -> tuple[Learner, dict[str, Array]]:
        """One gradient step towards the recorded actions."""
        del key
        policy = learner.policy

        def loss_of(params: PyTree) -> Array:
            found = self.actor.apply(params, batch.observation)
            if isinstance(self.actor, DeterministicActor):
                return jnp.mean(jnp.square(found - batch.action))
            return -jnp.mean(found.log_prob(batch.action))

        loss, gradient = jax.value_and_grad(loss_of)(policy.actor)
        params, optimizer = adam.descend(
            policy.actor, gradient, learner.optimizer, self.config.learning_rate
        )
        learner = Learner(replace(policy, actor=params), optimizer)
        return learner, {"behavior_loss": loss}
