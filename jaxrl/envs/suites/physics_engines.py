"""What the adapters of brax and MuJoCo Playground share."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl import errors
from jaxrl.envs import blow_up, registry
from jaxrl.envs.api import Environment
from jaxrl.types import Box, PyTree, Space

Options = tuple[tuple[str, Any], ...]


class EngineEnvironment(Environment):
    """An environment of an engine.

    `spec`, a static field of the subclass, holds the sizes of observation and action.
    """

    @property
    def observation_space(self) -> Space:
        """An unbounded Box."""
        return Box(-np.inf, np.inf, (self.spec.observation_size,))

    @property
    def action_space(self) -> Space:
        """A Box from -1 to 1, which the engine scales to the range of its actuators."""
        return Box(-1.0, 1.0, (self.spec.action_size,))

    @property
    def info(self) -> tuple[str, ...]:
        """Whether the simulation blew up."""
        return blow_up.INFO


def specs(
    sizes: dict[str, tuple[int, int]], horizon: int, backends: tuple[str, ...]
) -> dict[str, registry.EnvironmentSpec]:
    """What a list of environments shows of those with these sizes of observation and action."""
    return {
        name: registry.EnvironmentSpec(
            Box(-np.inf, np.inf, (observed,)), Box(-1.0, 1.0, (acted,)), horizon, backends
        )
        for name, (observed, acted) in sizes.items()
    }


@contextmanager
def engine_conventions() -> Iterator[None]:
    """Trace or build with what the engines' code takes for granted.

    That is silent broadcasting, and calls that are deprecated. Neither can be changed from here,
    and a user can do nothing about the warnings.
    """
    with warnings.catch_warnings(), jax.numpy_rank_promotion("allow"):
        warnings.simplefilter("ignore")
        yield


def detached(tree: PyTree) -> PyTree:
    """Fresh arrays, strongly typed, tied to no device (an engine ties its own to one)."""
    return jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)), tree)


def like(tree: PyTree, model: PyTree) -> PyTree:
    """The leaves of `tree` with the types of those of `model`, none of them weak."""
    return jax.tree.map(lambda leaf, pattern: jnp.asarray(leaf, pattern.dtype), tree, model)


def frozen(name: str, value: Any) -> Any:
    """An option's value as a hashable one; lists become tuples."""
    if isinstance(value, list | tuple):
        return tuple(frozen(name, entry) for entry in value)
    if not isinstance(value, str | bool | int | float | None):
        raise errors.JaxrlError(
            f"{name} is {value!r}, but must be a string, a number or a list of them."
        )
    return value
