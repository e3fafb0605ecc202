"""Acting and learning in turn, as off-policy learners do.

Of every iteration, T vector steps of N environments: each is appended to the replay buffer, and
then followed by the gradient steps that are due.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.config import ON, budget, configuration, number, option, part, size
from jaxrl.core import moments, value_check
from jaxrl.core.any_member import any_member
from jaxrl.core.shards import SINGLE, Shards
from jaxrl.core.value_check import ValueCheck
from jaxrl.data.replay import Replay
from jaxrl.data.transitions import Batch
from jaxrl.envs.api import Environment
from jaxrl.envs.starts.api import StartsConfig
from jaxrl.envs.starts.family import STARTS
from jaxrl.envs.vector import VectorEnv, VectorState, episode_metrics, make_vector
from jaxrl.errors import JaxrlError
from jaxrl.nn.action_units import scale_action, unscale_action
from jaxrl.nn.q_networks import action_size
from jaxrl.types import (
    Array,
    Budget,
    Key,
    Log,
    Mean,
    Metrics,
    Progress,
    PyTree,
    Transition,
    View,
)

# They are counted in int32.
MOST_VECTOR_STEPS = 2**31 - 1


@configuration
class InteractionConfig:
    """Settings of every algorithm that learns from a replay buffer."""

    total_steps: int = budget(1_000_000, unit="transitions")
    """Environment transitions to train for, over all environments."""
    num_envs: int = size(1, basic=True)
    """Parallel environments, N."""
    num_steps: int = size(1000)
    """Vector steps per iteration, T: metrics are means over one."""
    replay_capacity: int = size(1_000_000, basic=True)
    """Transitions kept, rounded down to a multiple of num_envs."""
    batch_size: int = size(256, basic=True)
    """Transitions per gradient step."""
    warm_up: int = size(10_000, 0, basic=True)
    """Transitions, over all environments, of random actions before the first gradient step."""
    warm_up_hold: int = size(1, needs={"warm_up": ON})
    """Steps for which each of these actions is held: with more of them, they lead further."""
    updates_per_transition: float = option(1.0, 0, open_low=True, basic=True)
    """Gradient steps per transition, however many environments there are."""
    n_step: int = size(1)
    """Rewards that a target sums before it bootstraps."""
    gamma: float = number(0.99, 0, 1, basic=True)
    """Discount of future rewards."""
    normalize_observations: bool = option(False, basic=True)
    """Standardise observations by running statistics, which are saved with the policy."""
    starts: StartsConfig = part(STARTS, "fresh")
    """Where episodes begin."""
    stagger: bool = option(False)
    """End first episodes at random times, so that time limits do not end all episodes at once."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Experience:
    """The environments, and what is kept of their past."""

    vector: VectorState
    log: Log
    values: ValueCheck
    vector_steps: Array  # int32 [], taken so far


class Learns(NamedTuple):
    """What an algorithm does with its learner L, which acting reads and gradient steps change.

    L is a dataclass with a `policy`, which is one with `observation_moments`, or None for these;
    all that the functions are given of observations is normalised by them.

    begin:   (policy) -> L, before its first gradient step.
    explore: (L, View [N, ...], key) -> (actions [N, d] in [-1, 1], bonus float32 [N]), where a
             bonus is what the critic counts beside the reward, as SAC's entropy is; 0 where none.
    update:  (L, Batch, key) -> (L, numbers by name).  One gradient step; a number that only some
             of them have is a Mean, of count 0 in the others.
    value:   (L, observation [N, ...], key) -> float32 [N].  What the critic expects of the policy.
    """

    begin: Callable[[Any], Any]
    explore: Callable[[Any, View, Key], tuple[Array, Array]]
    update: Callable[[Any, Batch, Key], tuple[Any, Mapping[str, Array | Mean]]]
    value: Callable[[Any, PyTree, Key], Array]


