"""Changing the settings of a configuration by flat name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from jaxrl.config.paths import Setting, chosen, field_names, json_value, possible, settings
from jaxrl.errors import JaxrlError, unknown

# Asked before code of a user's own is imported: (setting, "package.module:Name"); raises where it
# is not welcome.
Gate = Callable[[str, str], None]


def override(config: Any, changes: dict[str, Any], gate: Gate | None = None) -> Any:
    """`config` with the settings in `changes`, by flat name, as JSON or TOML may hold them.

    Parts come first, in whatever order they are given: their own options are among the changes. A
    part that is what it was before keeps its options; another one begins with its defaults. `gate`
    is asked before a part of a user's own is imported.
    """
    config, rest = _choose(config, changes, gate)
    known = {each.name: each for each in settings(config)}
    for name, value in rest.items():
        if name not in known:
            raise no_such_option(config, name)
        config = _replace(config, known[name].path, _coerce(name, value, known[name].value))
    return config


def replace_leaves(config: Any, values: dict[str, Any]) -> Any:
    """`config` with these values, by flat name, as they are: arrays of a sweep, say.

    Parts may be given by name.
    """
    config, rest = _choose(config, values)
    paths = field_names(config)
    for name, value in rest.items():
        if name not in paths:
            raise no_such_option(config, name)
        config = _replace(config, paths[name], value)
    return config


def without_unchosen(
    config: Any, changes: dict[str, Any], gate: Gate | None = None
) -> dict[str, Any]:
    """`changes` without options at their defaults, of parts that they do not choose.

    Run folders held them once: `starts: "fresh"` and, for the other case, `pool_size: 1024`. They
    also held what a configuration names in GONE, options that nothing ever read.
    """
    gone = getattr(config, "GONE", ())
    changes = {name: value for name, value in changes.items() if name not in gone}
    config, rest = _choose(config, changes, gate)
    known = field_names(config)
    if rest.keys() <= known.keys():
        return dict(changes)
    unchosen = {
        each.setting.name: json_value(each.setting)
        for each in possible(config)
        if each.setting.name not in known
    }
    return {
        name: value
        for name, value in changes.items()
        if name not in unchosen or value != unchosen[name]
    }


def no_such_option(config: Any, name: str) -> JaxrlError:
    """An error for a flat name that `config` lacks: which part has it, or the nearest name."""
    found = chosen(config)
    everything = possible(config)
    has = {part: set[str]() for part in found}
    for option in everything:
        if option.setting.name == name:
            # The first of the parts on the way to it that is another one.
            part = next(
                part for part, member in option.choices.items() if found.get(part) != member
            )
            has[part].add(option.choices[part])
    for part, members in has.items():
        if members:
            where = " or ".join(f"{part}={member}" for member in sorted(members))
            return JaxrlError(f"{name} is an option of {where}, but {part} is {found[part]}.")
    names = {option.setting.name for option in everything}
    return unknown(f"option of {type(config).__name__}", name, names)


def _choose(
    config: Any, changes: dict[str, Any], gate: Gate | None = None
) -> tuple[Any, dict[str, Any]]:
    """`config` with the parts that `changes` name, and the other changes.

    A part may bring parts of its own.
    """
    rest = dict(changes)
    while named := [each for each in settings(config) if each.family and each.name in rest]:
        first = named[0]
        config = _replace(config, first.path, _part(first, rest.pop(first.name), gate))
    return config, rest


def _part(setting: Setting, value: Any, gate: Gate | None) -> Any:
    """The configuration of the part that `value` names; one that is given as it is stays so."""
    family: Any = setting.family
    if isinstance(value, family.base):
        return value
    if not isinstance(value, str):
        names = ", ".join(family.names())
        raise JaxrlError(
            f"{setting.name} is {value!r}, but must be a name: {names}, or package.module:Name."
        )
    if gate is not None and ":" in value:
        gate(setting.name, value)
    found = family.load(value)
    return setting.value if type(setting.value) is found else found()


def _replace(config: Any, path: tuple[str, ...], value: Any) -> Any:
    """`config` with the value at the end of `path` replaced."""
    name, *inner = path
    if inner:
        value = _replace(getattr(config, name), tuple(inner), value)
    return dataclasses.replace(config, **{name: value})


def _coerce(name: str, value: Any, old: Any) -> Any:
    """A value read from JSON or TOML as the type of the field it goes to."""
    if isinstance(old, tuple):
        if not isinstance(value, list | tuple):
            raise JaxrlError(f"{name} is {value!r}, but must be a list.")
        return tuple(value)
    if isinstance(old, float) and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):  # the last: an integer beyond every float
            raise JaxrlError(f"{name} is {value!r}, but must be a number.") from None
    if isinstance(old, int) and not isinstance(old, bool) and isinstance(value, float):
        return int(value) if value.is_integer() else value
    return value
