"""Devices: how many share a run's environments, and how many its seeds.

mesh axis "seed"   members of a population (seeds of settings) are sharded over it, and never
                   communicate
mesh axis "env"    the environments of each member are sharded over it; gradients are averaged
                   (core/shards.py)
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax

from jaxrl.config import env_sizes
from jaxrl.core.shards import SINGLE, Shards
from jaxrl.errors import JaxrlError, check_positive_int, unknown

SEED, ENV = "seed", "env"
# Rows of a minibatch below which a device is not worth the wait for the others: some 250 µs of work
# on a core.
ROWS_PER_DEVICE = 256


class LayoutError(JaxrlError):
    """The devices there are cannot share the run as it was asked for."""


class Layout(NamedTuple):
    """Devices along each axis of the mesh. The larger of two layouts is the one that talks less."""

    seed: int = 1
    env: int = 1

    @property
    def devices(self) -> int:
        """Devices in all."""
        return self.env * self.seed

    @property
    def shards(self) -> Shards:
        """What an algorithm is told."""
        return Shards(ENV, self.env) if self.env > 1 else SINGLE

    def mesh(self) -> jax.sharding.Mesh | None:
        """The mesh, or None if one device does it all."""
        if self.devices == 1:
            return None
        kinds = (jax.sharding.AxisType.Auto,) * 2
        return jax.make_mesh(
            (self.seed, self.env),
            (SEED, ENV),
            axis_types=kinds,
            devices=jax.devices()[: self.devices],
        )

    def __str__(self) -> str:
        return f"env={self.env},seed={self.seed}"


def parse(mesh: tuple[str, ...]) -> dict[str, int]:
    """`("env=4", "seed=2")` or `("env=4,seed=2",)` as a dict; either may be left out."""
    sizes: dict[str, int] = {}
    for item in ",".join(mesh).split(",") if mesh else ():
        name, _, size = item.partition("=")
        if name not in (ENV, SEED):
            raise unknown("mesh axis", name, (ENV, SEED))
        if name in sizes:
            raise JaxrlError(f"mesh has {name} twice: {name}={sizes[name]} and {item}.")
        if not size.isdigit() or int(size) < 1:
            raise JaxrlError(f"mesh has {item!r}, but must be like env=4,seed=2.")
        sizes[name] = int(size)
    return sizes


def choose(
    config: Any, num_members: int, devices: int | None, mesh: tuple[str, ...], splits: bool
) -> Layout:
    """The layout for a run: as asked for, or else the fastest on the devices there are.

    Members (seeds of settings) are shared out first, for they cost no communication: as many to
    each device as it takes, on the last one perhaps fewer. Environments are only where each device
    keeps at least `ROWS_PER_DEVICE` rows of a minibatch. `splits` says whether the algorithm can
    share its environments. Several processes share a run on all of their devices: one that had no
    part in a program could not run it.
    """
    present = len(jax.devices())
    asked = parse(mesh)
    sizes = _env_sizes(config)
    _check_axes(asked, num_members, sizes, splits)
    if devices is not None:
        check_positive_int("devices", devices)
    exactly = devices or (math.prod(asked.values()) if asked else None)
    if exactly is not None and exactly > present:
        what = (
            f"devices is {exactly}" if devices else f"mesh {','.join(mesh)} needs {exactly} devices"
        )
        raise LayoutError(f"{what}, but JAX sees {present} ({jax.devices()[0].device_kind}).")
    if jax.process_count() > 1:
        if exactly not in (None, present):
            raise LayoutError(
                f"several processes share a run on all of their devices: {present}, not {exactly}."
            )
        exactly = present
    if exactly is None:
        seed_axes = _shares(num_members, present)
    else:
        seed_axes = list(range(1, min(num_members, present) + 1))
    fits = _fitting(asked, seed_axes, sizes if splits else {}, present)
    rows = getattr(config, "minibatch_size", 1)
    if exactly is None:
        return max(each for each in fits if each.env == 1 or rows // each.env >= ROWS_PER_DEVICE)
    if not any(each.devices == exactly for each in fits):
        counts = ", ".join(map(str, sorted({each.devices for each in fits}))) or "none"
        text = " and ".join(
            f"{name} = {size}" for name, size in {"members": num_members, **sizes}.items()
        )
        raise LayoutError(
            f"{text} cannot be shared evenly by {exactly} devices. Numbers that can: {counts}."
        )
    return max(each for each in fits if each.devices == exactly)


def _fitting(
    asked: dict[str, int], seed_axes: list[int], sizes: dict[str, int], present: int
) -> list[Layout]:
    """The layouts on up to `present` devices that fit what was asked; `env` divides all `sizes`."""
    common = math.gcd(*sizes.values()) or 1
    fits = []
    for seed in seed_axes:
        for env in _divisors(common, present // seed):
            if asked.get(SEED, seed) == seed and asked.get(ENV, env) == env:
                fits.append(Layout(seed=seed, env=env))
    return fits


def _env_sizes(config: Any) -> dict[str, int]:
    """The sizes that are sharded along the axis "env", by name."""
    names = ("num_envs", "minibatch_size")
    sizes = {name: getattr(config, name) for name in names if hasattr(config, name)}
    return sizes | (env_sizes(config) if dataclasses.is_dataclass(config) else {})


def _check_axes(
    asked: dict[str, int], num_members: int, sizes: dict[str, int], splits: bool
) -> None:
    """Refuse axes that were asked for, and do not fit the run whatever the devices."""
    seed, env = asked.get(SEED, 1), asked.get(ENV, 1)
    if seed > num_members:
        raise LayoutError(
            f"mesh has seed={seed}, but the members (seeds of settings) are only {num_members}."
        )
    if env > 1 and not splits:
        raise LayoutError(
            f"mesh has env={env}, but this algorithm cannot share its environments over devices."
        )
    if any(size % env for size in sizes.values()):
        text = " and ".join(f"{name} = {size}" for name, size in sizes.items())
        raise LayoutError(f"mesh has env={env}, which must divide {text}.")


def _shares(members: int, limit: int) -> list[int]:
    """Numbers of devices, up to `limit`, of which none is idle with ⌈members / devices⌉ on each."""
    counts = []
    for devices in range(1, min(members, limit) + 1):
        members_each = math.ceil(members / devices)
        if math.ceil(members / members_each) == devices:
            counts.append(devices)
    return counts


def _divisors(number: int, limit: int) -> list[int]:
    """The divisors of `number` up to `limit`."""
    return [k for k in range(1, min(number, limit) + 1) if number % k == 0]
