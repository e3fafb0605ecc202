"""`--over` and `--samples`: what a sweep varies, as it is typed.

learning_rate=1e-4,1e-3       values, combined with those of the others in every way
gamma=0.9..0.999              a range, of which --samples says how many values are drawn
learning_rate=log:1e-5..1e-2  a range whose logarithm is drawn
num_envs=8,16                 sizes and choices: each is a program of its own
"""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import re
from collections.abc import Container, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxrl.cli import options
from jaxrl.config import settings, sweepable
from jaxrl.errors import JaxrlError, check_positive_int, unknown

RANGE = re.compile(r"(log:)?([^:]*?)\.\.(.*)")
EXAMPLE = "--over learning_rate=log:1e-5..1e-2 --samples 16"


class Over(NamedTuple):
    """What a sweep varies."""

    numbers: dict[str, list[float]]  # in one program: in every combination, or side by side
    sampled: dict[str, str]  # where they are side by side, what they were drawn from
    turns: dict[str, list[Any]]  # sizes and choices, one program after the other

    def names(self) -> set[str]:
        """What is varied."""
        return {*self.numbers, *self.turns}


class Range(NamedTuple):
    """Numbers to draw from, evenly or evenly in their logarithm."""

    low: float
    high: float
    logarithmic: bool

    def at(self, share: float) -> float:
        """The number at a share of the way from low to high, in as few digits as tell them apart.

        For that is how they are typed.
        """
        if self.logarithmic:
            value = float(f"{self.low * (self.high / self.low) ** share:.4g}")
        else:
            digits = 3 - math.floor(math.log10(self.high - self.low))
            value = round(self.low + share * (self.high - self.low), digits)
        return min(max(value, self.low), self.high)


def read(given: Sequence[Sequence[str]], samples: int | None, seed: int, config: Any) -> Over:
    """What `--over` says of the settings of `config`; `samples` are drawn by `seed`."""
    texts = options.assignments("--over", given)
    if not texts:
        raise JaxrlError("a sweep needs --over name=value,value,… : what to vary.")
    numbers = sweepable(config)
    known = {each.name: each.value for each in settings(config)}
    for name in texts:
        if name not in known:
            raise unknown("setting to sweep", name, known)
    turns = {
        name: _choices(name, text, known[name])
        for name, text in texts.items()
        if name not in numbers
    }
    varied = {name: text for name, text in texts.items() if name in numbers}
    ranges = [name for name, text in varied.items() if ".." in text]
    if samples is None:
        if ranges:
            raise JaxrlError(
                f"{ranges[0]}={varied[ranges[0]]} is a range: say how many settings to draw, as in "
                f"{EXAMPLE}."
            )
        return Over({name: _numbers(name, text) for name, text in varied.items()}, {}, turns)
    check_positive_int("samples", samples)
    if not ranges:
        raise JaxrlError(f"--samples draws from ranges, and none is given. Write one: {EXAMPLE}.")
    return Over(_drawn(varied, samples, seed), varied, turns)


@contextlib.contextmanager
def naming(setting: dict[str, Any]) -> Iterator[None]:
    """Errors in a setting of sizes and choices, as errors that name it."""
    try:
        yield
    except JaxrlError as error:
        raise JaxrlError(f"{folder_name(setting)}: {error}") from error


def folder_name(setting: dict[str, Any], taken: Container[str] = ()) -> str:
    """What the run folder of a setting is called: num_envs=8,hidden_sizes=64x64."""
    texts = []
    for name, value in setting.items():
        values = value if isinstance(value, list | tuple) else [value]
        texts.append(f"{name}={'x'.join(map(str, values))}")
    # A file system takes 255 bytes.
    usual = re.sub(r"[^\w.,=-]", "-", ",".join(texts)).encode()[:200].decode(errors="ignore")
    names = itertools.chain([usual], (f"{usual}-{count}" for count in itertools.count(2)))
    return next(name for name in names if name not in taken)


def _drawn(varied: dict[str, str], samples: int, seed: int) -> dict[str, list[float]]:
    """Values [samples] of each number, from its range or among its values.

    Of more samples by one seed the first are those of fewer.
    """
    shares = np.random.default_rng(seed).random((samples, len(varied)))
    found = {}
    for column, (name, text) in zip(shares.T, varied.items(), strict=True):
        if ".." in text:
            drawn_from = _range(name, text)
            found[name] = [drawn_from.at(float(share)) for share in column]
        else:
            values = _numbers(name, text)
            found[name] = [values[int(share * len(values))] for share in column]
    return found


def _range(name: str, text: str) -> Range:
    """A range as it is written: 0.9..0.999, log:1e-5..1e-2."""
    match = RANGE.fullmatch(text)
    try:
        if match is None:
            raise ValueError
        found = Range(float(match[2]), float(match[3]), match[1] is not None)
    except ValueError:
        raise JaxrlError(
            f"{name}={text} should be a range of numbers, as 0.9..0.999 or log:1e-5..1e-2."
        ) from None
    if not (math.isfinite(found.low) and math.isfinite(found.high) and found.low < found.high):
        raise JaxrlError(f"{name}={text} should lead from a lower number to a higher one.")
    if found.logarithmic and found.low <= 0:
        raise JaxrlError(f"{name}={text} should begin above 0: below there are no logarithms.")
    return found


def _numbers(name: str, text: str) -> list[float]:
    """1e-4,1e-3 -> [1e-4, 1e-3]."""
    try:
        return [float(value) for value in text.split(",")]
    except ValueError:
        raise JaxrlError(
            f"{name}={text} should be numbers between commas, as in {name}=1e-4,1e-3."
        ) from None


def _choices(name: str, text: str, usual: Any) -> list[Any]:
    """Sizes or choices: 8,16; tanh,relu; [64,64],[256,256], where `usual` is a tuple."""
    if ".." in text:
        raise JaxrlError(
            f"{name}={text} is a range, but {name} is a size or a choice: name its values, as in "
            f"{name}=A,B."
        )
    try:
        values = json.loads(f"[{text}]")
    except (ValueError, RecursionError):
        values = [options.read_value(word) for word in text.split(",")]
    if isinstance(usual, tuple):
        values = [value if isinstance(value, list) else [value] for value in values]
    for index, value in enumerate(values):
        if any(json.dumps(value) == json.dumps(other) for other in values[:index]):
            raise JaxrlError(f"the sweep of {name} has a value twice: {text}.")
    return values
