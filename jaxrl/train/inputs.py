"""What an algorithm is given from disk: arguments of its factory that options of its configuration name.

A factory's argument annotated with one of the types below is read from the path in the option of the same name:
`baseline: Actor | None` from `--baseline runs/…`. An empty option leaves the argument out.
"""

from __future__ import annotations

import hashlib
import json
import os
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.analysis.records import CONFIG
from jaxrl.config import check_type
from jaxrl.core.tabular import Episodes
from jaxrl.errors import JaxrlError
from jaxrl.train.files.folder import plain, read_description
from jaxrl.train.trust import Trust
from jaxrl.types import Actor, Array, Key, PyTree


class Input(NamedTuple):
    """What was read for an argument of a factory, and a checksum of its contents."""

    value: Any
    sha256: str


class Source(NamedTuple):
    """Where an input is read from, and what is asked of it."""

    name: str  # the option that names it
    path: Path
    environment: str
    trust: Trust


def read_inputs(factory: Callable, config: Any, environment: str, trust: Trust) -> dict[str, Input]:
    """The arguments of `factory` that `config` names paths for, read."""
    found = {}
    for name, hint in typing.get_type_hints(factory).items():
        path = getattr(config, name, "")
        for kind, read in READERS.items():
            if kind in typing.get_args(hint) and path:
                check_type(name, path, str)
                found[name] = read(Source(name, Path(path), environment, trust))
    return found


def read_actor(source: Source) -> Input:
    """The best policy of a run folder; of a population, that of its best member."""
    from jaxrl.train.saved import load_policy  # which itself builds the programs that inputs are for

    name, folder = source.name, source.path
    description = read_description(folder)
    _refuse_circle(source)
    trained_on = description.get("environment")
    if trained_on != source.environment:
        raise JaxrlError(f"{name} is {folder}, a policy for {trained_on}, but the environment is {source.environment}.")
    _, algorithm, policy = load_policy(folder, trust=source.trust)
    memory = algorithm.memory()
    if jax.tree.leaves(memory):
        raise JaxrlError(f"{name} is {folder}, a policy with a memory: only those that see all they need can be used.")

    def act(observation: PyTree, key: Key, deterministic: bool) -> Array:
        return algorithm.act(policy, memory, observation, key, deterministic)[0]

    described = {part: description.get(part) for part in ("algorithm", "config")}
    return Input(Actor(act), checksum(policy, described))


def _refuse_circle(source: Source) -> None:
    """Refuse a run folder whose own input, or that one's, is the folder itself."""
    path: Any = source.path
    seen: list[Path] = []
    while isinstance(path, str | Path) and path and os.path.isfile(Path(path) / CONFIG):
        if (resolved := Path(path).resolve()) in seen:
            raise JaxrlError(f"{source.name} is {source.path}, whose own {source.name} leads back to {path}.")
        seen.append(resolved)
        path = read_description(path).get("config", {}).get(source.name)


def read_episodes(source: Source) -> Input:
    """Episodes of a tabular problem: an .npz file with `states` [H + 1, N] and `actions` [H, N]."""
    what = f"{source.name} is {source.path}, but should be an .npz file of states and actions"
    if not os.path.isfile(source.path):
        raise JaxrlError(f"{what}: there is no such file.")
    try:
        with np.load(source.path) as file:
            arrays = [np.asarray(file[name]) for name in ("states", "actions")]
    except Exception as error:  # zipfile, zlib and NumPy each have their own
        raise JaxrlError(f"{what}: {error}.") from error
    for name, array in zip(("states", "actions"), arrays, strict=True):
        if array.dtype.kind not in "iu" or array.ndim != 2:
            raise JaxrlError(
                f"{what}: {name} is {array.dtype}{list(array.shape)}, not whole numbers [steps, episodes]."
            )
    episodes = Episodes(*(jnp.asarray(array, jnp.int32) for array in arrays))
    return Input(episodes, checksum(episodes))


def checksum(tree: PyTree, described: Any = None) -> str:
    """SHA-256 of the arrays of a tree, and of plain data that says what they are."""
    total = hashlib.sha256(json.dumps(plain(described), sort_keys=True).encode())
    for leaf in jax.device_get(jax.tree.leaves(tree)):
        array = np.ascontiguousarray(leaf)
        total.update(f"{array.dtype}{array.shape}".encode())
        total.update(array.tobytes())
    return total.hexdigest()


READERS: dict[type, Callable[[Source], Input]] = {Actor: read_actor, Episodes: read_episodes}
