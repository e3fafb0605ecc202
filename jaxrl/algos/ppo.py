"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347), top to bottom.

One iteration: roll out T steps in N environments with the current policy; estimate advantages; take
`num_epochs` passes of clipped-surrogate gradient steps over shuffled minibatches; renew the
normalisers and the start pool.
Devices (`Shards`) roll out and shuffle environments of their own, and average their gradients.

What is shuffled are rows: transitions, or, of a policy with a memory, whole environments, whose
steps are read in turn from the memory that the rollout began with (`nn.readers`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree

from jaxrl.config import ON, budget, check, configuration, number, option, part, size
from jaxrl.core import ewma, gradient_noise, losses, minibatch, outer_loop, returns, reward_scaling
from jaxrl.core.ewma import Ewma
from jaxrl.core.flat_optimizer import FlatOptimizer, Learner
from jaxrl.core.reward_scaling import RewardScaler
from jaxrl.core.shards import SINGLE, Shards
from jaxrl.core.tree import strip_weak_types
from jaxrl.envs.api import Environment
from jaxrl.envs.collect import bootstrap, collect, views
from jaxrl.envs.starts.api import StartsConfig
from jaxrl.envs.starts.family import STARTS
from jaxrl.envs.vector import VectorEnv, VectorState, begin_memory, make_vector, memories
from jaxrl.errors import JaxrlError
from jaxrl.nn.action_units import scale_action
from jaxrl.nn.actor_critic import NETWORKS, PolicyNetworkConfig
from jaxrl.nn.optimizers import OPTIMIZERS, OptimizerConfig
from jaxrl.nn.policy import Policy, observe
from jaxrl.nn.readers import Reader, actor_critic_agent, reader_of
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
)

# Transitions of a batch that tell how far the policy has moved: nothing beside the epochs.
KL_ROWS = 1024


