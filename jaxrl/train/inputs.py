"""What an algorithm is given from disk: arguments of its factory that options name.

A factory's argument annotated with an *input*, `dataset: Episodes | None`, is read from the path in
the option of the same name, `--dataset episodes.npz`; an empty option leaves the argument out, and
is refused if it has no default. A part of the configuration that is chosen by name asks for inputs
in the same way, by the arguments of its `make`: the factory is given them by the flat names of
their options, prefixes and all, and passes them on (`jaxrl.config.inputs_of`). An input is a pytree
of arrays whose type reads itself:

    @classmethod
    def read(cls, path: Path, env: Environment) -> Self: ...

It refuses what does not fit, before anything is compiled.

Saved agents (`Actor`), which are read from run folders, are read here, and banks of snapshots, a
part of `envs`, with what `data` knows of their files. Each input is read once per
run, is replicated on each device, and is an argument of the compiled functions: never a constant of
theirs, nor a part of a checkpoint.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
import os
import typing
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.analysis.records import CONFIG
from jaxrl.config import check_type, settings
from jaxrl.data import formats, store
from jaxrl.data.snapshots import read_bank
from jaxrl.envs.api import Environment
from jaxrl.envs.bank import SnapshotBank
from jaxrl.errors import JaxrlError, RunWarning
from jaxrl.train.alike import differences
from jaxrl.train.experiment import Experiment
from jaxrl.train.files.folder import plain, read_description
from jaxrl.train.player import Player
from jaxrl.train.pretrained import located
from jaxrl.train.saved import last_policies, open_policy
from jaxrl.train.trust import Trust
from jaxrl.types import Actor, PyTree

# Inputs of types that do not read themselves.
READERS: dict[Any, Callable[[Path, Environment], PyTree]] = {SnapshotBank: read_bank}


class Input(NamedTuple):
    """What was read for an argument of a factory, and a checksum of its contents."""

    value: PyTree
    sha256: str


class InputError(JaxrlError):
    """An input that cannot be read, or does not fit; `name` is its option."""

    name: str = ""


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
            reads = kind is Actor or kind in READERS or hasattr(kind, "read")
            if name != "return" and reads:
                yield name, kind


def read_inputs(
    factory: Callable, config: Any, environment: str, env: Environment, trust: Trust
) -> dict[str, Input]:
    """The arguments of `factory`, and of the parts of `config`, that it names paths for, read."""
    found = {}
    values = {each.name: each.value for each in settings(config)}
    parts = [each for each in settings(config) if each.family and hasattr(each.value, "make")]
    makers = [("", factory), *((each.prefix, each.value.make) for each in parts)]
    for prefix, maker in makers:
        who = maker.__qualname__.removesuffix(".make")
        for argument, kind in kinds_of(maker):
            name = prefix + argument
            if name not in values:
                raise JaxrlError(
                    f"{who} needs {name}, but there is no option of that name in its configuration."
                )
            if path := values[name]:
                check_type(name, path, str)
                source = Source(name, _path(path), environment, env, trust)
                found[name] = read_actor(source) if kind is Actor else _read(kind, source)
            elif inspect.signature(maker).parameters[argument].default is inspect.Parameter.empty:
                raise JaxrlError(
                    f"{who} needs {name}, and none is given: --{name.replace('_', '-')} PATH."
                )
    return found


def _path(text: str) -> Path:
    """Where a text leads. ./NAME and NAME/ are paths, and a Path of them would be a mere NAME."""
    path = Path(text)
    return path.absolute() if store.is_name(str(path)) and not store.is_name(text) else path


def environment_of(dataset: str, trust: Trust) -> tuple[str, dict[str, Any]]:
    """The id and the options of the environment that a dataset says it was made in.

    A dataset may be a stranger's, as a run folder may: code that it names is imported only as far
    as `trust` goes.
    """
    with _reading("dataset", Path(dataset)):
        about = formats.read_any(store.located(dataset)).about
        environment = about["environment"]
        if not environment:
            raise JaxrlError("it does not say which environment it is of: give it, --env ID.")
    trust.check({"environment": environment}, f"dataset {dataset}")
    return environment, about["environment_options"]


@contextlib.contextmanager
def _naming(name: str, path: Path) -> Iterator[None]:
    """What is wrong with an input, as an error that names its option and where it is read from."""
    try:
        yield
    except JaxrlError as error:
        named = InputError(f"{name} is {path}: {error}")
        named.name = name
        raise named from error


@contextlib.contextmanager
def _reading(name: str, path: Path) -> Iterator[None]:
    """What is wrong with an input that is a file, as an error that names its option and it."""
    with _naming(name, path):
        try:
            yield
        except JaxrlError:
            raise
        except FileNotFoundError as error:
            where = "" if path.is_absolute() else f" in {os.getcwd()}"
            raise JaxrlError(f"there is no such file{where}.") from error
        except OSError as error:
            raise JaxrlError(f"it cannot be read: {error.strerror or error}.") from error
        except Exception as error:
            # The type is somebody's, and its reader may raise whatever it likes.
            raise JaxrlError(f"reading it failed: {type(error).__name__}: {error}") from error


def _read(kind: Any, source: Source) -> Input:
    """An input that is no saved agent."""
    with _reading(source.name, source.path):
        reader = READERS.get(kind) or kind.read
        value = reader(source.path, source.env)
        _check_arrays(value)
    return Input(value, checksum(value))


def _check_arrays(value: PyTree) -> None:
    """Refuse what compiled functions cannot take as an argument, and inputs without elements."""
    leaves = jax.tree_util.tree_leaves_with_path(value)
    for path, leaf in leaves:
        kind = leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
        if not (jnp.issubdtype(kind, np.number) or jnp.issubdtype(kind, np.bool_)):
            raise JaxrlError(
                f"it holds {kind} at {jax.tree_util.keystr(path)}, but must hold arrays of numbers."
            )
    if leaves and not any(np.size(leaf) for _, leaf in leaves):
        raise JaxrlError("there is nothing in it.")


def read_actor(source: Source) -> Input:
    """The best policy of a run folder, with its agent; of a population, that of its best member."""
    with _naming(source.name, source.path):
        folder = located(source.path)
        description = read_description(folder)
        _refuse_circle(source)
        trained_on = description.get("environment")
        if trained_on != source.environment:
            raise JaxrlError(
                f"it is a policy for {trained_on}, but the environment is {source.environment}."
            )
        saved = open_policy(folder, "best", trust=source.trust)
        for what in ("observation_space", "action_space"):
            theirs, ours = str(getattr(saved.env, what)), str(getattr(source.env, what))
            if theirs != ours:  # as options of one environment may make them
                raise JaxrlError(
                    f"it is a policy for the {what} {theirs}, but the environment's is {ours}."
                )
    described = {part: description.get(part) for part in ("algorithm", "config")}
    actor = Actor(saved.policies, saved.agent)
    return Input(actor, checksum(actor, described))


def read_first_policies(experiment: Experiment, player: Player) -> Input:
    """The last policies of the run that an experiment begins from, as its own members have them."""
    folder = Path(experiment.run.init_from)
    with _naming("init_from", folder):
        return _first_policies(located(folder), experiment, player)


def _first_policies(folder: Path, experiment: Experiment, player: Player) -> Input:
    saved = last_policies(folder, experiment.trust)
    trained_on = saved.experiment.environment
    if trained_on != experiment.environment:
        raise JaxrlError(
            f"it is a run of {trained_on}, but the environment is {experiment.environment}."
        )
    policies = saved.policies
    theirs = saved.player.population
    ours = player.population
    if theirs.shape == (1, 1) and ours.is_population:
        policies = jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (*ours.shape, *jnp.shape(leaf))), policies
        )
    elif theirs.shape != ours.shape:
        raise JaxrlError(
            f"it is a run of {_counts(theirs.shape)}, but this run has {_counts(ours.shape)}. "
            "Begin from as many, or from a single policy."
        )
    if _shapes(policies) != _shapes(player.abstract_policies()):
        raise JaxrlError(
            "it is a run whose policies have other shapes than this run's: use its algorithm and "
            "sizes."
        )
    found = differences(saved.experiment, experiment)
    if found:
        text = (
            f"init_from is {folder}, whose policies act otherwise here, with the same parameters: "
            f"{'; '.join(found)}"
        )
        warnings.warn(text, RunWarning, stacklevel=2)
    return Input(policies, checksum(policies))


def _counts(shape: tuple[int, int]) -> str:
    """The size of a population (H, S), in words."""
    settings, seeds = shape
    return f"{settings} settings and {seeds} seeds"


def _shapes(tree: PyTree) -> PyTree:
    """The shapes and types of a tree's leaves."""
    return jax.eval_shape(lambda tree: tree, tree)


def _refuse_circle(source: Source) -> None:
    """Refuse a run folder whose own input, or that one's, is the folder itself."""
    path: Any = source.path
    seen: list[Path] = []
    while isinstance(path, str | Path) and path and os.path.isfile(Path(path) / CONFIG):
        if (resolved := Path(path).resolve()) in seen:
            raise JaxrlError(f"its own {source.name} leads back to {path}.")
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
