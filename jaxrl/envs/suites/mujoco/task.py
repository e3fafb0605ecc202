"""What the eleven MuJoCo tasks of Gymnasium v5 share.

Observation, reward, termination and first states are pure functions. Each task is defined once,
over what any back end shows of a state (`Readings`). Options have Gymnasium's names and defaults;
real numbers among them are pytree leaves, which a sweep may batch. Actions enter rewards as they
are; MuJoCo clamps them to the actuators' range, as in Gymnasium.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from jaxrl.envs import blow_up
from jaxrl.envs.api import Environment
from jaxrl.envs.suites.mujoco.model import Physics, Readings, load
from jaxrl.envs.suites.mujoco.painter import painter
from jaxrl.types import Array, Box, Key, PyTree, Timestep

HUGE = 1e10  # MuJoCo's own limit of what a state may hold


def static(default: bool) -> bool:
    """A switch, which changes shapes or code and not numbers."""
    return struct.field(pytree_node=False, default=default)


class MujocoTask(Environment):
    """One task on one back end.

    A subclass says what is seen, what is rewarded, and where an episode begins.
    """

    physics: Physics = struct.field(pytree_node=False)
    XML: ClassVar[str]
    FRAME_SKIP: ClassVar[int]
    SIZES: ClassVar[tuple[int, int, int]]  # nq, nv, nu
    BOUND: ClassVar[float] = 1.0  # actions lie in ±BOUND
    HORIZON: ClassVar[int] = 1000
    READS: ClassVar[tuple[str, ...]] = ()
    TRACK: ClassVar[str] = "position"
    # D4RL's scores of a random and of an expert policy.
    D4RL: ClassVar[tuple[float, float] | None] = None

    @property
    def observation_size(self) -> int:
        """The size of an observation."""
        num_positions, num_velocities, _ = self.SIZES
        return num_positions + num_velocities

    @property
    def observation_space(self) -> Box:
        """A float32 vector without bounds."""
        return Box(-np.inf, np.inf, (self.observation_size,))

    @property
    def action_space(self) -> Box:
        """One control per actuator."""
        return Box(-self.BOUND, self.BOUND, (self.SIZES[2],))

    @property
    def horizon(self) -> int:
        """Gymnasium's time limit."""
        return self.HORIZON

    @property
    def info(self) -> tuple[str, ...]:
        """Blow-ups of the physics, as a share of steps."""
        return blow_up.INFO

    @property
    def reference_scores(self) -> tuple[float, float] | None:
        """Those that D4RL publishes, of a random and of an expert policy.

        None if an option has another value than its default. The scores were measured on the -v2
        tasks, whose rewards differ from v5's in details: scores on their scale can be set beside
        published ones, but for exact comparisons both have to be of one version.
        """
        for field in dataclasses.fields(self):
            if field.name == "physics":
                continue
            value = np.asarray(getattr(self, field.name), np.float32)
            if not np.array_equal(value, np.asarray(field.default, np.float32)):
                return None
        return self.D4RL

    def reset(self, key: Key) -> tuple[PyTree, Array]:
        """Place the simulation at a random first position and velocity."""
        model = load(self.physics.model.path)
        qpos, qvel = self.initial_state(key, jnp.asarray(model.qpos0, jnp.float32))
        state, seen = self.physics.begin(qpos, qvel)
        return state, self.observe(seen)

    def step(self, key: Key, state: PyTree, action: Array) -> tuple[PyTree, Timestep]:
        """Step the physics under one action, and judge where it led to."""
        del key
        successor, seen = self.physics.step(state, action.astype(jnp.float32))
        reward, terminated = self.reward_and_termination(seen, action)
        sound = [jnp.all(jnp.abs(part) < HUGE) for part in jax.tree.leaves(seen)]
        # Said by the reward: in observations velocities may be clipped, and look well.
        reward = jnp.where(jnp.all(jnp.stack(sound)), reward, jnp.nan)
        return blow_up.guard(
            state, successor, self.observe(seen), reward.astype(jnp.float32), terminated
        )

    def painter(self) -> AbstractContextManager[Callable[[PyTree], np.ndarray]]:
        """A function that draws a state, uint8 [height, width, 3]."""
        return painter(self.physics.model)

    def initial_state(self, key: Key, qpos: Array) -> tuple[Array, Array]:
        """First positions around `qpos` [nq], and velocities [nv]."""
        raise NotImplementedError

    def observe(self, seen: Readings) -> Array:
        """The observation, float32 [width]."""
        raise NotImplementedError

    def reward_and_termination(self, seen: Readings, action: Array) -> tuple[Array, Array]:
        """(reward, terminated) of the step that led here."""
        raise NotImplementedError

    @property
    def seconds(self) -> float:
        """Simulated seconds per environment step."""
        return float(load(self.physics.model.path).opt.timestep * self.FRAME_SKIP)

    def body(self, seen: Readings, name: str) -> Array:
        """Where a body is, [3]."""
        return seen.data["xpos"][load(self.physics.model.path).body(name).id]

    def normal_velocities(self, key: Key, qpos: Array, scale: Array | float) -> tuple[Array, Array]:
        """Positions within ±scale, velocities with that deviation."""
        key_qpos, key_qvel = jax.random.split(key)
        noise = jax.random.uniform(key_qpos, qpos.shape, minval=-1.0, maxval=1.0)
        return qpos + scale * noise, scale * jax.random.normal(key_qvel, (self.SIZES[1],))

    def uniform_velocities(
        self, key: Key, qpos: Array, scale: Array | float
    ) -> tuple[Array, Array]:
        """Positions and velocities within ±scale."""
        num_positions, num_velocities, _ = self.SIZES
        shape = (num_positions + num_velocities,)
        noise = scale * jax.random.uniform(key, shape, minval=-1.0, maxval=1.0)
        return qpos + noise[: len(qpos)], noise[len(qpos) :]


def within(value: Array, bounds: Array | tuple[float, float]) -> Array:
    """Whether every number lies strictly between two bounds, bool []."""
    return jnp.all((bounds[0] < value) & (value < bounds[1]))


def square(values: Array) -> Array:
    """The sum of squares."""
    return jnp.sum(jnp.square(values))
