"""Declaring the fields of a configuration: each says what it may be, and what it is read with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from flax import struct

from jaxrl.config.family import Family

# What another field has to be for one to be read: by its name, one of them (see needs.py).
Needs = Mapping[str, Any]


class Range(NamedTuple):
    """The numbers that a field may hold: [low, high], without low if `open_low`."""

    low: float
    high: float
    open_low: bool
    finite: bool  # whether infinity is no value, although no bound is given


def number(
    default: float,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    infinite: bool = False,
    needs: Needs | None = None,
    basic: bool = False,
) -> Any:
    """A sweepable number in [low, high], or in (low, high] with `open_low`.

    It is finite unless infinity means something, and `infinite` says so. `basic`, here as in the
    others: it is among the few that `--help` shows; `--help-all` shows every one.
    """
    allowed = Range(low, high, open_low, finite=not infinite)
    metadata = {"range": allowed, "needs": needs or {}, "basic": basic}
    return struct.field(default=default, metadata=metadata)


def size(default: Any, low: int = 1, *, needs: Needs | None = None, basic: bool = False) -> Any:
    """A whole number of at least `low` (or a tuple of them); static."""
    metadata = {"size": low, "needs": needs or {}, "basic": basic}
    return struct.field(pytree_node=False, default=default, metadata=metadata)


def budget(default: int, unit: Literal["transitions", "gradient steps", "episodes"]) -> Any:
    """The size that says how long to train; one field of a configuration at most."""
    metadata = {"size": 1, "budget": unit, "basic": True}
    return struct.field(pytree_node=False, default=default, metadata=metadata)


def option(
    default: Any,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    open_low: bool = False,
    needs: Needs | None = None,
    basic: bool = False,
) -> Any:
    """A choice (checked against its Literal), a switch, or a finite number as in `number`; static.

    `needs`, here as in the others: what the field is read with; given at another value than its
    default while that is off, it is refused: `option("log", needs={"train_temperature": True})`.
    """
    allowed = Range(low, high, open_low, finite=True)
    metadata = {"static_range": allowed, "needs": needs or {}, "basic": basic}
    return struct.field(pytree_node=False, default=default, metadata=metadata)


def nested(default: Any, prefix: str = "") -> Any:
    """A configuration inside of this one; its flat names begin with `prefix`."""
    return struct.field(default=default, metadata={"prefix": prefix})


def part(
    family: Family,
    default: str,
    prefix: str = "",
    *,
    needs: Needs | None = None,
    basic: bool = False,
) -> Any:
    """A part chosen by name; the field holds the configuration of the chosen one.

    Written flat the field is the name, and the options of the chosen part, whose names begin with
    `prefix`, stand beside it: `starts="pool", pool_size=64`.
    """
    metadata = {"family": family, "prefix": prefix, "needs": needs or {}, "basic": basic}
    return struct.field(default=family.load(default)(), metadata=metadata)
