"""Start distributions: where an episode begins. One interface; the mechanism behind every auto-reset.

    init(key) -> S                        the distribution's own state, a pytree
    refresh(S, key) -> S                  called once an iteration, between rollouts
    draw(S, key, ended) -> Draw           a start for each row of a vector where `ended` holds
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
    """A start for each of `n` environments; every leaf has `n` rows, and those that did not end are not read."""

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

    def draw(self, state: PyTree, key: Key, ended: Array) -> Draw:
        """Draw a start for each row where `ended`, bool [n], holds; the others may hold anything."""
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

    def draw(self, state: PyTree, key: Key, ended: Array) -> Draw:
        """`n` independent resets, of rows that did not end as well."""
        del state
        n = len(ended)
        env_state, observation = jax.vmap(self.env.reset)(jax.random.split(key, n))
        return Draw(env_state, observation, jnp.full(n, self.env.horizon, jnp.int32), jnp.full(n, -1, jnp.int32))


class Pool(struct.PyTreeNode):
    """`size` fresh starts, renewed every iteration and handed out in turn, from a random place on every step.

    Rows are independent resets, so those that end on one step draw without replacement, as long as no more than
    `size` of them do; across the steps of one iteration a row can be handed out again. The larger, the closer to Fresh.
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

    def draw(self, state: PyTree, key: Key, ended: Array) -> Draw:
        """Rows offset, offset+1, … (modulo the size), in the order of the rows that ended, for one random offset."""
        offset, n = jax.random.randint(key, (), 0, self.size), len(ended)
        rows = (offset + jnp.cumsum(ended, dtype=jnp.int32)) % self.size
        env_state, observation = jax.tree.map(lambda leaf: leaf[rows], state)
        return Draw(env_state, observation, jnp.full(n, self.env.horizon, jnp.int32), rows)
