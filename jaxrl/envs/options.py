"""What the numbers among an environment's options may be, as far as names and defaults tell.

No environment fails where gravity is NaN, a deviation negative or a range turned around: it trains
on nonsense.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxrl.errors import JaxrlError

# Quantities that are nowhere negative, where their default is not.
NON_NEGATIVE = re.compile(r"noise|sigma|mass|length|radius|speed|interval|prob|^(dt|tau|m|l)$")
# Bounds, of which infinity means that there is none.
BOUNDS = re.compile(r"^(min|max)_|_range$|threshold|lim")


def check_numbers(
    given: Mapping[str, Any], defaults: Mapping[str, Any], infinite: bool = False
) -> None:
    """Refuse numbers among the options `given` that mean nothing; others pass.

    `infinite`: infinity may mean something whatever the option, as in an environment of a user's
    own. Traced numbers pass.
    """
    for name, value in given.items():
        if _is_numeric(value):
            _check_number(name, value, defaults.get(name), infinite)
    everything = {**defaults, **given}
    for name in given:
        kind, _, rest = name.partition("_")
        ends = everything.get(f"min_{rest}"), everything.get(f"max_{rest}")
        if kind in ("min", "max") and all(map(_is_numeric, ends)):
            low, high = map(np.asarray, ends)
            if np.any(low > high):
                raise JaxrlError(f"min_{rest} is {low}, but must not exceed max_{rest}, {high}.")


def as_meant(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The options `given`, with numbers of the type of their defaults: `cost=1` as 1.0."""
    return {name: _like(value, defaults.get(name)) for name, value in given.items()}


def _like(value: Any, default: Any) -> Any:
    """A whole number as a float, or a float without a fraction as a whole number, if that is it."""
    if isinstance(value, bool) or isinstance(default, bool):
        return value
    if isinstance(value, int) and isinstance(default, float):
        return float(value)
    if isinstance(value, float) and isinstance(default, int) and value.is_integer():
        return int(value)
    return value


def _check_number(name: str, value: Any, default: Any, infinite: bool) -> None:
    """Refuse a number, or an array of them, that an option of this name cannot be."""
    numbers = np.asarray(value, np.float64)
    usual = np.asarray(default, np.float64) if _is_numeric(default) else np.zeros(())
    unbounded = infinite or BOUNDS.search(name) or np.any(np.isinf(usual))
    if np.any(np.isnan(numbers)) or (np.any(np.isinf(numbers)) and not unbounded):
        raise JaxrlError(f"{name} is {value}, but must be finite.")
    if NON_NEGATIVE.search(name) and np.all(usual >= 0) and np.any(numbers < 0):
        raise JaxrlError(f"{name} is {value}, but must not be negative.")
    if "prob" in name and np.any(numbers > 1):
        raise JaxrlError(f"{name} is {value}, but must lie in [0, 1].")
    if name.endswith("_range") and numbers.shape == (2,):
        low, high = numbers
        # One is healthy strictly between the bounds; others are clipped to them.
        if low > high or (low == high and name.startswith("healthy_")):
            raise JaxrlError(
                f"{name} is {value}, but the lowest must come first, then the highest."
            )


def _is_numeric(value: Any) -> bool:
    """Whether a value is a number, or numbers, and known."""
    if isinstance(value, jax.core.Tracer | str | bool | None):
        return False
    try:
        return np.asarray(value).dtype.kind in "iuf"
    except ValueError:  # lists of different lengths
        return False
