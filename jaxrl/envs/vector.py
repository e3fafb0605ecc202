"""VectorEnv: many environments as one pure function.

With time limits, automatic resets and episode statistics.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl.config import budget_field, inputs_of
from jaxrl.core import compensated, truncation
from jaxrl.core.shards import Shards
from jaxrl.core.tree import expand, select_rows, strip_weak_types
from jaxrl.envs.api import Environment
from jaxrl.envs.starts.api import Starts, StartsConfig, Training
from jaxrl.types import Array, Key, Mean, Metrics, Progress, PyTree, Transition, View

# What is told of episodes: of all, or of natural ones; and of those from a bank.
EPISODES = ("episode_return", "episode_length", "truncated_fraction")
GIVEN_EPISODES = ("snapshot_return", "snapshot_length", "snapshot_truncated_fraction")


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class VectorState:
    """The state of `N` environments; every leaf but `starts` has N rows."""

    env_state: PyTree
    observation: PyTree  # what the policy sees next: of the new episode where the last one ended
    clock: Array  # int32, steps taken in the running episode
    limit: Array  # int32, steps granted to it
    origin: Array  # int32, where it began (see starts.Draw)
    episode_return: Array  # float32, undiscounted, so far
    return_remainder: Array  # float32, what rounding left out of it (see core.compensated)
    reward: Array  # float32, of the last step in the running episode; 0 before the first
    action: Array  # of that step, as it was executed; zeros before the first
    starts: PyTree  # state of the start distribution

    @property
    def first(self) -> Array:
        """Which environments have just begun an episode, bool [N]."""
        return self.clock == 0

    @property
    def view(self) -> View:
        """What a policy is shown next, [N, ...]."""
        return View(self.observation, self.reward, self.action, self.first)


class VectorEnv(struct.PyTreeNode):
    """`num_envs` copies of `env`, begun and begun again from `starts`; batch axis first.

    `stagger`: the very first episode of each environment is granted a length drawn from 1 … its
    limit, so that environments with a fixed horizon do not all begin again on the same step for
    ever. (Limits and not clocks are spread: a state that knows its time stays right.)
    """

    env: Environment
    starts: Starts
    num_envs: int = struct.field(pytree_node=False)
    stagger: bool = struct.field(pytree_node=False, default=False)

    @property
    def tells_apart(self) -> bool:
        """Whether episodes that the start distribution gave are counted by themselves."""
        return getattr(self.starts, "tells_apart", False)

    def most_truncations(self, num_steps: int) -> int:
        """The most time limits that one environment can meet in `num_steps` steps.

        Staggering adds none: only the first episode is granted less than `shortest`, and before it
        there is no other.
        """
        return truncation.num_slots(num_steps, self.starts.shortest)

    def init(self, key: Key) -> VectorState:
        """Begin every environment at step 0 of its own episode."""
        key_starts, key_draw, key_limit = jax.random.split(key, 3)
        first_of_all = jnp.ones(self.num_envs, bool)
        starts, draw = self.starts.draw(
            self.starts.init(key_starts, self.num_envs), key_draw, first_of_all, None, None
        )
        limit = draw.limit
        if self.stagger:
            limit = jax.random.randint(key_limit, limit.shape, 1, limit + 1)
        zeros = jnp.zeros(self.num_envs, jnp.int32)
        space = self.env.action_space
        state = VectorState(
            env_state=draw.state,
            observation=draw.observation,
            clock=zeros,
            limit=limit,
            origin=draw.origin,
            episode_return=jnp.zeros(self.num_envs, jnp.float32),
            return_remainder=jnp.zeros(self.num_envs, jnp.float32),
            reward=jnp.zeros(self.num_envs, jnp.float32),
            action=jnp.zeros((self.num_envs, *space.shape), space.dtype),
            starts=starts,
        )
        return strip_weak_types(state)

    def refresh(self, state: VectorState, key: Key, progress: Progress) -> VectorState:
        """Renew the start distribution; once per iteration, between rollouts."""
        return replace(state, starts=self.starts.refresh(state.starts, key, progress))

    @property
    def sharded(self) -> PyTree:
        """A prefix of the state with True for what has a row per environment.

        That is everything, except that the start distribution answers for its own state.
        """
        rows: dict[str, Any] = {field.name: True for field in fields(VectorState)}
        return VectorState(**rows | {"starts": self.starts.sharded})

    def taken_over(self, state: VectorState) -> Array:
        """Where the learner acts from now on and somebody else did before, bool [N]: nowhere."""
        del state
        return jnp.zeros(self.num_envs, bool)

    def step(self, state: VectorState, action: Array, key: Key) -> tuple[VectorState, Transition]:
        """Step every environment once; those whose episode ends begin a new one in the same step.

        truncated = the step budget is used up and the environment did not terminate by itself.
        """
        key_env, key_draw = jax.random.split(key)
        keys = jax.random.split(key_env, self.num_envs)
        env_state, timestep = jax.vmap(self.env.step)(keys, state.env_state, action)
        clock = state.clock + 1
        so_far = compensated.Sum(state.episode_return, state.return_remainder)
        episode_return, remainder = compensated.add(so_far, timestep.reward)
        truncated = (clock >= state.limit) & ~timestep.terminated
        ended = truncated | timestep.terminated
        transition = Transition(
            observation=state.observation,
            action=action,
            reward=timestep.reward,
            terminated=timestep.terminated,
            truncated=truncated,
            final_observation=timestep.observation,
            episode_return=episode_return,
            episode_length=clock,
            origin=state.origin,
            info=timestep.info,
        )
        starts, draw = self.starts.draw(state.starts, key_draw, ended, transition, env_state)
        following = VectorState(
            env_state=select_rows(ended, draw.state, env_state),
            observation=select_rows(ended, draw.observation, timestep.observation),
            clock=jnp.where(ended, 0, clock),
            limit=jnp.where(ended, draw.limit, state.limit),
            origin=jnp.where(ended, draw.origin, state.origin),
            episode_return=jnp.where(ended, 0.0, episode_return),
            return_remainder=jnp.where(ended, 0.0, remainder),
            reward=jnp.where(ended, 0.0, timestep.reward),
            action=jnp.where(expand(ended, action.ndim), 0, action).astype(state.action.dtype),
            starts=starts,
        )
        return following, transition


def make_vector(
    env: Environment, config: Any, shards: Shards, inputs: dict[str, Any] | None = None
) -> VectorEnv:
    """One device's share of `config.num_envs` environments, with the starts that `config` names.

    `inputs` are what was read from disk, by flat name: the start distribution is given its own.
    """
    chosen: StartsConfig = config.starts
    if (total := budget_field(config)) is not None:
        per_iteration = config.num_envs * config.num_steps
        training = Training(getattr(config, total[0]), per_iteration, config.num_envs)
        chosen = chosen.for_training(training)
    starts = chosen.make(env, shards, **inputs_of(config, "starts", inputs or {}))
    vector_class: type[VectorEnv] = getattr(starts, "vector_class", VectorEnv)
    return vector_class(env, starts, shards.split("num_envs", config.num_envs), config.stagger)


def memories(initial: PyTree, count: int) -> PyTree:
    """One environment's `initial` memory, for `count` of them: leaves [count, ...]."""
    return jax.tree.map(lambda leaf: jnp.broadcast_to(leaf, (count, *jnp.shape(leaf))), initial)


