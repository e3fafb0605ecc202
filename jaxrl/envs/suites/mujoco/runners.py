"""Gymnasium's MuJoCo tasks on legs (and one that swims)."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp

from jaxrl.envs.suites.mujoco.model import Readings
from jaxrl.envs.suites.mujoco.task import MujocoTask, square, static, within
from jaxrl.types import Array, Key


class HalfCheetah(MujocoTask):
    """Run to the right; never terminates."""

    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 0.1
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = static(True)
    XML = "half_cheetah.xml"
    FRAME_SKIP = 5
    SIZES = (9, 9, 6)
    D4RL: ClassVar[tuple[float, float] | None] = (-280.178953, 12135.0)
    HIDDEN: ClassVar[int] = 1  # positions that say where along the track, which no policy needs

    @property
    def observation_size(self) -> int:
        """Positions but the hidden ones, and velocities."""
        hidden = self.HIDDEN * self.exclude_current_positions_from_observation
        return super().observation_size - hidden

    def initial_state(self, key: Key, qpos: Array) -> tuple[Array, Array]:
        """Uniform positions, normal velocities."""
        return self.normal_velocities(key, qpos, self.reset_noise_scale)

    def observe(self, seen: Readings) -> Array:
        """Positions and velocities."""
        hidden = self.HIDDEN * self.exclude_current_positions_from_observation
        return jnp.concatenate([seen.qpos[hidden:], seen.qvel])

    def reward_and_termination(self, seen: Readings, action: Array) -> tuple[Array, Array]:
        """Speed less the squared action."""
        speed = seen.moved[0] / self.seconds
        reward = self.forward_reward_weight * speed - self.ctrl_cost_weight * square(action)
        return reward, jnp.zeros((), bool)


class Swimmer(HalfCheetah):
    """Swim to the right; never terminates."""

    ctrl_cost_weight: float = 1e-4
    XML = "swimmer.xml"
    FRAME_SKIP = 4
    SIZES = (5, 5, 2)
    D4RL = None
    HIDDEN: ClassVar[int] = 2

    def initial_state(self, key: Key, qpos: Array) -> tuple[Array, Array]:
        """Uniform positions and velocities."""
        return self.uniform_velocities(key, qpos, self.reset_noise_scale)


class Walker2d(HalfCheetah):
    """Walk to the right on two legs; terminates on a fall."""

    ctrl_cost_weight: float = 1e-3
    healthy_reward: float = 1.0
    terminate_when_unhealthy: bool = static(True)
    healthy_z_range: tuple[float, float] = (0.8, 2.0)
    healthy_angle_range: tuple[float, float] = (-1.0, 1.0)
    reset_noise_scale: float = 5e-3
    XML = "walker2d_v5.xml"
    FRAME_SKIP = 4
    SIZES = (9, 9, 6)
    D4RL = (1.629008, 4592.3)

    def initial_state(self, key: Key, qpos: Array) -> tuple[Array, Array]:
        """Uniform positions and velocities."""
        return self.uniform_velocities(key, qpos, self.reset_noise_scale)

    def observe(self, seen: Readings) -> Array:
        """Positions, and velocities clipped to ±10."""
        return super().observe(seen._replace(qvel=jnp.clip(seen.qvel, -10.0, 10.0)))

    def healthy(self, seen: Readings) -> Array:
        """Whether it stands, bool []."""
        is_high = within(seen.qpos[1], self.healthy_z_range)
        is_upright = within(seen.qpos[2], self.healthy_angle_range)
        return is_high & is_upright

    def reward_and_termination(self, seen: Readings, action: Array) -> tuple[Array, Array]:
        """Speed and a bonus while it stands, less the squared action."""
        healthy = self.healthy(seen)
        reward = super().reward_and_termination(seen, action)[0] + self.healthy_reward * healthy
        return reward, ~healthy & self.terminate_when_unhealthy


class Hopper(Walker2d):
    """Hop to the right on one leg; terminates on a fall."""

    healthy_state_range: tuple[float, float] = (-100.0, 100.0)
    healthy_z_range: tuple[float, float] = (0.7, float("inf"))
    healthy_angle_range: tuple[float, float] = (-0.2, 0.2)
    XML = "hopper.xml"
    FRAME_SKIP = 4
    SIZES = (6, 6, 3)
    D4RL = (-20.272305, 3234.3)

    def healthy(self, seen: Readings) -> Array:
        """Whether it stands and nothing spins away, bool []."""
        rest = jnp.concatenate([seen.qpos[2:], seen.qvel])
        return super().healthy(seen) & within(rest, self.healthy_state_range)


class Ant(MujocoTask):
    """Walk to the right on four legs; terminates on a fall or a jump."""

    forward_reward_weight: float = 1.0
    ctrl_cost_weight: float = 0.5
    contact_cost_weight: float = 5e-4
    healthy_reward: float = 1.0
    terminate_when_unhealthy: bool = static(True)
    healthy_z_range: tuple[float, float] = (0.2, 1.0)
    contact_force_range: tuple[float, float] = (-1.0, 1.0)
    reset_noise_scale: float = 0.1
    exclude_current_positions_from_observation: bool = static(True)
    include_cfrc_ext_in_observation: bool = static(True)
    XML = "ant.xml"
    FRAME_SKIP = 5
    SIZES = (15, 14, 8)
    READS = ("xpos", "cfrc_ext")
    TRACK = "torso"
    D4RL = (-325.6, 3879.7)

    @property
    def observation_size(self) -> int:
        """Positions, velocities and the contact forces on 13 bodies."""
        hidden = 2 * self.exclude_current_positions_from_observation
        return super().observation_size - hidden + 13 * 6 * self.include_cfrc_ext_in_observation

    def initial_state(self, key: Key, qpos: Array) -> tuple[Array, Array]:
        """Uniform positions, normal velocities."""
        return self.normal_velocities(key, qpos, self.reset_noise_scale)

    def contact_forces(self, seen: Readings) -> Array:
        """Forces and torques on each body, clipped, [bodies, 6]."""
        low, high = self.contact_force_range
        return jnp.clip(seen.data["cfrc_ext"], low, high)

    def observe(self, seen: Readings) -> Array:
        """Positions, velocities, contact forces."""
        parts = [seen.qpos[2 * self.exclude_current_positions_from_observation :], seen.qvel]
        if self.include_cfrc_ext_in_observation:
            parts.append(self.contact_forces(seen)[1:].reshape(-1))
        return jnp.concatenate(parts)

    def reward_and_termination(self, seen: Readings, action: Array) -> tuple[Array, Array]:
        """Speed and a bonus while it stands, less squared action and squared contact forces."""
        low, high = self.healthy_z_range
        healthy = (low <= seen.qpos[2]) & (seen.qpos[2] <= high)
        forward = self.forward_reward_weight * seen.moved[0] / self.seconds
        reward = forward + self.healthy_reward * healthy
        reward -= self.ctrl_cost_weight * square(action)
        reward -= self.contact_cost_weight * square(self.contact_forces(seen))
        return reward, ~healthy & self.terminate_when_unhealthy


class HumanoidStandup(MujocoTask):
    """Stand up from the ground; never terminates."""

    ctrl_cost_weight: float = 0.1
    impact_cost_weight: float = 5e-7
    impact_cost_range: tuple[float, float] = (-float("inf"), 10.0)
    reset_noise_scale: float = 0.01
    exclude_current_positions_from_observation: bool = static(True)
    include_cinert_in_observation: bool = static(True)
    include_cvel_in_observation: bool = static(True)
    include_qfrc_actuator_in_observation: bool = static(True)
    include_cfrc_ext_in_observation: bool = static(True)
    XML = "humanoidstandup.xml"
    FRAME_SKIP = 5
    SIZES = (24, 23, 17)
    BOUND = 0.4
    READS: ClassVar[tuple[str, ...]] = ("cinert", "cvel", "qfrc_actuator", "cfrc_ext")

    @property
    def observation_size(self) -> int:
        """Positions, velocities and joint forces; inertia, velocity and contacts of 13 bodies."""
        width = super().observation_size - 2 * self.exclude_current_positions_from_observation
        width += 17 * self.include_qfrc_actuator_in_observation
        width += 13 * 10 * self.include_cinert_in_observation
        width += 13 * 6 * self.include_cvel_in_observation
        width += 13 * 6 * self.include_cfrc_ext_in_observation
        return width

    def initial_state(self, key: Key, qpos: Array) -> tuple[Array, Array]:
        """Uniform positions and velocities."""
        return self.uniform_velocities(key, qpos, self.reset_noise_scale)

    def observe(self, seen: Readings) -> Array:
        """Positions, velocities, inertias, body velocities, joint forces, contact forces."""
        parts = [seen.qpos[2 * self.exclude_current_positions_from_observation :], seen.qvel]
        for name, first in (("cinert", 1), ("cvel", 1), ("qfrc_actuator", 6), ("cfrc_ext", 1)):
            if getattr(self, f"include_{name}_in_observation"):
                parts.append(seen.data[name][first:].reshape(-1))
        return jnp.concatenate(parts)

    def impact(self, seen: Readings) -> Array:
        """The cost of contact forces."""
        low, high = self.impact_cost_range
        return jnp.clip(self.impact_cost_weight * square(seen.data["cfrc_ext"]), low, high)

    def reward_and_termination(self, seen: Readings, action: Array) -> tuple[Array, Array]:
        """Height over the physics' time step, less the squared action and the impact."""
        height = seen.qpos[2] / (self.seconds / self.FRAME_SKIP)
        reward = height - self.ctrl_cost_weight * square(action) - self.impact(seen) + 1.0
        return reward, jnp.zeros((), bool)


class Humanoid(HumanoidStandup):
    """Walk to the right on two legs; terminates on a fall."""

    forward_reward_weight: float = 1.25
    healthy_reward: float = 5.0
    terminate_when_unhealthy: bool = static(True)
    healthy_z_range: tuple[float, float] = (1.0, 2.0)
    XML = "humanoid.xml"
    TRACK = "mass_center"
    READS = ("xipos", "cinert", "cvel", "qfrc_actuator", "cfrc_ext")

    def reward_and_termination(self, seen: Readings, action: Array) -> tuple[Array, Array]:
        """The centre of mass' speed and a bonus while it stands, less squared action and impact."""
        healthy = within(seen.qpos[2], self.healthy_z_range)
        forward = self.forward_reward_weight * seen.moved[0] / self.seconds
        reward = forward + self.healthy_reward * healthy
        reward -= self.ctrl_cost_weight * square(action) + self.impact(seen)
        return reward, ~healthy & self.terminate_when_unhealthy
