"""Names that installed packages add to jaxrl's own, by entry points of their metadata.

    [project.entry-points."jaxrl.algorithms"]
    a2c = "my_package.a2c:a2c"

The groups are `jaxrl.algorithms`, `jaxrl.environments` and `jaxrl.datasets`. Which names there are,
the metadata say; a package is imported when one of its names is used, and not before. Of two that
share a name jaxrl's own is meant, and of two packages' neither.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any

from jaxrl.errors import JaxrlError, RunWarning

# What adds a name; several packages may, until it is used.
Added = dict[str, tuple[metadata.EntryPoint, ...]]


def added(kind: str, own: Iterable[str]) -> Added:
    """The names of a kind ("algorithm", …) that packages add to jaxrl's `own`.

    Warns, once, of those that are jaxrl's own already.
    """
    return _added(kind, frozenset(own), tuple(sys.path))


@functools.cache
def _added(kind: str, own: frozenset[str], path: tuple[str, ...]) -> Added:
    """The same for `path`, sys.path, where packages are looked for."""
    del path
    found: Added = {}
    for point in metadata.entry_points(group=f"jaxrl.{kind}s"):
        if point.name in own:
            text = (
                f"{kind} {point.name!r} is jaxrl's own, and not the {point.value} that the package "
                f"{package_of(point)} adds by the same name"
            )
            warnings.warn(text, RunWarning, stacklevel=4)
        else:
            found[point.name] = (*found.get(point.name, ()), point)
    return found


def import_added(
    kind: str, name: str, points: tuple[metadata.EntryPoint, ...], check: Callable[[Any, str], None]
) -> Any:
    """What a package adds by a name, imported now; `check(found, value)` refuses other kinds."""
    point = points[0]
    if len(points) > 1:
        both = " and ".join(package_of(each) for each in points)
        means = " or ".join(each.value for each in points)
        raise JaxrlError(
            f"{kind} {name!r} is added by the packages {both}: uninstall one of them, or write "
            f"which you mean, {means}."
        )
    try:
        found = point.load()
    except (Exception, SystemExit) as error:  # a package may raise whatever it likes
        raise JaxrlError(
            f"{kind} {name!r} is {point.value} of the package {package_of(point)}, which cannot be "
            f"imported: {type(error).__name__}: {error}"
        ) from error
    try:
        check(found, point.value)
    except JaxrlError as error:
        raise JaxrlError(f"{error} The package {package_of(point)} adds it.") from error
    return found


def package_of(point: metadata.EntryPoint) -> str:
    """The installed distribution that an entry point is of."""
    return str(point.dist.name) if point.dist else "of no name"
