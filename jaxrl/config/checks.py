"""Checking a configuration, or another dataclass, against what its fields declare."""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.config.needs import check_needs
from jaxrl.config.paths import Setting, settings
from jaxrl.errors import JaxrlError, check_choice, check_range, check_whole_number

# What a whole number of an array holds.
LARGEST = 2**63 - 1
# And the size of an array, whose rows are counted in int32; a budget is not one.
LARGEST_SIZE = 2**31 - 1


def check(config: Any) -> None:
    """Refuse a configuration, nested ones too, with a field outside of what it declares.

    That is a value which it cannot be, or one which nothing reads.
    """
    for setting in settings(config):
        _check_setting(setting, _hints(setting.owner)[setting.field.name])
    check_needs(config)


@functools.cache
def _hints(owner: type) -> dict[str, Any]:
    """What the fields of a configuration class are annotated with."""
    return typing.get_type_hints(owner)


def _check_setting(setting: Setting, hint: Any) -> None:
    """Refuse a value that a setting, annotated with `hint`, does not allow."""
    name, value = setting.name, setting.value
    metadata = setting.field.metadata
    entries = value if isinstance(value, tuple) else (value,)
    for entry in entries:
        if isinstance(entry, int) and abs(entry) > LARGEST:
            raise JaxrlError(f"{name} is {str(value):.20}…, but whole numbers reach to 2^63 - 1.")
    if setting.family:
        if not isinstance(value, setting.family.base):
            raise JaxrlError(f"{name} is {value!r}, but must be a {setting.family.base.__name__}.")
        return
    if "range" in metadata:
        check_range(name, value, **metadata["range"]._asdict())
        return
    if "size" in metadata and (isinstance(value, tuple) or typing.get_origin(hint) is not tuple):
        for entry in entries:
            check_whole_number(name, entry, metadata["size"])
            if entry > LARGEST_SIZE and "budget" not in metadata:
                raise JaxrlError(f"{name} is {entry}, but sizes of arrays reach to 2^31 - 1.")
        return
    check_type(name, value, hint)
    if "static_range" in metadata and float in (hint, *typing.get_args(hint)) and value is not None:
        check_range(name, value, **metadata["static_range"]._asdict())


def check_types(config: Any) -> None:
    """Refuse a dataclass with a value, read from a file, say, that is not of its field's type."""
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config):
        check_type(field.name, getattr(config, field.name), hints[field.name])


def check_type(name: str, value: Any, hint: Any) -> None:
    """Refuse what an annotation does not allow.

    Annotations are int, float, str, bool, a Literal, a tuple of them, or None.
    """
    origin = typing.get_origin(hint)
    parts = typing.get_args(hint)
    if origin is typing.Literal:
        check_choice(name, value, parts)
        return
    kinds, or_none = [hint], ""
    if origin in (types.UnionType, typing.Union):
        kinds = [part for part in parts if part is not type(None)]
        if type(None) in parts:
            or_none = " or None"
    if value is None and or_none:
        return
    if typing.get_origin(kinds[0]) is typing.Literal:
        check_choice(name, value, typing.get_args(kinds[0]))
        return
    if not any(_is_of(value, kind) for kind in kinds):
        words = " or ".join(_in_words(kind) for kind in kinds)
        raise JaxrlError(f"{name} is {value!r}, but must be {words}{or_none}.")


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value is of one plain kind; a whole number is a number too."""
    if typing.get_origin(kind) is tuple:
        entry_kind = typing.get_args(kind)[0]
        return isinstance(value, tuple) and all(_is_of(entry, entry_kind) for entry in value)
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    numbers = {int: (int, np.integer), float: (int, float, np.number)}
    expected = numbers.get(kind, kind)
    return not isinstance(expected, type | tuple) or isinstance(value, expected)


def _in_words(kind: Any) -> str:
    """A kind of value, for a message."""
    if typing.get_origin(kind) is tuple:
        of_integers = typing.get_args(kind)[0] is int
        return "a tuple of whole numbers" if of_integers else "a list of names"
    words = {
        int: "a whole number",
        float: "a number",
        bool: "True or False",
        str: "text",
        Path: "a path",
    }
    return words.get(kind, getattr(kind, "__name__", str(kind)))