@dataclass(frozen=True)
class Interaction:
    """Environments and a learner in turn: the settings that both share.

    warm_up: transitions, over all environments, of uniformly random actions before the first
             gradient step, each held for `warm_up_hold` steps of its episode.
    updates_per_transition: gradient steps for each transition of any environment thereafter.
    batch_size: transitions per gradient step, over all devices.
    """

    vector: VectorEnv
    replay: Replay
    num_steps: int
    batch_size: int
    warm_up: int
    warm_up_hold: int
    updates_per_transition: float
    gamma: float | Array
    shards: Shards = SINGLE

    @property
    def total_envs(self) -> int:
        """The environments of all devices."""
        return self.vector.num_envs * self.shards.devices

    @property
    def updates_per_iteration(self) -> int:
        """Gradient steps of an iteration once the warm-up is over; refuses a fraction of one."""
        transitions = self.total_envs * self.num_steps
        updates = self.updates_per_transition * transitions
        if round(updates) < 1 or abs(updates - round(updates)) > 1e-6 * updates:
            raise JaxrlError(
                f"updates_per_transition is {self.updates_per_transition:g}, which makes "
                f"{updates:g} gradient steps in an iteration of num_envs * num_steps = "
                f"{transitions} transitions, but they must be a whole number: choose "
                f"{max(round(updates), 1) / transitions:g}, or another num_steps."
            )
        return round(updates)

    def budget(self, total_steps: int) -> Budget:
        """What an iteration takes, and how many of them `total_steps` transitions hold."""
        transitions = self.total_envs * self.num_steps
        return Budget(
            unit="transitions",
            per_step=transitions,
            steps=total_steps // transitions,
            also={"gradient steps": self.updates_per_iteration},
        )

    def init(self, key: Key) -> Experience:
        """Environments at the start of their first episodes, and an empty replay buffer."""
        return Experience(
            vector=self.vector.init(self.shards.own(key)),
            log=self.replay.init(self.vector.env),
            values=value_check.begin(jnp.zeros(self.vector.num_envs)),
            vector_steps=jnp.zeros((), jnp.int32),
        )

    def foresee(self, experience: Experience, value: Callable[[PyTree], Array]) -> Experience:
        """The experience before its first step, with a critic's values of the first states."""
        values = value_check.begin(value(experience.vector.observation))
        return replace(experience, values=values)

    def refresh(self, experience: Experience, key: Key, iteration: Array) -> Experience:
        """Renew the start distribution, after so many iterations."""
        progress = Progress(iteration, self.total_envs * self.num_steps)
        vector = self.vector.refresh(experience.vector, self.shards.own(key), progress)
        return replace(experience, vector=vector)

    @property
    def sharded(self) -> Experience:
        """A prefix of the experience with True for what has a row per environment."""
        rows: Any = True
        replicated: Any = False
        return Experience(self.vector.sharded, log=rows, values=rows, vector_steps=replicated)

    @property
    def due(self) -> np.ndarray:
        """The gradient steps after each vector step of an iteration, evenly spread: int32 [T]."""
        steps = np.arange(self.num_steps + 1)
        return np.diff(steps * self.updates_per_iteration // self.num_steps).astype(np.int32)

    def run(
        self,
        experience: Experience,
        learner: Any,
        key: Key,
        learns: Learns,
        keep_observations: bool = False,
    ) -> tuple[Experience, Any, PyTree, Metrics]:
        """T vector steps, and the gradient steps that are due.

        Returns (experience, learner, the observations that were acted in, [T, N, ...], or (),
        metrics).
        """
        key = self.shards.own(key)
        given = (experience, learner, key)
        _, _, episodes = jax.eval_shape(partial(self._step, learns=learns), *given)
        _, updates = jax.eval_shape(partial(self._learn, learns=learns, due=0), *given)

        def one_step(carry: tuple, each: tuple) -> tuple[tuple, PyTree]:
            experience, learner, episodes, updates = carry
            key, due = each
            key_step, key_update = jax.random.split(key)
            experience, observation, more = self._step(experience, learner, key_step, learns)
            episodes = jax.tree.map(jnp.add, episodes, more)
            learner, more = self._learn(experience, learner, key_update, learns, due)
            updates = jax.tree.map(jnp.add, updates, more)
            observation = observation if keep_observations else ()
            return (experience, learner, episodes, updates), observation

        carry = (experience, learner, _zeros_like(episodes), _zeros_like(updates))
        each = (jax.random.split(key, self.num_steps), jnp.asarray(self.due))
        carry, observations = jax.lax.scan(one_step, carry, each)
        experience, learner, episodes, updates = carry
        # Rows are summed here, not on every step.
        metrics = jax.tree.map(jnp.sum, episodes) | updates
        fill = experience.log.count / self.replay.capacity
        return experience, learner, observations, metrics | {"replay_fill": Mean.of(fill)}

    def _step(
        self, experience: Experience, learner: Any, key: Key, learns: Learns
    ) -> tuple[Experience, PyTree, Metrics]:
        """One vector step, appended to the replay buffer.

        Returns (experience, the observations that were acted in [N, ...], metrics [N]).
        """
        key_random, key_explore, key_env, key_value = jax.random.split(key, 4)
        vector, space = experience.vector, self.vector.env.action_space
        view = vector.view
        view = replace(view, observation=_normalized(learner, view.observation))
        action, bonus = learns.explore(learner, view, key_explore)
        warmed_up = self._is_warmed_up(experience.vector_steps)
        action = jnp.where(warmed_up, action, self._random_action(vector, key_random))
        vector, seen = self.vector.step(vector, scale_action(action, space, squash=False), key_env)
        # Of random actions the critic foresees nothing, nor of a guide's.
        told = self._is_warmed_up(experience.vector_steps + 1 - seen.episode_length)
        if seen.weight is not None:  # somebody else may have acted
            executed = unscale_action(seen.action, space)
            action = jnp.where(seen.weight[:, None] > 0, action, executed)
            told &= seen.origin < 0
        # Of the n steps whose rewards a target sums, the critic counts the first one's bonus alone.
        counted = jnp.where((seen.episode_length - 1) % self.replay.n_step == 0, bonus, 0.0)
        values = value_check.add(experience.values, seen.reward + counted, self.gamma)
        values, metrics = self._check_values(
            values,
            seen,
            told,
            vector.observation,
            partial(foreseen, learns, learner),
            key_value,
        )
        experience = Experience(
            vector=vector,
            log=self.replay.add(experience.log, seen, action),
            values=values,
            vector_steps=experience.vector_steps + 1,
        )
        episodes = episode_metrics(seen, self.vector.tells_apart)
        return experience, seen.observation, episodes | metrics

    def _random_action(self, vector: VectorState, key: Key) -> Array:
        """Uniform actions [N, d] in [-1, 1], each of which is held for some steps."""
        space = self.vector.env.action_space
        shape = (self.vector.num_envs, action_size(space))
        drawn = jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)
        if self.warm_up_hold == 1:
            return drawn
        held = unscale_action(vector.action, space)
        is_drawn = (vector.clock % self.warm_up_hold == 0) | self.vector.taken_over(vector)
        return jnp.where(is_drawn[:, None], drawn, held)

    def _check_values(
        self,
        values: ValueCheck,
        seen: Transition,
        told: Array,
        observation: PyTree,
        value: Callable[[PyTree, Key], Array],
        key: Key,
    ) -> tuple[ValueCheck, Metrics]:
        """What the critic foresaw of the episodes that ended, beside what followed.

        `told` are the episodes that count, bool [N]; `observation` is that of the next step. The
        critic is asked only where episodes end.
        """
        ended = seen.terminated | seen.truncated

        def ask(index: Array, asked: tuple[Array, Array]) -> tuple[Array, Array]:
            del asked
            key_final, key_first = jax.random.split(jax.random.fold_in(key, index))
            return value(seen.final_observation, key_final), value(observation, key_first)

        nothing = (jnp.zeros_like(values.foreseen), jnp.zeros_like(values.foreseen))
        any_ended = any_member(jnp.any(ended)).astype(jnp.int32)
        final, first = jax.lax.fori_loop(0, any_ended, ask, nothing)
        metrics = value_check.metrics(values, seen.terminated & told, seen.truncated & told, final)
        return value_check.begin_again(values, ended, first), metrics

    def _learn(
        self, experience: Experience, learner: Any, key: Key, learns: Learns, due: int | Array
    ) -> tuple[Any, Metrics]:
        """The gradient steps that are due after a vector step: (learner, metrics)."""
        log, rows = experience.log, self.shards.split("batch_size", self.batch_size)
        # All members of a population are equally far. Were it decided one by one, each gradient
        # step would select every parameter anew.
        warmed_up = self._is_warmed_up(experience.vector_steps)
        ready = any_member(warmed_up & self.replay.can_sample(log))

        def one_update(learner: Any, key: Key) -> tuple[Any, Mapping[str, Array | Mean]]:
            key_sample, key_update = jax.random.split(key)
            batch = self.replay.sample(log, key_sample, rows, self.gamma)
            batch = replace(
                batch,
                observation=_normalized(learner, batch.observation),
                next_observation=_normalized(learner, batch.next_observation),
            )
            return learns.update(learner, batch, key_update)

        def one_more(index: Array, carry: tuple) -> tuple:
            learner, sums = carry
            learner, seen = one_update(learner, jax.random.fold_in(key, index))
            return learner, jax.tree.map(jnp.add, sums, seen)

        sums = _zeros_like(jax.eval_shape(one_update, learner, key)[1])
        count = jnp.where(ready, due, 0)
        learner, sums = jax.lax.fori_loop(0, count, one_more, (learner, sums))
        taken = count.astype(jnp.float32)
        metrics = means(sums, taken)
        # Every device takes all the gradient steps, and its share of the transitions.
        transitions = jnp.where(ready, jnp.float32(self.vector.num_envs), 0.0)
        updates = Mean(taken / self.shards.devices, transitions)
        return learner, metrics | {"updates_per_transition": updates}

    def _is_warmed_up(self, vector_steps: Array) -> Array:
        """Whether the transitions of the warm-up are all there after so many vector steps."""
        return vector_steps >= math.ceil(self.warm_up / self.total_envs)


