"""Algorithms by name, and the settings tuned for an environment.

An algorithm is one file `jaxrl/algos/NAME.py` with a factory of the same name,
`NAME(env, config, …) -> Algorithm`, whose `config` argument is annotated with its configuration
class, and `NAME_agent(env, config) -> Agent`, which acts with its policies and needs nothing that
training reads. Its tuned settings, if any, are in `jaxrl/algos/tuned/NAME.toml`: a table per
environment id or dataset, each entry a field of the configuration, by flat name.
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

from jaxrl.config import check_defaults, check_settings, import_factory, type_hints, what_is
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
    """Every algorithm: the modules of `jaxrl.algos` but this one; packages hold parts of them."""
    package = importlib.import_module("jaxrl.algos")
    return sorted(
        module.name
        for module in pkgutil.iter_modules(package.__path__)
        if module.name != "registry" and not module.ispkg
    )


def load(name: str) -> AlgorithmSpec:
    """The algorithm called `name`, or the one at 'package.module:factory'."""
    if ":" in name:
        factory = import_factory("algorithm", name, check_factory)
    elif name not in algorithm_names():
        raise unknown("algorithm", name, algorithm_names())
    else:
        factory = getattr(importlib.import_module(f"jaxrl.algos.{name}"), name)
    config_class = typing.get_type_hints(factory)["config"]
    check_settings(config_class, RESERVED)
    return AlgorithmSpec(name, factory, config_class, _agent_of(factory))


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


@functools.cache
def _tuned_table(name: str) -> dict[str, dict[str, Any]]:
    path = resources.files("jaxrl.algos") / "tuned" / f"{name}.toml"
    return tomllib.loads(path.read_text()) if path.is_file() else {}


def tuned(name: str, environment_id: str, dataset: str = "") -> dict[str, Any]:
    """Settings tuned for an environment, and over these for a dataset, by flat field name.

    Empty where there are none.
    """
    table = _tuned_table(name)
    return {**table.get(environment_id, {}), **(table.get(dataset, {}) if dataset else {})}
