"""Code by name: the user's own, `package.module:Name`.

It may be an environment, an algorithm or a part of a configuration.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

from jaxrl.errors import JaxrlError, unknown


def import_factory(kind: str, path: str, check: Callable[[Any, str], None]) -> Any:
    """The object at 'package.module:Name', a user's own of the given kind.

    `check(found, path)` refuses what is not of that kind; what is returned has passed it, and was
    not called yet.
    """
    module_name, _, name = path.partition(":")
    module = _import_module(kind, path, module_name)
    missing = object()
    found = getattr(module, name, missing)
    if found is missing:
        names = [
            each
            for each, value in vars(module).items()
            if not each.startswith("_") and _passes(check, value)
        ]
        if not names:
            raise JaxrlError(
                f"{kind} {path!r}: {module_name} has no {name!r}, nor any other {kind}."
            )
        raise unknown(f"{kind} in {module_name}", name, names)
    check(found, path)
    return found


def _import_module(kind: str, path: str, name: str) -> types.ModuleType:
    """The module called `name`, installed or, failing that, in the working folder."""
    parts = name.split(".")
    advice = (
        "Write 'package.module:Factory', of what is installed or lies in the folder you work in."
    )
    if not all(part.isidentifier() for part in parts):
        raise JaxrlError(
            f"cannot import {kind} {path!r}: {name!r} is no name of a module. {advice}"
        )
    with contextlib.suppress(OSError):  # a working folder that was removed
        folder = os.getcwd()
        if not {folder, ""} & set(sys.path):
            sys.path.append(folder)
    try:
        return importlib.import_module(name)
    except (Exception, SystemExit) as error:  # a user's module may raise whatever it likes
        parents = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
        if isinstance(error, ModuleNotFoundError) and error.name in parents:
            raise JaxrlError(f"cannot import {kind} {path!r}: {error}. {advice}") from error
        text = f"importing {name} failed: {type(error).__name__}: {error}"
        raise JaxrlError(f"{text} ({kind} {path!r})") from error


def _passes(check: Callable[[Any, str], None], found: Any) -> bool:
    """Whether something is what `check` asks for."""
    try:
        check(found, "")
    except JaxrlError:
        return False
    return True


def type_hints(function: Any) -> dict[str, Any]:
    """The resolved annotations of a function; none where they name something that is not there."""
    try:
        return typing.get_type_hints(function)
    except Exception:  # annotations are expressions of somebody's module
        return {}


def what_is(found: Any) -> str:
    """What an imported name stands for: "the class Corridor", "the function make -> int"."""
    if isinstance(found, type):
        return f"the class {found.__name__}"
    if inspect.isfunction(found):
        annotation = found.__annotations__.get("return", inspect.Signature.empty)
        if annotation is inspect.Signature.empty:
            return f"the function {found.__name__} without a return annotation"
        if not isinstance(annotation, str):
            annotation = getattr(annotation, "__name__", annotation)
        return f"the function {found.__name__} -> {annotation}"
    return f"of type {type(found).__name__}"
