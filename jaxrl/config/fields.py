"""Declaring the fields of a configuration: each says what it may be."""

from __future__ import annotations

import math
from typing import Any, Literal

from flax import struct

from jaxrl.config.family import Family


def number(
    default: float, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False
) -> Any:
    """A sweepable number in [low, high], or in (low, high] with `open_low`."""
    return struct.field(default=default, metadata={"range": (low, high, open_low)})


def size(default: Any, low: int = 1) -> Any:
    """A whole number of at least `low` (or a tuple of them); static."""
    return struct.field(pytree_node=False, default=default, metadata={"size": low})


def budget(default: int, unit: Literal["transitions", "gradient steps", "episodes"]) -> Any:
    """The size that says how long to train; one field of a configuration at most."""
    return struct.field(pytree_node=False, default=default, metadata={"size": 1, "budget": unit})


def option(
    default: Any, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False
) -> Any:
    """A choice (checked against its Literal), a switch, or a number as in `number`; static."""
    return struct.field(
        pytree_node=False, default=default, metadata={"static_range": (low, high, open_low)}
    )


def nested(default: Any, prefix: str = "") -> Any:
    """A configuration inside of this one; its flat names begin with `prefix`."""
    return struct.field(default=default, metadata={"prefix": prefix})


def part(family: Family, default: str, prefix: str = "") -> Any:
    """A part chosen by name; the field holds the configuration of the chosen one.

    Written flat the field is the name, and the options of the chosen part, whose names begin with
    `prefix`, stand beside it: `starts="pool", pool_size=64`.
    """
    return struct.field(
        default=family.load(default)(), metadata={"family": family, "prefix": prefix}
    )
