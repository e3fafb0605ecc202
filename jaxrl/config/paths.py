"""The settings of a configuration by flat name: those of files and of the command line."""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from jaxrl.config.family import Family


class Setting(NamedTuple):
    """One setting of a configuration."""

    name: str  # flat
    path: tuple[str, ...]  # through the configurations that hold it
    owner: type  # the configuration class that declares it
    field: dataclasses.Field
    value: Any

    @property
    def family(self) -> Family | None:
        """The parts to choose from, for a part that is chosen by name."""
        return self.field.metadata.get("family")

    @property
    def prefix(self) -> str:
        """The prefix of the flat names of the settings inside of it."""
        return self.name.removesuffix(self.field.name) + str(self.field.metadata.get("prefix", ""))


class Possible(NamedTuple):
    """A setting that exists, or would exist if other parts were chosen."""

    setting: Setting
    choices: dict[str, str]  # flat name of a part -> what it has to be


def settings(config: Any, prefix: str = "", path: tuple[str, ...] = ()) -> Iterator[Setting]:
    """Every setting, in order: a part chosen by name, and then its own."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        here = (*path, field.name)
        holds_more = dataclasses.is_dataclass(value)
        if "family" in field.metadata or not holds_more:
            yield Setting(prefix + field.name, here, type(config), field, value)
        if holds_more:
            yield from settings(value, prefix + field.metadata.get("prefix", ""), here)


def possible(config: Any) -> list[Possible]:
    """Every setting, those of the parts that are not chosen too."""
    return list(_possible(config, "", (), {}, ()))


def _possible(
    config: Any,
    prefix: str,
    path: tuple[str, ...],
    choices: dict[str, str],
    inside: tuple[Family, ...],
) -> Iterator[Possible]:
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        here = (*path, field.name)
        name = prefix + field.name
        inner = prefix + field.metadata.get("prefix", "")
        family = field.metadata.get("family")
        if family or not dataclasses.is_dataclass(value):
            yield Possible(Setting(name, here, type(config), field, value), choices)
        if family:
            # A part may hold parts of its own kind, in which there is no end of others to choose.
            members = {family.name_of(value): value} if family in inside else family.members(value)
            for member, each in members.items():
                yield from _possible(each, inner, here, choices | {name: member}, (*inside, family))
        elif dataclasses.is_dataclass(value):
            yield from _possible(value, inner, here, choices, inside)


def nested_configs(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(prefix of its flat names, configuration) for `config` and for each inside of it."""
    yield prefix, config
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if dataclasses.is_dataclass(value):
            yield from nested_configs(value, prefix + field.metadata.get("prefix", ""))


def field_names(config: Any) -> dict[str, tuple[str, ...]]:
    """Flat field name -> path, e.g. {"hidden_sizes": ("network", "hidden_sizes")}."""
    return {each.name: each.path for each in settings(config)}


def sweepable(config: Any) -> list[str]:
    """Names of the numbers that a sweep can vary."""
    return [each.name for each in settings(config) if "range" in each.field.metadata]


def sizes(config: Any) -> list[str]:
    """Names of the single whole numbers."""
    return [
        each.name
        for each in settings(config)
        if "size" in each.field.metadata and isinstance(each.value, int)
    ]


def budget_field(config: Any) -> tuple[str, str] | None:
    """(name, unit) of the size that says how long to train; None where none does."""
    for each in settings(config):
        if "budget" in each.field.metadata:
            return each.name, each.field.metadata["budget"]
    return None


def env_sizes(config: Any) -> dict[str, int]:
    """Sizes that are split over devices with the environments, by flat name.

    They are what the `env_sizes()` of each configuration returns.
    """
    found: dict[str, int] = {}
    for prefix, each in nested_configs(config):
        if hasattr(each, "env_sizes"):
            found |= {prefix + name: value for name, value in each.env_sizes().items()}
    return found


def chosen(config: Any) -> dict[str, str]:
    """Flat name of each part that is chosen by name -> what it is."""
    return {each.name: each.family.name_of(each.value) for each in settings(config) if each.family}


def inputs_of(config: Any, field: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs, given by flat name, that the part in a field of `config` is made with.

    They go by the part's own names for them.
    """
    (part,) = (each for each in settings(config) if each.path == (field,))
    asked = inspect.signature(part.value.make).parameters.values()
    found = {
        name.removeprefix(part.prefix): value
        for name, value in inputs.items()
        if name.startswith(part.prefix)
    }
    if any(each.kind is each.VAR_KEYWORD for each in asked):
        return found
    return {each.name: found[each.name] for each in asked if each.name in found}


def json_value(setting: Setting) -> Any:
    """The value of a setting as JSON holds it."""
    value = setting.value
    if setting.family:
        return setting.family.name_of(value)
    if isinstance(value, float) and math.isinf(value):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def flatten(config: Any) -> dict[str, Any]:
    """A configuration as {flat field name: plain value}, for JSON; `override` reads it back."""
    return {each.name: json_value(each) for each in settings(config)}
