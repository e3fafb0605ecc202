"""A replay buffer: the newest transitions of every environment, in a ring on the device.

replay = Replay(capacity=1_000_000, num_envs=4, n_step=1)
log = replay.init(env)
log = replay.add(log, transition, action)          # N rows, once per vector step
batch = replay.sample(log, key, 256, gamma)        # where replay.can_sample(log)
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from jaxrl.core.shards import SINGLE, Shards
from jaxrl.data.transitions import Batch
from jaxrl.envs.api import Environment
from jaxrl.errors import JaxrlError, check_positive_int
from jaxrl.types import Array, Key, Log, PyTree, Transition


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Row:
    """What is kept of one step of one environment."""

    observation: PyTree  # that was acted in, as the environment gave it
    action: Array  # float32 [d], in units where [-1, 1] spans the action space
    reward: Array  # float32 []
    terminated: Array  # bool []
    truncated: Array  # bool [], by a time limit
    # Before any reset. It is kept apart from the next row's observation, which is another
    # episode's where this one ended.
    final_observation: PyTree
    origin: Array  # int32 [], where the episode began: see Transition
    environment: Array  # int32 [], which of all environments it was


@dataclass(frozen=True)
class Replay:
    """How a Log is used as a replay buffer by the environments of one device.

    A vector step appends one row per environment, N in all, so that place i of the ring always
    belongs to environment i mod N, and the next step of that environment lies N places on. The
    ring holds whole vector steps: `capacity` is a multiple of N.
    """

    capacity: int
    num_envs: int
    n_step: int = 1
    shards: Shards = SINGLE

    def __post_init__(self) -> None:
        """Refuse a ring without room for one sample."""
        for name in ("capacity", "num_envs", "n_step"):
            check_positive_int(name, getattr(self, name))
        least = self.n_step * self.num_envs
        if self.capacity % self.num_envs or self.capacity < least:
            raise JaxrlError(
                f"capacity is {self.capacity}, but must be a multiple of the {self.num_envs} "
                f"environments of at least {least}, for samples of n_step={self.n_step}."
            )

    def init(self, env: Environment) -> Log:
        """The empty buffer for transitions of `env`."""
        observation = jnp.zeros(env.observation_space.shape, env.observation_space.dtype)
        nothing, number = jnp.zeros((), bool), jnp.zeros((), jnp.int32)
        return Log.empty(
            self.capacity,
            Row(
                observation=observation,
                action=jnp.zeros(env.action_space.shape, jnp.float32).reshape(-1),
                reward=jnp.zeros((), jnp.float32),
                terminated=nothing,
                truncated=nothing,
                final_observation=observation,
                origin=number,
                environment=number,
            ),
        )

    def add(self, log: Log, seen: Transition, action: Array) -> Log:
        """The buffer with one vector step more.

        seen:   what `VectorEnv.step` returned, leaves [N, ...].
        action: as the learner reads it, float32 [N, d] in [-1, 1].
        """
        environment = jnp.arange(self.num_envs, dtype=jnp.int32)
        if self.shards.axis_name is not None:
            first = jax.lax.axis_index(self.shards.axis_name) * self.num_envs
            environment += first.astype(jnp.int32)
        return log.append(
            Row(
                observation=seen.observation,
                action=action,
                reward=seen.reward,
                terminated=seen.terminated,
                truncated=seen.truncated,
                final_observation=seen.final_observation,
                origin=seen.origin,
                environment=environment,
            )
        )

    def can_sample(self, log: Log) -> Array:
        """Whether there is a transition of `n_step` steps to draw: bool []."""
        return log.count >= self.n_step * self.num_envs

    def sample(self, log: Log, key: Key, batch_size: int, gamma: float | Array) -> Batch:
        """`batch_size` transitions, each drawn uniformly and independently; leaves [B, ...].

        A transition of n steps ends early with its episode, terminated or truncated. It begins at
        least n vector steps before the newest row, so that it never runs over the write head into
        the oldest ones, and stays in one environment.

            reward   = Σ_{k<m} γ^k r_{t+k}
            discount = γ^m (1 − terminated_{t+m-1})

        with m = n, or the number of steps to the end of the episode if that is fewer.
        """
        # Unsigned: the sum of two places may be beyond int32.
        num_envs, capacity = jnp.uint32(self.num_envs), jnp.uint32(self.capacity)
        begun = log.count // self.num_envs - (self.n_step - 1)
        drawn = jax.random.randint(key, (batch_size,), 0, jnp.maximum(begun, 1) * self.num_envs)
        place = (log.oldest.astype(jnp.uint32) + drawn.astype(jnp.uint32)) % capacity

        def read(leaf: Array, place: Array) -> Array:
            return leaf.at[place.astype(jnp.int32)].get(mode="promise_in_bounds")

        rows: Row = log.rows
        first, last, after = place, place, drawn + self.num_envs
        reward = read(rows.reward, place)
        discount = jnp.full_like(reward, gamma)
        for _ in range(self.n_step - 1):
            ended = read(rows.terminated, last) | read(rows.truncated, last)
            following = (last + num_envs) % capacity
            reward += jnp.where(ended, 0.0, discount * read(rows.reward, following))
            discount *= jnp.where(ended, 1.0, gamma)
            last = jnp.where(ended, last, following)
            after += jnp.where(ended, 0, self.num_envs)
        ended = read(rows.terminated, last) | read(rows.truncated, last)
        return Batch(
            observation=jax.tree.map(lambda leaf: read(leaf, first), rows.observation),
            action=read(rows.action, first),
            reward=reward,
            discount=jnp.where(read(rows.terminated, last), 0.0, discount),
            next_observation=jax.tree.map(lambda leaf: read(leaf, last), rows.final_observation),
            # Whoever does not read it does not pay for it: it is compiled away.
            next_action=read(rows.action, (last + num_envs) % capacity),
            next_acted=~ended & (after < log.count),
        )
