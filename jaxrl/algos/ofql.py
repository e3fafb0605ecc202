"""One-step flow Q-learning (OFQL; Nguyen & Yoo 2026, arXiv 2508.13904): offline, from a dataset.

The policy is a flow from noise to actions, kept near the data's and pulled up the critics. What it
learns is the average velocity u(a_t, r, t; s) of that flow, so one evaluation makes an action:

    a = ε − u(ε, 0, 1; s)                         ε ~ N(0, I); time 0 is the action, 1 the noise

One gradient step: every critic towards r + γ min_k Q'_k(s', a'), a' drawn from the averaged actor;
then the actor down

    E ‖u(a_t, r, t; s) − sg(v_t − (t − r) du/dt)‖²  −  η E[Q(s, a)] / E|Q(s, a_data)|

with a_t = (1 − t) a_data + t ε and v_t = ε − a_data; then the averages, which are the policy that
acts, follow. What the paper does not say is an option, and says whose choice the default is.
dql.py has the same steps with a diffusion for the flow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from jaxrl.config import ON, check, configuration, nested, number, option, size
from jaxrl.core import adam, mean_flow
from jaxrl.core.offline_losses import value_scale
from jaxrl.core.targets import clipped_double_q, polyak
from jaxrl.data.dataset import Dataset
from jaxrl.data.offline import Learns, Offline, OfflineConfig
from jaxrl.data.transitions import Batch
from jaxrl.envs.api import Environment
from jaxrl.errors import JaxrlError
from jaxrl.nn.flow_networks import FlowLayersConfig, FlowNetwork, check_time_width
from jaxrl.nn.q_networks import (
    Critic,
    action_size,
    check_spaces,
    ensemble_loss,
    ensemble_values,
)
from jaxrl.nn.sampled_policy import CandidatesConfig, Generator, Policy, draw, sampling_agent
from jaxrl.types import Agent, Algorithm, Array, Key, PyTree

# Rows of a batch on which the behaviour loss is measured where the policy uses the flow.
ENDPOINT_ROWS = 32


@configuration
class GenerativeConfig(OfflineConfig):
    """Settings that OFQL and DQL share. Real numbers are traced: a sweep compiles once."""

    eta: float = number(0.1, 0, basic=True)
    """Weight of the critics in the actor's loss; OFQL's authors tried 0.001, 0.01, 0.1, 0.3, 0.5,
    and do not say which they chose."""
    learning_rate: float = number(3e-4, 0, basic=True)
    """Adam's step size, of the actor."""
    critic_learning_rate: float = number(3e-4, 0, basic=True)
    """Adam's step size, of the critics."""
    anneal_learning_rate: bool = option(False)
    """Let both step sizes fall to 0 along a cosine (Diffusion-QL's published commands do)."""
    max_grad_norm: float = number(float("inf"), 0, open_low=True, infinite=True)
    """Largest norm of a gradient, of the actor and of the critics; Diffusion-QL has 1 to 10."""
    tau: float = number(0.005, 0, 1)
    """Share of the way that the target critics go to the trained ones."""
    ema: float = number(0.995, 0, 1)
    """Share of the averaged actor that is kept when it follows the trained one (Diffusion-QL): with
    ema_interval 5 it stands for the last 1,000 gradient steps or so."""
    ema_interval: int = size(5)
    """Gradient steps from one such time to the next (Diffusion-QL)."""
    ema_start: int = size(1000, 0)
    """Gradient steps before the first one: until then the averaged actor stays as it was drawn
    (Diffusion-QL)."""
    policy_critic: Literal["either", "mean", "least"] = option("either")
    """Q of the actor's loss: one of the critics by lot at each gradient step (Diffusion-QL), the
    mean of all (FQL), or the least."""
    q_normalization: Literal["dataset", "policy", "other_critic", "none"] = option("dataset")
    """Divide eta by the mean |Q| of the dataset's actions (OFQL), of the policy's (FQL), or of the
    policy's by the critic that was not drawn (Diffusion-QL)."""
    backup_candidates: int = size(1)
    """Actions drawn at each next state, of which each target critic's best counts: 10 on AntMaze
    (max-Q backup of Diffusion-QL and OFQL)."""
    behavior_weight: Literal["none", "guided"] = option("none")
    """guided: rows whose action is better than the policy's count more in the behaviour loss, by
    σ((Q(s, a) − Q(s, a_π)) / (guidance_temperature · E|Q|)) (Guided Flow Policy, 2512.03973)."""
    guidance_temperature: float = number(
        1e-3, 0, open_low=True, needs={"behavior_weight": "guided"}
    )
    """Advantage, in units of the mean |Q|, at which that weight is 0.73. It is that |Q| by which
    q_normalization divides eta; of the dataset's actions, where it divides by none."""
    network: FlowLayersConfig = nested(
        FlowLayersConfig(hidden_sizes=(256, 256, 256), activation="mish")
    )
    """Layers of the actor and of the critics."""
    best: CandidatesConfig = nested(CandidatesConfig())
    """How the mode "best" chooses."""


