"""Start distributions: where an episode begins. One interface; the mechanism behind every auto-reset.

    init(key, n) -> S                     the distribution's own state for n environments: a pytree of leaves with rows
    refresh(S, key) -> S                  called once an iteration, between rollouts
    draw(S, key, ended) -> (S, Draw)      a start for each row of a vector where `ended` holds
    shortest                              the fewest steps any drawn episode may be granted (static)

A start grants its episode a step budget (`limit`) and says where it came from (`origin`), so that starting
from saved states with budgets of their own is a third member of this family and touches nothing else.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl.config import Family, configuration, size
from jaxrl.core.batching import any_member
from jaxrl.core.shards import Shards
from jaxrl.core.tree import select_rows, strip_weak_types
from jaxrl.envs.api import Environment
from jaxrl.errors import check_positive_int
from jaxrl.types import Array, Key, PyTree


class Draw(NamedTuple):
    """A start for each of `n` environments; every leaf has `n` rows, and those that did not end are not read."""

    state: PyTree
    observation: PyTree
    limit: Array  # int32 [n], steps granted before truncation
    origin: Array  # int32 [n], row of the pool or bank it came from; -1: the environment's own reset


@configuration
class StartsConfig:
    """Which start distribution there is; each has a configuration of its own that derives from this one."""

    def make(self, env: Environment, shards: Shards, inputs: dict[str, Any]) -> Starts:
        """The start distribution for the share of the environments that one device has."""
        raise NotImplementedError

    def env_sizes(self) -> dict[str, int]:
        """What is dealt out over devices with the environments, by name."""
        return {}


@configuration
class FreshConfig(StartsConfig):
    """The environment's own reset for each episode."""

    def make(self, env: Environment, shards: Shards, inputs: dict[str, Any]) -> Starts:
        """The same on every device."""
        del shards, inputs
        return Fresh(env)


@configuration
class PoolConfig(StartsConfig):
    """A pool of resets, renewed every iteration and handed out in turn."""

    pool_size: int = size(1024)
    """Starts that the pool keeps."""

    def make(self, env: Environment, shards: Shards, inputs: dict[str, Any]) -> Starts:
        """Each device keeps its share."""
        del inputs
        return Pool(env, -(-self.pool_size // shards.devices))

    def env_sizes(self) -> dict[str, int]:
        """Rounded up, its share would make the shape of the state depend on the devices."""
        return {"pool_size": self.pool_size}


CONFIGS = {"fresh": FreshConfig, "pool": PoolConfig}
STARTS = Family("starts", StartsConfig, names=CONFIGS.keys, find=CONFIGS.__getitem__)


class Starts(Protocol):
    """What VectorEnv asks of a start distribution (see the module's docstring)."""

    @property
    def shortest(self) -> int:
        """The fewest steps any drawn episode may be granted."""
        ...

    def init(self, key: Key, n: int) -> PyTree:
        """The distribution's first state, for `n` environments."""
        ...

    def refresh(self, state: PyTree, key: Key) -> PyTree:
        """Renew it, once an iteration."""
        ...

    def draw(self, state: PyTree, key: Key, ended: Array) -> tuple[PyTree, Draw]:
        """Draw a start for each row where `ended`, bool [n], holds; the others may hold anything."""
        ...


class Bank(NamedTuple):
    """The next start of each environment, made ahead; every leaf has a row an environment."""

    key: Key
    episode: Array  # uint32, how many starts the row has had
    used: Array  # bool, whether the one below has been handed out
    state: PyTree
    observation: PyTree


class Fresh(struct.PyTreeNode):
    """The environment's own reset for each episode: independent and exact, and nearly free.

    The start of an environment's j-th episode is `reset(fold_in(key of the environment, j))`, whenever it is made. So
    a bank holds the next start of every environment, a row that ends takes its own by a selection, and the used rows
    are made anew, all at once, only when one of them is asked for again. Drawing a reset for every row on every step,
    to use the few whose episode ended, costs two to seven times the step itself (benchmarks/NOTES.md).
    """

    env: Environment

    @property
    def shortest(self) -> int:
        """Every episode is granted the suite's horizon."""
        return self.env.horizon

    def init(self, key: Key, n: int) -> Bank:
        """A start for each of `n` environments."""
        keys, episode = jax.random.split(key, n), jnp.zeros(n, jnp.uint32)
        return Bank(keys, episode, jnp.zeros(n, bool), *self._make(keys, episode))

    def refresh(self, state: Bank, key: Key) -> Bank:
        """Nothing to renew: starts are made when they are needed."""
        del key
        return state

    def draw(self, state: Bank, key: Key, ended: Array) -> tuple[Bank, Draw]:
        """Each row's own next start; the bank is renewed first if one that ended has used its own up."""
        del key
        keys = state.key

        def renew(carry: tuple) -> tuple:
            _, episode, used, *old = carry
            episode = episode + used
            starts = select_rows(used, self._make(keys, episode), tuple(old))
            return jnp.zeros((), bool), episode, jnp.zeros_like(used), *starts

        # What a bank holds does not depend on when it is renewed, so all members renew theirs together: if each did
        # when it alone had to, nearly every step of a large population would be one.
        # A loop of at most one round and not a branch: a branch copies what it leaves alone, and under vmap becomes
        # both branches; a loop works in place, and runs only when it is needed.
        carry = (any_member(jnp.any(ended & state.used)), *state[1:])
        _, episode, used, start, observation = jax.lax.while_loop(lambda carry: carry[0], renew, carry)
        n = len(ended)
        draw = Draw(start, observation, jnp.full(n, self.env.horizon, jnp.int32), jnp.full(n, -1, jnp.int32))
        return Bank(keys, episode, used | ended, start, observation), draw

    def _make(self, keys: Key, episode: Array) -> tuple[PyTree, PyTree]:
        """The starts of these episodes: (states, observations)."""
        state, observation = jax.vmap(lambda key, number: self.env.reset(jax.random.fold_in(key, number)))(
            keys, episode
        )
        return strip_weak_types((state, observation))


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

    def init(self, key: Key, n: int) -> PyTree:
        """`size` fresh starts: (states, observations), [size, ...]."""
        del n
        check_positive_int("pool_size", self.size)
        return jax.vmap(self.env.reset)(jax.random.split(key, self.size))

    def refresh(self, state: PyTree, key: Key) -> PyTree:
        """Replace every row."""
        del state
        return self.init(key, 0)

    def draw(self, state: PyTree, key: Key, ended: Array) -> tuple[PyTree, Draw]:
        """Rows offset, offset+1, … (modulo the size), in the order of the rows that ended, for one random offset."""
        offset, n = jax.random.randint(key, (), 0, self.size), len(ended)
        rows = (offset + jnp.cumsum(ended, dtype=jnp.int32)) % self.size
        env_state, observation = jax.tree.map(lambda leaf: leaf[rows], state)
        return state, Draw(env_state, observation, jnp.full(n, self.env.horizon, jnp.int32), rows)
