"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347), top to bottom.

One iteration: roll out T steps in N environments with the current policy; estimate advantages; take
`num_epochs` passes of clipped-surrogate gradient steps over shuffled minibatches; renew the
normalisers and the start pool. Devices (`Shards`) roll out and shuffle environments of their own,
and average their gradients.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxrl.config import budget, check, configuration, number, option, part, size
from jaxrl.core import losses, minibatch, moments, outer_loop, returns, reward_scaling
from jaxrl.core.flat_optimizer import FlatOptimizer, Learner
from jaxrl.core.moments import Moments
from jaxrl.core.outer_loop import Ewma
from jaxrl.core.reward_scaling import RewardScaler
from jaxrl.core.shards import SINGLE, Shards
from jaxrl.core.tree import strip_weak_types
from jaxrl.envs.api import Environment
from jaxrl.envs.collect import bootstrap, collect
from jaxrl.envs.starts.api import StartsConfig
from jaxrl.envs.starts.family import STARTS
from jaxrl.envs.vector import VectorEnv, VectorState, make_vector
from jaxrl.nn.actor_critic import NETWORKS, PolicyNetworkConfig, scale_action
from jaxrl.nn.optimizers import OPTIMIZERS, OptimizerConfig, own_optimizer
from jaxrl.types import (
    Agent,
    Algorithm,
    Array,
    Budget,
    Key,
    Mean,
    Metrics,
    Progress,
    PyTree,
    Transition,
    View,
    feed_forward,
)


@configuration
class PPOConfig:
    """Settings of PPO. Real numbers are traced: a sweep over them compiles once."""

    total_steps: int = budget(1_000_000, unit="transitions")
    """Environment transitions to train for, over all environments."""
    num_envs: int = size(64)
    """Parallel environments, N."""
    num_steps: int = size(128)
    """Steps T of one rollout in each environment."""
    minibatch_size: int = size(1024)
    """Transitions of one gradient step; must divide num_envs * num_steps. The number of minibatches follows."""
    num_epochs: int = size(4)
    """Passes over each rollout."""
    learning_rate: float = number(2.5e-4, 0)
    """Adam's step size."""
    anneal_learning_rate: bool = option(True)
    """Lower the learning rate linearly to zero over the run."""
    gamma: float = number(0.99, 0, 1)
    """Discount of future rewards."""
    gae_lambda: float = number(0.95, 0, 1)
    """Trace of the generalised advantage estimate: 0 is one-step TD, 1 is Monte Carlo."""
    clip_epsilon: float = number(0.2, 0, open_low=True)
    """How far the probability ratio may move from 1."""
    value_clip_epsilon: float = number(float("inf"), 0, open_low=True)
    """How far the value may move from the rollout's in the value loss; inf: unclipped."""
    entropy_coefficient: float = number(0.01, 0)
    """Weight of the entropy bonus."""
    value_coefficient: float = number(0.5, 0)
    """Weight of the value loss."""
    max_grad_norm: float = number(0.5, 0, open_low=True)
    """Gradients are scaled down to this global norm; inf: never."""
    target_kl: float | None = option(None, 0, open_low=True)
    """Skip the rest of an iteration's gradient steps once the policy has moved this far; None: never."""
    ewma_center_of_mass: float | None = option(None, 0)
    """Hold the policy to an average of itself of this age in gradient steps (PPO-EWMA); None: to the rollout's."""
    outer_step_size: float = number(1.0, 0)
    """Share of the way to the optimised policy that an iteration goes; may exceed 1 (outer-PPO)."""
    normalize_advantages: Literal["minibatch", "batch", "none"] = option("minibatch")
    """Give advantages mean 0 and deviation 1 over each minibatch, over the whole batch, or not at all."""
    normalize_observations: bool = option(False)
    """Standardise observations by running statistics, which are saved with the policy."""
    scale_rewards: bool = option(False)
    """Divide rewards by the running deviation of the discounted return; for learning only."""
    starts: StartsConfig = part(STARTS, "fresh")
    """Where episodes begin."""
    stagger: bool = option(False)
    """Let first episodes end at random times, so that environments with a time limit never end in step."""
    network: PolicyNetworkConfig = part(NETWORKS, "actor-critic")
    """The policy's network and the critic's."""
    optimizer: OptimizerConfig = part(OPTIMIZERS, "adam")
    """How a gradient moves the parameters."""


