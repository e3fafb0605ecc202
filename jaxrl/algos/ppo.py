"""Proximal policy optimisation (Schulman et al. 2017, arXiv 1707.06347), top to bottom.

One iteration: roll out T steps in N environments with the current policy; estimate advantages; take `num_epochs`
passes of clipped-surrogate gradient steps over shuffled minibatches; renew the normalisers and the start pool.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from jaxrl.config import check, number, option, size
from jaxrl.core import losses, minibatch, moments, returns, reward_scaling, truncation
from jaxrl.core.moments import Moments
from jaxrl.core.reward_scaling import RewardScaler
from jaxrl.core.tree import select_tree, strip_weak_types
from jaxrl.envs.api import Environment
from jaxrl.envs.starts import Fresh, Pool, Starts
from jaxrl.envs.vector import VectorEnv, VectorState, episode_metrics
from jaxrl.nn.actor_critic import ActorCritic, NetworkConfig, check_network, scale_action
from jaxrl.types import Algorithm, Array, Key, Mean, Metrics, PyTree


@struct.dataclass
class PPOConfig:
    """Settings of PPO. Real numbers are traced: a sweep over them compiles once."""

    total_steps: int = size(1_000_000)
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
    normalize_advantages: Literal["minibatch", "batch", "none"] = option("minibatch")
    """Give advantages mean 0 and deviation 1 over each minibatch, over the whole batch, or not at all."""
    normalize_observations: bool = option(False)
    """Standardise observations by running statistics, which are saved with the policy."""
    scale_rewards: bool = option(False)
    """Divide rewards by the running deviation of the discounted return; for learning only."""
    starts: Literal["fresh", "pool"] = option("fresh")
    """Begin episodes with the environment's own reset, or draw them from a pool renewed every iteration."""
    pool_size: int = size(1024)
    """Starts kept when starts is pool."""
    network: NetworkConfig = NetworkConfig()


class Policy(NamedTuple):
    """What inference needs."""

    params: PyTree
    observation_moments: Moments | None


class PPOState(NamedTuple):
    """Everything that resuming needs."""

    policy: Policy
    optimizer: PyTree
    reward_scaler: RewardScaler | None
    vector: VectorState
    key: Key
    iteration: Array  # int32


class Rollout(NamedTuple):
    """What is kept of each transition, [T, N, ...]."""

    observation: Array
    sample: Array  # the distribution's own sample, before it is scaled to the action space
    log_probability: Array
    value: Array
    reward: Array
    terminated: Array
    truncated: Array


class Batch(NamedTuple):
    """What the loss reads of each transition, [T·N, ...]."""

    observation: Array
    sample: Array
    log_probability: Array
    value: Array
    advantage: Array
    target: Array


def ppo(env: Environment, config: PPOConfig, starts: Starts | None = None) -> Algorithm:
    """PPO for `env`. `starts`, when given, replaces the start distribution that `config` names."""
    check(config)
    check_network(config.network, env.observation_space, env.action_space)
    minibatch.check_sizes(config.total_steps, config.num_envs, config.num_steps, config.minibatch_size)
    samples_per_step = config.num_envs * config.num_steps
    if starts is None:
        starts = Pool(env, config.pool_size) if config.starts == "pool" else Fresh(env)
    learner = PPO(config, VectorEnv(env, starts, config.num_envs))
    return Algorithm(
        init=learner.init,
        step=learner.step,
        policy=lambda state: state.policy,
        memory=lambda: (),
        act=learner.act,
        samples_per_step=samples_per_step,
        num_iterations=config.total_steps // samples_per_step,
    )


