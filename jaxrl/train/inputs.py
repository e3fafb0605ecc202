"""What an algorithm is given from disk: arguments of its factory that options of its configuration name.

A factory's argument annotated with one of the types below is read from the path in the option of the same name:
`baseline: Actor | None` from `--baseline runs/…`. An empty option leaves the argument out.
"""

from __future__ import annotations

import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl.core.tabular import Episodes
from jaxrl.errors import JaxrlError
from jaxrl.train.folder import read_description
from jaxrl.types import Actor, Array, Key, PyTree


def read_inputs(factory: Callable, config: Any, environment: str) -> dict[str, Any]:
    """The arguments of `factory` that `config` names paths for, read."""
    found = {}
    for name, hint in typing.get_type_hints(factory).items():
        path = getattr(config, name, "")
        for kind, read in READERS.items():
            if kind in typing.get_args(hint) and path:
                found[name] = read(name, Path(path), environment)
    return found


def read_actor(name: str, folder: Path, environment: str) -> Actor:
    """The best policy of a run folder."""
    from jaxrl.train.report import load_policy  # which itself builds the programs that inputs are for

    trained_on = read_description(folder)["environment"]
    if trained_on != environment:
        raise JaxrlError(f"{name} is {folder}, a policy for {trained_on}, but the environment is {environment}.")
    _, algorithm, policy = load_policy(folder)
    memory = algorithm.memory()
    if jax.tree.leaves(memory):
        raise JaxrlError(f"{name} is {folder}, a policy with a memory: only those that see all they need can be used.")

    def act(observation: PyTree, key: Key, deterministic: bool) -> Array:
        return algorithm.act(policy, memory, observation, key, deterministic)[0]

    return Actor(act)


def read_episodes(name: str, path: Path, environment: str) -> Episodes:
    """Episodes of a tabular problem: an .npz file with `states` [H + 1, N] and `actions` [H, N]."""
    del environment
    try:
        with np.load(path) as file:
            return Episodes(file["states"].astype(np.int32), file["actions"].astype(np.int32))
    except (OSError, KeyError, ValueError) as error:
        raise JaxrlError(f"{name} is {path}, but should be an .npz file of states and actions: {error}.") from error


READERS: dict[type, Callable[[str, Path, str], Any]] = {Actor: read_actor, Episodes: read_episodes}
