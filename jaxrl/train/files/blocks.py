"""The blocks of a Log dealt out anew, for a run that other devices share, or with room for more.

The rows and their order stay the same. Row t of block b of B is row t B + b of the log as a whole:
the blocks grow together. Row i of the whole is then row ⌊i / B'⌋ of block i mod B'.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from jaxrl.train.files.rows import Rings, rings


def dealt_anew(
    described: list[dict[str, Any]], values: list[Any], needed: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[Any]]:
    """Leaves and their descriptions, each Log in as many blocks as `needed` has.

    And with as much room, if it is more, and nothing was overwritten yet: what was is not there.
    """
    described, values = list(described), list(values)
    for number, log in enumerate(rings(described, values)):
        blocks = _needed_blocks(number, needed)
        old_size = log.blocks * log.capacity
        size = max(old_size, _needed_size(number, needed, len(log.members)))
        if any(log.alive(slot) for slot in range(len(log.written))):
            size = old_size
        if blocks is None or (blocks, size) == (log.blocks, old_size) or size % blocks:
            continue
        members = math.prod(log.members)
        orders = [_order(log, member, blocks, size // blocks) for member in range(members)]
        counters = np.array(
            [_counters(log, member, blocks) for member in range(members)], np.uint32
        )
        for index, row in enumerate(described):
            if row.get("log") == number:
                values[index] = _arranged(log, values[index], orders, size)
                described[index] = row | {"shape": list(values[index].shape)}
            if row.get("counts") == number:
                values[index] = counters.reshape(*log.members, blocks, 2)
                described[index] = row | {"shape": [*log.members, blocks, 2]}
    return described, values


def _needed_blocks(number: int, needed: list[dict[str, Any]]) -> int | None:
    """How many blocks a Log is to have; None if it is to be none."""
    shapes = [row["shape"] for row in needed if row.get("counts") == number]
    return shapes[0][-2] if shapes and len(shapes[0]) > 1 else None


def _needed_size(number: int, needed: list[dict[str, Any]], axis: int) -> int:
    """How many rows a Log is to have room for, in all its blocks; 0 if it is to be none."""
    shapes = [row["shape"] for row in needed if row.get("log") == number]
    return shapes[0][axis] if shapes and len(shapes[0]) > axis else 0


def _total(log: Rings, member: int) -> int:
    return sum(log.written[member * log.blocks : (member + 1) * log.blocks])


def _counters(log: Rings, member: int, blocks: int) -> list[tuple[int, int]]:
    """(low word, high word) of the rows that each of the new blocks was given."""
    counts = [(_total(log, member) - block + blocks - 1) // blocks for block in range(blocks)]
    return [(count % 2**32, count >> 32) for count in counts]


def _order(log: Rings, member: int, blocks: int, capacity: int) -> tuple[np.ndarray, np.ndarray]:
    """(places of a member's rows now, oldest first; where each goes in blocks of `capacity`)."""
    keys = []
    places = []
    for block in range(log.blocks):
        slot = member * log.blocks + block
        rows = np.arange(log.alive(slot), log.written[slot], dtype=np.int64)
        keys.append(rows * log.blocks + block)
        places.append(block * log.capacity + rows % log.capacity)
    old = np.concatenate(places)[np.argsort(np.concatenate(keys), kind="stable")]
    new = np.arange(_total(log, member) - len(old), _total(log, member), dtype=np.int64)
    return old, new % blocks * capacity + new // blocks % capacity


def _arranged(
    log: Rings, leaf: np.ndarray, orders: list[tuple[np.ndarray, np.ndarray]], size: int
) -> np.ndarray:
    """A leaf with each member's rows in their places of `size`, and zeros where there is none."""
    axis = len(log.members)
    rows = leaf.reshape(len(orders), *leaf.shape[axis:])
    arranged = np.zeros((len(orders), size, *rows.shape[2:]), rows.dtype)
    for member, (old, new) in enumerate(orders):
        arranged[member, new] = rows[member, old]
    return arranged.reshape(*log.members, size, *rows.shape[2:])
