"""An algorithm for datasets that acts as well: half of each batch is what it has just seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jaxrl.core.tree import strip_weak_types
from jaxrl.data.dataset import Dataset
from jaxrl.data.interaction import Interaction, Learns
from jaxrl.data.off_policy import OffPolicy, OffPolicyState
from jaxrl.data.replay import Replay
from jaxrl.data.transitions import Batch
from jaxrl.envs.api import Environment
from jaxrl.envs.starts.fresh import Fresh
from jaxrl.envs.vector import VectorEnv
from jaxrl.errors import JaxrlError
from jaxrl.nn.action_units import unscale_action
from jaxrl.types import Agent, Algorithm, Array, Budget, Key, Log, Metrics, PyTree, View

if TYPE_CHECKING:
    from jaxrl.data import offline


@dataclass(frozen=True, kw_only=True)
class Mixed(Replay):
    """A replay buffer whose samples are half its own, and half a dataset's.

    Of an odd number the dataset has one more. Rewards are (reward + shift) · scale.
    """

    dataset: Dataset
    env: Environment
    reward_scale: float | Array = 1.0
    reward_shift: float | Array = 0.0

    def sample(self, log: Log, key: Key, batch_size: int, gamma: float | Array) -> Batch:
        """`batch_size` transitions, in random order: a learner may treat the first ones apart."""
        key_old, key_new, key_order = jax.random.split(key, 3)
        new = batch_size // 2
        old = self.dataset.sample(key_old, batch_size - new, gamma, self.env.action_space)
        order = jax.random.permutation(key_order, batch_size)
        batch: Batch = jax.tree.map(
            lambda *halves: jnp.concatenate(halves)[order],
            old,
            super().sample(log, key_new, new, gamma),
        )
        return replace(batch, reward=self.reward_scale * (batch.reward + self.reward_shift))


@dataclass(frozen=True)
class Online:
    """A step in one environment before each gradient step, of what learns from a dataset.

    It acts by the first mode of its agent, with clipped normal noise of `exploration_noise` beside.
    The statistics of observations stay the dataset's.
    """

    config: offline.OfflineConfig
    env: Environment
    dataset: Dataset
    agent: Agent
    learns: offline.Learns

    def algorithm(self) -> Algorithm:
        """The algorithm, to be trained for as many gradient steps as the configuration says."""
        config = self.config
        if self.agent.value is None:
            raise JaxrlError("online is True, but this algorithm has no critic: leave it out.")
        if config.batch_size < 2:
            raise JaxrlError("batch_size is 1, but online needs 2: one of each half.")
        updates = config.updates_per_iteration
        return Algorithm(
            init=self.init,
            step=self.step,
            policy=lambda state: state.learner.policy,
            agent=self.agent,
            budget=Budget(
                "gradient steps",
                updates,
                config.total_updates // updates,
                also={"transitions": updates},
            ),
            begin_from=self.acting.begin_from,
        )

    @property
    def interaction(self) -> Interaction:
        """One environment, and a buffer that forgets nothing."""
        config = self.config
        replay = Mixed(
            capacity=config.total_updates,
            num_envs=1,
            dataset=self.dataset,
            env=self.env,
            reward_scale=config.reward_scale,
            reward_shift=config.reward_shift,
        )
        return Interaction(
            vector=VectorEnv(self.env, Fresh(self.env), 1),
            replay=replay,
            num_steps=config.updates_per_iteration,
            batch_size=config.batch_size,
            warm_up=0,
            warm_up_hold=1,
            updates_per_transition=1.0,
            gamma=config.gamma,
        )

    @property
    def rules(self) -> Learns:
        """What is done with the learner, as an interaction asks for it."""
        return Learns(self.learns.begin, self._explore, self.learns.update, self._value)

    @property
    def acting(self) -> OffPolicy:
        """The same beginning as TD3's; its step is not, for it renews the statistics."""
        return OffPolicy(self.interaction, self.agent, self.rules)

    def init(self, key: Key) -> OffPolicyState:
        """Networks, optimisers, the dataset's statistics, an environment, an empty buffer."""
        key_policy, key_env, key = jax.random.split(key, 3)
        policy = self.agent.init(key_policy)
        if policy.observation_moments is not None:
            policy = replace(policy, observation_moments=self.dataset.moments)
        experience = self.interaction.init(key_env)
        state = OffPolicyState(None, experience, key, jnp.zeros((), jnp.int32))
        return strip_weak_types(self.acting.begin_from(state, policy))

    def step(self, state: OffPolicyState) -> tuple[OffPolicyState, Metrics]:
        """One iteration: act and learn in turn."""
        key_run, key = jax.random.split(state.key)
        experience, learner, _, metrics = self.interaction.run(
            state.experience, state.learner, key_run, self.rules
        )
        return OffPolicyState(learner, experience, key, state.iteration + 1), metrics

    def _explore(self, learner: Any, view: View, key: Key) -> tuple[Array, Array]:
        """Actions [N, d] in [-1, 1], and what the critic counts beside the reward, [N]."""
        mode, policy = next(iter(self.agent.modes.values())), _as_it_reads(learner)
        key_act, key_noise = jax.random.split(key)
        keys = jax.random.split(key_act, len(view.first))
        memory = self.agent.memory(policy)
        action, _ = jax.vmap(lambda view, key: mode.act(policy, memory, view, key))(view, keys)
        action = unscale_action(action, self.env.action_space)
        noise = self.config.exploration_noise * jax.random.normal(key_noise, action.shape)
        bonus = jnp.full(len(view.first), self.config.reward_shift, jnp.float32)
        return jnp.clip(action + noise, -1.0, 1.0), bonus

    def _value(self, learner: Any, observation: PyTree, key: Key) -> Array:
        """What the critics expect of the policy, in the unit of unscaled rewards, [N]."""
        policy, value = _as_it_reads(learner), self.agent.value
        assert value is not None
        keys, space = jax.random.split(key, len(observation)), self.env.action_space
        memory = self.agent.memory(policy)

        def one(observation: Array, key: Key) -> Array:
            nothing = jnp.zeros((), jnp.float32)
            action = jnp.zeros(space.shape, space.dtype)
            view = View(observation, nothing, action, jnp.zeros((), bool))
            return value(policy, memory, view, key)

        return jax.vmap(one)(observation, keys) / self.config.reward_scale


def _as_it_reads(learner: Any) -> Any:
    """The learner's policy, for observations that are normalised already."""
    return replace(learner.policy, observation_moments=None)