class Policy(NamedTuple):
    """What inference needs."""

    params: PyTree
    observation_moments: Moments | None


class PPOState(NamedTuple):
    """Everything that resuming needs."""

    policy: Policy
    optimizer: PyTree
    proximal: Ewma | None
    reward_scaler: RewardScaler | None
    vector: VectorState
    key: Key
    iteration: Array  # int32


class Decision(NamedTuple):
    """What the policy adds to each transition, [T, N, ...]."""

    sample: Array  # the distribution's own, before it is scaled to the action space
    log_probability: Array  # of the sample
    value: Array  # of the state it was taken in


class Trajectory(NamedTuple):
    """A rollout as advantages are estimated from it, [T, N, ...]."""

    transition: Transition
    decision: Decision
    next_value: Array  # of the state that the action led to, before any reset


class Batch(NamedTuple):
    """What the loss reads of each transition, [T·N, ...]."""

    observation: Array
    sample: Array  # the distribution's own sample, before it is scaled to the action space
    log_probability: Array
    value: Array
    advantage: Array
    target: Array
    weight: Array | None  # mean 1; None: all alike


def ppo(
    env: Environment,
    config: PPOConfig,
    *,
    vector: VectorEnv | None = None,
    network: nn.Module | None = None,
    optimizer: optax.GradientTransformation | None = None,
    shards: Shards = SINGLE,
    **inputs: Any,
) -> Algorithm:
    """PPO for `env`.

    `vector`, when given, replaces the environments that `config` describes: guided ones, or others
    that begin elsewhere. `network`, when given, replaces the actor-critic: a flax module from
    observations [..., *shape] to (distribution, values [...]), with a method `value` for the values
    alone. `optimizer`, when given, replaces clipping, Adam and the learning rate: its updates of
    the tree of parameters are added as they are. `inputs` are what the configuration's start
    distribution reads from disk.
    """
    check(config)
    minibatch.check_sizes(
        config.total_steps, config.num_envs, config.num_steps, config.minibatch_size
    )
    shards.split("minibatch_size", config.minibatch_size)
    vector = vector or make_vector(env, config, shards, inputs)
    network = network or config.network.make(env.observation_space, env.action_space)
    agent = ppo_agent(env, config, network)
    learner = PPO(config, vector, agent, network, optimizer or own_optimizer(config), shards)
    transitions = config.num_envs * config.num_steps
    gradient_steps = config.num_epochs * (transitions // config.minibatch_size)
    return Algorithm(
        init=learner.init,
        step=learner.step,
        policy=lambda state: state.policy,
        agent=agent,
        budget=Budget(
            "transitions",
            transitions,
            config.total_steps // transitions,
            {"gradient steps": gradient_steps},
        ),
        sharded=learner.sharded,
        begin_from=learner.begin_from,
    )


def ppo_agent(env: Environment, config: PPOConfig, network: nn.Module | None = None) -> Agent:
    """What acts with a PPO policy: by the distribution's mode, or by a sample; its value is the critic's."""
    network = network or config.network.make(env.observation_space, env.action_space)
    shape = env.observation_space.shape

    def init(key: Key) -> Policy:
        params = network.init(key, jnp.zeros((1, *shape)))
        return Policy(params, moments.init(shape) if config.normalize_observations else None)

    def deterministic(policy: Policy, observation: Array, key: Key) -> Array:
        del key
        distribution, _ = apply(network, policy, observation)
        return scale(distribution.mode())

    def stochastic(policy: Policy, observation: Array, key: Key) -> Array:
        distribution, _ = apply(network, policy, observation)
        return scale(distribution.sample(key))

    def scale(sample: Array) -> Array:
        return scale_action(sample, env.action_space, config.network.squash_actions)

    def value(policy: Policy, memory: tuple, view: View, key: Key) -> Array:
        del memory, key
        return apply(network, policy, view.observation, method="value")

    modes = {"deterministic": feed_forward(deterministic), "stochastic": feed_forward(stochastic)}
    return Agent(init=init, modes=modes, value=value)


def apply(network: nn.Module, policy: Policy, observation: Array, method: str = "__call__") -> Any:
    """(distribution, value) of observations, normalised if the policy keeps their moments; or the value alone."""
    if policy.observation_moments is not None:
        observation = moments.normalize(policy.observation_moments, observation.astype(jnp.float32))
    return network.apply(policy.params, observation, method=method)


@dataclass(frozen=True)
class PPO:
    """The learner's functions, over the configuration and the environments that they share."""

    config: PPOConfig
    vector: VectorEnv
    agent: Agent
    network: nn.Module
    optimizer: optax.GradientTransformation | None = None
    shards: Shards = SINGLE

    def descent(self, params: PyTree) -> FlatOptimizer:
        """How a gradient step is taken on parameters of this tree."""
        config, unravel = self.config, ravel_pytree(params)[1]
        return FlatOptimizer(
            config.max_grad_norm,
            config.ewma_center_of_mass,
            config.target_kl,
            self.optimizer,
            unravel,
        )

    @property
    def sharded(self) -> PPOState:
        """Which parts of the state have a row per environment."""
        same: dict[str, Any] = dict.fromkeys(PPOState._fields, False)
        scaler = reward_scaling.SHARDED if self.config.scale_rewards else None
        return PPOState(**same | {"reward_scaler": scaler, "vector": self.vector.sharded})

    def init(self, key: Key) -> PPOState:
        """Parameters, normalisers, optimiser, environments, counter."""
        key_params, key_vector, key = jax.random.split(key, 3)
        policy = self.agent.init(key_params)
        learner = self.descent(policy.params).init(ravel_pytree(policy.params)[0])
        state = PPOState(
            policy=policy,
            optimizer=learner.optimizer,
            proximal=learner.proximal,
            reward_scaler=reward_scaling.init(self.vector.num_envs)
            if self.config.scale_rewards
            else None,
            vector=self.vector.init(self.shards.own(key_vector)),
            key=key,
            iteration=jnp.zeros((), jnp.int32),
        )
        return strip_weak_types(state)

    def begin_from(self, state: PPOState, policy: Policy) -> PPOState:
        """A first state with the parameters and the normaliser of another run's policy."""
        learner = self.descent(policy.params).init(ravel_pytree(policy.params)[0])
        return state._replace(policy=policy, optimizer=learner.optimizer, proximal=learner.proximal)

    def step(self, state: PPOState) -> tuple[PPOState, Metrics]:
        """One iteration: roll out, estimate advantages, optimise, renew the statistics."""
        key_rollout, key_update, key_starts, key = jax.random.split(state.key, 4)
        vector, seen, episodes = self._rollout(state, self.shards.own(key_rollout))
        scaler, batch = self._estimate(state.reward_scaler, seen)
        learner, metrics = self._optimize(state, batch, self.shards.own(key_update))
        observation_moments = state.policy.observation_moments
        if observation_moments is not None:
            # Only now: rollout and loss must see the same statistics, or the first ratio is not 1.
            observation_moments = moments.update(
                observation_moments, seen.transition.observation, self.shards.axis_name
            )
        state = PPOState(
            policy=Policy(
                ravel_pytree(state.policy.params)[1](learner.params), observation_moments
            ),
            optimizer=learner.optimizer,
            proximal=learner.proximal,
            reward_scaler=scaler,
            vector=self.vector.refresh(vector, self.shards.own(key_starts), self._progress(state)),
            key=key,
            iteration=state.iteration + 1,
        )
        return state, episodes | metrics

    def _progress(self, state: PPOState) -> Progress:
        """How far the run has come once the present iteration is over."""
        return Progress(state.iteration + 1, self.config.num_envs * self.config.num_steps)

    def _apply(self, policy: Policy, observation: Array, method: str = "__call__") -> Any:
        return apply(self.network, policy, observation, method)

    def _rollout(self, state: PPOState, key: Key) -> tuple[VectorState, Trajectory, Metrics]:
        """T steps in every environment with the present policy, and the values of all successors."""
        space, squash = self.vector.env.action_space, self.config.network.squash_actions
        value = partial(self._apply, state.policy, method="value")

        def act(memory: tuple, view: View, key: Key) -> tuple[Array, tuple, Decision]:
            distribution, value = self._apply(state.policy, view.observation)
            sample = distribution.sample(key)
            decision = Decision(sample, distribution.log_prob(sample), value)
            return scale_action(sample, space, squash), memory, decision

        vector, _, rollout, episodes = collect(
            self.vector, state.vector, (), act, self.config.num_steps, key
        )
        last_value = value(vector.observation)
        next_value = bootstrap(rollout, rollout.extras.value, last_value, value)
        return vector, Trajectory(rollout.transition, rollout.extras, next_value), episodes

    def _estimate(
        self, scaler: RewardScaler | None, seen: Trajectory
    ) -> tuple[RewardScaler | None, Batch]:
        """(scaler, Batch): advantages and value targets, flattened to [T·N, ...]; renews the reward scaler."""
        config, axis_name = self.config, self.shards.axis_name
        transition, decision = seen.transition, seen.decision
        ended = transition.terminated | transition.truncated
        scaler, reward = reward_scaling.scale(
            scaler, transition.reward, ended, config.gamma, axis_name
        )
        advantage = returns.gae(
            reward,
            decision.value,
            seen.next_value,
            transition.terminated,
            transition.truncated,
            gamma=config.gamma,
            gae_lambda=config.gae_lambda,
        )
        target = advantage + decision.value
        if config.normalize_advantages == "batch":
            advantage = losses.normalize_advantage(advantage, axis_name, transition.weight)
        batch = Batch(
            observation=transition.observation,
            sample=decision.sample,
            log_probability=decision.log_probability,
            value=decision.value,
            advantage=advantage,
            target=target,
            weight=losses.unit_weight(transition.weight, axis_name),
        )
        return scaler, minibatch.flatten_time(batch)

    def _optimize(self, state: PPOState, batch: Batch, key: Key) -> tuple[Learner, Metrics]:
        """`num_epochs` passes of gradient steps over shuffled minibatches: (learner, metrics)."""
        config, shards, rows = self.config, self.shards, len(batch.value)
        elapsed = state.iteration.astype(jnp.float32) / (
            config.total_steps // (config.num_envs * config.num_steps)
        )
        annealed = 1.0 - jnp.minimum(elapsed, 1.0) if config.anneal_learning_rate else 1.0
        learning_rate = jnp.asarray(config.learning_rate * annealed, jnp.float32)
        flat, unravel = ravel_pytree(state.policy.params)
        descent = self.descent(state.policy.params)

        def one_minibatch(
            carry: tuple[Learner, Array], draw: tuple
        ) -> tuple[tuple[Learner, Array], dict[str, Array]]:
            learner, total = carry
            indices, advantage, key = draw
            rows = minibatch.take(batch, indices)._replace(advantage=advantage)
            grad, seen = minibatch.mean_over_tiles(
                partial(self._gradient, state.policy, unravel, learner), rows, key
            )
            grad, kl = shards.mean((grad, seen["kl"]))
            learner = descent.step(learner, grad, kl, learning_rate)
            return (learner, total + grad), seen | {
                "gradient_norm": jnp.linalg.norm(grad),
                "taken": ~learner.stopped,
            }

        def one_epoch(learner: Learner, key: Key) -> tuple[Learner, dict[str, Array]]:
            key_shuffle, key_loss = jax.random.split(key)
            indices = minibatch.shuffled_indices(
                key_shuffle, rows, config.minibatch_size // shards.devices
            )
            advantage, weight = minibatch.take((batch.advantage, batch.weight), indices)
            if config.normalize_advantages == "minibatch":
                normalize = jax.vmap(
                    partial(losses.normalize_advantage, axis_name=shards.axis_name)
                )
                advantage = normalize(advantage, weight=weight)
            draws = (indices, advantage, jax.random.split(key_loss, len(indices)))
            (learner, total), seen = jax.lax.scan(
                one_minibatch, (learner, jnp.zeros_like(flat)), draws
            )
            return learner, seen | {"batch_gradient_norm": jnp.linalg.norm(total / len(indices))}

        learner = Learner(flat, state.optimizer, state.proximal, jnp.zeros((), bool))
        learner, seen = jax.lax.scan(one_epoch, learner, jax.random.split(key, config.num_epochs))
        learner = learner._replace(
            params=outer_loop.outer_step(flat, learner.params, config.outer_step_size)
        )
        # A thousand rows tell how far the policy has moved, and cost nothing beside the epochs.
        probe = jax.tree.map(lambda leaf: leaf[:: -(-rows // 1024)], batch)
        policy = state.policy._replace(params=unravel(learner.params))
        moved = (
            self._apply(policy, probe.observation)[0].log_prob(probe.sample) - probe.log_probability
        )
        kl = losses.kl_estimators(moved)[1].mean()
        metrics = outer_loop.update_metrics(
            seen, kl, config.num_envs * config.num_steps, config.minibatch_size
        )
        metrics["explained_variance"] = Mean.of(
            losses.explained_variance(batch.value, batch.target)
        )
        return learner, metrics | {"learning_rate": Mean.of(learning_rate)}

    def _gradient(
        self, policy: Policy, unravel: Any, learner: Learner, rows: Batch, key: Key
    ) -> tuple[Array, dict]:
        """Of the loss, with respect to the parameters as one vector: (gradient, diagnostics)."""
        anchor = rows.log_probability
        if learner.proximal is not None:
            proximal = policy._replace(params=unravel(learner.proximal.mean))
            anchor = self._apply(proximal, rows.observation)[0].log_prob(rows.sample)
        params = unravel(learner.params)
        grad, seen = jax.grad(self._loss, has_aux=True)(
            params, policy.observation_moments, rows, anchor, key
        )
        return ravel_pytree(grad)[0], seen

    def _loss(
        self,
        params: PyTree,
        observation_moments: Moments | None,
        rows: Batch,
        anchor: Array,
        key: Key,
    ) -> tuple[Array, dict[str, Array]]:
        """policy loss + c_v · value loss − c_e · entropy, each a mean over the rows; and diagnostics.

        The clip holds the policy to the one that gave `anchor` its log-probabilities: the rollout's
        own, or an average.
        """
        config, mean = self.config, partial(losses.weighted_mean, weight=rows.weight)
        distribution, value = self._apply(Policy(params, observation_moments), rows.observation)
        log_probability = distribution.log_prob(rows.sample)
        advantage = rows.advantage * losses.importance(anchor, rows.log_probability)
        policy_loss = mean(
            losses.clipped_surrogate(log_probability, anchor, advantage, config.clip_epsilon)
        )
        value_loss = mean(
            losses.clipped_value_loss(value, rows.value, rows.target, config.value_clip_epsilon)
        )
        entropy = mean(distribution.entropy(key))
        loss = (
            policy_loss
            + config.value_coefficient * value_loss
            - config.entropy_coefficient * entropy
        )
        seen = {
            "loss": loss,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
        }
        log_ratio = log_probability - rows.log_probability
        return loss, seen | losses.ratio_diagnostics(log_ratio, config.clip_epsilon, rows.weight)
