"""Cutting a batch into shuffled minibatches."""

from __future__ import annotations

import math

import jax

from jaxrl.errors import JaxrlError
from jaxrl.types import Array, Key, PyTree


def shuffled_indices(key: Key, size: int, minibatch_size: int) -> Array:
    """A fresh permutation of 0 … size−1 as int32 [size / minibatch_size, minibatch_size]."""
    return jax.random.permutation(key, size).reshape(-1, minibatch_size)


def take(batch: PyTree, indices: Array) -> PyTree:
    """Rows `indices` of every leaf: the minibatch is gathered, a shuffled copy is never made."""
    return jax.tree.map(lambda leaf: leaf[indices], batch)


def flatten_time(rollout: PyTree) -> PyTree:
    """[T, N, ...] -> [T·N, ...] for every leaf."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rollout)


def check_sizes(total_steps: int, num_envs: int, num_steps: int, minibatch_size: int) -> None:
    """Refuse a minibatch size that does not divide the batch, and a budget that holds no batch."""
    batch = num_envs * num_steps
    text = f"num_envs * num_steps = {num_envs} * {num_steps} = {batch}"
    if batch % minibatch_size:
        divisors = {size for k in range(1, math.isqrt(batch) + 1) if batch % k == 0 for size in (k, batch // k)}
        near = sorted(sorted(divisors, key=lambda size: abs(math.log(size / minibatch_size)))[:3])
        raise JaxrlError(
            f"minibatch_size is {minibatch_size}, but must divide {text}. Nearest that do: {', '.join(map(str, near))}."
        )
    if total_steps < batch:
        raise JaxrlError(f"total_steps is {total_steps}, but one iteration alone takes {text}.")
