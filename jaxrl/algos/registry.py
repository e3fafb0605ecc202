"""Algorithms by name, and the settings tuned for an environment.

An algorithm is one file `jaxrl/algos/NAME.py` with a factory of the same name, `NAME(env, config, …) -> Algorithm`,
whose `config` argument is annotated with its configuration class, and `NAME_agent(env, config) -> Agent`, which acts
with its policies and needs nothing that training reads. Its tuned settings, if any, are in
`jaxrl/algos/tuned/NAME.toml`: a table an environment id, each entry a field of the configuration.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import inspect
import math
import pkgutil
import tomllib
import typing
from collections.abc import Callable
from importlib import resources
from typing import Any, NamedTuple

from jaxrl.config import field_names, import_factory, type_hints, what_is
from jaxrl.errors import JaxrlError, unknown
from jaxrl.types import Agent, Algorithm


class Spec(NamedTuple):
    """An algorithm's factory, the class of its configuration, and what makes its agent."""

    name: str
    factory: Callable[..., Algorithm]
    config_class: type
    agent: Callable[[Any, Any], Agent]


def algorithm_names() -> list[str]:
    """Every algorithm: the modules of `jaxrl.algos` but this one."""
    package = importlib.import_module("jaxrl.algos")
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__) if module.name != "registry")


def load(name: str) -> Spec:
    """The algorithm called `name`, or the one at 'package.module:factory'."""
    if ":" in name:
        factory = import_factory("algorithm", name, check_factory)
    elif name not in algorithm_names():
        raise unknown("algorithm", name, algorithm_names())
    else:
        factory = getattr(importlib.import_module(f"jaxrl.algos.{name}"), name)
    return Spec(name, factory, typing.get_type_hints(factory)["config"], _agent_of(factory))


def _agent_of(factory: Callable[..., Algorithm]) -> Callable[[Any, Any], Agent]:
    """`NAME_agent` beside the factory; without one, the agent of an algorithm that is made without its inputs."""
    beside = getattr(inspect.getmodule(factory), f"{factory.__name__}_agent", None)
    return beside or (lambda env, config: factory(env, config).agent)


def check_factory(found: Any, path: str) -> None:
    """Refuse what is no `def NAME(env, config: Config, …) -> Algorithm`, where Config is a dataclass with defaults."""
    hints = type_hints(found) if inspect.isfunction(found) else {}
    config = hints.get("config")
    if hints.get("return") is not Algorithm or not (isinstance(config, type) and dataclasses.is_dataclass(config)):
        raise JaxrlError(
            f"algorithm {path!r} is {what_is(found)}, but must be a function that says what it takes and makes: "
            "def NAME(env: Environment, config: Config) -> Algorithm, where Config is a dataclass."
        )
    for field in dataclasses.fields(config):
        if field.init and field.default is field.default_factory is dataclasses.MISSING:
            raise JaxrlError(f"algorithm {path!r}: {config.__name__}.{field.name} needs a default.")


@functools.cache
def _tuned_table(name: str) -> dict[str, dict[str, Any]]:
    path = resources.files("jaxrl.algos") / "tuned" / f"{name}.toml"
    return tomllib.loads(path.read_text()) if path.is_file() else {}


def tuned(name: str, environment_id: str) -> dict[str, Any]:
    """Settings tuned for one environment, by flat field name; empty where there are none."""
    return dict(_tuned_table(name).get(environment_id, {}))


def override(config: Any, settings: dict[str, Any]) -> Any:
    """`config` with the fields named in `settings` (flat names) replaced."""
    paths = field_names(config)
    for name, value in settings.items():
        if name not in paths:
            raise unknown(f"option of {type(config).__name__}", name, paths)
        config = _replace(config, paths[name], value)
    return config


def _replace(config: Any, path: tuple[str, ...], value: Any) -> Any:
    head, *rest = path
    old = getattr(config, head)
    if rest:
        return dataclasses.replace(config, **{head: _replace(old, tuple(rest), value)})
    return dataclasses.replace(config, **{head: _coerce(head, value, old)})


def _coerce(name: str, value: Any, old: Any) -> Any:
    """A value read from JSON or TOML as the type of the field it goes to."""
    if isinstance(old, tuple):
        if not isinstance(value, list | tuple):
            raise JaxrlError(f"{name} is {value!r}, but must be a list.")
        return tuple(value)
    if isinstance(old, float) and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):  # of the last: a whole number beyond every float
            raise JaxrlError(f"{name} is {value!r}, but must be a number.") from None
    return value


def flatten(config: Any) -> dict[str, Any]:
    """A configuration as {flat field name: plain value}, for JSON; `override` reads it back."""

    def plain(path: tuple[str, ...]) -> Any:
        value = functools.reduce(getattr, path, config)
        if isinstance(value, float) and math.isinf(value):
            return str(value)
        return list(value) if isinstance(value, tuple) else value

    return {name: plain(path) for name, path in field_names(config).items()}
