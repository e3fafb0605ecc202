"""What the options of an environment may be: numbers that mean something, and that something reads.

No environment fails where gravity is NaN, a deviation negative or a range turned around: it trains
on nonsense. Nor where an option is one that nothing reads, or nothing as the others are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxrl.config import ON
from jaxrl.errors import JaxrlError

# What each option is read with: {option: {another: what that has to be}}, one of them; none at all
# for an option that nothing reads.
Needs = Mapping[str, Mapping[str, Any]]
# Robots that fall: where falling neither ends an episode nor costs the bonus, nobody asks.
HEALTHY: Needs = dict.fromkeys(
    ("healthy_z_range", "healthy_angle_range", "healthy_state_range"),
    {"terminate_when_unhealthy": True, "healthy_reward": ON},
)

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


def check_read(given: Mapping[str, Any], defaults: Mapping[str, Any], needs: Needs) -> None:
    """Refuse options that have no effect: nothing reads them, or only with others that are off.

    An option at its default passes, as does one that is read with what is traced.
    """
    everything = {**defaults, **given}
    for name, value in given.items():
        wanted = needs.get(name)
        if wanted is None or _is_same(value, defaults.get(name)):
            continue
        if not any(_holds(everything.get(other), what) for other, what in wanted.items()):
            why = "nothing reads it."
            if wanted:
                read = [
                    other if what is ON else f"{other}={what}" for other, what in wanted.items()
                ]
                found = [f"{other} is {everything.get(other)}" for other in wanted]
                why = f"it is read only with {' or '.join(read)}, and {', '.join(found)}."
            raise JaxrlError(f"{name} is {value}, which has no effect: {why}")


def _is_same(value: Any, default: Any) -> bool:
    """Whether an option is as it was; what is traced may be."""
    return isinstance(value, jax.core.Tracer) or np.array_equal(value, default)


def _holds(value: Any, wanted: Any) -> bool:
    """Whether an option is what another one needs."""
    if isinstance(value, jax.core.Tracer):
        return True
    return bool(np.any(np.asarray(value)) if wanted is ON else value == wanted)


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
