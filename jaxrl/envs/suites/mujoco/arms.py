"""Gymnasium's MuJoCo tasks with poles and arms."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.envs.suites.mujoco.model import Readings
from jaxrl.envs.suites.mujoco.task import MujocoTask, square
from jaxrl.types import Array, Key


class InvertedPendulum(MujocoTask):
    """Keep a pole upright on a cart."""

    reset_noise_scale: float = 0.01
    XML = "inverted_pendulum.xml"
    FRAME_SKIP = 2
    SIZES = (2, 2, 1)
    BOUND = 3.0

    def initial_state(self, key: Key, qpos: Array) -> tuple[Array, Array]:
        """Uniform positions and velocities."""
        return self.uniform_velocities(key, qpos, self.reset_noise_scale)

    def observe(self, seen: Readings) -> Array:
        """Positions and velocities."""
        return jnp.concatenate([seen.qpos, seen.qvel])

    def reward_and_termination(self, seen: Readings, action: Array) -> tuple[Array, Array]:
        """1 while the pole is within 0.2 rad of upright."""
        fallen = jnp.abs(seen.qpos[1]) > 0.2
        return 1.0 - fallen, fallen


class InvertedDoublePendulum(MujocoTask):
    """Keep a pole of two links upright on a cart."""

    healthy_reward: float = 10.0
    reset_noise_scale: float = 0.1
    XML = "inverted_double_pendulum.xml"
    FRAME_SKIP = 5
    SIZES = (3, 3, 1)
    READS = ("site_xpos", "qfrc_constraint")

    @property
    def observation_size(self) -> int:
        """The cart, sines and cosines, velocities, one constraint force."""
        return 9

    def initial_state(self, key: Key, qpos: Array) -> tuple[Array, Array]:
        """Uniform positions, normal velocities."""
        return self.normal_velocities(key, qpos, self.reset_noise_scale)

    def observe(self, seen: Readings) -> Array:
        """The cart's position, sines and cosines of angles, velocities, the end stops' force."""
        angles = seen.qpos[1:]
        force = seen.data["qfrc_constraint"][:1]
        clipped = jnp.clip(jnp.concatenate([seen.qvel, force]), -10.0, 10.0)
        return jnp.concatenate([seen.qpos[:1], jnp.sin(angles), jnp.cos(angles), clipped])

    def reward_and_termination(self, seen: Readings, action: Array) -> tuple[Array, Array]:
        """A bonus while the tip is above 1 m, less a squared distance and squared velocities.

        The distance is the tip's from where it is when all is upright.
        """
        x, _, y = seen.data["site_xpos"][0]
        fallen = y <= 1.0
        distance = 0.01 * x**2 + (y - 2.0) ** 2
        velocity = 1e-3 * seen.qvel[1] ** 2 + 5e-3 * seen.qvel[2] ** 2
        return self.healthy_reward * ~fallen - distance - velocity, fallen


class Reacher(MujocoTask):
    """Bring the tip of a two-link arm to a target; never terminates."""

    reward_dist_weight: float = 1.0
    reward_control_weight: float = 1.0
    XML = "reacher.xml"
    FRAME_SKIP = 2
    SIZES = (4, 4, 2)
    HORIZON = 50
    READS = ("xpos",)

    @property
    def observation_size(self) -> int:
        """Sines and cosines, the target, velocities, the way to go."""
        return 10

    def initial_state(self, key: Key, qpos: Array) -> tuple[Array, Array]:
        """The arm near its first position; the target uniform in a disc of 0.2 m."""
        key_arm, key_radius, key_angle = jax.random.split(key, 3)
        noise = jax.random.uniform(key_arm, (4,), minval=-1.0, maxval=1.0)
        angle = jax.random.uniform(key_angle, maxval=2.0 * jnp.pi)
        radius = 0.2 * jnp.sqrt(jax.random.uniform(key_radius))
        target = radius * jnp.stack([jnp.cos(angle), jnp.sin(angle)])
        arm = qpos[:2] + 0.1 * noise[:2]
        qvel = jnp.concatenate([5e-3 * noise[2:], jnp.zeros(2)])
        return jnp.concatenate([arm, target]), qvel

    def target_to_tip(self, seen: Readings) -> Array:
        """From the target to the tip, [3]."""
        return self.body(seen, "fingertip") - self.body(seen, "target")

    def observe(self, seen: Readings) -> Array:
        """Cosine and sine of the joints, the target, the joints' velocities, the way to go."""
        angles, target = seen.qpos[:2], seen.qpos[2:]
        way = self.target_to_tip(seen)[:2]
        return jnp.concatenate([jnp.cos(angles), jnp.sin(angles), target, seen.qvel[:2], way])

    def reward_and_termination(self, seen: Readings, action: Array) -> tuple[Array, Array]:
        """Minus the distance, minus the squared action."""
        distance = jnp.linalg.norm(self.target_to_tip(seen))
        cost = self.reward_dist_weight * distance + self.reward_control_weight * square(action)
        return -cost, jnp.zeros((), bool)


class Pusher(MujocoTask):
    """Push a cylinder to a goal with a seven-jointed arm; never terminates."""

    reward_near_weight: float = 0.5
    reward_dist_weight: float = 1.0
    reward_control_weight: float = 0.1
    XML = "pusher_v5.xml"
    FRAME_SKIP = 5
    SIZES = (11, 11, 7)
    BOUND = 2.0
    HORIZON = 100
    READS = ("xpos",)

    @property
    def observation_size(self) -> int:
        """The arm's joints and velocities, and three places."""
        return 23

    def initial_state(self, key: Key, qpos: Array) -> tuple[Array, Array]:
        """The cylinder uniform in a rectangle, over 0.17 m from the goal; the arm moves slowly."""
        key_place, key_qvel = jax.random.split(key)
        # Gymnasium draws until one fits, which three in five do: that the first 32 all fail has a
        # chance of 1e-14.
        sides, corner = jnp.array([[0.3, 0.4]]), jnp.array([[0.3, 0.2]])
        places = jax.random.uniform(key_place, (32, 2)) * sides - corner
        place = places[jnp.argmax(jnp.linalg.norm(places, axis=1) > 0.17)]
        moving = 5e-3 * jax.random.uniform(key_qvel, (7,), minval=-1.0, maxval=1.0)
        qvel = jnp.concatenate([moving, jnp.zeros(4)])
        return jnp.concatenate([qpos[:7], place, jnp.zeros(2)]), qvel

    def observe(self, seen: Readings) -> Array:
        """The arm's joints and velocities; where its tip, the cylinder and the goal are."""
        places = [self.body(seen, name) for name in ("tips_arm", "object", "goal")]
        return jnp.concatenate([seen.qpos[:7], seen.qvel[:7], *places])

    def reward_and_termination(self, seen: Readings, action: Array) -> tuple[Array, Array]:
        """Minus the distances from tip to cylinder and on to the goal, and the squared action."""
        tip, cylinder, goal = (self.body(seen, name) for name in ("tips_arm", "object", "goal"))
        near = self.reward_near_weight * jnp.linalg.norm(cylinder - tip)
        far = self.reward_dist_weight * jnp.linalg.norm(cylinder - goal)
        return -near - far - self.reward_control_weight * square(action), jnp.zeros((), bool)
