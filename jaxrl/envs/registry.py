"""Environments by name: `make("CartPole-v1")`, `make("my_package.my_module:MyEnvironment")`.

A *suite* is one module of `jaxrl.envs.suites`, found by scanning the package; adding one edits no
other file. It has

    SUITE: str                            the name under which `environment_ids` lists it
    IDS: tuple[str, ...]                  every id that it serves
    make(environment_id, **kwargs)        builds one; kwargs are the suite's own options

and may have

    REQUIRES: str                         the third-party package that `make` imports
    EXTRA: str                            the extra of jaxrl that installs the package
    SIMULATORS: tuple[str, ...]           the distributions whose versions decide to what a state
                                          steps: none goes on with states of another version
    MODELS: tuple[str, ...]               the distributions that ship its models: their versions are
                                          noted, and states go on wherever a model holds the same
    SPECS: dict[str, EnvironmentSpec]     what a list of its ids shows, so that listing builds none
    REFUSED: dict[str, str]               ids that it knows and cannot serve, with the reason
    NOTES: dict[str, str]                 what one should know of an id before one trains on it
    EVALUATION_EPISODES: int              episodes per evaluation by default; else 100
    SLOW: bool                            its environments take so long to compile that only the
                                          slow tests run the contract suite over them

It imports its third party inside functions only, so that a probe never waits for a physics engine.

Installed packages add environments by entry points (`jaxrl/config/added.py`).
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import inspect
import numbers
import pkgutil
import weakref
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax

from jaxrl import errors
from jaxrl.config import (
    Added,
    added,
    import_added,
    import_factory,
    install_command,
    installed,
    package_of,
    type_hints,
    what_is,
)
from jaxrl.envs.api import Environment
from jaxrl.envs.check import check_environment
from jaxrl.envs.options import as_meant, check_numbers
from jaxrl.types import ObservationSpace, Space

Factory = Callable[..., Environment]

_registered: dict[str, Factory] = {}
# What `make` has made, by the object's address: that object, its id and its options.
_made: dict[int, tuple[weakref.ref[Environment], str, dict[str, Any]]] = {}


class EnvironmentSpec(NamedTuple):
    """What is known of an environment with its suite's usual options, without building it."""

    observation_space: ObservationSpace
    action_space: Space
    horizon: int
    backends: tuple[str, ...] = ()  # the physics that it can run on, its usual one first


class Description(NamedTuple):
    """One row of the table that `jaxrl envs` prints."""

    environment_id: str
    suite: str
    spec: EnvironmentSpec


def register(environment_id: str, factory: Factory) -> None:
    """Name an environment of your own.

    `make(environment_id, **kwargs)` then calls `factory(**kwargs)`.
    """
    _check_id(environment_id)
    if ":" in environment_id:
        raise errors.JaxrlError(
            f"environment id is {environment_id!r}, but ':' is for import paths, "
            "'package.module:Factory'."
        )
    if not callable(factory):
        raise errors.JaxrlError(
            f"the factory of {environment_id!r} is {factory!r}, but must be a class or function "
            "that returns an Environment."
        )
    suite = _owners().get(environment_id)
    package = package_that_adds(environment_id)
    if environment_id in _registered or suite is not None or package is not None:
        owner = "by an earlier call"
        if suite is not None:
            owner = f"by the suite {suite.SUITE!r}"
        elif package is not None:
            owner = f"by the package {package}"
        raise errors.JaxrlError(
            f"environment {environment_id!r} is already registered {owner}; pick another id."
        )
    _registered[environment_id] = factory


def make(environment_id: str, /, **kwargs: Any) -> Environment:
    """Build an environment from its id or an import path, 'package.module:Factory'.

    An id is a suite's, one that `register` was given, or one that an installed package adds.
    Inside of a traced function an environment is made as outside of it, of concrete arrays, and its
    options may be traced.
    """
    _check_id(environment_id)
    with jax.ensure_compile_time_eval():
        if environment_id in _registered:
            environment = construct(environment_id, _registered[environment_id], kwargs)
        elif ":" in environment_id:
            factory = import_factory("environment", environment_id, check_factory)
            environment = construct(environment_id, factory, kwargs)
        elif environment_id in (packages := _added()):
            factory = import_added(
                "environment", environment_id, packages[environment_id], check_factory
            )
            environment = construct(environment_id, factory, kwargs)
        else:
            environment = _made_by_suite(environment_id, kwargs)
    if not isinstance(environment, Environment):
        raise errors.JaxrlError(
            f"{environment_id!r} made a {type(environment).__name__}, but must make a "
            "jaxrl.envs.api.Environment."
        )
    # The tests check the environments of the suites.
    if environment_id not in _owners():
        check_environment(environment_id, environment)
    _made[id(environment)] = weakref.ref(environment), environment_id, kwargs
    weakref.finalize(environment, _made.pop, id(environment), None)
    return environment


