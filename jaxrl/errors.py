"""Errors in the user's words: what was given, what is allowed, and the nearest valid choice.

Every check here runs on the host, before anything is traced or compiled. NumPy alone: pictures and
tables of runs need these words too, where there is no JAX.
"""

from __future__ import annotations

import difflib
import importlib.util
import shlex
import sys
from collections.abc import Iterable
from typing import Any

import numpy as np


class JaxrlError(ValueError):
    """A request that cannot be served; the message says what was given and what would work."""


class RunWarning(UserWarning):
    """Something about a run that its owner should know, and that does not stop it."""


def unknown(kind: str, given: str, options: Iterable[str]) -> JaxrlError:
    """An error for a name that is not among `options`, with the nearest valid ones."""
    options = sorted(options)
    lowered = {option.lower(): option for option in options}
    matches = difflib.get_close_matches(given.lower(), lowered, n=3, cutoff=0.5)
    if matches:
        advice = f"Did you mean {' or '.join(lowered[match] for match in matches)}?"
    else:
        advice = f"Choose one of: {', '.join(options)}."
    return JaxrlError(f"unknown {kind} {given!r}. {advice}")


def check_range(
    name: str,
    value: Any,
    low: float = -np.inf,
    high: float = np.inf,
    *,
    open_low: bool = False,
    finite: bool = False,
) -> None:
    """Refuse numbers outside [low, high] (or (low, high]); arrays are checked element by element.

    They count as they are computed with: float32 makes 1e-320 zero, and 1e300 infinite, which
    `finite` refuses. Traced values pass: they were checked on the host before they were traced.
    """
    if _is_traced(value):
        return
    if value is None or isinstance(value, bool | str):
        raise JaxrlError(f"{name} is {value!r}, but must be a number.")
    array = np.asarray(value, dtype=np.float64)
    with np.errstate(over="ignore", under="ignore"):
        single = array.astype(np.float32)
    below = (array <= low) | (single <= low) if open_low else array < low
    beyond = np.isinf(single) if finite else np.zeros_like(below)
    bad = array[below | (array > high) | beyond | np.isnan(array)]
    if bad.size:
        first = "(" if open_low or (finite and np.isneginf(low)) else "["
        last = ")" if finite and np.isposinf(high) else "]"
        raise JaxrlError(
            f"{name} is {bad.flat[0]:g}, but must lie in {first}{low:g}, {high:g}{last}."
        )


def check_positive_int(name: str, value: Any) -> None:
    """Refuse sizes that are not whole numbers of at least one."""
    check_whole_number(name, value, 1)


def check_whole_number(name: str, value: Any, low: int) -> None:
    """Refuse what is not a whole number of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise JaxrlError(f"{name} is {value!r}, but must be a whole number of at least {low}.")


def check_seed(seed: int, count: int = 1) -> None:
    """Refuse a seed that is none of JAX's, or the first of `count` in a row of which one is not."""
    if not 0 <= seed <= 2**31 - count:
        beyond = f", the first of {count} in a row" if count > 1 else ""
        raise JaxrlError(f"seed is {seed}{beyond}, but must lie in [0, 2^31).")


def check_choice(name: str, value: str, options: Iterable[str]) -> None:
    """Refuse a choice that is not among `options`."""
    options = tuple(options)
    if value not in options:
        raise unknown(name, str(value), options)


def installed(package: str) -> bool:
    """Whether a package can be imported; a mere folder of its name, which holds no code, cannot."""
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # its parent is not there, or what is there has no spec
        return False
    return found is not None and found.origin is not None


def install_command(requirement: str) -> str:
    """The command that installs a requirement, as "jaxrl[brax]", where this Python will find it.

    An environment that uv made may have no pip of its own; uv then installs into it.
    """
    python, what = shlex.quote(sys.executable or "python"), shlex.quote(requirement)
    if installed("pip"):
        return f"{python} -m pip install {what}"
    return f"uv pip install --python {python} {what}"


def _is_traced(value: Any) -> bool:
    """Whether JAX, if it is in use, traces the value."""
    jax = sys.modules.get("jax")
    return jax is not None and isinstance(value, jax.core.Tracer)
