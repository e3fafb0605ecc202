"""Flow Q-learning (FQL; Park et al. 2025, arXiv 2502.02538): offline, from a dataset.

Two actors: a flow that only clones the data, and one that makes an action of noise in one step,
held near what the flow makes of the same noise and pulled up the critics. The second one acts. One
gradient step, of one optimiser over everything, goes down the sum of

    mean (r + γ mean_k Q'_k(s', a') − Q_k(s, a))²            a' of the one-step actor
    E mean_d (v(x_t, t; s) − (a − z))²                       x_t = (1 − t) z + t a,  t uniform
    α E mean_d (μ(s, z) − flow(s, z))²                       10 steps of Euler, held constant
    −E mean_k Q_k(s, clip(μ(s, z)))                          critics held constant

Time runs the other way than in ofql.py: 0 is the noise z and 1 the action.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.config import check, configuration, nested, number, option, size
from jaxrl.core import adam, mean_flow
from jaxrl.core.offline_losses import value_scale
from jaxrl.core.targets import polyak
from jaxrl.data.dataset import Dataset
from jaxrl.data.offline import Learns, Offline, OfflineConfig
from jaxrl.data.transitions import Batch
from jaxrl.envs.api import Environment
from jaxrl.errors import JaxrlError
from jaxrl.nn.flow_networks import FlowNetwork, check_time_width
from jaxrl.nn.q_networks import (
    Critic,
    QNetworkConfig,
    action_size,
    check_spaces,
    ensemble_loss,
    ensemble_values,
)
from jaxrl.nn.sampled_policy import CandidatesConfig, Policy, draw, sampling_agent
from jaxrl.types import Agent, Algorithm, Array, Key, PyTree


@configuration
class FQLConfig(OfflineConfig):
    """Settings of FQL, whose defaults are its authors'. Real numbers are traced."""

    alpha: float = number(10.0, 0, basic=True)
    """Weight of the distance to the flow's actions: 3 to 10 on AntMaze, 100 and more elsewhere;
    0.03 to 10 with normalize_q."""
    normalize_q: bool = option(False)
    """Divide the actor's Q by its mean size over the batch: advised for new tasks."""
    target_critics: Literal["mean", "least"] = option("mean")
    """What of the target critics counts; the least on Adroit and OGBench's larger AntMazes."""
    flow_steps: int = size(10, basic=True)
    """Steps of Euler from noise to the flow's action."""
    learning_rate: float = number(3e-4, 0, basic=True)
    """Adam's step size, of everything."""
    tau: float = number(0.005, 0, 1)
    """Share of the way that the target critics go to the trained ones."""
    time_width: int = size(0, 0)
    """Features of the time; 0: the number itself."""
    network: QNetworkConfig = nested(
        QNetworkConfig(hidden_sizes=(512, 512, 512, 512), activation="gelu", layer_norm=True)
    )
    """Layers of both actors and of the critics."""
    best: CandidatesConfig = nested(CandidatesConfig())
    """How the mode "best" chooses."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Actors:
    """Parameters of the one that acts, and of the flow that it is held near."""

    one_step: PyTree
    flow: PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Trained:
    """What the optimiser moves."""

    actors: Actors
    critic: PyTree


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Learner:
    """What gradient steps change."""

    policy: Policy  # the actors, and the target critics
    critic: PyTree
    optimizer: PyTree


def fql(env: Environment, config: FQLConfig, *, dataset: Dataset) -> Algorithm:
    """FQL for `env`, whose actions are continuous and bounded, from a dataset of it."""
    check(config)
    if config.target_critics == "least" and config.network.num_critics == 1:
        raise JaxrlError(
            "target_critics is least, which has no effect: num_critics is 1. Take "
            "target_critics=mean, or 2 critics."
        )
    agent = fql_agent(env, config)
    critic = Critic(config.network, len(env.observation_space.shape))
    rules = FQL(config, one_step_policy(env, config), critic)
    learns = Learns(rules.begin, rules.update)
    return Offline(config, env, dataset, agent, learns).algorithm()


def fql_agent(env: Environment, config: FQLConfig) -> Agent:
    """What acts with an FQL policy: one draw, zero noise, or the best of several draws."""
    check_spaces("fql", env.observation_space, env.action_space)
    check_time_width(config.time_width)
    return sampling_agent(
        one_step_policy(env, config),
        Critic(config.network, len(env.observation_space.shape)),
        config.network.num_critics,
        config.best,
        observation_space=env.observation_space,
        action_space=env.action_space,
        normalize_observations=config.normalize_observations,
    )


def one_step_policy(env: Environment, config: FQLConfig) -> OneStepPolicy:
    """The actors that the configuration describes."""
    network = FlowNetwork(config.network, action_size(env.action_space), config.time_width)
    return OneStepPolicy(network, config.flow_steps)


@dataclass(frozen=True)
class OneStepPolicy:
    """FQL's policy. One module serves both actors, the one-step actor without a time."""

    network: FlowNetwork
    flow_steps: int
    num_noises: int = 1

    def init(self, key: Key, observation: Array, action: Array) -> Actors:
        """First parameters."""
        key_one_step, key_flow = jax.random.split(key)
        return Actors(
            one_step=self.network.init(key_one_step, observation, action),
            flow=self.network.init(key_flow, observation, action, jnp.zeros(())),
        )

    def make(self, params: Actors, observation: Array, noise: Array) -> Array:
        """Actions [B, d] of noise [1, B, d]: clip(μ(s, z))."""
        return jnp.clip(self.unclipped(params, observation, noise[0]), -1.0, 1.0)

    def unclipped(self, params: Actors, observation: Array, noise: Array) -> Array:
        """μ(s, z) of noise [B, d]."""
        action: Array = self.network.apply(params.one_step, observation, noise)
        return action

    def follow_flow(self, params: Actors, observation: Array, noise: Array) -> Array:
        """Where the flow takes noise [B, d], clipped to [-1, 1]."""

        def velocity(point: Array, time: Array) -> Array:
            found: Array = self.network.apply(params.flow, observation, point, time)
            return found

        return jnp.clip(mean_flow.euler(velocity, noise, self.flow_steps), -1.0, 1.0)

    def behavior_loss(self, params: Actors, batch: Batch, key: Key) -> Array:
        """The flow's squared error of single paths' velocities, []."""
        key_noise, key_time = jax.random.split(key)
        noise = jax.random.normal(key_noise, batch.action.shape)
        time = mean_flow.draw_times(key_time, (len(noise),), "uniform")
        point, velocity = mean_flow.straight_path(noise, batch.action, time)
        found = self.network.apply(params.flow, batch.observation, point, time)
        return jnp.mean(mean_flow.squared_error(found, velocity, "mean"))


