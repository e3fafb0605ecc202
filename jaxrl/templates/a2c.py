"""Synchronous advantage actor-critic (A2C; Mnih et al. 2016, arXiv 1602.01783), top to bottom.

One iteration: roll out T steps in N environments with the current policy, estimate advantages, and
take one gradient step on the whole rollout. Whatever the action space, the observations, the
network, its memory and the starts are: the parts that are imported know, and this file does not.

An installed package gives it a name by an entry point, "package.module:a2c", of jaxrl.algorithms.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.config import budget, check, configuration, number, option, part, size
from jaxrl.core import adam, losses, returns
from jaxrl.core.shards import SINGLE
from jaxrl.core.tree import strip_weak_types
from jaxrl.envs.api import Environment
from jaxrl.envs.collect import Rollout, bootstrap, collect, views
from jaxrl.envs.starts.api import StartsConfig
from jaxrl.envs.starts.family import STARTS
from jaxrl.envs.vector import VectorEnv, VectorState, begin_memory, make_vector, memories
from jaxrl.errors import JaxrlError
from jaxrl.nn.action_units import scale_action
from jaxrl.nn.actor_critic import NETWORKS, PolicyNetworkConfig
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
    View,
)


@configuration
class A2CConfig:
    """Settings of A2C. Real numbers are traced: a sweep over them compiles once."""

    total_steps: int = budget(1_000_000, unit="transitions")
    """Environment transitions to train for, over all environments."""
    num_envs: int = size(16)
    """Parallel environments, N."""
    num_steps: int = size(16)
    """Steps per rollout in each environment, T."""
    learning_rate: float = number(1e-3, 0)
    """Adam's step size."""
    gamma: float = number(0.99, 0, 1)
    """Discount of future rewards."""
    gae_lambda: float = number(0.95, 0, 1)
    """Trace of the advantage estimate; 1: the n-step returns of the paper."""
    entropy_coefficient: float = number(0.01, 0)
    """Weight of the entropy bonus."""
    value_coefficient: float = number(0.5, 0)
    """Weight of the value loss."""
    max_grad_norm: float = number(0.5, 0, open_low=True, infinite=True)
    """Gradients are scaled down to this global norm; inf: never."""
    normalize_observations: bool = option(False)
    """Standardise observations by running statistics, which are saved with the policy."""
    starts: StartsConfig = part(STARTS, "fresh")
    """Where episodes begin."""
    stagger: bool = option(False)
    """End first episodes at random times, so that time limits do not end all episodes at once."""
    network: PolicyNetworkConfig = part(NETWORKS, "actor-critic")
    """The policy's network and the critic's."""


class A2CState(NamedTuple):
    """Everything that resuming needs."""

    policy: Policy
    optimizer: PyTree
    vector: VectorState
    memory: PyTree  # of the policy, before the next step: [N, ...]
    key: Key
    iteration: Array  # int32


class Decision(NamedTuple):
    """What the policy adds to each transition, [T, N, ...]."""

    sample: Array  # the distribution's own, before it is scaled to the action space
    value: Array


