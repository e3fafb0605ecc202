"""Cutting a batch into shuffled minibatches, and a minibatch into tiles that fit into a cache."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Int32, PyTree, Shaped

from jaxrl.core.shards import Shards
from jaxrl.errors import JaxrlError
from jaxrl.types import Array, Key

# Rounds of the Feistel network. By the theorem, four with random functions cannot be told from a
# random permutation of indices with many digits; sizes up to SMALL get eight, which cost nothing.
ROUNDS = 4
ROUNDS_IF_SMALL = 8
SMALL = 4096
# Transitions of one gradient on a CPU: activations stay in the second-level cache. Elsewhere: a
# bound on their memory.
TILE_ROWS = {"cpu": 1024}
OTHER_TILE_ROWS = 1 << 20
# Rows are counted in int32.
LARGEST_BATCH = 2**31 - 1


def shuffled_indices(
    key: Key, size: int, minibatch_size: int
) -> Int32[Array, "{size//minibatch_size} {minibatch_size}"]:
    """A fresh permutation of 0 … size−1, cut into minibatches."""
    return permutation(key, size).reshape(-1, minibatch_size)


def permutation(key: Key, size: int) -> Int32[Array, "{size}"]:
    """A pseudo-random permutation of 0 … size−1, without sorting a large one.

    Large sizes go through a Feistel network: an index is written as (left, right) with left < a,
    right < b and a·b = size, and in turn

        left ← (left + f(right)) mod a,    right ← (right + g(left)) mod b

    for some rounds with fresh tables f, g of uniform numbers. Each half round can be undone, so no
    index is lost or doubled. A sort costs 20 to 50 times as much and runs on one core
    (benchmarks/NOTES.md).

    Source: Luby & Rackoff, How to Construct Pseudorandom Permutations from Pseudorandom Functions
    (1988).
    """
    small = _balanced_divisor(size)
    # A prime does not split into halves: all that was done would be a rotation. Twice a prime, or
    # three times, keeps neighbours together.
    if small < 4 or small * small * 64 < size:
        return jax.random.permutation(key, size).astype(jnp.int32)
    large = size // small
    rounds = (ROUNDS_IF_SMALL if size <= SMALL else ROUNDS) // 2
    key_left, key_right = jax.random.split(key)
    to_left = jax.random.randint(key_left, (rounds, large), 0, small)
    to_right = jax.random.randint(key_right, (rounds, small), 0, large)
    index = jnp.arange(size, dtype=jnp.int32)
    left, right = index // large, index % large
    for f, g in zip(to_left, to_right, strict=True):
        left = left + f[right]
        left = jnp.where(left >= small, left - small, left)
        right = right + g[left]
        right = jnp.where(right >= large, right - large, right)
    return left * large + right


def _balanced_divisor(size: int) -> int:
    """The largest divisor of `size` that is at most its square root."""
    return next(k for k in range(math.isqrt(size), 0, -1) if size % k == 0)


def take(batch: PyTree[Shaped[Array, "rows ..."]], indices: Int32[Array, "*B"]) -> PyTree:
    """Rows `indices` of every leaf: the minibatch is gathered, a shuffled copy is never made."""
    return jax.tree.map(lambda leaf: leaf.at[indices].get(mode="promise_in_bounds"), batch)


def spread(batch: PyTree[Shaped[Array, "rows ..."]], count: int) -> PyTree:
    """About `count` rows of every leaf, evenly spread over the batch; all of fewer."""
    stride = math.ceil(len(jax.tree.leaves(batch)[0]) / count)
    return jax.tree.map(lambda leaf: leaf[::stride], batch)


def flatten_time(rollout: PyTree[Shaped[Array, "T N ..."]]) -> PyTree[Shaped[Array, "T*N ..."]]:
    """Time and environments as one axis of rows."""
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), rollout)


def mean_over_tiles(
    function: Callable[[PyTree, Key], PyTree],
    rows: PyTree[Shaped[Array, "rows ..."]],
    key: Key,
    per_row: int = 1,
) -> PyTree:
    """The mean of `function(rows, key)` over equal tiles of the rows; few rows are one tile.

    `function` returns means over the rows that it is given (a gradient, diagnostics), so the result
    is what it would return for all of them, up to rounding; memory is that of one tile. A row may
    stand for several transitions, `per_row`.
    """
    size = jax.tree.leaves(rows)[0].shape[0]
    tile = tile_rows(size, jax.default_backend(), per_row)
    if tile == size:
        return function(rows, key)
    count = size // tile
    tiles = jax.tree.map(lambda leaf: leaf.reshape(count, tile, *leaf.shape[1:]), rows)

    def add(total: PyTree, draw: tuple[PyTree, Key]) -> tuple[PyTree, None]:
        rows, key = draw
        return jax.tree.map(jnp.add, total, function(rows, key)), None

    first = jax.tree.map(lambda leaf: leaf[0], tiles)
    shapes = jax.eval_shape(function, first, key)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, (tiles, jax.random.split(key, count)))
    return jax.tree.map(lambda leaf: leaf / count, total)


def tile_rows(size: int, platform: str, per_row: int = 1) -> int:
    """Rows per tile: the largest divisor of `size` that fits, or `size` if that is a sliver."""
    largest = max(TILE_ROWS.get(platform, OTHER_TILE_ROWS) // per_row, 1)
    if size <= largest:
        return size
    best = max(k for k in range(1, largest + 1) if size % k == 0)
    return best if best >= largest // 8 else size


def check_sizes(total_steps: int, num_envs: int, num_steps: int, minibatch_size: int) -> None:
    """Refuse a minibatch size that does not divide the batch, and a budget that holds no batch."""
    batch = num_envs * num_steps
    text = f"num_envs * num_steps = {num_envs} * {num_steps} = {batch}"
    if batch > LARGEST_BATCH:
        raise JaxrlError(f"{text}, but rows of a batch are counted up to {LARGEST_BATCH}.")
    if batch % minibatch_size:
        small = [k for k in range(1, math.isqrt(batch) + 1) if batch % k == 0]
        divisors = {*small, *(batch // k for k in small)}
        by_ratio = sorted(divisors, key=lambda size: abs(math.log(size / minibatch_size)))
        near = ", ".join(str(size) for size in sorted(by_ratio[:3]))
        raise JaxrlError(
            f"minibatch_size is {minibatch_size}, but must divide {text}. Nearest that do: {near}."
        )
    if total_steps < batch:
        raise JaxrlError(f"total_steps is {total_steps}, but one iteration alone takes {text}.")


def check_standardised(normalized: str, minibatch_size: int, batch_size: int) -> None:
    """Refuse to standardise advantages over a single row: each would be its own mean, and so 0."""
    rows = {
        "minibatch": ("minibatch_size", minibatch_size),
        "batch": ("num_envs * num_steps", batch_size),
    }
    name, count = rows.get(normalized, ("", 0))
    if count == 1:
        raise JaxrlError(
            f"{name} is 1, but normalize_advantages={normalized} needs at least 2 "
            "transitions to standardise over: one alone has advantage 0, and the policy would "
            "never change. Choose more, or normalize_advantages=none."
        )


def check_rows(
    minibatch_size: int, num_envs: int, num_steps: int, per_row: int, shards: Shards
) -> None:
    """Refuse minibatches that are no whole number of rows on every device.

    A row has `per_row` transitions: one, or with a memory all the steps of an environment.
    """
    if minibatch_size % per_row:
        counts = [k for k in range(1, num_envs + 1) if num_envs % k == 0]
        counts.sort(key=lambda count: abs(count * per_row - minibatch_size))
        nearest = " or ".join(str(count * per_row) for count in sorted(counts[:2]))
        raise JaxrlError(
            f"minibatch_size is {minibatch_size}, but a policy with a memory reads whole "
            f"environments: it must be a multiple of num_steps = {num_steps}, as {nearest}."
        )
    rows = "minibatch_size" if per_row == 1 else "minibatch_size / num_steps"
    shards.split(rows, minibatch_size // per_row)
