"""The settings of a configuration by flat name: those of files and of the command line."""

from __future__ import annotations

import dataclasses
from typing import Any


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
