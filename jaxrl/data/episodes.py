"""Recorded episodes of tabular problems, read from a file."""

from __future__ import annotations

from os import PathLike
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrl.core.tabular import TabularEpisodes
from jaxrl.data.files import load_npz
from jaxrl.envs.api import Environment
from jaxrl.envs.suites.tabular import TabularMDP, check_episodes
from jaxrl.errors import JaxrlError


class RecordedEpisodes(TabularEpisodes):
    """N episodes from an .npz file: whole numbers `states` [H + 1, N] and `actions` [H, N]."""

    @classmethod
    def read(cls, path: PathLike, env: Environment) -> RecordedEpisodes:
        """The episodes in a file, if they are ones of `env`."""
        arrays = _load(path)
        states = _whole_numbers("states", arrays["states"])
        actions = _whole_numbers("actions", arrays["actions"])
        if isinstance(env, TabularMDP):  # the algorithm refuses other environments
            # Checked first: int32 would turn numbers that are too large into others.
            check_episodes(cls(states, actions), env)
        return cls(jnp.asarray(states, jnp.int32), jnp.asarray(actions, jnp.int32))


def _load(path: PathLike) -> dict[str, np.ndarray]:
    kind = "it should be an .npz file of states and actions, but"
    arrays = load_npz(path, kind)
    for name in ("states", "actions"):
        if name not in arrays:
            raise JaxrlError(f"{kind} {name} is not in it.")
    return arrays


def _whole_numbers(name: str, array: np.ndarray) -> Any:
    if array.dtype.kind not in "iu" or array.ndim != 2:
        raise JaxrlError(
            f"{name} is {array.dtype}{list(array.shape)}, not whole numbers [steps, episodes]."
        )
    return array
