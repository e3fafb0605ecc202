"""Options that are read only with another one, and are refused where that is off.

A field says so in its declaration, by the names of fields beside it:

    temperature_loss: … = option("log", needs={"train_temperature": True})
    activation: … = option("relu", needs={"hidden_sizes": ON, "torso": "cnn"})    any one of these

What is needed may itself need something: of a baseline that is learnt from a dataset, no
temperature is read. An option at its default is never refused, for nobody has asked for it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl.config.changes import replace_leaves
from jaxrl.errors import JaxrlError


class _Kind:
    """The type of `ON` and of `SEVERAL`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


# Any value but None, False, 0, "" and an empty tuple.
ON = _Kind("ON")
# A number of more than one.
SEVERAL = _Kind("SEVERAL")


class Unread(NamedTuple):
    """An option that nothing reads."""

    name: str  # flat
    value: Any
    default: Any
    lacking: str  # flat name of the option that is off
    found: Any  # what that is
    wanted: dict[str, Any]  # flat name -> what would have to be, one of them


def check_needs(config: Any, spell: Callable[[str], str] = str) -> None:
    """Refuse options that are read only with another one, which is off.

    `spell` says how a name is written where it was given.
    """
    for each in unread(config):
        if _differs(each.value, each.default):
            wanted = [_in_words(spell(name), value) for name, value in each.wanted.items()]
            raise JaxrlError(
                f"{spell(each.name)} is {_shown(each.value)}, which has no effect: it is read only "
                f"{' or '.join(wanted)}, and {spell(each.lacking)} is {_shown(each.found)}."
            )


def settled(config: Any, given: Collection[str]) -> Any:
    """`config` with options that nothing reads at their defaults, unless they were `given`.

    Settings that were tuned for an environment go with what they were tuned with.
    """
    back = {each.name: each.default for each in unread(config) if each.name not in given}
    return replace_leaves(config, back) if back else config


def unread(config: Any) -> Iterator[Unread]:
    """The options of a configuration, nested ones too, whose needs are not met."""
    for prefix, owner, usual in _beside_defaults(config, type(config)()):
        for field in dataclasses.fields(owner):
            missing = _missing(owner, field.name)
            if missing is not None:
                needing, lacking = missing
                yield Unread(
                    name=prefix + field.name,
                    value=_plain(owner, field.name),
                    default=_plain(usual, field.name),
                    lacking=prefix + lacking,
                    found=_plain(owner, lacking),
                    wanted={prefix + name: value for name, value in _needs(owner, needing).items()},
                )


def _beside_defaults(config: Any, usual: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(prefix of its flat names, configuration, its defaults) of `config` and of each inside of it.

    The defaults are those where it stands: a nested one may have others than its class has.
    """
    yield prefix, config, usual
    for field in dataclasses.fields(config):
        value, default = getattr(config, field.name), getattr(usual, field.name)
        if dataclasses.is_dataclass(value):
            kind: Any = type(value)
            default = default if type(default) is kind else kind()
            inner = prefix + field.metadata.get("prefix", "")
            yield from _beside_defaults(value, default, inner)


def check_named(config_class: type) -> None:
    """Refuse a declaration that needs a field which is not there."""
    names = {field.name for field in dataclasses.fields(config_class)}
    for field in dataclasses.fields(config_class):
        for name in field.metadata.get("needs", {}):
            if name not in names:
                raise JaxrlError(
                    f"{config_class.__name__}.{field.name} needs {name!r}, "
                    "which is no field beside it."
                )


def _missing(owner: Any, name: str) -> tuple[str, str] | None:
    """(the field, perhaps another, whose needs are not met; what it lacks), or None."""
    needs = _needs(owner, name)
    first: tuple[str, str] | None = None
    for other, wanted in needs.items():
        missing = _missing(owner, other) if _holds(owner, other, wanted) else (name, other)
        if missing is None:
            return None
        first = first or missing
    return first


def _needs(owner: Any, name: str) -> dict[str, Any]:
    """What a field of `owner` is read with."""
    return dict(_field(owner, name).metadata.get("needs", {}))


def _holds(owner: Any, name: str, wanted: Any) -> bool:
    """Whether a field is what is wanted; a traced number was checked before it was traced."""
    value = _plain(owner, name)
    if isinstance(value, jax.core.Tracer):
        return True
    if wanted is SEVERAL:
        return bool(value > 1)
    if wanted is not ON:
        return bool(value == wanted)
    if value is None or isinstance(value, bool | str | tuple):
        return bool(value)
    return bool(np.any(np.asarray(value) != 0))


def _differs(value: Any, default: Any) -> bool:
    """Whether a value, or one of an array of them, is not the default."""
    if isinstance(value, jax.core.Tracer):
        return False
    if isinstance(value, np.ndarray | jax.Array):
        return bool(np.any(np.asarray(value) != np.float32(default)))
    return bool(value != default)


def _field(owner: Any, name: str) -> dataclasses.Field:
    return next(field for field in dataclasses.fields(owner) if field.name == name)


def _plain(owner: Any, name: str) -> Any:
    """The value of a field; of a part that is chosen by name, the name."""
    value = getattr(owner, name)
    family = _field(owner, name).metadata.get("family")
    return value if family is None else family.name_of(value)


def _in_words(name: str, wanted: Any) -> str:
    """What is wanted of a field: "with train_temperature=True", "without dataset"."""
    if wanted is ON:
        return f"with {name}"
    if wanted is SEVERAL:
        return f"with several {name}"
    if wanted in (None, ""):
        return f"without {name}"
    return f"with {name}={wanted}"


def _shown(value: Any) -> str:
    """A value as messages write it."""
    if isinstance(value, np.ndarray | jax.Array):
        return ", ".join(f"{entry:g}" for entry in np.ravel(value))
    return f"{value:g}" if isinstance(value, float) else repr(value)
