"""Reading what the parser cannot: options that its defaults depend on, assignments, and where a run goes."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxrl.errors import JaxrlError


def canonical(arguments: list[str], sizes: list[str]) -> list[str]:
    """Option names with dashes, where underscores were written, and whole numbers of `sizes` without exponents."""
    result: list[str] = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument.startswith("--"):
            argument = name.replace("_", "-") + equals + value
        elif result and result[-1].removeprefix("--").replace("-", "_") in sizes:
            argument = _whole(argument)
        result.append(argument)
    return result


def _whole(text: str) -> str:
    """1e6 as 1000000; anything else as it is."""
    try:
        return str(int(float(text))) if "e" in text.lower() and float(text).is_integer() else text
    except (ValueError, OverflowError):
        return text


def peek(arguments: list[str], option: str) -> str | None:
    """The last value of `option`, read before the real parser runs because its defaults depend on it."""
    found = None
    for argument, following in itertools.zip_longest(arguments, arguments[1:]):
        if argument.startswith(option + "="):
            found = argument.split("=", 1)[1]
        elif argument == option and following is not None:
            found = following
    return found


def gathered(arguments: list[str], option: str) -> list[str]:
    """`--set a=1 … --set b=2` as `… --set a=1 b=2`: the parser would keep only the last, and say nothing."""
    others: list[str] = []
    values: list[str] = []
    inside, before = False, ""
    for argument in arguments:
        if argument == option or argument.startswith(f"{option}="):
            inside = True
            values += [argument.removeprefix(f"{option}=")] if argument != option else []
        elif inside and not argument.startswith("-") and ("=" in argument or before == option):
            values.append(argument)
        else:
            inside = False
            others.append(argument)
        before = argument
    return [*others, option, *values] if len(others) < len(arguments) else others


def assignment(text: str) -> tuple[str, str]:
    """Name and value: learning-rate=1e-3 -> ("learning_rate", "1e-3")."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise JaxrlError(f"{text!r} should be written name=value.")
    return name.replace("-", "_"), value


def read_value(text: str) -> Any:
    """A value written on the command line: JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def assignments(texts: Iterable[str]) -> dict[str, str]:
    """["a=1", "b=2"] -> {"a": "1", "b": "2"}; a name given twice is refused."""
    found: dict[str, str] = {}
    for name, value in map(assignment, texts):
        if name in found:
            raise JaxrlError(f"{name} is given twice: {name}={found[name]} and {name}={value}.")
        found[name] = value
    return found


def read_sweep(texts: Iterable[str]) -> dict[str, list[float]]:
    """["learning_rate=1e-4,1e-3"] -> {"learning_rate": [1e-4, 1e-3]}."""
    sweep: dict[str, list[float]] = {}
    for name, text in assignments(texts).items():
        try:
            sweep[name] = [float(value) for value in text.split(",")]
        except ValueError:
            raise JaxrlError(f"{name}={text} should be numbers between commas, as in {name}=1e-4,1e-3.") from None
    return sweep


def fresh_folder(algorithm: str, environment: str) -> Path:
    """Make runs/ALGORITHM-ENVIRONMENT-TIME, with a counter where another process was first."""
    name = f"{algorithm}-{environment.replace('/', '-').replace(':', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
    for count in itertools.count(1):
        folder = Path("runs") / (name if count == 1 else f"{name}-{count}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            continue
        except OSError as error:
            raise JaxrlError(f"cannot make the run folder {folder}: {error.strerror}.") from error
        return folder
    raise AssertionError("unreachable: the counter has no end")
