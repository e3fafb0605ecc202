"""Declaring the fields of a configuration: each says what it may be."""

from __future__ import annotations

import math
from typing import Any

from flax import struct


def number(default: float, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False) -> Any:
    """A sweepable number in [low, high], or in (low, high] with `open_low`."""
    return struct.field(default=default, metadata={"range": (low, high, open_low)})


def size(default: Any) -> Any:
    """A whole number of at least one (or a tuple of them); static."""
    return struct.field(pytree_node=False, default=default, metadata={"size": True})


def option(default: Any, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False) -> Any:
    """A choice (checked against its Literal annotation), a switch, or a number as in `number`; static."""
    return struct.field(pytree_node=False, default=default, metadata={"static_range": (low, high, open_low)})