def _normalized(learner: Any, observation: PyTree) -> PyTree:
    """Observations as the learner's networks read them."""
    return moments.normalize_if_kept(learner.policy.observation_moments, observation)


def foreseen(learns: Learns, learner: Any, observation: PyTree, key: Key) -> Array:
    """What the critic expects of the policy at observations as they are, [N]."""
    return learns.value(learner, _normalized(learner, observation), key)


def means(sums: Mapping[str, Array | Mean], count: Array) -> Metrics:
    """Means over `count` gradient steps of the numbers that were summed over them.

    What is a Mean already counts by itself.
    """
    return {
        name: total if isinstance(total, Mean) else Mean(total, count)
        for name, total in sums.items()
    }


def _zeros_like(shapes: PyTree) -> PyTree:
    """Zeros of the shapes and types of a tree."""
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)


def make_interaction(
    env: Environment,
    config: InteractionConfig,
    shards: Shards,
    inputs: dict[str, Any],
    vector: VectorEnv | None = None,
) -> Interaction:
    """One device's share of the environments and of the replay buffer, with `config`'s settings.

    `vector` replaces the environments that it describes. Refuses what does not fit together.
    """
    vector = vector or make_vector(env, config, shards, inputs)
    capacity = config.replay_capacity // config.num_envs * vector.num_envs
    for name in ("batch_size", "warm_up"):
        if getattr(config, name) > config.replay_capacity:
            raise JaxrlError(
                f"replay_capacity is {config.replay_capacity}, but must hold at least the "
                f"{name} of {getattr(config, name)} transitions."
            )
    least = config.n_step * config.num_envs
    if config.replay_capacity < least:
        raise JaxrlError(
            f"replay_capacity is {config.replay_capacity}, but must be at least n_step * num_envs "
            f"= {least}."
        )
    _check_budget(config)
    interaction = Interaction(
        vector=vector,
        replay=Replay(capacity, vector.num_envs, config.n_step, shards),
        num_steps=config.num_steps,
        batch_size=config.batch_size,
        warm_up=config.warm_up,
        warm_up_hold=config.warm_up_hold,
        updates_per_transition=config.updates_per_transition,
        gamma=config.gamma,
        shards=shards,
    )
    _ = interaction.due  # which refuses a fraction of a gradient step
    shards.split("batch_size", config.batch_size)
    return interaction


