"""The modes that policies are evaluated in: `deterministic`, or `target=3600` if steered.

An agent has named modes of acting. A mode may be steered by a number, such as the return that is
aimed at; without one it is steered by what the agent itself finds usual. The first of the modes
that a run evaluates ranks its policies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from jaxrl.analysis.records import is_mode
from jaxrl.errors import JaxrlError, unknown


class Steerable(Protocol):
    """What is asked of a mode here: whether a number steers it."""

    @property
    def steer(self) -> Any:
        """(policy, number) -> policy, or None."""
        ...


class Asked(NamedTuple):
    """One mode, and the number that is to steer it, if any."""

    name: str
    number: float | None = None

    def __str__(self) -> str:
        """As it is written, and as evaluations.npz names it: whole numbers without a point."""
        if self.number is None:
            return self.name
        exact = abs(self.number) < 2**53 and self.number == int(self.number)
        return f"{self.name}={int(self.number) if exact else self.number!r}"


def parse(text: str) -> Asked:
    """NAME or NAME=NUMBER, read; the number is finite as a float32 too, which is what steers."""
    name, equals, number = text.partition("=")
    name = name.strip().replace("-", "_")
    if not name:
        raise JaxrlError(
            f"{text!r} should be written NAME or NAME=NUMBER, as in deterministic or target=3600."
        )
    if not equals:
        return Asked(name)
    try:
        value = float(number)
    except ValueError:
        raise JaxrlError(
            f"mode {text!r}: {number!r} is no number; write it as in {name}=3600."
        ) from None
    with np.errstate(over="ignore"):
        if not math.isfinite(value) or not np.isfinite(np.float32(value)):
            raise JaxrlError(f"mode {text!r}: its number must be finite, as in {name}=3600.")
    return Asked(name, value)


def choose(
    asked: Sequence[str], modes: Mapping[str, Steerable], algorithm: str
) -> tuple[Asked, ...]:
    """The modes to evaluate: those asked for, in that order, or all that the agent has."""
    for name in modes:
        if "=" in name or not is_mode(name):
            raise JaxrlError(
                f"{algorithm} has a mode {name!r}, but its name must be small letters, digits and "
                "'_'."
            )
    chosen = tuple(map(parse, asked)) or tuple(map(Asked, modes))
    for index, each in enumerate(chosen):
        if each.name not in modes:
            raise unknown(f"mode of {algorithm}", each.name, modes)
        if each.number is not None and modes[each.name].steer is None:
            raise JaxrlError(
                f"the mode {each.name} of {algorithm} takes no number: write {each.name}, not "
                f"{each}."
            )
        if each in chosen[:index]:
            raise JaxrlError(f"the mode {each} is given twice.")
    return chosen
