"""A state with a leaf of every kind that a checkpoint must bring back."""

from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax


class Memory(NamedTuple):
    carry: jax.Array
    nothing: None
    unit: tuple


@flax.struct.dataclass
class State:
    params: dict
    optimiser: tuple
    key: jax.Array
    keys: jax.Array
    memory: Memory
    iteration: jax.Array
    done: jax.Array
    bytes: jax.Array
    half: jax.Array
    empty: jax.Array
    name: str = flax.struct.field(pytree_node=False, default="static")


def make_state(seed=0, width=5) -> State:
    key = jax.random.key(seed)
    params = {"dense": {"kernel": jax.random.normal(key, (3, width)), "bias": jnp.zeros(width)}}
    params["dense"]["kernel"] = (
        params["dense"]["kernel"].at[0, :3].set(jnp.array([jnp.nan, jnp.inf, -0.0]))
    )
    return State(
        params=params,
        optimiser=optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-3)).init(params),
        key=key,
        keys=jax.random.split(jax.random.key(seed, impl="rbg"), (2, 3)),
        memory=Memory(jnp.full((2, 2), seed, jnp.float32), None, ()),
        iteration=jnp.asarray(seed, jnp.int32),
        done=jnp.array([True, False, True]),
        bytes=jnp.arange(4, dtype=jnp.uint8),
        half=jnp.linspace(0, 1, 3).astype(jnp.bfloat16),
        empty=jnp.zeros((0, 3)),
    )


def abstract(state):
    return jax.eval_shape(lambda: state)


def bits(tree):
    def data(leaf):
        is_key = jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    return [(str(leaf.dtype), leaf.shape, data(leaf).tobytes()) for leaf in jax.tree.leaves(tree)]


def assert_same(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    assert bits(first) == bits(second)
