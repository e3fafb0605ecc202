"""The devices that share one learner, as a mesh axis.

Environments are split over the devices (partitioned), parameters are the same on all (replicated).
An algorithm is given `Shards` and asks it for its reductions; it knows nothing else of devices.
With the default, one shard, every method is the identity and leaves no trace in the compiled
program.
"""

from __future__ import annotations

from typing import NamedTuple

import jax

from jaxrl.errors import JaxrlError
from jaxrl.types import Key, PyTree


class Shards(NamedTuple):
    """A number of devices along the mesh axis `axis_name`; None: a single one."""

    axis_name: str | None = None
    devices: int = 1

    def mean(self, tree: PyTree) -> PyTree:
        """The mean over the shards of every leaf: exact, as shards hold equally many samples."""
        return tree if self.axis_name is None else jax.lax.pmean(tree, self.axis_name)

    def sum(self, tree: PyTree) -> PyTree:
        """The sum over the shards of every leaf."""
        return tree if self.axis_name is None else jax.lax.psum(tree, self.axis_name)

    def own(self, key: Key) -> Key:
        """A key of this shard's own, from one that all hold; with one shard, the key itself."""
        if self.axis_name is None:
            return key
        return jax.random.fold_in(key, jax.lax.axis_index(self.axis_name))

    def split(self, name: str, total: int) -> int:
        """How many of `total` each shard holds; refuses what does not divide."""
        if total % self.devices:
            raise JaxrlError(
                f"{name} is {total}, but must be a multiple of the {self.devices} devices "
                "that share it."
            )
        return total // self.devices


SINGLE = Shards()
