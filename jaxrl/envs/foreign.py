"""Other people's physics under the jaxrl contract: what the adapters of brax and MuJoCo Playground share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import errors
from jaxrl.types import PyTree

Options = tuple[tuple[str, Any], ...]


@contextmanager
def their_rules() -> Iterator[None]:
    """Trace or build with what their code takes for granted: silent broadcasting, and calls that are deprecated.

    Neither can be changed from here, and a user can do nothing about the warnings.
    """
    with warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
        warnings.simplefilter("ignore")
        yield


def plain(tree: PyTree) -> PyTree:
    """Fresh arrays, strongly typed, that no device has a claim on (an engine ties its own to one)."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), tree)


def like(tree: PyTree, model: PyTree) -> PyTree:
    """The leaves of `tree` with the types of those of `model`, none of them weak."""
    return jax.tree.map(lambda leaf, pattern: jnp.asarray(leaf, pattern.dtype), tree, model)


def frozen(name: str, value: Any) -> Any:
    """An option's value as a hashable one; lists become tuples."""
    if isinstance(value, list | tuple):
        return tuple(frozen(name, entry) for entry in value)
    if not isinstance(value, str | bool | int | float | None):
        raise errors.JaxrlError(f"{name} is {value!r}, but must be a string, a number or a list of them.")
    return value
