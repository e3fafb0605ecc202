"""Datasets that jaxrl makes itself: `build("pointmaze-large-stitch")`, the same bits every time.

A dataset is one module of this package, found by its file's name with dashes for underscores. It
has

    NAME: str                                   the dataset's name
    build(small: bool, seed: int) -> Recorded   makes it, in seconds or a few minutes, or says that
                                                it takes longer; small: less of it, for tests
    __doc__                                     how it is made; the first line says what it is

They are in `train` because some are recorded while an algorithm trains; `parts` holds what several
share.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from jaxrl.data.recorded import Recorded
from jaxrl.errors import JaxrlError, unknown


def names() -> list[str]:
    """Every dataset that `build` makes, in alphabetical order."""
    modules = [each.name for each in pkgutil.iter_modules(__path__) if not each.ispkg]
    return sorted(name.replace("_", "-") for name in modules)


def summary(name: str) -> str:
    """What a dataset is, in a line."""
    return str(_module(name).__doc__).partition("\n")[0]


def build(name: str, small: bool = False, seed: int = 0) -> Recorded:
    """Make a dataset; `about` says how. The same arguments give the same bits."""
    if not 0 <= seed < 2**31:
        raise JaxrlError(f"seed is {seed}, but must lie in [0, 2^31).")
    recorded = _module(name).build(small=small, seed=seed)
    recorded.check()
    return recorded


def _module(name: str) -> ModuleType:
    """The module of a dataset."""
    if name not in names():
        raise unknown("dataset", name, names())
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
