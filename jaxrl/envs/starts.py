"""Start distributions: where an episode begins. One interface; the mechanism behind every auto-reset.

    init(key) -> S                        the distribution's own state, a pytree
    refresh(S, key) -> S                  called once an iteration, between rollouts
    draw(S, key, n) -> Draw               n starts, for a whole vector of environments
    shortest                              the fewest steps any drawn episode may be granted (static)

A start grants its episode a step budget (`limit`) and says where it came from (`origin`), so that starting
from saved states with budgets of their own is a third member of this family and touches nothing else.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl.envs.api import Environment
from jaxrl.errors import check_positive_int
from jaxrl.types import Array, Key, PyTree


class Draw(NamedTuple):
    """`n` episode starts; every leaf has `n` rows."""

    state: PyTree
    observation: PyTree
    limit: Array  # int32 [n], steps granted before truncation
    origin: Array  # int32 [n], row of the pool or bank it came from; -1: the environment's own reset


class Starts(Protocol):
    """What VectorEnv asks of a start distribution (see the module's docstring)."""

    @property
    def shortest(self) -> int:
        """The fewest steps any drawn episode may be granted."""
        ...

    def init(self, key: Key) -> PyTree:
        """The distribution's first state."""
        ...

    def refresh(self, state: PyTree, key: Key) -> PyTree:
        """Renew it, once an iteration."""
        ...

    def draw(self, state: PyTree, key: Key, n: int) -> Draw:
        """Draw `n` starts."""
        ...


class Fresh(struct.PyTreeNode):
    """The environment's own reset for each draw: exact, and as dear as the reset."""

    env: Environment

    @property
    def shortest(self) -> int:
        """Every episode is granted the suite's horizon."""
        return self.env.horizon

    def init(self, key: Key) -> PyTree:
        """Nothing to remember."""
        del key
        return ()

    def refresh(self, state: PyTree, key: Key) -> PyTree:
        """Nothing to renew."""
        del key
        return state

    def draw(self, state: PyTree, key: Key, n: int) -> Draw:
        """`n` independent resets."""
        del state
        env_state, observation = jax.vmap(self.env.reset)(jax.random.split(key, n))
        return Draw(env_state, observation, jnp.full(n, self.env.horizon, jnp.int32), jnp.full(n, -1, jnp.int32))


class Pool(struct.PyTreeNode):
    """`size` fresh starts, renewed every iteration and handed out by one contiguous copy a draw.

    Rows are independent, so a window at a random offset is a draw without replacement within the step; across
    the steps of one iteration a row can be handed out again. `size` of at least the number of environments
    keeps duplicates within a step at zero; the larger, the closer to Fresh.
    """

    env: Environment
    size: int = struct.field(pytree_node=False, default=1024)

    @property
    def shortest(self) -> int:
        """Every episode is granted the suite's horizon."""
        return self.env.horizon

    def init(self, key: Key) -> PyTree:
        """`size` fresh starts: (states, observations), [size, ...]."""
        check_positive_int("pool_size", self.size)
        return jax.vmap(self.env.reset)(jax.random.split(key, self.size))

    def refresh(self, state: PyTree, key: Key) -> PyTree:
        """Replace every row."""
        del state
        return self.init(key)

    def draw(self, state: PyTree, key: Key, n: int) -> Draw:
        """Rows offset, offset+1, … (modulo the size) for one random offset."""
        offset = jax.random.randint(key, (), 0, self.size)
        rows = (offset + jnp.arange(n, dtype=jnp.int32)) % self.size
        env_state, observation = jax.tree.map(lambda leaf: leaf[rows], state)
        return Draw(env_state, observation, jnp.full(n, self.env.horizon, jnp.int32), rows)