def begin_memory(first: Array, initial: PyTree, memory: PyTree) -> PyTree:
    """The memories [N, ...], begun again where an episode has just begun (`first`, bool [N])."""
    return select_rows(first, memories(initial, len(first)), memory)


def episode_metrics(seen: Transition, apart: bool = False) -> Metrics:
    """Means [N], row by row, over the episodes that ended in this vector step.

    Their return, their length and the share that time limits ended; and, of every step, what the
    environment reports (`Environment.info`). With `apart`, these are of natural episodes (origin
    −1), and those that a start distribution gave are counted as snapshot_…, with their share of all
    that ended and how many of them ended per transition. Rows are summed after the rollout, not on
    every step: that would cost a fifth of the rollout.
    """
    ended = seen.terminated | seen.truncated
    every_step = jnp.ones(ended.shape, jnp.float32)
    reported = {f"env_{name}": Mean(value, every_step) for name, value in seen.info.items()}
    if not apart:
        return _of_episodes(seen, ended, EPISODES) | reported
    given = ended & (seen.origin >= 0)
    count = given.astype(jnp.float32)
    shares = {
        "snapshot_fraction": Mean(count, ended.astype(jnp.float32)),
        "snapshot_episodes_per_transition": Mean(count, every_step),
    }
    natural = _of_episodes(seen, ended & ~given, EPISODES)
    return natural | _of_episodes(seen, given, GIVEN_EPISODES) | shares | reported


def _of_episodes(seen: Transition, ended: Array, names: tuple[str, str, str]) -> Metrics:
    """Return, length and share of truncations of the episodes that `ended`, [N], by these names."""
    name_return, name_length, name_truncated = names
    count = ended.astype(jnp.float32)
    return {
        name_return: Mean(jnp.where(ended, seen.episode_return, 0.0), count),
        name_length: Mean(seen.episode_length * count, count),
        name_truncated: Mean((seen.truncated & ended).astype(jnp.float32), count),
    }


def no_episodes(vector_env: VectorEnv) -> Metrics:
    """What `episode_metrics` are before the first step: nothing, row by row."""
    nothing = Mean(jnp.zeros(vector_env.num_envs), jnp.zeros(vector_env.num_envs))
    names = (*EPISODES, *(f"env_{name}" for name in vector_env.env.info))
    if vector_env.tells_apart:
        names += (*GIVEN_EPISODES, "snapshot_fraction", "snapshot_episodes_per_transition")
    return dict.fromkeys(names, nothing)
