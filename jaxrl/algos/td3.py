"""Twin delayed deep deterministic policy gradient (TD3; Fujimoto et al. 2018, arXiv 1802.09477).

One iteration: T vector steps with exploration noise, each followed by the gradient steps that are
due: every critic learns the least of the target critics' values at a smoothed target action; each
`policy_delay`-th gradient step the actor climbs the first critic, and the targets follow.
Devices (`Shards`) act in environments of their own and average their gradients.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.config import ON, check, configuration, nested, number, size
from jaxrl.core import adam, moments
from jaxrl.core.any_member import any_member
from jaxrl.core.moments import Moments, normalize_if_kept
from jaxrl.core.shards import SINGLE, Shards
from jaxrl.core.targets import clipped_double_q, polyak, smoothed_action
from jaxrl.data.interaction import InteractionConfig, Learns, make_interaction
from jaxrl.data.off_policy import OffPolicy
from jaxrl.data.transitions import Batch
from jaxrl.envs.api import Environment
from jaxrl.envs.vector import VectorEnv
from jaxrl.nn.action_units import scale_action
from jaxrl.nn.q_networks import (
    Critic,
    DeterministicActor,
    Networks,
    QNetworkConfig,
    action_size,
    check_spaces,
    ensemble_loss,
    ensemble_values,
    first_value,
)
from jaxrl.types import Agent, Algorithm, Array, Key, Mean, PyTree, View, feed_forward


@configuration
class TwinDelayedConfig:
    """Settings of TD3's gradient steps, wherever transitions come from.

    Noise is in units where [-1, 1] spans the action space.
    """

    policy_delay: int = size(2)
    """Gradient steps of the critics for each one of the actor and of the targets."""
    learning_rate: float = number(3e-4, 0, basic=True)
    """Adam's step size, of the actor."""
    critic_learning_rate: float = number(3e-4, 0, basic=True)
    """Adam's step size, of the critics."""
    tau: float = number(0.005, 0, 1)
    """Share of the way that the target networks go to the trained ones."""
    target_noise: float = number(0.2, 0)
    """Deviation of the noise on the target policy's actions."""
    target_noise_clip: float = number(0.5, 0, infinite=True, needs={"target_noise": ON})
    """Most that this noise may change an action."""
    network: QNetworkConfig = nested(QNetworkConfig())
    """Layers of the actor and of the critics."""


@configuration
class TD3Config(TwinDelayedConfig, InteractionConfig):
    """Settings of TD3. Real numbers are traced: a sweep over them compiles once."""

    warm_up: int = size(25_000, 0, basic=True)
    """Transitions, over all environments, of random actions before the first gradient step."""
    exploration_noise: float = number(0.1, 0, basic=True)
    """Deviation of the noise on actions while training."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Policy:
    """What acting needs, and the critics."""

    actor: PyTree
    critic: PyTree
    observation_moments: Moments | None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Targets:
    """Parameters that follow those of the policy slowly."""

    actor: PyTree
    critic: PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Learner:
    """What gradient steps change."""

    policy: Policy
    targets: Targets
    actor_optimizer: PyTree
    critic_optimizer: PyTree
    gradient_steps: Array  # int32, of the critics


def td3(
    env: Environment,
    config: TD3Config,
    *,
    vector: VectorEnv | None = None,
    networks: Networks | None = None,
    shards: Shards = SINGLE,
    **inputs: Any,
) -> Algorithm:
    """TD3 for `env`, whose actions are continuous and bounded.

    vector:   replaces the environments that `config` describes.
    networks: replace the actor and the critics.
    inputs:   what the configuration's start distribution reads from disk.
    """
    check(config)
    check_spaces("td3", env.observation_space, env.action_space)
    interaction = make_interaction(env, config, shards, inputs, vector)
    networks = networks or make_networks(env, config)
    agent = td3_agent(env, config, networks)
    rules = TD3(config, networks, shards)
    learns = Learns(rules.begin, rules.explore, rules.update, rules.value)
    return OffPolicy(interaction, agent, learns).algorithm(config.total_steps)


def make_networks(env: Environment, config: TwinDelayedConfig) -> Networks:
    """The actor and the critic that the configuration describes."""
    event_ndim = len(env.observation_space.shape)
    return Networks(
        actor=DeterministicActor(config.network, event_ndim, action_size(env.action_space)),
        critic=Critic(config.network, event_ndim),
    )


def td3_agent(env: Environment, config: TD3Config, networks: Networks | None = None) -> Agent:
    """What acts with a TD3 policy: the actor's action, or the same with exploration noise."""
    check_spaces("td3", env.observation_space, env.action_space)
    networks = networks or make_networks(env, config)
    agent = actor_agent(env, networks, config.network.num_critics, config.normalize_observations)

    def stochastic(policy: Policy, observation: Array, key: Key) -> Array:
        action = with_noise(act(networks, policy, observation), config.exploration_noise, key)
        return scale_action(action, env.action_space, squash=False)

    return replace(agent, modes={**agent.modes, "stochastic": feed_forward(stochastic)})


