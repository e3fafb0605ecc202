"""An algorithm that acts and learns in turn, made of what it does with its learner."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.core.tree import strip_weak_types
from jaxrl.data.interaction import Experience, Interaction, Learns, foreseen
from jaxrl.nn.policy import observe
from jaxrl.types import Agent, Algorithm, Array, Key, Metrics


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OffPolicyState:
    """Everything that resuming needs, of an algorithm that learns from a replay buffer."""

    learner: Any
    experience: Experience
    key: Key
    iteration: Array  # int32 []


@dataclass(frozen=True)
class OffPolicy:
    """An algorithm that acts and learns in turn, by what it does with its learner."""

    interaction: Interaction
    agent: Agent
    learns: Learns

    def algorithm(self, total_steps: int) -> Algorithm:
        """The algorithm, to be trained for so many transitions."""
        return Algorithm(
            init=self.init,
            step=self.step,
            policy=lambda state: state.learner.policy,
            agent=self.agent,
            budget=self.interaction.budget(total_steps),
            sharded=self.sharded,
            begin_from=self.begin_from,
        )

    @property
    def sharded(self) -> OffPolicyState:
        """A pytree prefix of the state: True where leaves have a row per environment."""
        replicated: Any = False
        return OffPolicyState(
            learner=replicated,
            experience=self.interaction.sharded,
            key=replicated,
            iteration=replicated,
        )

    def init(self, key: Key) -> OffPolicyState:
        """Networks, optimisers, environments, an empty replay buffer."""
        key_policy, key_vector, key = jax.random.split(key, 3)
        state = OffPolicyState(
            learner=None,
            experience=self.interaction.init(key_vector),
            key=key,
            iteration=jnp.zeros((), jnp.int32),
        )
        return strip_weak_types(self.begin_from(state, self.agent.init(key_policy)))

    def begin_from(self, state: OffPolicyState, policy: Any) -> OffPolicyState:
        """A first state with another run's policy: its critics and its normaliser too."""
        learner = self.learns.begin(policy)
        # A step splits it into three, which are fold_in of 0, 1 and 2.
        key_value = self.interaction.shards.own(jax.random.fold_in(state.key, 3))
        experience = self.interaction.foresee(
            state.experience,
            lambda observation: foreseen(self.learns, learner, observation, key_value),
        )
        return replace(state, learner=learner, experience=experience)

    def step(self, state: OffPolicyState) -> tuple[OffPolicyState, Metrics]:
        """One iteration: act and learn in turn, then renew the statistics and the starts."""
        key_run, key_starts, key = jax.random.split(state.key, 3)
        normalizes = state.learner.policy.observation_moments is not None
        experience, learner, observations, metrics = self.interaction.run(
            state.experience, state.learner, key_run, self.learns, keep_observations=normalizes
        )
        # Each observation counts once, and only from now on: an iteration sees the same statistics
        # throughout, and the replay buffer keeps what was observed.
        axis_name = self.interaction.shards.axis_name
        learner = replace(learner, policy=observe(learner.policy, observations, axis_name))
        iteration = state.iteration + 1
        experience = self.interaction.refresh(experience, key_starts, iteration)
        return OffPolicyState(learner, experience, key, iteration), metrics