@configuration
class OFQLConfig(GenerativeConfig):
    """Settings of OFQL."""

    time_distribution: Literal["logit_normal", "uniform"] = option("logit_normal")
    """Distribution of r and t: the sigmoid of a normal variable (OFQL), or uniform (its ablation;
    Bootstrapped Flow Q-Learning). The first hardly ever draws r near 0 with t near 1."""
    time_mean: float = number(-0.4, needs={"time_distribution": "logit_normal"})
    """Mean of that normal variable."""
    time_std: float = number(1.0, 0, open_low=True, needs={"time_distribution": "logit_normal"})
    """Its standard deviation."""
    flow_ratio: float = number(0.5, 0, 1, basic=True)
    """Share of a batch with r = t, which learns velocities alone; MeanFlow has 0.75."""
    behavior_reduction: Literal["mean", "sum"] = option("mean")
    """Mean over the action's coordinates (Diffusion-QL) or sum (as the paper writes the norm). It
    is the unit of eta: with mean, eta counts as much more as there are coordinates."""
    adaptive_power: float = number(0.0, 0)
    """p of the weight 1 / (error + 0.01)^p of each row; MeanFlow has 1, OFQL names none."""
    time_width: int = size(64, 0)
    """Features of each of r and t; 0: the numbers themselves."""
    shared_time: bool = option(False, needs={"time_width": ON})
    """Embed r and t by the same layers; open in the paper."""
    clip_actions: bool = option(True)
    """Clip the policy's actions to [-1, 1] before a critic sees them (Diffusion-QL). No gradient
    comes back from beyond."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Learner:
    """What gradient steps change. The policy is made of averages, and never trained itself."""

    policy: Policy  # the averaged actor and the target critics
    actor: PyTree
    critic: PyTree
    actor_optimizer: PyTree
    critic_optimizer: PyTree
    gradient_steps: Array  # int32


def ofql(env: Environment, config: OFQLConfig, *, dataset: Dataset) -> Algorithm:
    """OFQL for `env`, whose actions are continuous and bounded, from a dataset of it."""
    check(config)
    agent = ofql_agent(env, config)
    return learning(env, config, dataset, agent, mean_flow_policy(env, config))


def ofql_agent(env: Environment, config: OFQLConfig) -> Agent:
    """What acts with an OFQL policy: one draw, zero noise, or the best of several draws."""
    check_spaces("ofql", env.observation_space, env.action_space)
    check_time_width(config.time_width)
    return acting(env, config, mean_flow_policy(env, config))


def mean_flow_policy(env: Environment, config: OFQLConfig) -> MeanFlowPolicy:
    """The flow that the configuration describes."""
    network = FlowNetwork(
        config.network, action_size(env.action_space), config.time_width, config.shared_time
    )
    return MeanFlowPolicy(config, network)


def learning(
    env: Environment,
    config: GenerativeConfig,
    dataset: Dataset,
    agent: Agent,
    model: GenerativeModel,
) -> Algorithm:
    """The algorithm whose policy is `model`."""
    check_generative(config)
    rules = GenerativeQ(config, model, Critic(config.network, len(env.observation_space.shape)))
    learns = Learns(rules.begin, rules.update)
    return Offline(config, env, dataset, agent, learns).algorithm()


def acting(env: Environment, config: GenerativeConfig, generator: Generator) -> Agent:
    """What acts with a policy of `generator`."""
    return sampling_agent(
        generator,
        Critic(config.network, len(env.observation_space.shape)),
        config.network.num_critics,
        config.best,
        observation_space=env.observation_space,
        action_space=env.action_space,
        normalize_observations=config.normalize_observations,
    )


def check_generative(config: GenerativeConfig) -> None:
    """Refuse settings that do not go together."""
    total, per_iteration = config.total_updates, config.updates_per_iteration
    taken = total // per_iteration * per_iteration
    first = math.ceil(config.ema_start / config.ema_interval) * config.ema_interval
    if 0 < taken <= first:
        whole = f", of which whole iterations take {taken}" if taken < total else ""
        raise JaxrlError(
            f"total_updates is {total}{whole}, but the policy that acts is an average that begins "
            f"after ema_start={config.ema_start} gradient steps, at a multiple of "
            f"ema_interval={config.ema_interval}: train for longer, or choose a smaller ema_start."
        )
    if config.policy_critic != "either" and config.network.num_critics == 1:
        raise JaxrlError(
            f"policy_critic is {config.policy_critic}, which has no effect: num_critics is 1. Take "
            "policy_critic=either, or 2 critics."
        )
    if config.q_normalization == "other_critic" and config.policy_critic != "either":
        raise JaxrlError(
            f"q_normalization is other_critic, but policy_critic is {config.policy_critic}: there "
            "is another one only with policy_critic=either; else take q_normalization=policy."
        )
    if config.q_normalization == "other_critic" and config.network.num_critics == 1:
        raise JaxrlError(
            "q_normalization is other_critic, but num_critics is 1: take 2, or "
            "q_normalization=policy."
        )


class GenerativeModel(Generator, Protocol):
    """What OFQL and DQL do in their own ways: make actions of noise, and learn the data's."""

    def behavior_loss(
        self, params: PyTree, batch: Batch, key: Key
    ) -> tuple[Array, dict[str, Array]]:
        """What holds the model to the data's actions, by row, [B]; and numbers by name.

        One of these is `behavior_loss`, how far from the data's actions it is, unweighted.
        """
        ...


