"""Devices: how many share a run's environments, and how many its seeds.

mesh axis "seed"   members of a population are dealt out to devices, which never talk to one another
mesh axis "env"    the environments of each member are dealt out; gradients are averaged (core/shards.py)
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax

from jaxrl.core.shards import SINGLE, Shards
from jaxrl.errors import JaxrlError, check_positive_int, unknown

SEED, ENV = "seed", "env"
# Rows of a minibatch below which a device is not worth the wait for the others: some 250 µs of work on a core.
ROWS_A_DEVICE = 256


class Layout(NamedTuple):
    """Devices along each axis of the mesh."""

    env: int = 1
    seed: int = 1

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
            (self.seed, self.env), (SEED, ENV), axis_types=kinds, devices=jax.devices()[: self.devices]
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
        if not size.isdigit() or int(size) < 1:
            raise JaxrlError(f"mesh has {item!r}, but must be like env=4,seed=2.")
        sizes[name] = int(size)
    return sizes


def choose(config: Any, num_seeds: int, devices: int | None, mesh: tuple[str, ...], splits: bool) -> Layout:
    """The layout for a run: as asked for, or, where nothing is said, what is fastest on the devices there are.

    Seeds are dealt out first, for they cost no communication; environments only where each device keeps at least
    `ROWS_A_DEVICE` rows of a minibatch. `splits` says whether the algorithm can share its environments.
    """
    present, asked = len(jax.devices()), parse(mesh)
    if devices is not None:
        check_positive_int("devices", devices)
    limit = present if devices is None else devices
    if limit > present:
        raise JaxrlError(f"devices is {limit}, but JAX sees {present}: {jax.devices()[0].device_kind}.")
    seed = asked.get(SEED) or (1 if ENV in asked else _divisor(num_seeds, limit))
    envs, rows = getattr(config, "num_envs", 1), getattr(config, "minibatch_size", 1)
    fewest = 1 if devices is not None else ROWS_A_DEVICE
    most = min(limit // seed, rows // fewest) if splits else 1
    env = asked.get(ENV) or next(k for k in range(max(most, 1), 0, -1) if envs % k == 0 and rows % k == 0)
    layout = Layout(env, seed)
    if num_seeds % seed:
        raise JaxrlError(f"mesh has seed={seed}, which must divide num_seeds = {num_seeds}.")
    if env > 1 and not splits:
        raise JaxrlError(f"mesh has env={env}, but this algorithm cannot share its environments over devices.")
    if envs % env or rows % env:
        raise JaxrlError(f"mesh has env={env}, which must divide num_envs = {envs} and minibatch_size = {rows}.")
    if layout.devices > present:
        raise JaxrlError(f"mesh {layout} needs {layout.devices} devices, but JAX sees {present}.")
    if jax.process_count() > 1 and layout.devices != present:
        raise JaxrlError(f"mesh {layout} uses {layout.devices} devices, but the processes bring {present}: use all.")
    return layout


def _divisor(number: int, limit: int) -> int:
    """The largest divisor of `number` that is at most `limit`."""
    return next(k for k in range(min(number, limit), 0, -1) if number % k == 0)