@dataclass(frozen=True)
class FQL:
    """What is done with a learner, over the configuration and the networks."""

    config: FQLConfig
    model: OneStepPolicy
    critic: nn.Module

    def begin(self, policy: Policy) -> Learner:
        """A learner before its first gradient step."""
        trained = Trained(policy.actor, policy.critic)
        return Learner(policy=policy, critic=policy.critic, optimizer=adam.init(trained))

    def update(self, learner: Learner, batch: Batch, key: Key) -> tuple[Learner, dict[str, Array]]:
        """One gradient step of everything, then the target critics follow."""
        key_next, key_flow, key_actor = jax.random.split(key, 3)
        goal = self._goal(learner.policy, batch, key_next)

        def loss_of(params: Trained) -> tuple[Array, dict[str, Array]]:
            # A sum over the critics, where the authors have a mean: to Adam it is all the same.
            critic_loss, q = ensemble_loss(
                self.critic, params.critic, batch.observation, batch.action, goal
            )
            behavior_loss = self.model.behavior_loss(params.actors, batch, key_flow)
            actor_loss, seen = self._actor_loss(params.actors, learner, batch, key_actor)
            numbers = {"critic_loss": critic_loss, "q": q, "behavior_loss": behavior_loss}
            return critic_loss + behavior_loss + actor_loss, numbers | seen

        old = Trained(learner.policy.actor, learner.critic)
        gradient, seen = jax.grad(loss_of, has_aux=True)(old)
        params, optimizer = adam.descend(
            old, gradient, learner.optimizer, self.config.learning_rate
        )
        policy = replace(
            learner.policy,
            actor=params.actors,
            critic=polyak(learner.policy.critic, params.critic, self.config.tau),
        )
        return Learner(policy=policy, critic=params.critic, optimizer=optimizer), seen

    def _goal(self, policy: Policy, batch: Batch, key: Key) -> Array:
        """r + γ Q'(s', a'), a' drawn from the one-step actor, [B]."""
        observation = batch.next_observation
        action = draw(self.model, policy.actor, observation, batch.action.shape[-1], key)
        values = ensemble_values(self.critic, policy.critic, observation, action)
        mean = self.config.target_critics == "mean"
        next_value = jnp.mean(values, axis=0) if mean else jnp.min(values, axis=0)
        return batch.reward + batch.discount * next_value

    def _actor_loss(
        self, actors: Actors, learner: Learner, batch: Batch, key: Key
    ) -> tuple[Array, dict[str, Array]]:
        """The one-step actor towards the flow's actions and up the critics, which stay."""
        noise = jax.random.normal(key, batch.action.shape)
        goal = self.model.follow_flow(learner.policy.actor, batch.observation, noise)
        action = self.model.unclipped(actors, batch.observation, noise)
        distance = jnp.mean(mean_flow.squared_error(action, goal, "mean"))

        values = ensemble_values(
            self.critic, learner.critic, batch.observation, jnp.clip(action, -1.0, 1.0)
        )
        q = jnp.mean(values, axis=0)
        scale = value_scale(q, 1.0) if self.config.normalize_q else 1.0
        loss = self.config.alpha * distance - scale * jnp.mean(q)
        return loss, {
            "distillation_loss": distance,
            "policy_q": jnp.mean(q),
            "clipped_actions": jnp.mean(jnp.abs(action) >= 1.0),
        }