@dataclass(frozen=True)
class MeanFlowPolicy:
    """OFQL's policy: a network for the average velocity of a flow from actions to noise."""

    config: OFQLConfig
    network: FlowNetwork
    num_noises: int = 1

    def init(self, key: Key, observation: Array, action: Array) -> PyTree:
        """First parameters."""
        time = jnp.zeros(())
        params: PyTree = self.network.init(key, observation, action, time, time)
        return params

    def field(self, params: PyTree, observation: Array) -> mean_flow.AverageVelocity:
        """u(·, r, t; s) at observations [B, *shape]."""
        return lambda point, start, time: self.network.apply(
            params, observation, point, start, time
        )

    def make(self, params: PyTree, observation: Array, noise: Array) -> Array:
        """a = ε − u(ε, 0, 1; s), clipped."""
        action = mean_flow.one_step(self.field(params, observation), noise[0])
        return jnp.clip(action, -1.0, 1.0) if self.config.clip_actions else action

    def behavior_loss(
        self, params: PyTree, batch: Batch, key: Key
    ) -> tuple[Array, dict[str, Array]]:
        """The MeanFlow loss at drawn pairs of times; its error there, and at (0, 1) on few rows."""
        config = self.config
        key_noise, key_times = jax.random.split(key)
        noise = jax.random.normal(key_noise, batch.action.shape)
        one, other = mean_flow.draw_times(
            key_times,
            (2, len(noise)),
            config.time_distribution,
            config.time_mean,
            config.time_std,
        )
        start, time = mean_flow.time_pairs(one, other, config.flow_ratio)
        error = self._error(params, batch, noise, start, time)

        few = jax.tree.map(lambda leaf: leaf[:ENDPOINT_ROWS], batch)
        zeros = jnp.zeros(len(few.action))
        endpoint = self._error(
            jax.lax.stop_gradient(params), few, noise[:ENDPOINT_ROWS], zeros, zeros + 1.0
        )
        weight = mean_flow.adaptive_weight(error, config.adaptive_power)
        return weight * error, {
            "behavior_loss": jnp.mean(error),
            "behavior_loss_endpoint": jnp.mean(endpoint),
        }

    def _error(
        self, params: PyTree, batch: Batch, noise: Array, start: Array, time: Array
    ) -> Array:
        """The squared error of the average velocity between two times, [B]."""
        point, velocity = mean_flow.straight_path(batch.action, noise, time)
        average, target = mean_flow.average_velocity_target(
            self.field(params, batch.observation), point, velocity, start, time
        )
        return mean_flow.squared_error(average, target, self.config.behavior_reduction)


