"""Measures: functions of your own that a run computes at its evaluations.

    def bias(
        algorithm: Algorithm, state: PyTree, inputs: dict[str, PyTree], key: Key
    ) -> Array | Mean: ...

A run computes it with `--measures package.module:bias`. It is given one member of the population:
the algorithm as its settings make it, its training state, what was read from disk, and a key that
depends on the member's seed, the measure's name and the iteration alone. It returns float32 numbers
of a fixed shape. Devices that share the environments each give it their share of the state: what it
makes of rows per environment must be a `Mean`, (sum, count) of one shape, which is summed over them
and divided on the host.
"""

from __future__ import annotations

import inspect
import re
import zlib
from collections.abc import Callable, Sequence

import jax.numpy as jnp

from jaxrl.analysis.records import NAME
from jaxrl.config import import_factory, what_is
from jaxrl.errors import JaxrlError
from jaxrl.types import Algorithm, Array, Key, Mean, PyTree

Measure = Callable[[Algorithm, PyTree, dict[str, PyTree], Key], Array | Mean]
ASK = "def NAME(algorithm, state, inputs, key) -> Array | Mean"


def read_measures(paths: Sequence[str]) -> dict[str, Measure]:
    """The measures at these places, package.module:function, imported; by the functions' names."""
    found: dict[str, Measure] = {}
    for path in paths:
        name = path.partition(":")[2]
        if ":" not in path or re.fullmatch(NAME, name) is None:
            raise JaxrlError(
                f"measure {path!r} should be written package.module:function, where the function's "
                "name is of small letters, digits and '_'."
            )
        if name in found:
            raise JaxrlError(f"two measures are called {name}: {', '.join(paths)}.")
        found[name] = import_factory("measure", path, check_measure)
    return found


def check_measure(found: object, path: str) -> None:
    """Refuse what cannot be called as a measure."""
    if not inspect.isroutine(found):
        raise JaxrlError(f"measure {path!r} is {what_is(found)}, but must be a function: {ASK}.")
    try:
        inspect.signature(found).bind("algorithm", "state", "inputs", "key")
    except (TypeError, ValueError) as error:
        raise JaxrlError(f"measure {path!r} cannot be called as {ASK} ({error}).") from error


def stream(name: str) -> int:
    """The stream of keys that a measure draws from, whatever else is measured or evaluated."""
    return zlib.crc32(f"measure {name}".encode())


def checked(name: str, found: object) -> Array | Mean:
    """What a measure has returned, traced: float32 numbers or a Mean of them."""
    parts = found if isinstance(found, Mean) else (found,)
    arrays = [_float32(name, part) for part in parts]
    if not isinstance(found, Mean):
        return arrays[0]
    total, count = arrays
    if total.shape != count.shape:
        raise JaxrlError(
            f"measure {name!r} returns a Mean of shapes {total.shape} and {count.shape}: both must "
            "agree."
        )
    return Mean(total, count)


def _float32(name: str, value: object) -> Array:
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        text = (
            f"measure {name!r} returns {what_is(value)}, but must return an array of float32, or a "
            "Mean"
        )
        raise JaxrlError(f"{text}.") from error
    if array.dtype != jnp.float32:
        raise JaxrlError(
            f"measure {name!r} returns {array.dtype}{list(array.shape)}, but must return float32."
        )
    return array