def name_of(environment: Environment) -> tuple[str, dict[str, Any]]:
    """(id, options) that `make` built an environment from: how a run folder names it."""
    found = _made.get(id(environment))
    if found is not None:
        made, environment_id, options = found
        if made() is environment:
            return environment_id, options
    raise errors.JaxrlError(
        f"the environment is a {type(environment).__name__} of which no run folder could say how "
        "to make it again. Give its name, 'package.module:Class', or what jaxrl.make has made."
    )


def check_factory(found: Any, path: str) -> None:
    """Refuse what does not declare that it makes an Environment, before it is called."""
    inner = found
    while isinstance(inner, functools.partial):
        inner = inner.func
    made = type_hints(inner).get("return") if inspect.isfunction(inner) else inner
    if not (isinstance(made, type) and issubclass(made, Environment)):
        raise errors.JaxrlError(
            f"environment {path!r} is {what_is(inner)}, but must be a class derived from "
            "Environment (jaxrl.envs.api) or a function that says it makes one: "
            "def make(...) -> Environment."
        )


def environment_ids() -> dict[str, list[str]]:
    """Every id that can be made, grouped by suite.

    Those that installed packages add are under 'installed', your own under 'registered'.
    """
    ids = {name: list(suite.IDS) for name, suite in suites().items()}
    if _added():
        ids["installed"] = sorted(_added())
    if _registered:
        ids["registered"] = list(_registered)
    return ids


def _added() -> Added:
    """What installed packages add, by id."""
    return added("environment", _owners())


def package_that_adds(environment_id: str) -> str | None:
    """The installed package that adds an environment, if one does."""
    return package_of(_added()[environment_id][0]) if environment_id in _added() else None


def describe(environment_id: str) -> Description:
    """Spaces and horizon of one environment, by its suite's SPECS; without them it is built."""
    suite = _owners().get(environment_id)
    spec = getattr(suite, "SPECS", {}).get(environment_id)
    if spec is None:
        environment = make(environment_id)
        spec = EnvironmentSpec(
            environment.observation_space, environment.action_space, environment.horizon
        )
    if suite is not None:
        return Description(environment_id, suite.SUITE, spec)
    group = "registered" if package_that_adds(environment_id) is None else "installed"
    return Description(environment_id, group, spec)


def evaluation_episodes(environment_id: str) -> int:
    """Episodes per evaluation by default: 100, or fewer where a suite's steps cost more."""
    return getattr(_owners().get(environment_id), "EVALUATION_EPISODES", 100)


def requirements(environment_id: str) -> tuple[str, ...]:
    """The installed distributions on whose versions an environment's numbers depend, if any."""
    suite = _owners().get(environment_id)
    package = getattr(suite, "REQUIRES", None)
    if package is None:
        from_package = package_that_adds(environment_id)
        return () if from_package is None else (from_package,)
    found = {*importlib.metadata.packages_distributions().get(package, [package])}
    return tuple(sorted(found.union(simulators(environment_id), getattr(suite, "MODELS", ()))))


def simulators(environment_id: str) -> tuple[str, ...]:
    """The distributions to whose versions an environment's states belong, if any."""
    found: tuple[str, ...] = getattr(_owners().get(environment_id), "SIMULATORS", ())
    return found


def construct(environment_id: str, factory: Factory, kwargs: dict[str, Any]) -> Environment:
    """Call `factory(**kwargs)` once names and types in `kwargs` fit its signature."""
    parameters = inspect.signature(factory).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    named = {
        name: parameter
        for name, parameter in parameters.items()
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    }
    for name, value in kwargs.items():
        if name in named:
            _check_type(name, value, named[name].default)
        elif not takes_any and not named:
            raise errors.JaxrlError(f"{environment_id} takes no options, but was given {name!r}.")
        elif not takes_any:
            raise errors.unknown(f"option of {environment_id}", name, named)
    usual = {name: each.default for name, each in named.items() if each.default is not each.empty}
    check_numbers(kwargs, usual, infinite=True)
    kwargs = as_meant(kwargs, usual)
    needed = [
        name for name, each in named.items() if each.default is each.empty and name not in kwargs
    ]
    if needed:
        raise errors.JaxrlError(f"{environment_id} needs a value for {', '.join(needed)}.")
    return _call(environment_id, factory, kwargs)


