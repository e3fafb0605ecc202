"""Declaring a configuration: each field says what it may be, and one function checks them all.

A configuration is a frozen `flax.struct.dataclass`. A `number` only enters arithmetic: it is a pytree leaf, so a
sweep over it is a vmap and compiles once. A `size` or an `option` decides shapes or code: it is static.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import inspect
import math
import os
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

import numpy as np
from flax import struct

from jaxrl.errors import JaxrlError, check_choice, check_positive_int, check_range, unknown

# What a whole number of an array holds.
LARGEST = 2**63 - 1


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
    for entry in value if isinstance(value, tuple) else (value,):
        if isinstance(entry, int) and abs(entry) > LARGEST:
            raise JaxrlError(f"{name} is {str(value):.20}…, but whole numbers reach to 2^63 - 1.")
    if "range" in metadata:
        low, high, open_low = metadata["range"]
        check_range(name, value, low, high, open_low=open_low)
        return
    if "size" in metadata and typing.get_origin(hint) is not tuple:
        check_positive_int(name, value)
        return
    if "size" in metadata and isinstance(value, tuple):
        for entry in value:
            check_positive_int(name, entry)
        return
    check_type(name, value, hint)
    if "static_range" in metadata and float in (hint, *typing.get_args(hint)) and value is not None:
        low, high, open_low = metadata["static_range"]
        check_range(name, value, low, high, open_low=open_low)


def check_types(config: Any) -> None:
    """Refuse a dataclass with a value that is not of its field's type, as one read from a file may be."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        check_type(field.name, getattr(config, field.name), hints[field.name])


def check_type(name: str, value: Any, hint: Any) -> None:
    """Refuse what an annotation does not allow: int, float, str, bool, a Literal, a tuple of them, or None."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        check_choice(name, value, parts)
        return
    kinds = [part for part in parts if part is not type(None)] if origin in (types.UnionType, typing.Union) else [hint]
    if value is None and len(kinds) < len(parts):
        return
    if not any(_is_of(value, kind) for kind in kinds):
        or_none = " or None" if len(kinds) < len(parts) and origin is not tuple else ""
        raise JaxrlError(f"{name} is {value!r}, but must be {' or '.join(map(_in_words, kinds))}{or_none}.")


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value is of one plain kind; a whole number is a number too."""
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is_of(entry, typing.get_args(kind)[0]) for entry in value)
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    numbers = {int: (int, np.integer), float: (int, float, np.number)}
    expected = numbers.get(kind, kind)
    return not isinstance(expected, type | tuple) or isinstance(value, expected)


def _in_words(kind: Any) -> str:
    """A kind of value, for a message."""
    if typing.get_origin(kind) is tuple:
        return {int: "a tuple of whole numbers"}.get(typing.get_args(kind)[0], "a list of names")
    words = {int: "a whole number", float: "a number", bool: "True or False", str: "text"}
    return words.get(kind, str(kind))


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


def import_factory(kind: str, path: str, check: Callable[[Any, str], None]) -> Any:
    """The object at 'package.module:Name', a user's own environment or algorithm (`kind` says which).

    `check(found, path)` refuses what is not of that kind; what is returned has passed it, and was not called yet.
    """
    module_name, _, name = path.partition(":")
    module = _import_module(kind, path, module_name)
    missing = object()
    found = getattr(module, name, missing)
    if found is missing:
        names = [each for each, value in vars(module).items() if not each.startswith("_") and _passes(check, value)]
        if not names:
            raise JaxrlError(f"{kind} {path!r}: {module_name} has no {name!r}, nor any other {kind}.")
        raise unknown(f"{kind} in {module_name}", name, names)
    check(found, path)
    return found


def _import_module(kind: str, path: str, name: str) -> types.ModuleType:
    """The module called `name`; the working folder is searched for it as well, after everything that is installed."""
    parts = name.split(".")
    advice = "Write 'package.module:Factory', of what is installed or lies in the folder you work in."
    if not all(part.isidentifier() for part in parts):
        raise JaxrlError(f"cannot import {kind} {path!r}: {name!r} is no name of a module. {advice}")
    with contextlib.suppress(OSError):  # a working folder that was removed
        folder = os.getcwd()
        if not {folder, ""} & set(sys.path):
            sys.path.append(folder)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # the module is somebody's program, and may raise whatever it likes
        parents = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
        if isinstance(error, ModuleNotFoundError) and error.name in parents:
            raise JaxrlError(f"cannot import {kind} {path!r}: {error}. {advice}") from error
        text = f"importing {name} failed: {type(error).__name__}: {error}"
        raise JaxrlError(f"{text} ({kind} {path!r})") from error


def _passes(check: Callable[[Any, str], None], found: Any) -> bool:
    """Whether something is what `check` asks for."""
    try:
        check(found, "")
    except JaxrlError:
        return False
    return True


def type_hints(function: Any) -> dict[str, Any]:
    """The resolved annotations of a function; none where they name something that is not there."""
    try:
        return typing.get_type_hints(function)
    except Exception:  # annotations are expressions of somebody's module
        return {}


def what_is(found: Any) -> str:
    """What an imported name stands for, for a message: "the class Corridor", "the function make -> int"."""
    if isinstance(found, type):
        return f"the class {found.__name__}"
    if inspect.isfunction(found):
        annotation = found.__annotations__.get("return", inspect.Signature.empty)
        if annotation is inspect.Signature.empty:
            return f"the function {found.__name__} without a return annotation"
        shown = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", annotation)
        return f"the function {found.__name__} -> {shown}"
    return f"of type {type(found).__name__}"
