"""`jaxrl check`: an algorithm or an environment of one's own, held against its contract."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import tyro

from jaxrl.algos import registry as algorithms
from jaxrl.algos.registry import AlgorithmSpec
from jaxrl.cli import options
from jaxrl.config import import_factory, override
from jaxrl.envs import contract as of_environments
from jaxrl.envs import registry as environments
from jaxrl.envs.contract import EnvironmentCase, Finding, hold, in_words
from jaxrl.errors import JaxrlError
from jaxrl.train import contract as of_algorithms
from jaxrl.train.contract import OF_ACTIONS
from jaxrl.train.contract_case import PROBES, Case, small_config
from jaxrl.train.inputs import read_inputs
from jaxrl.train.output.console import Console
from jaxrl.train.trust import NOBODY

SIGNS = {"kept": "ok    ", "noted": "note  ", "broken": "BROKEN"}


@dataclass(frozen=True, kw_only=True)
class Check:
    """Hold an algorithm or an environment of your own against its contract, and say what is broken.

    An algorithm is tried with small settings, on a probe for each kind of action or on --env.
    The exit status is 1 where a promise is broken.
    """

    name: tyro.conf.Positional[str]
    """The algorithm or the environment, package.module:Name, installed or in the folder you work
    in."""
    env: str = ""
    """The environment to try an algorithm on; a probe for each kind of action unless given."""
    env_options: options.Assignments = ()
    """Options of the environment, as name=value."""
    set: options.Assignments = ()
    """Settings of the algorithm, as name=value; the small ones of the check unless given."""


def check(words: list[str]) -> int:
    """Hold what is named against its contract."""
    given = options.parse(Check, "jaxrl check", words)
    console = options.console_of(quiet=False)
    if _is_algorithm(given.name):
        broken = _check_algorithm(given, console)
    else:
        broken = _check_environment(given, console)
    console.note(f"{given.name}: {f'{broken} broken' if broken else 'every promise is kept'}")
    return int(broken > 0)


def _is_algorithm(name: str) -> bool:
    """Whether a name stands for an algorithm and not for an environment."""
    if ":" not in name:
        if name in algorithms.algorithm_names():
            return True
        if name.endswith(".py"):
            raise JaxrlError(_with_colon(name))
        environments.describe(name)  # which says what is near it, if it is none
        return False
    found: list[bool] = []

    def one_of_both(made: Any, path: str) -> None:
        try:
            environments.check_factory(made, path)
            found.append(False)
        except JaxrlError:
            algorithms.check_factory(made, path)
            found.append(True)

    try:
        import_factory("algorithm or environment", name, one_of_both)
    except JaxrlError as error:
        raise JaxrlError(
            str(error).replace("algorithm '", "algorithm or environment '", 1)
        ) from None
    return found[-1]


def _with_colon(name: str) -> str:
    """What to write for the name of a file."""
    module = name.removesuffix(".py").replace("/", ".").strip(".")
    return f"{name} is a file: name what is in it, {module}:NAME, in the folder that it lies in."


def _check_environment(given: Check, console: Console) -> int:
    """Check an environment: how many promises it breaks."""
    if given.env or given.set:
        raise JaxrlError(
            f"--{'env' if given.env else 'set'} is for algorithms, and {given.name} is an "
            "environment: its options are --env-options NAME=VALUE."
        )
    values = options.values("--env-options", given.env_options)
    console.note(f"{given.name}, an environment")
    try:
        env = environments.make(given.name, **values)
    except JaxrlError as error:
        return _report(console, [Finding("it can be made and traced", "broken", str(error))])
    case = EnvironmentCase(given.name, env, lambda: environments.make(given.name, **values))
    return _report(console, hold(of_environments.CHECKS, case, type(env)))


def _check_algorithm(given: Check, console: Console) -> int:
    """Check an algorithm on one environment, or on a probe for each kind of action."""
    spec = algorithms.load(given.name)
    values = options.values("--set", given.set)
    env_options = options.values("--env-options", given.env_options)
    if env_options and not given.env:
        raise JaxrlError("--env-options is for the environment of --env, and none is given.")
    broken, refused = 0, []
    checks = of_algorithms.CHECKS
    for environment in [given.env] if given.env else PROBES:
        env = environments.make(environment, **env_options)
        try:
            case = _case(spec, environment, env, values)
        except JaxrlError as error:
            refused.append(f"{environment}: {error}")
            continue
        except Exception as error:  # the author's code may raise whatever it likes
            text = in_words(error, spec.factory)
            findings = [Finding("the factory makes an algorithm", "broken", text)]
            console.note(f"{given.name} on {environment}")
            broken += _report(console, findings)
            continue
        console.note(f"{given.name} on {environment}, {env.action_space}")
        traced = _report(console, hold([of_algorithms.check_traced], case, spec.factory))
        broken += traced
        if traced:
            console.note("  the rest can be checked once this is mended")
            continue
        broken += _report(console, hold(checks, case, spec.factory))
        checks = OF_ACTIONS  # all the rest is no matter of the environment
    if len(refused) == (1 if given.env else len(PROBES)):
        raise JaxrlError(
            f"{given.name} refuses {'it' if given.env else 'every probe'}: {' '.join(refused)} "
            "Name an environment that it is for, --env ID, and settings that fit, --set NAME=VALUE."
        )
    for text in refused:
        console.note(f"refused  {text}")
    return broken


def _case(spec: AlgorithmSpec, environment: str, env: Any, values: dict[str, Any]) -> Case:
    """The algorithm with small settings, or where it refuses those, with its own."""
    small = small_config(spec)
    inputs = read_inputs(spec.factory, override(small, values), environment, env, NOBODY)
    read = {name: each.value for name, each in inputs.items()}
    try:
        return Case(spec, env, override(small, values), read)
    except JaxrlError:
        return Case(spec, env, override(spec.config_class(), values), read)


def _report(console: Console, findings: Iterable[Finding]) -> int:
    """Print what was found, as it is found: how many promises are broken."""
    broken = 0
    for promise, verdict, text in findings:
        broken += verdict == "broken"
        console.note(f"  {SIGNS[verdict]}  {promise}")
        if text:
            console.note(f"          {text}")
    return broken