def actor_agent(
    env: Environment, networks: Networks, num_critics: int, normalize_observations: bool
) -> Agent:
    """What acts by a deterministic actor, and values states by the critics beside it."""
    shape = env.observation_space.shape

    def init(key: Key) -> Policy:
        actor, critic = networks.init(key, num_critics, env.observation_space, env.action_space)
        return Policy(
            actor=actor,
            critic=critic,
            observation_moments=moments.init(shape) if normalize_observations else None,
        )

    def deterministic(policy: Policy, observation: Array, key: Key) -> Array:
        del key
        return scale_action(act(networks, policy, observation), env.action_space, squash=False)

    def value(policy: Policy, memory: tuple, view: View, key: Key) -> Array:
        del memory, key
        observation = normalize_if_kept(policy.observation_moments, view.observation)
        return state_values(networks, policy, observation[None])[0]

    return Agent(init=init, modes={"deterministic": feed_forward(deterministic)}, value=value)


def act(networks: Networks, policy: Policy, observation: Array) -> Array:
    """The actor's actions, [..., d] in [-1, 1], at observations in the environment's units."""
    observation = normalize_if_kept(policy.observation_moments, observation)
    action: Array = networks.actor.apply(policy.actor, observation)
    return action


def with_noise(action: Array, noise_std: float | Array, key: Key) -> Array:
    """Actions with Gaussian noise on them, clipped to [-1, 1]."""
    return jnp.clip(action + noise_std * jax.random.normal(key, action.shape), -1.0, 1.0)


def state_values(networks: Networks, policy: Policy, observation: Array) -> Array:
    """V(s) = min_k Q_k(s, μ(s)) of normalised observations [B, *shape], [B]."""
    action = networks.actor.apply(policy.actor, observation)
    return jnp.min(ensemble_values(networks.critic, policy.critic, observation, action), axis=0)


