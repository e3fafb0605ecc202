"""Datasets that jaxrl makes itself: `build("pointmaze-large-stitch")`, the same bits every time.

A dataset is one module of this package, found by its file's name with dashes for underscores. It
has

    NAME: str                                   the dataset's name
    build(small: bool, seed: int) -> Recorded   makes it, in seconds or a few minutes, or says that
                                                it takes longer; small: less of it, for tests
    __doc__                                     how it is made; the first line says what it is

They are in `train` because some are recorded while an algorithm trains; `parts` holds what several
share. Installed packages add such modules by entry points (`jaxrl/config/added.py`).
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import Any

from jaxrl.config import Added, added, import_added, package_of, what_is
from jaxrl.data.recorded import Recorded
from jaxrl.errors import JaxrlError, check_seed, unknown


def names() -> list[str]:
    """Every dataset that `build` makes, in alphabetical order: ours, and those of packages."""
    return sorted((*_own_names(), *_added()))


def _own_names() -> list[str]:
    """Ours: the modules of this package."""
    modules = [each.name for each in pkgutil.iter_modules(__path__) if not each.ispkg]
    return [name.replace("_", "-") for name in modules]


def _added() -> Added:
    """What installed packages add, by name."""
    return added("dataset", _own_names())


def summary(name: str) -> str:
    """What a dataset is, in a line; of a package's, which is not imported for it, whose it is."""
    if name in _added():
        return f"of the package {package_of(_added()[name][0])}"
    return str(_module(name).__doc__).partition("\n")[0]


def build(name: str, small: bool = False, seed: int = 0) -> Recorded:
    """Make a dataset; `about` says how. The same arguments give the same bits."""
    check_seed(seed)
    recorded = _module(name).build(small=small, seed=seed)
    recorded.check()
    return recorded


def _module(name: str) -> ModuleType:
    """The module of a dataset."""
    if name not in names():
        raise unknown("dataset", name, names())
    if name in _added():
        module: ModuleType = import_added("dataset", name, _added()[name], _check_module)
        return module
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")


def _check_module(found: Any, path: str) -> None:
    """Refuse what is no module that builds a dataset."""
    if not (isinstance(found, ModuleType) and callable(getattr(found, "build", None))):
        what = f"the module {path}" if isinstance(found, ModuleType) else what_is(found)
        raise JaxrlError(
            f"dataset {path!r} is {what}, but must be a module with "
            "build(small: bool, seed: int) -> Recorded."
        )
