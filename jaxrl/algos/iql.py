"""Implicit Q-learning (IQL; Kostrikov et al. 2021, arXiv 2110.06169).

One gradient step, in which no action is asked for that was not recorded:

    q      = min_k Q'_k(s, a)                                       of the target critics
    L(V)   = mean |τ − 1(q < V(s))| (q − V(s))²                     the value of good actions
    L(π)   = −mean min(exp(β (q − V(s))), 100) log π(a|s)           cloning of good actions
    L(Q_k) = mean (r + γ V(s') − Q_k(s, a))²

in this order, each with what was learned before it; then the target critics follow. Actions are in
units where [-1, 1] spans the action space.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrl.config import ON, check, configuration, nested, number, option
from jaxrl.core import adam, moments
from jaxrl.core.distributions import Normal
from jaxrl.core.moments import Moments, normalize_if_kept
from jaxrl.core.offline_losses import advantage_weight, expectile_loss
from jaxrl.core.targets import polyak
from jaxrl.data.dataset import Dataset
from jaxrl.data.offline import Learns, Offline, OfflineConfig
from jaxrl.data.transitions import Batch
from jaxrl.envs.api import Environment
from jaxrl.nn.action_units import scale_action
from jaxrl.nn.offline_networks import GaussianActor, StateValue
from jaxrl.nn.q_networks import (
    Critic,
    QNetworkConfig,
    action_size,
    check_spaces,
    ensemble_loss,
    ensemble_values,
    init_ensemble,
)
from jaxrl.types import Agent, Algorithm, Array, Key, PyTree, View, feed_forward

# Recorded actions are held within ±this, as in the authors' code.
LARGEST_ACTION = 1.0 - 1e-5


@configuration
class IQLConfig(OfflineConfig):
    """Settings of IQL. Real numbers are traced: a sweep over them compiles once."""

    expectile: float = number(0.7, 0, 1, basic=True)
    """Which expectile of Q over recorded actions V is, τ: 0.5 their mean, near 1 their maximum."""
    inverse_temperature: float = number(3.0, 0, basic=True)
    """How much more better actions count in the actor's loss, β; 0: all alike."""
    maximum_weight: float = number(
        100.0, 0, open_low=True, infinite=True, needs={"inverse_temperature": ON}
    )
    """Most that an action counts."""
    learning_rate: float = number(3e-4, 0, basic=True)
    """Adam's step size, of the actor, at first."""
    anneal_learning_rate: bool = option(True)
    """Let this step size fall to 0 along half a cosine over total_updates."""
    critic_learning_rate: float = number(3e-4, 0, basic=True)
    """Adam's step size, of Q and V."""
    tau: float = number(0.005, 0, 1)
    """Share of the way that the target critics go to the trained ones."""
    network: QNetworkConfig = nested(QNetworkConfig(initialization="orthogonal"))
    """Layers of the actor, of the critics and of the value."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Policy:
    """What acting needs, and what it was learned with."""

    actor: PyTree
    critic: PyTree
    value: PyTree
    observation_moments: Moments | None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Learner:
    """What gradient steps change."""

    policy: Policy
    target_critic: PyTree  # follows the critics slowly
    actor_optimizer: PyTree
    critic_optimizer: PyTree
    value_optimizer: PyTree
    gradient_steps: Array  # int32


class Networks(NamedTuple):
    """The modules that parameters belong to; they read normalised observations."""

    actor: nn.Module  # observations [..., *shape] to a distribution on R^d
    critic: nn.Module  # observations [..., *shape] and actions [..., d] to Q(s, a) [...]
    value: nn.Module  # observations [..., *shape] to V(s) [...]


def iql(env: Environment, config: IQLConfig, *, dataset: Dataset) -> Algorithm:
    """IQL for `env`, whose actions are continuous and bounded."""
    check(config)
    agent = iql_agent(env, config)
    rules = IQL(config, make_networks(env, config))
    learns = Learns(rules.begin, rules.update)
    return Offline(config, env, dataset, agent, learns).algorithm()


def make_networks(env: Environment, config: IQLConfig) -> Networks:
    """The actor, the critic and the value that the configuration describes."""
    event_ndim = len(env.observation_space.shape)
    return Networks(
        actor=GaussianActor(config.network, event_ndim, action_size(env.action_space)),
        critic=Critic(config.network, event_ndim),
        value=StateValue(config.network, event_ndim),
    )


def iql_agent(env: Environment, config: IQLConfig) -> Agent:
    """What acts with a policy of IQL: by the mean of its distribution, or by a sample of it."""
    check_spaces("iql", env.observation_space, env.action_space)
    networks, shape = make_networks(env, config), env.observation_space.shape

    def init(key: Key) -> Policy:
        key_actor, key_critic, key_value = jax.random.split(key, 3)
        observation = jnp.zeros((1, *shape))
        action = jnp.zeros((1, action_size(env.action_space)))
        return Policy(
            actor=networks.actor.init(key_actor, observation),
            critic=init_ensemble(
                networks.critic, config.network.num_critics, key_critic, observation, action
            ),
            value=networks.value.init(key_value, observation),
            observation_moments=moments.init(shape) if config.normalize_observations else None,
        )

    def distribution(policy: Policy, observation: Array) -> Normal:
        observation = normalize_if_kept(policy.observation_moments, observation)
        found: Normal = networks.actor.apply(policy.actor, observation)
        return found

    def deterministic(policy: Policy, observation: Array, key: Key) -> Array:
        del key
        action = distribution(policy, observation).mode()
        return scale_action(action, env.action_space, squash=False)

    def stochastic(policy: Policy, observation: Array, key: Key) -> Array:
        action = distribution(policy, observation).sample(key)
        return scale_action(action, env.action_space, squash=False)

    def value(policy: Policy, memory: tuple, view: View, key: Key) -> Array:
        del memory, key
        observation = normalize_if_kept(policy.observation_moments, view.observation)
        found: Array = networks.value.apply(policy.value, observation)
        return found

    modes = {"deterministic": feed_forward(deterministic), "stochastic": feed_forward(stochastic)}
    return Agent(init=init, modes=modes, value=value)


@dataclass(frozen=True)
class IQL:
    """What is done with a learner, over the configuration and the networks."""

    config: IQLConfig
    networks: Networks

    def begin(self, policy: Policy) -> Learner:
        """A learner before its first gradient step."""
        return Learner(
            policy=policy,
            target_critic=policy.critic,
            actor_optimizer=adam.init(policy.actor),
            critic_optimizer=adam.init(policy.critic),
            value_optimizer=adam.init(policy.value),
            gradient_steps=jnp.zeros((), jnp.int32),
        )

    def update(self, learner: Learner, batch: Batch, key: Key) -> tuple[Learner, dict[str, Array]]:
        """One gradient step of V, of the actor and of every critic; then the target critics."""
        del key
        action = jnp.clip(batch.action, -LARGEST_ACTION, LARGEST_ACTION)
        batch = replace(batch, action=action)
        q = ensemble_values(
            self.networks.critic, learner.target_critic, batch.observation, batch.action
        )
        q = jnp.min(q, axis=0)
        learner, of_value = self._update_value(learner, batch, q)
        learner, of_actor = self._update_actor(learner, batch, q)
        learner, of_critic = self._update_critic(learner, batch)
        target = polyak(learner.target_critic, learner.policy.critic, self.config.tau)
        learner = replace(learner, target_critic=target, gradient_steps=learner.gradient_steps + 1)
        return learner, of_critic | of_value | of_actor

    def _update_value(
        self, learner: Learner, batch: Batch, q: Array
    ) -> tuple[Learner, dict[str, Array]]:
        """V towards the expectile of the values of recorded actions, q [B]."""
        policy = learner.policy

        def loss_of(params: PyTree) -> tuple[Array, Array]:
            value = self.networks.value.apply(params, batch.observation)
            return jnp.mean(expectile_loss(q - value, self.config.expectile)), jnp.mean(value)

        (loss, value), gradient = jax.value_and_grad(loss_of, has_aux=True)(policy.value)
        params, optimizer = adam.descend(
            policy.value, gradient, learner.value_optimizer, self.config.critic_learning_rate
        )
        learner = replace(learner, policy=replace(policy, value=params), value_optimizer=optimizer)
        return learner, {"value_loss": loss, "value": value}

    def _update_actor(
        self, learner: Learner, batch: Batch, q: Array
    ) -> tuple[Learner, dict[str, Array]]:
        """The actor towards recorded actions, by how much better than expected they are."""
        config, policy = self.config, learner.policy
        value = self.networks.value.apply(policy.value, batch.observation)
        weight = advantage_weight(q - value, config.inverse_temperature, config.maximum_weight)

        def loss_of(params: PyTree) -> tuple[Array, Array]:
            distribution = self.networks.actor.apply(params, batch.observation)
            log_probability = distribution.log_prob(batch.action)
            return -jnp.mean(weight * log_probability), -jnp.mean(log_probability)

        gradient, cloning = jax.grad(loss_of, has_aux=True)(policy.actor)
        params, optimizer = adam.descend(
            policy.actor, gradient, learner.actor_optimizer, self.learning_rate(learner)
        )
        learner = replace(learner, policy=replace(policy, actor=params), actor_optimizer=optimizer)
        return learner, {
            "behavior_loss": cloning,
            "weight": jnp.mean(weight),
            "weight_at_maximum": jnp.mean((weight >= config.maximum_weight).astype(jnp.float32)),
        }

    def _update_critic(self, learner: Learner, batch: Batch) -> tuple[Learner, dict[str, Array]]:
        """Every critic towards r + γ V(s')."""
        policy, critic = learner.policy, self.networks.critic
        next_value = self.networks.value.apply(policy.value, batch.next_observation)
        goal = batch.reward + batch.discount * next_value

        def loss_of(params: PyTree) -> tuple[Array, Array]:
            return ensemble_loss(critic, params, batch.observation, batch.action, goal)

        (loss, q), gradient = jax.value_and_grad(loss_of, has_aux=True)(policy.critic)
        params, optimizer = adam.descend(
            policy.critic, gradient, learner.critic_optimizer, self.config.critic_learning_rate
        )
        learner = replace(
            learner, policy=replace(policy, critic=params), critic_optimizer=optimizer
        )
        return learner, {"critic_loss": loss, "q": q}

    def learning_rate(self, learner: Learner) -> Array:
        """The actor's step size at the next gradient step."""
        config = self.config
        if not config.anneal_learning_rate:
            return jnp.asarray(config.learning_rate, jnp.float32)
        share = optax.cosine_decay_schedule(1.0, config.total_updates)(learner.gradient_steps)
        return jnp.asarray(config.learning_rate * share, jnp.float32)
