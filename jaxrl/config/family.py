"""Parts of a configuration that are chosen by name, each with a configuration of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from jaxrl.config.imports import import_factory, what_is
from jaxrl.errors import JaxrlError, unknown


@dataclass(frozen=True)
class Family:
    """The parts that may stand in one place of a configuration: start distributions, say.

    kind:  what they are called in messages
    base:  the class that the configurations of all of them derive from
    names: () -> the name of each that there is
    find:  (name) -> the configuration class of that name
    """

    kind: str
    base: type
    names: Callable[[], Iterable[str]]
    find: Callable[[str], type]

    def load(self, name: str) -> type:
        """The configuration class called `name`, or a user's own at 'package.module:Name'."""
        if ":" in name:
            return import_factory(self.kind, name, self.check)
        if name not in self.names():
            raise unknown(self.kind, name, self.names())
        return self.find(name)

    def name_of(self, config: Any) -> str:
        """The name by which `load` finds the class of `config`."""
        kind = type(config)
        for name in self.names():
            if self.find(name) is kind:
                return name
        return f"{kind.__module__}:{kind.__qualname__}"

    def members(self, current: Any) -> dict[str, Any]:
        """Name -> configuration of every part, with its defaults; the chosen one is `current`."""
        defaults = {name: self.find(name)() for name in self.names()}
        return defaults | {self.name_of(current): current}

    def check(self, found: Any, path: str) -> None:
        """Refuse what is no configuration of this family."""
        derives = isinstance(found, type) and issubclass(found, self.base)
        if not derives or found is self.base:
            raise JaxrlError(
                f"{self.kind} {path!r} is {what_is(found)}, "
                f"but must be a class that derives from {self.base.__name__}."
            )
        if "_flax_dataclass" not in vars(found):
            raise JaxrlError(
                f"{self.kind} {path!r} needs the decorator @jaxrl.config.configuration."
            )
        check_defaults(found, f"{self.kind} {path!r}")


def check_defaults(config_class: type, what: str) -> None:
    """Refuse a configuration class that cannot be made of nothing."""
    for field in dataclasses.fields(config_class):
        if field.init and field.default is field.default_factory is dataclasses.MISSING:
            raise JaxrlError(f"{what}: {config_class.__name__}.{field.name} needs a default.")
