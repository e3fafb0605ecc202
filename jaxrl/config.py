"""Declaring a configuration: each field says what it may be, and one function checks them all.

A configuration is a frozen `flax.struct.dataclass`. A `number` only enters arithmetic: it is a pytree leaf, so a
sweep over it is a vmap and compiles once. A `size` or an `option` decides shapes or code: it is static.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
import typing
from typing import Any

from flax import struct

from jaxrl.errors import JaxrlError, check_choice, check_positive_int, check_range, unknown


def number(default: float, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False) -> Any:
    """A sweepable number in [low, high], or in (low, high] with `open_low`."""
    return struct.field(default=default, metadata={"range": (low, high, open_low)})


def size(default: Any) -> Any:
    """A whole number of at least one (or a tuple of them); static."""
    return struct.field(pytree_node=False, default=default, metadata={"size": True})


def option(default: Any, low: float = -math.inf, high: float = math.inf, *, open_low: bool = False) -> Any:
    """A choice (checked against its Literal annotation), a switch, or a number as in `number`; static."""
    return struct.field(pytree_node=False, default=default, metadata={"static_range": (low, high, open_low)})


def check(config: Any) -> None:
    """Refuse a configuration with a field outside of what it declares. Nested configurations are checked too."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            check(value)
        else:
            _check_field(field, hints[field.name], value)


def _check_field(field: dataclasses.Field, hint: Any, value: Any) -> None:
    """Refuse a value that `field`, annotated with `hint`, does not allow."""
    name, metadata = field.name, field.metadata
    if "range" in metadata:
        low, high, open_low = metadata["range"]
        check_range(name, value, low, high, open_low=open_low)
    elif "size" in metadata and typing.get_origin(hint) is tuple:
        if not isinstance(value, tuple):
            raise JaxrlError(f"{name} is {value!r}, but must be a tuple of whole numbers.")
        for entry in value:
            check_positive_int(name, entry)
    elif "size" in metadata:
        check_positive_int(name, value)
    elif typing.get_origin(hint) is typing.Literal:
        check_choice(name, value, typing.get_args(hint))
    elif hint is bool:
        if not isinstance(value, bool):
            raise JaxrlError(f"{name} is {value!r}, but must be True or False.")
    elif hint is float or (float in typing.get_args(hint) and value is not None):
        low, high, open_low = metadata["static_range"]
        check_range(name, value, low, high, open_low=open_low)


def sweepable(config: Any) -> list[str]:
    """Names of the numbers that a sweep can vary."""
    return [field.name for field in dataclasses.fields(config) if "range" in field.metadata]


def sizes(config: Any) -> list[str]:
    """Names of the single whole numbers, those of nested configurations too."""
    names: list[str] = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            names += sizes(value)
        elif "size" in field.metadata and isinstance(value, int):
            names.append(field.name)
    return names


def field_names(config: Any) -> dict[str, tuple[str, ...]]:
    """Flat field name -> path, e.g. {"gamma": ("gamma",), "hidden_sizes": ("network", "hidden_sizes")}."""
    names: dict[str, tuple[str, ...]] = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            names |= {inner: (field.name, *path) for inner, path in field_names(value).items()}
        else:
            names[field.name] = (field.name,)
    return names


def import_factory(kind: str, path: str) -> Any:
    """The object at 'package.module:factory', a user's own environment or algorithm."""
    module_name, _, attribute = path.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ModuleNotFoundError, ValueError) as error:
        raise JaxrlError(
            f"cannot import {kind} {path!r}: {error}. Write 'package.module:Factory', importable from here."
        ) from error
    factory = getattr(module, attribute, None)
    if not callable(factory):
        names = [name for name, value in vars(module).items() if callable(value) and not name.startswith("_")]
        raise unknown(f"factory in {module_name}", attribute, names)
    return factory