@dataclass(frozen=True)
class PPO:
    """The learner's functions, over the configuration and the environments that they share."""

    config: PPOConfig
    vector: VectorEnv

    @cached_property
    def network(self) -> ActorCritic:
        """The flax module; its parameters live in the policy."""
        env = self.vector.env
        return ActorCritic(self.config.network, env.action_space, len(env.observation_space.shape))

    @cached_property
    def optimizer(self) -> optax.GradientTransformation:
        """Global-norm clipping, then Adam's direction; `_descend` applies the learning rate."""
        return optax.chain(optax.clip_by_global_norm(self.config.max_grad_norm), optax.scale_by_adam(eps=1e-5))

    def init(self, key: Key) -> PPOState:
        """Parameters, normalisers, optimiser, environments, counter."""
        config, shape = self.config, self.vector.env.observation_space.shape
        key_params, key_vector, key = jax.random.split(key, 3)
        params = self.network.init(key_params, jnp.zeros((1, *shape)))
        state = PPOState(
            policy=Policy(params, moments.init(shape) if config.normalize_observations else None),
            optimizer=self.optimizer.init(params),
            reward_scaler=reward_scaling.init(config.num_envs) if config.scale_rewards else None,
            vector=self.vector.init(key_vector),
            key=key,
            iteration=jnp.zeros((), jnp.int32),
        )
        return strip_weak_types(state)

    def act(self, policy: Policy, memory: tuple, observation: Array, key: Key, deterministic: bool) -> tuple:
        """One environment's action, the mode or a sample: (action, memory)."""
        distribution, _ = self._apply(policy, observation)
        sample = distribution.mode() if deterministic else distribution.sample(key)
        return self._scale(sample), memory

    def step(self, state: PPOState) -> tuple[PPOState, Metrics]:
        """One iteration: roll out, estimate advantages, optimise, renew the statistics."""
        key_rollout, key_update, key_starts, key = jax.random.split(state.key, 4)
        vector, rollout, next_value, episodes = self._rollout(state, key_rollout)
        scaler, batch = self._estimate(state.reward_scaler, rollout, next_value)
        params, optimizer, metrics = self._optimize(state, batch, key_update)
        observation_moments = state.policy.observation_moments
        if observation_moments is not None:
            # Only now: rollout and loss must see the same statistics, or the first ratio is not 1.
            observation_moments = moments.update(observation_moments, rollout.observation.astype(jnp.float32))
        state = PPOState(
            policy=Policy(params, observation_moments),
            optimizer=optimizer,
            reward_scaler=scaler,
            vector=self.vector.refresh(vector, key_starts),
            key=key,
            iteration=state.iteration + 1,
        )
        return state, episodes | metrics

    def _apply(self, policy: Policy, observation: Array, method: str = "__call__") -> Any:
        if policy.observation_moments is not None:
            observation = moments.normalize(policy.observation_moments, observation.astype(jnp.float32))
        return self.network.apply(policy.params, observation, method=method)

    def _scale(self, sample: Array) -> Array:
        return scale_action(sample, self.vector.env.action_space, self.config.network.squash_actions)

    def _rollout(self, state: PPOState, key: Key) -> tuple[VectorState, Rollout, Array, Metrics]:
        """T steps in N environments: (environments, Rollout, value of each successor [T, N], episode metrics)."""
        slots = truncation.num_slots(self.config.num_steps, self.vector.starts.shortest)

        def one_step(carry: tuple, key: Key) -> tuple[tuple, tuple]:
            vector, finals = carry
            key_sample, key_env = jax.random.split(key)
            distribution, value = self._apply(state.policy, vector.observation)
            sample = distribution.sample(key_sample)
            vector, seen = self.vector.step(vector, self._scale(sample), key_env)
            finals = truncation.store(finals, seen.final_observation, seen.truncated)
            log_probability = distribution.log_prob(sample)
            ends = (seen.terminated, seen.truncated)
            kept = Rollout(seen.observation, sample, log_probability, value, seen.reward, *ends)
            return (vector, finals), (kept, episode_metrics(seen))

        carry = (state.vector, truncation.init(state.vector.observation, slots))
        keys = jax.random.split(key, self.config.num_steps)
        (vector, (finals, _)), (rollout, episodes) = jax.lax.scan(one_step, carry, keys)
        final_value = truncation.scatter(self._apply(state.policy, finals, "value"), rollout.truncated)
        last_value = self._apply(state.policy, vector.observation, "value")
        next_value = returns.successor_values(rollout.value, last_value, rollout.truncated, final_value)
        return vector, rollout, next_value, jax.tree.map(jnp.sum, episodes)

    def _estimate(self, scaler: RewardScaler | None, rollout: Rollout, next_value: Array) -> tuple[Any, Batch]:
        """(scaler, Batch): advantages and value targets, flattened to [T·N, ...]; renews the reward scaler."""
        config, reward, ends = self.config, rollout.reward, (rollout.terminated, rollout.truncated)
        if scaler is not None:
            scaler, reward = reward_scaling.scale(scaler, reward, ends[0] | ends[1], config.gamma)
        decay: dict[str, Any] = {"gamma": config.gamma, "gae_lambda": config.gae_lambda}
        advantage = returns.gae(reward, rollout.value, next_value, *ends, **decay)
        target = advantage + rollout.value
        if config.normalize_advantages == "batch":
            advantage = losses.normalize_advantage(advantage)
        return scaler, minibatch.flatten_time(Batch(*rollout[:4], advantage, target))

    def _optimize(self, state: PPOState, batch: Batch, key: Key) -> tuple[PyTree, PyTree, Metrics]:
        """`num_epochs` passes of gradient steps over shuffled minibatches: (params, optimiser, metrics)."""
        config, size = self.config, len(batch.value)
        elapsed = jnp.minimum(state.iteration.astype(jnp.float32) / (config.total_steps // size), 1.0)
        learning_rate = jnp.asarray(config.learning_rate * (1.0 - elapsed if config.anneal_learning_rate else 1.0))

        def one_minibatch(carry: tuple, draw: tuple[Array, Key]) -> tuple[tuple, dict[str, Array]]:
            params, optimizer, stopped = carry
            indices, key = draw
            policy = state.policy._replace(params=params)
            new, seen = self._descend(policy, optimizer, minibatch.take(batch, indices), learning_rate, key)
            if config.target_kl is not None:
                stopped |= seen["kl"] > config.target_kl
                new = select_tree(stopped, (params, optimizer), new)
            return (*new, stopped), seen | {"taken": ~stopped}

        def one_epoch(carry: tuple, key: Key) -> tuple[tuple, dict[str, Array]]:
            key_shuffle, key_entropy = jax.random.split(key)
            indices = minibatch.shuffled_indices(key_shuffle, size, config.minibatch_size)
            return jax.lax.scan(one_minibatch, carry, (indices, jax.random.split(key_entropy, len(indices))))

        carry = (state.policy.params, state.optimizer, jnp.zeros((), bool))
        carry, seen = jax.lax.scan(one_epoch, carry, jax.random.split(key, config.num_epochs))
        metrics = {name: Mean.of(values) for name, values in seen.items() if name != "ratio_error"}
        metrics["first_ratio_error"] = Mean.of(seen["ratio_error"][0, 0])
        metrics["explained_variance"] = Mean.of(losses.explained_variance(batch.value, batch.target))
        metrics["learning_rate"] = Mean.of(learning_rate)
        return carry[0], carry[1], metrics

    def _descend(self, policy: Policy, optimizer: PyTree, batch: Batch, learning_rate: Array, key: Key) -> tuple:
        """One gradient step on one minibatch: ((params, optimiser), diagnostics)."""
        params, observation_moments = policy
        grad, seen = jax.grad(self._loss, has_aux=True)(params, observation_moments, batch, key)
        direction, optimizer = self.optimizer.update(grad, optimizer)
        params = jax.tree.map(lambda leaf, step: leaf - learning_rate * step, params, direction)
        return (params, optimizer), seen | {"gradient_norm": optax.tree.norm(grad)}

    def _loss(self, params: PyTree, observation_moments: Moments | None, batch: Batch, key: Key) -> tuple[Array, dict]:
        """policy loss + c_v · value loss − c_e · entropy, each a mean over the minibatch; and diagnostics."""
        config = self.config
        distribution, value = self._apply(Policy(params, observation_moments), batch.observation)
        log_probability = distribution.log_prob(batch.sample)
        log_ratio = log_probability - batch.log_probability
        advantage = batch.advantage
        if config.normalize_advantages == "minibatch":
            advantage = losses.normalize_advantage(advantage)
        surrogate = losses.clipped_surrogate(log_probability, batch.log_probability, advantage, config.clip_epsilon)
        policy_loss = surrogate.mean()
        value_loss = losses.clipped_value_loss(value, batch.value, batch.target, config.value_clip_epsilon).mean()
        entropy = distribution.entropy(key).mean()
        loss = policy_loss + config.value_coefficient * value_loss - config.entropy_coefficient * entropy
        return loss, {
            "loss": loss,
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "kl": losses.kl_estimators(log_ratio)[1].mean(),
            "clip_fraction": losses.clip_fraction(log_ratio, config.clip_epsilon).mean(),
            "ratio_error": jnp.max(jnp.abs(jnp.exp(log_ratio) - 1.0)),
        }
