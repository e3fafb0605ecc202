"""Algorithms by name, and the settings tuned for an environment.

An algorithm is one file `jaxrl/algos/NAME.py` with a factory of the same name,
`NAME(env, config, …) -> Algorithm`, whose `config` argument is annotated with its configuration
class, and `NAME_agent(env, config) -> Agent`, which acts with its policies and needs nothing that
training reads. Its tuned settings, if any, are in `jaxrl/algos/tuned/NAME.toml`: a table per
environment id or dataset, each entry a field of the configuration, by flat name. Installed packages
add algorithms by entry points, and anybody by an import path (`load`); the tuned settings of these
are beside their modules, `mine.toml` beside `mine.py`.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import pkgutil
import tomllib
import typing
from collections.abc import Callable
from importlib import resources
from typing import Any, NamedTuple

from jaxrl.config import (
    Added,
    added,
    check_defaults,
    check_settings,
    import_added,
    import_factory,
    package_of,
    settings_beside,
    type_hints,
    what_is,
)
from jaxrl.errors import JaxrlError, unknown
from jaxrl.types import Agent, Algorithm

# Options that every run has, which no configuration may declare
# (tests/cli/test_options.py compares them with the command line).
RESERVED = frozenset(
    ["algorithm", "config", "env", "env_options", "tuned", "over", "samples"]
    + ["scale_from", "scale_rule", "seed", "num_seeds", "num_evaluations", "evaluation_episodes"]
    + ["modes", "measures", "keep_policies", "init_from"]
    + ["devices", "mesh", "folder", "overwrite", "sinks", "quiet", "deterministic", "profile"]
    + [
        "trust",
        "imports",
        "coordinator",
        "processes",
        "process_id",
        "distributed",
        "help",
        "help_all",
    ]
)


class AlgorithmSpec(NamedTuple):
    """An algorithm's factory, the class of its configuration, and what makes its agent."""

    name: str
    factory: Callable[..., Algorithm]
    config_class: type
    agent: Callable[[Any, Any], Agent]


def algorithm_names() -> list[str]:
    """Every algorithm: jaxrl's own, and those that installed packages add."""
    return sorted((*own_names(), *_added()))


def own_names() -> list[str]:
    """jaxrl's own: the modules of `jaxrl.algos` but this one; packages hold parts of them."""
    package = importlib.import_module("jaxrl.algos")
    return sorted(
        module.name
        for module in pkgutil.iter_modules(package.__path__)
        if module.name != "registry" and not module.ispkg
    )


def _added() -> Added:
    """What installed packages add, by name."""
    return added("algorithm", own_names())


def package_that_adds(name: str) -> str | None:
    """The installed package that adds an algorithm, if one does."""
    return package_of(_added()[name][0]) if name in _added() else None


def load(name: str) -> AlgorithmSpec:
    """The algorithm called `name`, or the one at 'package.module:factory'."""
    factory = _factory(name)
    config_class = typing.get_type_hints(factory)["config"]
    check_settings(config_class, RESERVED)
    return AlgorithmSpec(name, factory, config_class, _agent_of(factory))


def _factory(name: str) -> Callable[..., Algorithm]:
    """The factory of an algorithm, its module imported now."""
    found: Callable[..., Algorithm]
    if ":" in name:
        found = import_factory("algorithm", name, check_factory)
    elif name in _added():
        found = import_added("algorithm", name, _added()[name], check_factory)
    elif name in own_names():
        found = getattr(importlib.import_module(f"jaxrl.algos.{name}"), name)
    else:
        raise unknown("algorithm", name, algorithm_names())
    return found


def agent_beside(factory: Callable[..., Algorithm]) -> Callable[[Any, Any], Agent] | None:
    """`NAME_agent` of the module that the factory NAME is from, if it has one."""
    return getattr(inspect.getmodule(factory), f"{factory.__name__}_agent", None)


def _agent_of(factory: Callable[..., Algorithm]) -> Callable[[Any, Any], Agent]:
    """`NAME_agent` beside the factory, or else the agent of an algorithm made without inputs."""
    beside = agent_beside(factory)
    try:
        inspect.signature(beside or factory).bind("env", "config")
    except TypeError as error:
        raise no_agent(factory, str(error)) from None
    return beside or (lambda env, config: factory(env, config).agent)


def no_agent(factory: Callable[..., Algorithm], why: str) -> JaxrlError:
    """An error for an algorithm whose saved policies nothing could act with."""
    name = factory.__name__
    config = typing.get_type_hints(factory)["config"].__name__
    return JaxrlError(
        f"{name} needs {name}_agent(env: Environment, config: {config}) -> Agent beside it, "
        f"for its saved policies are used without what training reads: {why}."
    )


def check_factory(found: Any, path: str) -> None:
    """Refuse what is no `def NAME(env, config: Config, …) -> Algorithm`.

    Config is to be a dataclass with a default for every field.
    """
    hints = type_hints(found) if inspect.isfunction(found) else {}
    config = hints.get("config")
    result = hints.get("return")
    makes_one = Algorithm in (result, typing.get_origin(result))
    if not (makes_one and isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise JaxrlError(
            f"algorithm {path!r} is {what_is(found)}, but must be a function that says what it "
            "takes and makes: def NAME(env: Environment, config: Config) -> Algorithm, "
            "where Config is a dataclass."
        )
    check_defaults(config, f"algorithm {path!r}")


def _tuned_table(name: str) -> dict[str, dict[str, Any]]:
    """The tuned settings of an algorithm, by environment or dataset."""
    if name in own_names():
        return _own_table(name)
    spec = load(name)
    return settings_beside(spec.factory, spec.config_class())


@functools.cache
def _own_table(name: str) -> dict[str, dict[str, Any]]:
    path = resources.files("jaxrl.algos") / "tuned" / f"{name}.toml"
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def tuned(name: str, environment_id: str, dataset: str = "") -> dict[str, Any]:
    """Settings tuned for an environment, and over these for a dataset, by flat field name.

    Empty where there are none.
    """
    table = _tuned_table(name)
    return {**table.get(environment_id, {}), **(table.get(dataset, {}) if dataset else {})}
