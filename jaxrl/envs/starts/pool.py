"""A pool of starts, made anew every iteration."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl.config import configuration, size
from jaxrl.core.shards import Shards
from jaxrl.envs.api import Environment
from jaxrl.envs.starts.api import Draw, Starts, StartsConfig
from jaxrl.errors import check_positive_int
from jaxrl.types import Array, Key, Progress, PyTree, Transition


@configuration
class PoolConfig(StartsConfig):
    """A pool of resets, renewed every iteration and handed out in turn."""

    pool_size: int = size(1024)
    """Starts that the pool keeps."""

    def make(self, env: Environment, shards: Shards) -> Starts:  # type: ignore[override]
        """Each device keeps its share."""
        return Pool(env, -(-self.pool_size // shards.devices))

    def env_sizes(self) -> dict[str, int]:
        """Rounded up, its share would make the shape of the state depend on the devices."""
        return {"pool_size": self.pool_size}


class Pool(struct.PyTreeNode):
    """`size` fresh starts, renewed every iteration and handed out in turn.

    On every step they are handed out from a random row on. Rows are independent resets, so those
    that end on one step draw without replacement, as long as no more than `size` of them do; across
    the steps of one iteration a row can be handed out again. The larger, the closer to Fresh.
    """

    env: Environment
    size: int = struct.field(pytree_node=False, default=1024)

    @property
    def shortest(self) -> int:
        """Every episode is granted the suite's horizon."""
        return self.env.horizon

    @property
    def sharded(self) -> PyTree:
        """Every device has a pool of its own."""
        return True

    def init(self, key: Key, n: int) -> PyTree:
        """`size` fresh starts: (states, observations), [size, ...]."""
        del n
        check_positive_int("pool_size", self.size)
        return jax.vmap(self.env.reset)(jax.random.split(key, self.size))

    def refresh(self, state: PyTree, key: Key, progress: Progress) -> PyTree:
        """Replace every row."""
        del state, progress
        return self.init(key, 0)

    def draw(
        self, state: PyTree, key: Key, ended: Array, seen: Transition | None, reached: PyTree | None
    ) -> tuple[PyTree, Draw]:
        """Rows offset+1, offset+2, … (modulo the size) for those that ended, at a random offset."""
        del seen, reached
        offset = jax.random.randint(key, (), 0, self.size)
        rows = (offset + jnp.cumsum(ended, dtype=jnp.int32)) % self.size
        env_state, observation = jax.tree.map(lambda leaf: leaf[rows], state)
        limit = jnp.full(len(ended), self.env.horizon, jnp.int32)
        return state, Draw(env_state, observation, limit, origin=rows)