def a2c(env: Environment, config: A2CConfig, **inputs: Any) -> Algorithm[A2CState, Policy]:
    """A2C for `env`; `inputs` are what the configuration's start distribution reads from disk."""
    check(config)
    transitions = config.num_envs * config.num_steps
    if config.total_steps < transitions:
        raise JaxrlError(
            f"total_steps is {config.total_steps}, but one iteration takes {transitions}."
        )
    reader = reader_of(config.network.make(env.observation_space, env.action_space))
    vector = make_vector(env, config, SINGLE, inputs)
    learner = A2C(config, vector, a2c_agent(env, config), reader)
    return Algorithm(
        init=learner.init,
        step=learner.step,
        policy=lambda state: state.policy,
        agent=learner.agent,
        budget=Budget("transitions", transitions, config.total_steps // transitions),
        begin_from=lambda state, policy: state._replace(policy=policy),
    )


def a2c_agent(env: Environment, config: A2CConfig) -> Agent:
    """What acts with a policy of A2C: by the mode of its distribution, or by a sample of it."""
    return actor_critic_agent(
        config.network.make(env.observation_space, env.action_space),
        env.observation_space,
        env.action_space,
        squash_actions=config.network.squash_actions,
        normalize_observations=config.normalize_observations,
    )


@dataclass(frozen=True)
class A2C:
    """The learner's functions, over the configuration and the environments that they share."""

    config: A2CConfig
    vector: VectorEnv
    agent: Agent
    reader: Reader

    def init(self, key: Key) -> A2CState:
        """Parameters, optimiser, environments, counter."""
        key_policy, key_vector, key = jax.random.split(key, 3)
        policy = self.agent.init(key_policy)
        state = A2CState(
            policy=policy,
            optimizer=adam.init(policy.params),
            vector=self.vector.init(key_vector),
            memory=memories(self.reader.initial_memory, self.vector.num_envs),
            key=key,
            iteration=jnp.zeros((), jnp.int32),
        )
        return strip_weak_types(state)

    def step(self, state: A2CState) -> tuple[A2CState, Metrics]:
        """One iteration: roll out, take a gradient step, renew the statistics and the starts."""
        key_rollout, key_loss, key_starts, key = jax.random.split(state.key, 4)
        vector, memory, rollout, metrics = self.rollout(state, key_rollout)
        advantage = self.advantage(state.policy, vector, memory, rollout)

        def loss(params: PyTree) -> tuple[Array, Metrics]:
            return self.loss(
                replace(state.policy, params=params), state, rollout, advantage, key_loss
            )

        gradient, seen = jax.grad(loss, has_aux=True)(state.policy.params)
        gradient, norm = adam.clip_by_norm(gradient, self.config.max_grad_norm)
        params, optimizer = adam.descend(
            state.policy.params, gradient, state.optimizer, self.config.learning_rate
        )
        # Only now: rollout and loss must see the same statistics.
        policy = observe(replace(state.policy, params=params), rollout.transition.observation)
        iteration = state.iteration + 1
        progress = Progress(iteration, self.config.num_envs * self.config.num_steps)
        vector = self.vector.refresh(vector, key_starts, progress)
        metrics = metrics | seen | {"gradient_norm": Mean.of(norm)}
        return A2CState(policy, optimizer, vector, memory, key, iteration), metrics

    def rollout(self, state: A2CState, key: Key) -> tuple[VectorState, PyTree, Rollout, Metrics]:
        """T steps in every environment; the metrics are of the episodes that ended."""
        space, squash = self.vector.env.action_space, self.config.network.squash_actions

        def act(memory: PyTree, view: View, key: Key) -> tuple[Array, PyTree, Decision]:
            distribution, value, memory = self.reader.step(state.policy, memory, view)
            sample = distribution.sample(key)
            return scale_action(sample, space, squash), memory, Decision(sample, value)

        return collect(
            self.vector,
            state.vector,
            state.memory,
            act,
            self.config.num_steps,
            key,
            initial_memory=self.reader.initial_memory,
            critic_reads=self.reader.critic_reads,
        )

    def advantage(
        self, policy: Policy, vector: VectorState, memory: PyTree, rollout: Rollout
    ) -> Array:
        """Advantages [T, N]; a time limit bootstraps from the state in which it cut the episode."""

        def critic(kept: PyTree) -> Array:
            return self.reader.value(policy, kept)

        view = vector.view
        memory = begin_memory(view.first, self.reader.initial_memory, memory)
        last_value = critic(self.reader.critic_reads(memory, view))
        value = rollout.extras.value
        return returns.gae(
            rollout.transition.reward,
            value,
            bootstrap(rollout, value, last_value, critic),
            rollout.transition.terminated,
            rollout.transition.truncated,
            gamma=self.config.gamma,
            gae_lambda=self.config.gae_lambda,
        )

    def loss(
        self, policy: Policy, before: A2CState, rollout: Rollout, advantage: Array, key: Key
    ) -> tuple[Array, Metrics]:
        """policy loss + c_v · value loss − c_e · entropy, each a mean over the rollout."""
        config, reader, decision = self.config, self.reader, rollout.extras
        inputs = reader.inputs(before.memory, views(before.vector.view, rollout))
        # A row is a transition, or with a memory all steps of an environment.
        inputs, sample, advantage, target, weight = reader.rows(
            (
                inputs,
                decision.sample,
                advantage,
                advantage + decision.value,
                losses.unit_weight(rollout.transition.weight),
            )
        )
        distribution, value = reader.read(policy, inputs)

        def mean(x: Array) -> Array:
            return losses.weighted_mean(x, weight)

        policy_loss = -mean(distribution.log_prob(sample) * advantage)
        value_loss = mean(0.5 * jnp.square(value - target))
        entropy = mean(distribution.entropy(key))
        loss = (
            policy_loss
            + config.value_coefficient * value_loss
            - config.entropy_coefficient * entropy
        )
        seen = {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}
        return loss, {name: Mean.of(each) for name, each in seen.items()}
