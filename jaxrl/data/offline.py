"""Learning from a dataset alone: K gradient steps per iteration, on what is drawn from it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.config import budget, configuration, number, option, size
from jaxrl.core.moments import normalize_if_kept
from jaxrl.core.tree import strip_weak_types
from jaxrl.data.dataset import Dataset
from jaxrl.data.interaction import means
from jaxrl.data.online import Online
from jaxrl.data.transitions import Batch
from jaxrl.envs.api import Environment
from jaxrl.errors import JaxrlError
from jaxrl.types import Agent, Algorithm, Array, Budget, Key, Mean, Metrics


@configuration
class DatasetConfig:
    """Settings of every algorithm that learns from a dataset, whatever it draws from it."""

    total_updates: int = budget(100_000, unit="gradient steps")
    """Gradient steps to train for."""
    updates_per_iteration: int = size(1000)
    """Gradient steps per iteration: metrics are means over one."""
    normalize_observations: bool = option(False, basic=True)
    """Standardise observations by the dataset's statistics, which are saved with the policy."""
    dataset: str = option("", basic=True)
    """What to learn from: the name of a dataset (`jaxrl dataset list`), minari:ID, or a path."""


@configuration
class OfflineConfig(DatasetConfig):
    """Settings of every algorithm that learns from a dataset's transitions."""

    batch_size: int = size(256, basic=True)
    """Transitions per gradient step."""
    gamma: float = number(0.99, 0, 1, basic=True)
    """Discount of future rewards."""
    reward_scale: float = number(1.0, 0, open_low=True)
    """What rewards are multiplied by, once reward_shift is added."""
    reward_shift: float = number(0.0)
    """What is added to every reward."""
    online: bool = option(False, basic=True)
    """Act in the environment as well: a step before each gradient step, half of whose batch is
    drawn from what has been seen there. To go on from an offline run: init_from."""
    exploration_noise: float = number(0.1, 0, needs={"online": True})
    """Deviation of the normal noise on actions, which are clipped to [-1, 1]."""


class Learns(NamedTuple):
    """What an algorithm does with its learner L, which gradient steps change.

    L is a dataclass with a `policy`, which is one with `observation_moments`, or None for these;
    batches are normalised by them, and their rewards scaled.

    begin:  (policy) -> L, before its first gradient step.
    update: (L, Batch, key) -> (L, numbers by name).  One gradient step; a number that only some of
            them have is a Mean, of count 0 in the others.
    draw:   (L, key) -> what `update` reads in place of a Batch: windows, say, as it wants them.
    """

    begin: Callable[[Any], Any]
    update: Callable[[Any, Any, Key], tuple[Any, Mapping[str, Array | Mean]]]
    draw: Callable[[Any, Key], Any] | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class OfflineState:
    """Everything that resuming needs, of an algorithm that learns from a dataset."""

    learner: Any
    key: Key
    iteration: Array  # int32 []


@dataclass(frozen=True)
class Offline:
    """An algorithm that learns from a dataset, by what it does with its learner."""

    config: DatasetConfig  # an OfflineConfig, if transitions are to be drawn
    env: Environment
    dataset: Dataset
    agent: Agent
    learns: Learns

    def algorithm(self) -> Algorithm:
        """The algorithm, to be trained for as long as the configuration says."""
        config = self.config
        updates = config.updates_per_iteration
        if updates > config.total_updates:
            raise JaxrlError(
                f"total_updates is {config.total_updates}, less than one iteration of "
                f"updates_per_iteration = {updates}: choose {config.total_updates} or less."
            )
        if isinstance(config, OfflineConfig) and config.online:
            return Online(config, self.env, self.dataset, self.agent, self.learns).algorithm()
        return Algorithm(
            init=self.init,
            step=self.step,
            policy=lambda state: state.learner.policy,
            agent=self.agent,
            budget=Budget("gradient steps", updates, config.total_updates // updates),
            begin_from=self.begin_from,
        )

    def init(self, key: Key) -> OfflineState:
        """Networks and optimisers, and the dataset's statistics where they are asked for."""
        key_policy, key = jax.random.split(key)
        policy = self.agent.init(key_policy)
        if policy.observation_moments is not None:
            policy = replace(policy, observation_moments=self.dataset.moments)
        state = OfflineState(None, key, jnp.zeros((), jnp.int32))
        return strip_weak_types(self.begin_from(state, policy))

    def begin_from(self, state: OfflineState, policy: Any) -> OfflineState:
        """A first state with another run's policy: its critics and its statistics too."""
        return replace(state, learner=self.learns.begin(policy))

    def step(self, state: OfflineState) -> tuple[OfflineState, Metrics]:
        """One iteration: so many gradient steps, each on a batch of its own."""
        key_run, key = jax.random.split(state.key)
        draw = self.learns.draw or self._batch

        def one_update(learner: Any, key: Key) -> tuple[Any, Mapping[str, Array | Mean]]:
            key_sample, key_update = jax.random.split(key)
            return self.learns.update(learner, draw(learner, key_sample), key_update)

        def one_more(carry: tuple, key: Key) -> tuple[tuple, None]:
            learner, sums = carry
            learner, seen = one_update(learner, key)
            return (learner, jax.tree.map(jnp.add, sums, seen)), None

        shapes = jax.eval_shape(one_update, state.learner, key_run)[1]
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        keys = jax.random.split(key_run, self.config.updates_per_iteration)
        (learner, sums), _ = jax.lax.scan(one_more, (state.learner, nothing), keys)
        count = jnp.asarray(self.config.updates_per_iteration, jnp.float32)
        return OfflineState(learner, key, state.iteration + 1), means(sums, count)

    def _batch(self, learner: Any, key: Key) -> Batch:
        """Transitions as the learner's networks read them."""
        config = self.config
        assert isinstance(config, OfflineConfig)
        batch = self.dataset.sample(key, config.batch_size, config.gamma, self.env.action_space)
        moments = learner.policy.observation_moments
        return replace(
            batch,
            observation=normalize_if_kept(moments, batch.observation),
            reward=config.reward_scale * (batch.reward + config.reward_shift),
            next_observation=normalize_if_kept(moments, batch.next_observation),
        )