@dataclass(frozen=True)
class TwinDelayed:
    """Gradient steps of critics and, less often, of a deterministic actor and of the targets.

    What the critics learn is `goal`, and what the actor descends is `actor_loss`.
    """

    config: TwinDelayedConfig
    networks: Networks
    shards: Shards = SINGLE

    def begin(self, policy: Policy) -> Learner:
        """A learner before its first gradient step."""
        return Learner(
            policy=policy,
            targets=Targets(policy.actor, policy.critic),
            actor_optimizer=adam.init(policy.actor),
            critic_optimizer=adam.init(policy.critic),
            gradient_steps=jnp.zeros((), jnp.int32),
        )

    def value(self, learner: Learner, observation: Array, key: Key) -> Array:
        """What the critics expect of the policy, [N]."""
        del key
        return state_values(self.networks, learner.policy, observation)

    def update(
        self, learner: Learner, batch: Batch, key: Key
    ) -> tuple[Learner, dict[str, Array | Mean]]:
        """One gradient step of the critics and, where it is due, one of actor and targets."""
        learner, seen = self._update_critic(learner, batch, key)

        def update_actor(_: Array, carry: tuple) -> tuple[Learner, dict[str, Mean]]:
            learner, _ = carry
            return self._update_actor(learner, batch)

        # A real branch: decided by each member of a population, it would be computed every time.
        due = any_member(learner.gradient_steps % self.config.policy_delay == 0)
        names = jax.eval_shape(self._update_actor, learner, batch)[1]
        nothing = {name: Mean(jnp.zeros(()), jnp.zeros(())) for name in names}
        learner, more = jax.lax.fori_loop(
            0, due.astype(jnp.int32), update_actor, (learner, nothing)
        )
        return learner, {**seen, **more}

    def goal(self, targets: Targets, batch: Batch, key: Key) -> Array:
        """What every critic learns: r + γ min_k Q'_k(s', a'), a' = μ'(s') + noise; [B]."""
        next_action = self.next_action(targets, batch, key)
        next_values = ensemble_values(
            self.networks.critic, targets.critic, batch.next_observation, next_action
        )
        return clipped_double_q(batch.reward, batch.discount, next_values)

    def next_action(self, targets: Targets, batch: Batch, key: Key) -> Array:
        """Actions near the target actor's, [B, d] in [-1, 1]."""
        action = self.networks.actor.apply(targets.actor, batch.next_observation)
        noise = jax.random.normal(key, action.shape)
        return smoothed_action(
            action, noise, self.config.target_noise, self.config.target_noise_clip
        )

    def actor_loss(
        self, actor: PyTree, policy: Policy, batch: Batch
    ) -> tuple[Array, dict[str, Array]]:
        """−mean Q_1(s, μ(s)), for actions that the first critic values more; and no numbers."""
        networks = self.networks
        action = networks.actor.apply(actor, batch.observation)
        q = first_value(networks.critic, policy.critic, batch.observation, action)
        return -jnp.mean(q), {}

    def _update_critic(
        self, learner: Learner, batch: Batch, key: Key
    ) -> tuple[Learner, dict[str, Array]]:
        """Every critic towards the goal."""
        policy, critic = learner.policy, self.networks.critic
        goal = self.goal(learner.targets, batch, key)

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
        return learner, {"critic_loss": loss, "q": q}

    def _update_actor(self, learner: Learner, batch: Batch) -> tuple[Learner, dict[str, Mean]]:
        """The actor down its loss; then the targets. Its numbers count once per step of its own."""
        config, policy, targets = self.config, learner.policy, learner.targets

        def loss_of(params: PyTree) -> tuple[Array, dict[str, Array]]:
            return self.actor_loss(params, policy, batch)

        gradient, seen = jax.grad(loss_of, has_aux=True)(policy.actor)
        params, optimizer = adam.descend(
            policy.actor, self.shards.mean(gradient), learner.actor_optimizer, config.learning_rate
        )
        learner = replace(
            learner,
            policy=replace(policy, actor=params),
            targets=Targets(
                actor=polyak(targets.actor, params, config.tau),
                critic=polyak(targets.critic, policy.critic, config.tau),
            ),
            actor_optimizer=optimizer,
        )
        return learner, {name: Mean.of(value) for name, value in seen.items()}


@dataclass(frozen=True)
class TD3(TwinDelayed):
    """What is done with a learner, over the configuration and the networks."""

    config: TD3Config

    def explore(self, learner: Learner, view: View, key: Key) -> tuple[Array, Array]:
        """Actions of N environments, [N, d] in [-1, 1], and no bonus."""
        action = self.networks.actor.apply(learner.policy.actor, view.observation)
        return with_noise(action, self.config.exploration_noise, key), jnp.zeros(len(action))