def _check_type(name: str, value: Any, default: Any) -> None:
    """Refuse an option of another type than its default; all numbers count as one type."""
    if isinstance(default, bool):
        kind = "True or False"
        fits = isinstance(value, bool)
    elif isinstance(default, numbers.Real):
        kind = "a number"
        # From Python an option may also be an array, of one environment or of a batch of them.
        is_array = hasattr(value, "dtype") and value.dtype.kind in "iuf"
        is_scalar = isinstance(value, numbers.Real) and not isinstance(value, bool)
        fits = is_array or is_scalar
    elif isinstance(default, str):
        kind = "text"
        fits = isinstance(value, str)
    else:
        return
    if not fits:
        raise errors.JaxrlError(f"{name} is {value!r}, but must be {kind}.")


def _call(environment_id: str, factory: Factory, kwargs: dict[str, Any]) -> Environment:
    """Call `factory(**kwargs)`; an error that its options cause becomes one that names them."""
    try:
        return factory(**kwargs)
    except errors.JaxrlError:
        raise
    except (TypeError, ValueError) as error:
        options = ", ".join(f"{name}={value!r}" for name, value in kwargs.items()) or "no options"
        raise errors.JaxrlError(
            f"{environment_id} cannot be made with {options}: {error}"
        ) from error


def _made_by_suite(environment_id: str, kwargs: dict[str, Any]) -> Environment:
    """The environment of a suite."""
    suite = _suite_of(environment_id)
    if not kwargs:
        return suite.make(environment_id)
    if "environment_id" in kwargs:  # the name of an argument of every suite, and no option of any
        raise errors.JaxrlError(f"unknown option of {environment_id} 'environment_id'.")
    return _call(environment_id, functools.partial(suite.make, environment_id), kwargs)


@functools.cache
def suites() -> dict[str, ModuleType]:
    """The modules of `jaxrl.envs.suites` that serve environments, by suite name."""
    package = importlib.import_module("jaxrl.envs.suites")
    names = sorted(module.name for module in pkgutil.iter_modules(package.__path__))
    modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    return {module.SUITE: module for module in modules if hasattr(module, "IDS")}


def missing(suite: ModuleType) -> str | None:
    """The command that installs what a suite requires, if that is not there."""
    package = getattr(suite, "REQUIRES", None)
    if package is None or installed(package):
        return None
    extra = getattr(suite, "EXTRA", None)
    return install_command(package if extra is None else f"jaxrl[{extra}]")


@functools.cache
def _owners() -> dict[str, ModuleType]:
    """The suite of every id that one of them serves or refuses."""
    owners: dict[str, ModuleType] = {}
    for suite in suites().values():
        for environment_id in (*suite.IDS, *getattr(suite, "REFUSED", {})):
            if environment_id in owners:
                both = f"{owners[environment_id].SUITE} and {suite.SUITE}"
                raise errors.JaxrlError(
                    f"environment {environment_id!r} is claimed by two suites: {both}."
                )
            owners[environment_id] = suite
    return owners


def _check_id(environment_id: Any) -> None:
    """Refuse ids that are not strings with something in them."""
    if not isinstance(environment_id, str) or not environment_id.strip():
        raise errors.JaxrlError(
            f"environment id is {environment_id!r}, but must be a non-empty string."
        )


def _suite_of(environment_id: str) -> ModuleType:
    """The suite that serves an id, or an error that says why none does."""
    suite = _owners().get(environment_id)
    if suite is None:
        allowed = [name for ids in environment_ids().values() for name in ids]
        raise errors.unknown("environment", environment_id, allowed)
    reason = getattr(suite, "REFUSED", {}).get(environment_id)
    if reason is not None:
        raise errors.JaxrlError(
            f"{environment_id} is known to {suite.SUITE} but not served: {reason}."
        )
    command = missing(suite)
    if command is not None:
        raise errors.JaxrlError(f"{environment_id} needs the package {suite.REQUIRES!r}: {command}")
    return suite