@configuration
class PPOConfig:
    """Settings of PPO. Real numbers are traced: a sweep over them compiles once."""

    total_steps: int = budget(1_000_000, unit="transitions")
    """Environment transitions to train for, over all environments."""
    num_envs: int = size(64, basic=True)
    """Parallel environments, N."""
    num_steps: int = size(128, basic=True)
    """Steps per rollout in each environment, T."""
    minibatch_size: int = size(1024, basic=True)
    """Transitions per gradient step; must divide num_envs * num_steps. With a memory: a multiple of
    num_steps, for whole environments are read."""
    num_epochs: int = size(4, basic=True)
    """Passes over each rollout."""
    learning_rate: float = number(2.5e-4, 0, needs={"optimizer": "adam"}, basic=True)
    """Adam's step size."""
    anneal_learning_rate: bool = option(True, needs={"optimizer": "adam"})
    """Lower the learning rate linearly to zero over the run."""
    gamma: float = number(0.99, 0, 1, basic=True)
    """Discount of future rewards."""
    gae_lambda: float = number(0.95, 0, 1, basic=True)
    """Trace of the generalised advantage estimate: 0 is one-step TD, 1 is Monte Carlo."""
    clip_epsilon: float = number(0.2, 0, open_low=True, infinite=True, basic=True)
    """How far the probability ratio may move from 1."""
    value_clip_epsilon: float = number(
        float("inf"), 0, open_low=True, infinite=True, needs={"value_coefficient": ON}
    )
    """How far the value may move from the rollout's in the value loss; inf: unclipped."""
    entropy_coefficient: float = number(0.01, 0, basic=True)
    """Weight of the entropy bonus."""
    value_coefficient: float = number(0.5, 0)
    """Weight of the value loss."""
    max_grad_norm: float = number(0.5, 0, open_low=True, infinite=True, needs={"optimizer": "adam"})
    """Gradients are scaled down to this global norm; inf: never."""
    target_kl: float | None = option(None, 0, open_low=True)
    """KL divergence beyond which an iteration takes no more gradient steps; None: never."""
    ewma_center_of_mass: float | None = option(None, 0)
    """PPO-EWMA: age in gradient steps of the average policy to clip around; None: no average."""
    outer_step_size: float = number(1.0, 0)
    """Share of the way to the optimised policy that an iteration goes; may exceed 1."""
    normalize_advantages: Literal["minibatch", "batch", "none"] = option("minibatch")
    """Standardise advantages over each minibatch, over the whole batch, or not at all."""
    normalize_observations: bool = option(False, basic=True)
    """Standardise observations by running statistics, which are saved with the policy."""
    scale_rewards: bool = option(False)
    """Divide rewards, for learning, by the running deviation of the discounted return, and clip
    them to ±10."""
    starts: StartsConfig = part(STARTS, "fresh")
    """Where episodes begin."""
    stagger: bool = option(False)
    """End first episodes at random times, so that time limits do not end all episodes at once."""
    network: PolicyNetworkConfig = part(NETWORKS, "actor-critic")
    """The policy's network and the critic's."""
    optimizer: OptimizerConfig = part(OPTIMIZERS, "adam")
    """How a gradient moves the parameters."""

    def env_sizes(self) -> dict[str, int]:
        """With a memory the rows of a minibatch, which are whole environments."""
        memory = getattr(self.network, "memory", None)
        if memory is None or memory.make() is None:
            return {}
        return {"minibatch_size / num_steps": self.minibatch_size // self.num_steps}

    @property
    def transitions_per_iteration(self) -> int:
        """The size of a batch, N · T."""
        return self.num_envs * self.num_steps

    @property
    def num_iterations(self) -> int:
        """How many whole iterations `total_steps` holds."""
        return self.total_steps // self.transitions_per_iteration


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class PPOState:
    """Everything that resuming needs."""

    policy: Policy
    optimizer: PyTree
    proximal: Ewma | None
    reward_scaler: RewardScaler | None
    vector: VectorState
    memory: PyTree  # of the policy, before the next step: [N, ...]
    key: Key
    iteration: Array  # int32


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Decision:
    """What the policy adds to each transition, [T, N, ...]."""

    sample: Array  # the distribution's own, before it is scaled to the action space
    log_probability: Array  # of the sample
    value: Array  # of the state it was taken in


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Trajectory:
    """A rollout as advantages are estimated from it, [T, N, ...]."""

    transition: Transition
    decision: Decision
    inputs: PyTree  # what the network reads of it, as its reader has it
    next_value: Array  # of the state that the action led to, before any reset


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Batch:
    """What the loss reads of each row: [T·N, ...], or with a memory [N, T, ...]."""

    inputs: PyTree  # the network's: observations, or sequences
    sample: Array  # the distribution's own, before it is scaled to the action space
    log_probability: Array  # under the rollout's policy
    value: Array  # by the rollout's critic
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
) -> Algorithm[PPOState, Policy]:
    """PPO for `env`.

    vector:    replaces the environments that `config` describes: guided ones, say, or ones that
               begin elsewhere.
    network:   replaces the actor-critic: a flax module as nn.readers describes it, with a memory or
               without.
    optimizer: replaces clipping, Adam and the learning rate: its updates of the tree of parameters
               are added as they are.
    inputs:    what the configuration's start distribution reads from disk.
    """
    check(config)
    minibatch.check_sizes(
        config.total_steps, config.num_envs, config.num_steps, config.minibatch_size
    )
    minibatch.check_standardised(
        config.normalize_advantages, config.minibatch_size, config.transitions_per_iteration
    )
    network = network or config.network.make(env.observation_space, env.action_space)
    reader = reader_of(network)
    minibatch.check_rows(
        config.minibatch_size,
        config.num_envs,
        config.num_steps,
        reader.transitions_per_row(config.num_steps),
        shards,
    )
    vector = vector or make_vector(env, config, shards, inputs)
    if vector.num_envs != shards.split("num_envs", config.num_envs):
        raise JaxrlError(
            f"num_envs is {config.num_envs}, but the vector has {vector.num_envs} environments."
        )
    agent = ppo_agent(env, config, network)
    optimizer = optimizer or config.optimizer.make()
    learner = PPO(config, vector, agent, reader, optimizer, shards)
    transitions = config.transitions_per_iteration
    gradient_steps = config.num_epochs * (transitions // config.minibatch_size)
    return Algorithm(
        init=learner.init,
        step=learner.step,
        policy=lambda state: state.policy,
        agent=agent,
        budget=Budget(
            unit="transitions",
            per_step=transitions,
            steps=config.num_iterations,
            also={"gradient steps": gradient_steps},
        ),
        sharded=learner.sharded,
        begin_from=learner.begin_from,
    )


def ppo_agent(env: Environment, config: PPOConfig, network: nn.Module | None = None) -> Agent:
    """What acts with a PPO policy: by the mode of its distribution, or by a sample of it."""
    return actor_critic_agent(
        network or config.network.make(env.observation_space, env.action_space),
        env.observation_space,
        env.action_space,
        squash_actions=config.network.squash_actions,
        normalize_observations=config.normalize_observations,
    )


@dataclass(frozen=True)
class PPO:
    """The learner's functions, over the configuration and the environments that they share."""

    config: PPOConfig
    vector: VectorEnv
    agent: Agent
    reader: Reader
    optimizer: optax.GradientTransformation | None = None
    shards: Shards = SINGLE

    @property
    def sharded(self) -> PPOState:
        """A pytree prefix of the state: True where leaves have a row per environment."""
        replicated: Any = False
        partitioned: Any = True
        return PPOState(
            policy=replicated,
            optimizer=replicated,
            proximal=replicated,
            reward_scaler=reward_scaling.SHARDED if self.config.scale_rewards else None,
            vector=self.vector.sharded,
            memory=partitioned,
            key=replicated,
            iteration=replicated,
        )

    def init(self, key: Key) -> PPOState:
        """Parameters, normalisers, optimiser, environments, counter."""
        key_params, key_vector, key = jax.random.split(key, 3)
        policy = self.agent.init(key_params)
        learner = self._descent(policy.params).init(policy.params)
        scaler = reward_scaling.init(self.vector.num_envs) if self.config.scale_rewards else None
        state = PPOState(
            policy=policy,
            optimizer=learner.optimizer,
            proximal=learner.proximal,
            reward_scaler=scaler,
            vector=self.vector.init(self.shards.own(key_vector)),
            memory=memories(self.reader.initial_memory, self.vector.num_envs),
            key=key,
            iteration=jnp.zeros((), jnp.int32),
        )
        return strip_weak_types(state)

    def begin_from(self, state: PPOState, policy: Policy) -> PPOState:
        """A first state with the parameters and the normaliser of another run's policy."""
        learner = self._descent(policy.params).init(policy.params)
        return replace(state, policy=policy, optimizer=learner.optimizer, proximal=learner.proximal)

    def step(self, state: PPOState) -> tuple[PPOState, Metrics]:
        """One iteration: roll out, estimate advantages, optimise, renew the statistics."""
        key_rollout, key_update, key_starts, key = jax.random.split(state.key, 4)
        vector, memory, seen, episodes = self._rollout(state, self.shards.own(key_rollout))
        scaler, batch = self._estimate(state.reward_scaler, seen)
        policy, learner, metrics = self._optimize(state, batch, self.shards.own(key_update))
        # Only now: rollout and loss must see the same statistics, or the first ratio is not 1.
        policy = observe(policy, seen.transition.observation, self.shards.axis_name)
        iteration = state.iteration + 1
        progress = Progress(iteration, self.config.transitions_per_iteration)
        state = PPOState(
            policy=policy,
            optimizer=learner.optimizer,
            proximal=learner.proximal,
            reward_scaler=scaler,
            vector=self.vector.refresh(vector, self.shards.own(key_starts), progress),
            memory=memory,
            key=key,
            iteration=iteration,
        )
        return state, episodes | metrics

    def _rollout(
        self, state: PPOState, key: Key
    ) -> tuple[VectorState, PyTree, Trajectory, Metrics]:
        """T steps in every environment: (its state, the policy's memory, trajectory, metrics).

        The metrics are of the episodes that ended.
        """
        reader, action_space = self.reader, self.vector.env.action_space
        squash = self.config.network.squash_actions

        def act(memory: PyTree, view: View, key: Key) -> tuple[Array, PyTree, Decision]:
            distribution, value, memory = reader.step(state.policy, memory, view)
            sample = distribution.sample(key)
            decision = Decision(sample, distribution.log_prob(sample), value)
            return scale_action(sample, action_space, squash), memory, decision

        vector, memory, rollout, episodes = collect(
            self.vector,
            state.vector,
            state.memory,
            act,
            self.config.num_steps,
            key,
            initial_memory=reader.initial_memory,
            critic_reads=reader.critic_reads,
        )
        critic = partial(reader.value, state.policy)
        begun = begin_memory(vector.view.first, reader.initial_memory, memory)
        last_value = critic(reader.critic_reads(begun, vector.view))
        trajectory = Trajectory(
            transition=rollout.transition,
            decision=rollout.extras,
            inputs=reader.inputs(state.memory, views(state.vector.view, rollout)),
            next_value=bootstrap(rollout, rollout.extras.value, last_value, critic),
        )
        return vector, memory, trajectory, episodes

    def _estimate(
        self, scaler: RewardScaler | None, seen: Trajectory
    ) -> tuple[RewardScaler | None, Batch]:
        """Advantages and value targets, as rows: (renewed scaler, batch)."""
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
            inputs=seen.inputs,
            sample=decision.sample,
            log_probability=decision.log_probability,
            value=decision.value,
            advantage=advantage,
            target=target,
            weight=losses.unit_weight(transition.weight, axis_name),
        )
        return scaler, self.reader.rows(batch)

    def _optimize(self, state: PPOState, batch: Batch, key: Key) -> tuple[Policy, Learner, Metrics]:
        """`num_epochs` passes of gradient steps over the batch: (policy, learner, metrics)."""
        config, shards = self.config, self.shards
        learning_rate = self._learning_rate(state.iteration)
        per_row = self.reader.transitions_per_row(config.num_steps)
        descent = self._descent(state.policy.params)

        def one_minibatch(
            learner: Learner, draw: tuple[Array, Array, Key]
        ) -> tuple[Learner, Array, dict[str, Array]]:
            indices, advantage, key = draw
            rows = replace(minibatch.take(batch, indices), advantage=advantage)
            gradient_of = partial(self._gradient, state.policy, descent, learner)
            gradient, seen = minibatch.mean_over_tiles(gradient_of, rows, key, per_row)
            gradient, kl = shards.mean((gradient, seen["kl"]))
            learner = descent.step(learner, gradient, kl, learning_rate)
            return learner, gradient, seen | {"taken": ~learner.stopped}

        def one_epoch(learner: Learner, key: Key) -> tuple[Learner, dict[str, Array]]:
            key_shuffle, key_loss = jax.random.split(key)
            indices = minibatch.shuffled_indices(
                key_shuffle, len(batch.value), config.minibatch_size // per_row // shards.devices
            )
            advantage = self._advantage_by_minibatch(batch, indices)
            draws = (indices, advantage, jax.random.split(key_loss, len(indices)))
            return gradient_noise.scan_minibatches(one_minibatch, learner, draws)

        start = descent.begin(state.policy.params, state.optimizer, state.proximal)
        learner, seen = jax.lax.scan(one_epoch, start, jax.random.split(key, config.num_epochs))
        params = outer_loop.outer_step(start.params, learner.params, config.outer_step_size)
        policy = replace(state.policy, params=descent.unravel(params))
        metrics = self._metrics(seen, policy, batch)
        if self.optimizer is None:  # another one has its own
            metrics |= {"learning_rate": Mean.of(learning_rate)}
        return policy, learner, metrics

    def _advantage_by_minibatch(self, batch: Batch, indices: Array) -> Array:
        """Advantages at `indices` [minibatches, rows], each set standardised if configured."""
        advantage, weight = minibatch.take((batch.advantage, batch.weight), indices)
        if self.config.normalize_advantages != "minibatch":
            return advantage
        normalize = partial(losses.normalize_advantage, axis_name=self.shards.axis_name)
        return jax.vmap(normalize)(advantage, weight=weight)

    def _gradient(
        self, policy: Policy, descent: FlatOptimizer, learner: Learner, rows: Batch, key: Key
    ) -> tuple[Array, dict[str, Array]]:
        """The gradient of the loss as one vector, and diagnostics."""

        def log_probability(params: Array) -> Array:
            return self._log_probability(replace(policy, params=descent.unravel(params)), rows)

        def loss(params: PyTree) -> tuple[Array, dict[str, Array]]:
            return self._loss(replace(policy, params=params), rows, anchor, key)

        anchor = ewma.anchor(learner.proximal, rows.log_probability, log_probability)
        return descent.gradient(loss, learner)

    def _loss(
        self, policy: Policy, rows: Batch, anchor: Array, key: Key
    ) -> tuple[Array, dict[str, Array]]:
        """policy loss + c_v · value loss − c_e · entropy, each a mean over rows; and diagnostics.

        `anchor` holds the log-probabilities of the samples under the policy that the clip is
        around: the rollout's, or an average of past ones (PPO-EWMA).
        """
        config = self.config
        mean = partial(losses.weighted_mean, weight=rows.weight)
        distribution, value = self.reader.read(policy, rows.inputs)
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
        diagnostics = losses.ratio_diagnostics(
            log_probability - rows.log_probability,
            log_probability - anchor,
            config.clip_epsilon,
            rows.weight,
        )
        return loss, seen | diagnostics

    def _log_probability(self, policy: Policy, rows: Batch) -> Array:
        """Log-probabilities of the rows' samples under a policy, one per transition."""
        distribution, _ = self.reader.read(policy, rows.inputs)
        return distribution.log_prob(rows.sample)

    def _metrics(self, seen: dict[str, Array], policy: Policy, batch: Batch) -> Metrics:
        """Metrics of the step to `policy`, from what its gradient steps have `seen`."""
        # KL(rollout's policy ‖ `policy`) in nats.
        per_row = self.reader.transitions_per_row(self.config.num_steps)
        rows = minibatch.spread(batch, max(KL_ROWS // per_row, 1))
        _, k3 = losses.kl_estimators(self._log_probability(policy, rows) - rows.log_probability)
        explained_variance = losses.explained_variance(batch.value, batch.target, batch.weight)
        return outer_loop.update_metrics(
            seen,
            k3.mean(),
            self.config.transitions_per_iteration,
            self.config.minibatch_size,
        ) | {"explained_variance": Mean.of(explained_variance)}

    def _learning_rate(self, iteration: Array) -> Array:
        """The learning rate of an iteration, float32 []."""
        elapsed = iteration.astype(jnp.float32) / self.config.num_iterations
        annealed = 1.0 - jnp.minimum(elapsed, 1.0) if self.config.anneal_learning_rate else 1.0
        return jnp.asarray(self.config.learning_rate * annealed, jnp.float32)

    def _descent(self, params: PyTree) -> FlatOptimizer:
        """How a gradient step is taken on parameters like these, kept as one vector."""
        _, unravel = ravel_pytree(params)
        return FlatOptimizer(
            max_grad_norm=self.config.max_grad_norm,
            center_of_mass=self.config.ewma_center_of_mass,
            target_kl=self.config.target_kl,
            own=self.optimizer,
            unravel=unravel,
        )