class ActorSignal(NamedTuple):
    """What the critics tell the actor about its own actions, by row."""

    q: Array  # Q(s, a_π), [B]; its gradient goes to the action
    data_q: Array  # Q(s, a_data), [B]
    scale: Array  # of Q in the actor's loss, []: 1 / mean |Q|, or 1


@dataclass(frozen=True)
class GenerativeQ:
    """The gradient steps of OFQL and of DQL, over a generative model of actions and critics."""

    config: GenerativeConfig
    model: GenerativeModel
    critic: nn.Module

    def begin(self, policy: Policy) -> Learner:
        """A learner before its first gradient step."""
        return Learner(
            policy=policy,
            actor=policy.actor,
            critic=policy.critic,
            actor_optimizer=adam.init(policy.actor),
            critic_optimizer=adam.init(policy.critic),
            gradient_steps=jnp.zeros((), jnp.int32),
        )

    def update(self, learner: Learner, batch: Batch, key: Key) -> tuple[Learner, dict[str, Array]]:
        """One gradient step of the critics, then one of the actor; the averages follow."""
        key_critic, key_actor = jax.random.split(key)
        learner, of_critic = self._update_critic(learner, batch, key_critic)
        learner, of_actor = self._update_actor(learner, batch, key_actor)
        return self._follow(learner), of_critic | of_actor

    def _update_critic(
        self, learner: Learner, batch: Batch, key: Key
    ) -> tuple[Learner, dict[str, Array]]:
        """Every critic towards r + γ min_k max_i Q'_k(s', a'_i), a'_i of the averaged actor."""
        number = self.config.backup_candidates
        observation = jnp.repeat(batch.next_observation, number, axis=0)
        action = self._draw(learner.policy.actor, observation, batch.action, key)
        values = ensemble_values(self.critic, learner.policy.critic, observation, action)
        next_values = jnp.max(values.reshape(len(values), -1, number), axis=2)
        goal = clipped_double_q(batch.reward, batch.discount, next_values)

        def loss_of(params: PyTree) -> tuple[Array, Array]:
            return ensemble_loss(self.critic, params, batch.observation, batch.action, goal)

        (loss, q), gradient = jax.value_and_grad(loss_of, has_aux=True)(learner.critic)
        gradient, _ = adam.clip_by_norm(gradient, self.config.max_grad_norm)
        params, optimizer = adam.descend(
            learner.critic,
            gradient,
            learner.critic_optimizer,
            self._annealed(learner, self.config.critic_learning_rate),
        )
        learner = replace(learner, critic=params, critic_optimizer=optimizer)
        return learner, {"critic_loss": loss, "q": q}

    def _update_actor(
        self, learner: Learner, batch: Batch, key: Key
    ) -> tuple[Learner, dict[str, Array]]:
        """The actor towards the data's actions, and towards those that the critics value more."""
        config = self.config
        key_behavior, key_draw, key_lot = jax.random.split(key, 3)

        def loss_of(params: PyTree) -> tuple[Array, dict[str, Array]]:
            behavior, seen = self.model.behavior_loss(params, batch, key_behavior)
            action = self._draw(params, batch.observation, batch.action, key_draw)
            signal = self._signal(learner.critic, batch, action, key_lot)
            weighted = self._weight(signal) * behavior
            loss = jnp.mean(weighted) - config.eta * signal.scale * jnp.mean(signal.q)
            return loss, seen | {
                "policy_q": jnp.mean(signal.q),
                "clipped_actions": jnp.mean(jnp.abs(action) >= 1.0),
            }

        gradient, seen = jax.grad(loss_of, has_aux=True)(learner.actor)
        gradient, _ = adam.clip_by_norm(gradient, config.max_grad_norm)
        params, optimizer = adam.descend(
            learner.actor,
            gradient,
            learner.actor_optimizer,
            self._annealed(learner, config.learning_rate),
        )
        return replace(learner, actor=params, actor_optimizer=optimizer), seen

    def _follow(self, learner: Learner) -> Learner:
        """The target critics at every gradient step; the averaged actor now and then, once begun.

        A gradient step's number counts those before it, as in Diffusion-QL: the first is 0.
        """
        config, steps = self.config, learner.gradient_steps
        due = (steps % config.ema_interval == 0) & (steps >= config.ema_start)
        policy = replace(
            learner.policy,
            actor=polyak(
                learner.policy.actor, learner.actor, jnp.where(due, 1.0 - config.ema, 0.0)
            ),
            critic=polyak(learner.policy.critic, learner.critic, config.tau),
        )
        return replace(learner, policy=policy, gradient_steps=steps + 1)

    def _draw(self, actor: PyTree, observation: Array, like: Array, key: Key) -> Array:
        """An action for each observation, of as many numbers as those of `like`."""
        return draw(self.model, actor, observation, like.shape[-1], key)

    def _signal(self, critic: PyTree, batch: Batch, action: Array, key: Key) -> ActorSignal:
        """The critics at the policy's actions, and what their values are measured by."""
        config = self.config
        drawn = jax.random.randint(key, (), 0, config.network.num_critics)
        other = (drawn + 1) % config.network.num_critics
        q = self._value(critic, batch.observation, action, drawn)
        # Where nothing reads it, XLA leaves it out.
        data_q = self._value(critic, batch.observation, batch.action, drawn)
        if config.q_normalization == "none":
            return ActorSignal(q, data_q, jnp.ones(()))
        reference = q
        if config.q_normalization == "dataset":
            reference = data_q
        elif config.q_normalization == "other_critic":
            reference = self._value(critic, batch.observation, action, other)
        return ActorSignal(q, data_q, value_scale(reference, 1.0))

    def _value(self, critic: PyTree, observation: Array, action: Array, drawn: Array) -> Array:
        """Q(s, a) of the actor's loss, [B]; `drawn` is the number of the critic drawn by lot."""
        if self.config.policy_critic == "either":
            one = jax.tree.map(lambda leaf: leaf[drawn], critic)
            value: Array = self.critic.apply(one, observation, action)
            return value
        values = ensemble_values(self.critic, critic, observation, action)
        if self.config.policy_critic == "mean":
            return jnp.mean(values, axis=0)
        return jnp.min(values, axis=0)

    def _weight(self, signal: ActorSignal) -> Array:
        """How much each row's behaviour loss counts, [B]."""
        if self.config.behavior_weight == "none":
            return jnp.ones_like(signal.q)
        unnormalized = self.config.q_normalization == "none"
        scale = value_scale(signal.data_q, 1.0) if unnormalized else signal.scale
        advantage = (signal.data_q - signal.q) * scale
        weight = jax.nn.sigmoid(advantage / self.config.guidance_temperature)
        return jax.lax.stop_gradient(weight)

    def _annealed(self, learner: Learner, learning_rate: float | Array) -> Array:
        if not self.config.anneal_learning_rate:
            return jnp.asarray(learning_rate, jnp.float32)
        share = optax.cosine_decay_schedule(1.0, self.config.total_updates)(learner.gradient_steps)
        return jnp.asarray(learning_rate * share, jnp.float32)
