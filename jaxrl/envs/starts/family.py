"""Start distributions by name: the modules of this package, found by scanning.

Adding one edits no other file. The module `NAME` holds the configuration `NameConfig`, which
derives from `StartsConfig` and makes the distribution.
"""

from __future__ import annotations

import importlib
import pkgutil

from jaxrl.config import Family
from jaxrl.envs import starts
from jaxrl.envs.starts.api import StartsConfig

NO_STARTS = ("api", "family", "outcomes")


def names() -> list[str]:
    """Every start distribution."""
    return sorted(
        module.name
        for module in pkgutil.iter_modules(starts.__path__)
        if module.name not in NO_STARTS
    )


def find(name: str) -> type[StartsConfig]:
    """The configuration of the start distribution called `name`."""
    module = importlib.import_module(f"{starts.__name__}.{name}")
    camel_case = "".join(part.capitalize() for part in name.split("_"))
    config_class: type[StartsConfig] = getattr(module, f"{camel_case}Config")
    return config_class


STARTS = Family("starts", StartsConfig, names=names, find=find)
