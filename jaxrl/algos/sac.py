"""Soft actor-critic (SAC; Haarnoja et al. 2018, arXiv 1801.01290 and 1812.05905).

One iteration: T vector steps with sampled actions, each followed by the gradient steps that are
due: every critic learns the least of the target critics' values plus the entropy of the next
action; the actor climbs the least of the critics and its own entropy; the temperature holds that
entropy at a target; the target critics follow.
Actions, densities and entropies are in units where [-1, 1] spans the action space.
Devices (`Shards`) act in environments of their own and average their gradients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxrl.config import check, configuration, nested, number, option, size
from jaxrl.core import adam, moments
from jaxrl.core.any_member import any_member
from jaxrl.core.distributions import TanhNormal
from jaxrl.core.entropy import temperature_loss
from jaxrl.core.moments import Moments, normalize_if_kept
from jaxrl.core.shards import SINGLE, Shards
from jaxrl.core.targets import clipped_double_q, polyak
from jaxrl.data.interaction import InteractionConfig, Learns, make_interaction
from jaxrl.data.off_policy import OffPolicy
from jaxrl.data.transitions import Batch
from jaxrl.envs.api import Environment
from jaxrl.envs.vector import VectorEnv
from jaxrl.nn.action_units import scale_action
from jaxrl.nn.q_networks import (
    Critic,
    Networks,
    QNetworkConfig,
    SquashedGaussianActor,
    action_size,
    check_spaces,
    ensemble_loss,
    ensemble_values,
)
from jaxrl.types import Agent, Algorithm, Array, Key, PyTree, View, feed_forward


@configuration
class SACConfig(InteractionConfig):
    """Settings of SAC. Real numbers are traced: a sweep over them compiles once."""

    n_step: int = size(1)
    """Rewards that a target sums before it bootstraps; it leaves out the entropies between."""
    policy_delay: int = size(1)
    """Gradient steps of the critics for each one of actor and temperature."""
    learning_rate: float = number(3e-4, 0, basic=True)
    """Adam's step size, of the actor."""
    critic_learning_rate: float = number(3e-4, 0, basic=True)
    """Adam's step size, of the critics."""
    tau: float = number(0.005, 0, 1)
    """Share of the way that the target critics go to the trained ones."""
    initial_temperature: float = number(1.0, 0, open_low=True, basic=True)
    """Weight of the entropy beside the reward, at first."""
    train_temperature: bool = option(True)
    """Adapt the temperature, so that the entropy is held at target_entropy."""
    temperature_learning_rate: float = number(3e-4, 0, needs={"train_temperature": True})
    """Adam's step size, of the logarithm of the temperature."""
    temperature_loss: Literal["log", "linear"] = option("log", needs={"train_temperature": True})
    """Whether the temperature's loss is linear in its logarithm or in itself."""
    target_entropy: float | None = option(None, needs={"train_temperature": True})
    """Entropy to hold, in nats; None: minus the number of actions."""
    network: QNetworkConfig = nested(QNetworkConfig())
    """Layers of the actor and of the critics."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Policy:
    """What acting needs, and what its value is estimated with."""

    actor: PyTree
    critic: PyTree
    log_temperature: Array  # float32 []
    observation_moments: Moments | None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Learner:
    """What gradient steps change."""

    policy: Policy
    target_critic: PyTree  # follows the critics slowly
    actor_optimizer: PyTree
    critic_optimizer: PyTree
    temperature_optimizer: PyTree
    gradient_steps: Array  # int32, of the critics


def sac(
    env: Environment,
    config: SACConfig,
    *,
    vector: VectorEnv | None = None,
    networks: Networks | None = None,
    shards: Shards = SINGLE,
    **inputs: Any,
) -> Algorithm:
    """SAC for `env`, whose actions are continuous and bounded.

    vector:   replaces the environments that `config` describes.
    networks: replace the actor and the critics.
    inputs:   what the configuration's start distribution reads from disk.
    """
    check(config)
    check_spaces("sac", env.observation_space, env.action_space)
    interaction = make_interaction(env, config, shards, inputs, vector)
    networks = networks or make_networks(env, config)
    agent = sac_agent(env, config, networks)
    target_entropy = config.target_entropy
    if target_entropy is None:
        target_entropy = -float(action_size(env.action_space))
    rules = SAC(config, networks, target_entropy, shards)
    learns = Learns(rules.begin, rules.explore, rules.update, rules.value)
    return OffPolicy(interaction, agent, learns).algorithm(config.total_steps)


def make_networks(env: Environment, config: SACConfig) -> Networks:
    """The actor and the critic that the configuration describes."""
    event_ndim = len(env.observation_space.shape)
    return Networks(
        actor=SquashedGaussianActor(config.network, event_ndim, action_size(env.action_space)),
        critic=Critic(config.network, event_ndim),
    )


def sac_agent(env: Environment, config: SACConfig, networks: Networks | None = None) -> Agent:
    """What acts with a SAC policy: by the median of its distribution, or by a sample of it."""
    check_spaces("sac", env.observation_space, env.action_space)
    networks = networks or make_networks(env, config)
    shape = env.observation_space.shape

    def init(key: Key) -> Policy:
        actor, critic = networks.init(
            key, config.network.num_critics, env.observation_space, env.action_space
        )
        return Policy(
            actor=actor,
            critic=critic,
            log_temperature=jnp.log(jnp.asarray(config.initial_temperature, jnp.float32)),
            observation_moments=moments.init(shape) if config.normalize_observations else None,
        )

    def distribution(policy: Policy, observation: Array) -> TanhNormal:
        observation = normalize_if_kept(policy.observation_moments, observation)
        found: TanhNormal = networks.actor.apply(policy.actor, observation)
        return found

    def deterministic(policy: Policy, observation: Array, key: Key) -> Array:
        del key
        sample = distribution(policy, observation).mode()
        return scale_action(sample, env.action_space, squash=True)

    def stochastic(policy: Policy, observation: Array, key: Key) -> Array:
        sample = distribution(policy, observation).sample(key)
        return scale_action(sample, env.action_space, squash=True)

    def value(policy: Policy, memory: tuple, view: View, key: Key) -> Array:
        del memory
        observation = normalize_if_kept(policy.observation_moments, view.observation)
        return state_values(networks, policy, observation[None], key)[0]

    modes = {"deterministic": feed_forward(deterministic), "stochastic": feed_forward(stochastic)}
    return Agent(init=init, modes=modes, value=value)


def draw(networks: Networks, actor: PyTree, observation: Array, key: Key) -> tuple[Array, Array]:
    """Actions in [-1, 1]^d at normalised observations, [B, d], and log π(a|s) in nats, [B]."""
    distribution: TanhNormal = networks.actor.apply(actor, observation)
    sample = distribution.sample(key)
    return distribution.squash(sample), distribution.log_prob(sample)


def state_values(networks: Networks, policy: Policy, observation: Array, key: Key) -> Array:
    """V(s) = min_k Q_k(s, a) − α log π(a|s) with a drawn a, of normalised observations, [B]."""
    action, log_probability = draw(networks, policy.actor, observation, key)
    q = ensemble_values(networks.critic, policy.critic, observation, action)
    return jnp.min(q, axis=0) - jnp.exp(policy.log_temperature) * log_probability


@dataclass(frozen=True)
class SAC:
    """What is done with a learner, over the configuration and the networks."""

    config: SACConfig
    networks: Networks
    target_entropy: float
    shards: Shards = SINGLE

    def begin(self, policy: Policy) -> Learner:
        """A learner before its first gradient step."""
        return Learner(
            policy=policy,
            target_critic=policy.critic,
            actor_optimizer=adam.init(policy.actor),
            critic_optimizer=adam.init(policy.critic),
            temperature_optimizer=adam.init(policy.log_temperature),
            gradient_steps=jnp.zeros((), jnp.int32),
        )

    def explore(self, learner: Learner, view: View, key: Key) -> tuple[Array, Array]:
        """Drawn actions of N environments, [N, d] in [-1, 1], and −α log π(a|s), [N]."""
        policy = learner.policy
        action, log_probability = draw(self.networks, policy.actor, view.observation, key)
        return action, -jnp.exp(policy.log_temperature) * log_probability

    def value(self, learner: Learner, observation: Array, key: Key) -> Array:
        """What the critics expect of the policy, its entropy included, [N]."""
        return state_values(self.networks, learner.policy, observation, key)

    def update(self, learner: Learner, batch: Batch, key: Key) -> tuple[Learner, dict[str, Array]]:
        """One gradient step of the critics and, where due, one of actor and temperature."""
        key_critic, key_actor = jax.random.split(key)
        learner, seen = self._update_critic(learner, batch, key_critic)

        def update_actor(index: Array, learner: Learner) -> Learner:
            return self._update_actor(learner, batch, jax.random.fold_in(key_actor, index))

        # A real branch: decided by each member of a population, it would always be computed.
        due = any_member(learner.gradient_steps % self.config.policy_delay == 0)
        learner = jax.lax.fori_loop(0, due.astype(jnp.int32), update_actor, learner)
        target = polyak(learner.target_critic, learner.policy.critic, self.config.tau)
        return replace(learner, target_critic=target), seen

    def _update_critic(
        self, learner: Learner, batch: Batch, key: Key
    ) -> tuple[Learner, dict[str, Array]]:
        """Every critic towards r + γ (min_k Q'_k(s', a') − α log π(a'|s'))."""
        policy, critic = learner.policy, self.networks.critic
        action, log_probability = draw(self.networks, policy.actor, batch.next_observation, key)
        temperature = jnp.exp(policy.log_temperature)
        next_q = ensemble_values(critic, learner.target_critic, batch.next_observation, action)
        next_values = next_q - temperature * log_probability[None]
        goal = clipped_double_q(batch.reward, batch.discount, next_values)

        def loss_of(params: PyTree) -> tuple[Array, Array]:
            return ensemble_loss(critic, params, batch.observation, batch.action, goal)

        (loss, q), gradient = jax.value_and_grad(loss_of, has_aux=True)(policy.critic)
        gradient = self.shards.mean(gradient)
        params, optimizer = adam.descend(
            policy.critic, gradient, learner.critic_optimizer, self.config.critic_learning_rate
        )
        learner = replace(
            learner,
            policy=replace(policy, critic=params),
            critic_optimizer=optimizer,
            gradient_steps=learner.gradient_steps + 1,
        )
        entropy = -jnp.mean(log_probability)
        seen = {"critic_loss": loss, "q": q, "temperature": temperature, "entropy": entropy}
        return learner, seen

    def _update_actor(self, learner: Learner, batch: Batch, key: Key) -> Learner:
        """The actor towards valued and varied actions; then the temperature, by their entropy."""
        config, policy, networks = self.config, learner.policy, self.networks
        temperature = jnp.exp(policy.log_temperature)

        def loss_of(params: PyTree) -> tuple[Array, Array]:
            action, log_probability = draw(networks, params, batch.observation, key)
            q = ensemble_values(networks.critic, policy.critic, batch.observation, action)
            loss = jnp.mean(temperature * log_probability - jnp.min(q, axis=0))
            return loss, log_probability

        gradient, log_probability = jax.grad(loss_of, has_aux=True)(policy.actor)
        actor, actor_optimizer = adam.descend(
            policy.actor, self.shards.mean(gradient), learner.actor_optimizer, config.learning_rate
        )
        learner = replace(
            learner, policy=replace(policy, actor=actor), actor_optimizer=actor_optimizer
        )
        if not config.train_temperature:
            return learner
        gradient = jax.grad(temperature_loss)(
            policy.log_temperature,
            log_probability,
            self.target_entropy,
            config.temperature_loss == "log",
        )
        log_temperature, optimizer = adam.descend(
            policy.log_temperature,
            self.shards.mean(gradient),
            learner.temperature_optimizer,
            config.temperature_learning_rate,
        )
        policy = replace(learner.policy, log_temperature=log_temperature)
        return replace(learner, policy=policy, temperature_optimizer=optimizer)
