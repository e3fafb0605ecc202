"""`@configuration`: a configuration class whose constructor takes settings by flat name."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any, TypeVar, dataclass_transform

from flax import struct

from jaxrl.config.changes import replace_leaves
from jaxrl.config.family import check_defaults
from jaxrl.config.needs import check_named
from jaxrl.config.paths import Possible, possible, settings
from jaxrl.errors import JaxrlError

Class = TypeVar("Class", bound=type)


@dataclass_transform(frozen_default=True)
def configuration(cls: Class) -> Class:
    """Make a configuration of a class whose fields are declared: a frozen `flax.struct.dataclass`.

    Its constructor, and so `dataclasses.replace`, also takes the settings of the configurations
    inside of it by their flat names, and parts by name:
    `PPOConfig(hidden_sizes=(8,), starts="pool", pool_size=64)`. Two settings of one flat name are
    refused.
    """
    made: Any = struct.dataclass(cls)
    check_defaults(made, "a configuration has a value for everything")
    check_named(made)
    _take_flat_names(made)
    check_names(made, [Possible(each, {}) for each in settings(made())])
    return made


def _take_flat_names(cls: Any) -> None:
    """Let the constructor of a dataclass take settings by flat name, too."""
    plain_init = cls.__init__
    own = frozenset(field.name for field in dataclasses.fields(cls))
    parts = [field.name for field in dataclasses.fields(cls) if "family" in field.metadata]

    @functools.wraps(plain_init)
    def init(self: Any, *values: Any, **given: Any) -> None:
        # JAX rebuilds configurations through here, with a value for every field: `flat` is empty.
        flat = {name: given.pop(name) for name in given.keys() - own}
        for name in parts:
            if isinstance(given.get(name), str):
                flat[name] = given.pop(name)
        plain_init(self, *values, **given)
        if flat:
            changed = replace_leaves(self, flat)
            for name in own:
                object.__setattr__(self, name, getattr(changed, name))

    cls.__init__ = init


@functools.cache
def check_settings(config_class: type, reserved: frozenset[str]) -> None:
    """Refuse two settings of one flat name, whichever parts are chosen, and `reserved` names."""
    _check_possible(config_class, possible(config_class()), reserved)


def check_chosen(config: Any, reserved: frozenset[str]) -> None:
    """As `check_settings`, of the parts chosen in `config`, which may be of a user's own."""
    _check_possible(type(config), [Possible(each, {}) for each in settings(config)], reserved)


def _check_possible(config_class: type, found: list[Possible], reserved: frozenset[str]) -> None:
    check_names(config_class, found)
    for each in found:
        if each.setting.name in reserved:
            place = _place(config_class, each)
            raise JaxrlError(
                f"{place} is called {each.setting.name}, as an option of every run is: "
                "rename it, or give the field that holds it a prefix."
            )


def check_names(config_class: type, found: Iterable[Possible]) -> None:
    """Refuse two settings of one flat name, unless only one of them can be there at a time."""
    known: dict[str, list[Possible]] = {}
    for each in found:
        for other in known.setdefault(each.setting.name, []):
            if _can_meet(other, each):
                places = f"{_place(config_class, other)} and {_place(config_class, each)}"
                raise JaxrlError(
                    f"{places} are both called {each.setting.name}: give the field that holds "
                    'one of them a prefix, as in nested(…, prefix="critic_").'
                )
        known[each.setting.name].append(each)


def _can_meet(one: Possible, other: Possible) -> bool:
    """Whether one choice of parts brings both settings."""
    return all(one.choices.get(part, member) == member for part, member in other.choices.items())


def _place(config_class: type, option: Possible) -> str:
    """Where a setting is declared: PPOConfig.network.hidden_sizes."""
    where = "".join(f" (of {part}={member})" for part, member in option.choices.items())
    return ".".join((config_class.__name__, *option.setting.path)) + where
