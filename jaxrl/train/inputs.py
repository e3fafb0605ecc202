"""What an algorithm is given from disk: arguments of its factory that options of its configuration name.

A factory's argument annotated with an *input*, `dataset: Episodes | None`, is read from the path in the option of the
same name, `--dataset episodes.npz`; an empty option leaves the argument out, and is refused if it has no default. A
part of the configuration that is chosen by name asks for inputs in the same way, by the arguments of its `make`, and
the factory passes them on. An input is a pytree of arrays whose type reads itself:

    @classmethod
    def read(cls, path: Path, env: Environment) -> Self      refuses what does not fit, before anything is compiled

Saved agents (`Actor`), which are read from run folders, are read here. Each input is read once per run, lies whole on
each device, and is an argument of the compiled functions: never a constant of theirs, nor a part of a checkpoint.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np

from jaxrl.analysis.records import CONFIG
from jaxrl.config import check_type, settings
from jaxrl.envs.api import Environment
from jaxrl.errors import JaxrlError
from jaxrl.train.files.folder import plain, read_description
from jaxrl.train.saved import open_policy
from jaxrl.train.trust import Trust
from jaxrl.types import Actor, PyTree


class Input(NamedTuple):
    """What was read for an argument of a factory, and a checksum of its contents."""

    value: PyTree
    sha256: str


class Source(NamedTuple):
    """Where an input is read from, and what is asked of it."""

    name: str  # the option that names it
    path: Path
    environment: str
    env: Environment
    trust: Trust


def kinds_of(function: Callable) -> Iterator[tuple[str, Any]]:
    """The arguments of a function that are inputs, each with its type."""
    for name, hint in typing.get_type_hints(function).items():
        for kind in typing.get_args(hint) or (hint,):
            if name != "return" and (kind is Actor or hasattr(kind, "read")):
                yield name, kind


def read_inputs(factory: Callable, config: Any, environment: str, env: Environment, trust: Trust) -> dict[str, Input]:
    """The arguments of `factory`, and of the parts of `config`, that it names paths for, read."""
    found = {}
    values = {each.name: each.value for each in settings(config)}
    parts = [each.value for each in settings(config) if each.family]
    makers = [factory, *(part.make for part in parts if hasattr(part, "make"))]
    for maker in makers:
        for name, kind in kinds_of(maker):
            if path := values.get(name, ""):
                check_type(name, path, str)
                source = Source(name, Path(path), environment, env, trust)
                found[name] = read_actor(source) if kind is Actor else _read(kind, source)
            elif inspect.signature(maker).parameters[name].default is inspect.Parameter.empty:
                _refuse_missing(name, maker, name in values)
    return found


def _refuse_missing(name: str, maker: Callable, is_option: bool) -> NoReturn:
    """Say that `maker` cannot do without an input, and how it is given."""
    who = maker.__qualname__.removesuffix(".make")
    if is_option:
        raise JaxrlError(f"{who} needs {name}, and none is given: --{name.replace('_', '-')} PATH.")
    raise JaxrlError(f"{who} needs {name}, but there is no option of that name in its configuration.")


def _read(kind: Any, source: Source) -> Input:
    """An input of a type that reads itself."""
    try:
        value = kind.read(source.path, source.env)
    except JaxrlError as error:
        raise JaxrlError(f"{source.name} is {source.path}: {error}") from error
    except FileNotFoundError as error:
        raise JaxrlError(f"{source.name} is {source.path}: there is no such file.") from error
    except Exception as error:  # the type is somebody's, and its reader may raise whatever it likes
        text = f"reading it failed: {type(error).__name__}: {error}"
        raise JaxrlError(f"{source.name} is {source.path}: {text}") from error
    return Input(value, checksum(value))


def read_actor(source: Source) -> Input:
    """The best policy of a run folder, with its agent; of a population, that of its best member."""
    name, folder = source.name, source.path
    description = read_description(folder)
    _refuse_circle(source)
    trained_on = description.get("environment")
    if trained_on != source.environment:
        raise JaxrlError(f"{name} is {folder}, a policy for {trained_on}, but the environment is {source.environment}.")
    saved = open_policy(folder, "best", trust=source.trust)
    described = {part: description.get(part) for part in ("algorithm", "config")}
    actor = Actor(saved.policies, saved.agent)
    return Input(actor, checksum(actor, described))


def _refuse_circle(source: Source) -> None:
    """Refuse a run folder whose own input, or that one's, is the folder itself."""
    path: Any = source.path
    seen: list[Path] = []
    while isinstance(path, str | Path) and path and os.path.isfile(Path(path) / CONFIG):
        if (resolved := Path(path).resolve()) in seen:
            raise JaxrlError(f"{source.name} is {source.path}, whose own {source.name} leads back to {path}.")
        seen.append(resolved)
        path = read_description(path).get("config", {}).get(source.name)


def checksum(tree: PyTree, described: Any = None) -> str:
    """SHA-256 of the arrays of a tree, and of plain data that says what they are."""
    total = hashlib.sha256(json.dumps(plain(described), sort_keys=True).encode())
    for leaf in jax.device_get(jax.tree.leaves(tree)):
        array = np.ascontiguousarray(leaf)
        total.update(f"{array.dtype}{array.shape}".encode())
        total.update(array.reshape(-1).view(np.uint8).data)
    return total.hexdigest()