def _check_budget(config: InteractionConfig) -> None:
    """Refuse a budget without a whole iteration, or without a gradient step in those it holds."""
    total, num_envs = config.total_steps, config.num_envs
    transitions = num_envs * config.num_steps
    if num_envs > total:
        raise JaxrlError(
            f"total_steps is {total}, less than one step of each of num_envs = {num_envs} "
            f"environments: choose num_envs={total} or less, or more total_steps."
        )
    if transitions > total:
        raise JaxrlError(
            f"total_steps is {total}, less than one iteration of num_envs * num_steps "
            f"= {transitions} transitions: choose num_steps={total // num_envs} or less."
        )
    if total // num_envs > MOST_VECTOR_STEPS:
        raise JaxrlError(
            f"total_steps is {total}, but the steps of each of {num_envs} environments are counted "
            f"up to {MOST_VECTOR_STEPS}."
        )
    taken = total // transitions * transitions
    whole = f", of which whole iterations take {taken}" if taken < total else ""
    if config.warm_up >= taken:
        raise JaxrlError(
            f"warm_up is {config.warm_up}, but total_steps are {total}{whole}: nothing would be "
            f"learned. Choose a warm_up below {taken}."
        )
    if config.n_step > taken // num_envs:
        raise JaxrlError(
            f"n_step is {config.n_step}, but total_steps are {total}{whole}, "
            f"{taken // num_envs} steps of each environment: nothing would be learned. Choose "
            f"n_step={taken // num_envs} or less."
        )
