"""`jaxrl train` and `jaxrl sweep`: an algorithm on an environment, or a population of settings."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
from dataclasses import dataclass, field
from typing import Annotated, Any, Generic, TypeVar

import tyro

from jaxrl.algos.registry import RESERVED, algorithm_names, load
from jaxrl.cli import forms, options
from jaxrl.cli.options import Assignments, Unasked
from jaxrl.config import (
    budget_field,
    check_chosen,
    check_needs,
    chosen,
    flatten,
    replace_leaves,
    settled,
    sizes,
    sweepable,
)
from jaxrl.config import settings as settings_of
from jaxrl.core.co_scaling import SCALED
from jaxrl.data.dataset import environment_of
from jaxrl.errors import JaxrlError
from jaxrl.train import loop
from jaxrl.train.devices import distributed
from jaxrl.train.devices.distributed import Processes
from jaxrl.train.experiment import Experiment, RunSettings, default_config
from jaxrl.train.output import report
from jaxrl.train.output.console import Console
from jaxrl.train.trust import Trust

Config = TypeVar("Config")
Scale = TypeVar("Scale")

# The fewest iterations of a run whose number of environments was raised but not its budget.
FEWEST_ITERATIONS = 20


@dataclass(frozen=True, kw_only=True)
class Early:
    """What is read first: what defaults, or the import of an algorithm's module, depend on."""

    env: str = ""
    dataset: str = ""
    tuned: bool = True
    deterministic: bool = False


@dataclass(frozen=True, kw_only=True)
class Train(Generic[Config, Scale]):
    """What `jaxrl train ALGORITHM` takes; Config is the form of its configuration (forms.py)."""

    env: str
    """Environment id (see `jaxrl envs`), or package.module:Factory; that of the dataset unless
    given."""
    env_options: Assignments = ()
    """The environment's own options, as name=value."""
    tuned: bool = True
    """Start from the settings tuned for the environment or the dataset, if any."""
    config: Annotated[Config, tyro.conf.OmitArgPrefixes]
    scaling: Annotated[Scale, tyro.conf.OmitArgPrefixes]
    run: Annotated[RunSettings, tyro.conf.OmitArgPrefixes] = field(default_factory=RunSettings)
    output: options.OutputOptions = field(default_factory=options.Output)
    trust: options.TrustOptions = field(default_factory=Trust)
    processes: options.ProcessOptions = field(default_factory=Processes)

    def swept(self) -> dict[str, list[float]]:
        """The numbers to vary, each with its values."""
        return {}


@dataclass(frozen=True, kw_only=True)
class Sweep(Train[Config, Scale]):
    """What `jaxrl sweep ALGORITHM` takes."""

    over: Assignments = ()
    """Numbers to vary, as name=value,value,… ; several are combined in every way (required)."""

    def swept(self) -> dict[str, list[float]]:
        """The numbers to vary, each with its values."""
        if not self.over:
            raise JaxrlError("a sweep needs --over name=value,value,… : what to vary.")
        return read_sweep(self.over)


def train(words: list[str]) -> int:
    """Train one algorithm on one environment."""
    return _train(words, "train", Train)


def sweep(words: list[str]) -> int:
    """Train every combination of some hyperparameters, and every seed, in one program."""
    return _train(words, "sweep", Sweep)


def _train(words: list[str], command: str, kind: type[Train]) -> int:
    algorithm, rest = _algorithm(words, command)
    prog = f"jaxrl {command} {algorithm}"
    read: Any = functools.partial(options.parse, Early, prog, rest, add_help=False)
    early, _ = read(return_unknown_args=True)
    if early.deterministic:
        options.ask_for_determinism()
    factory = load(algorithm).factory
    found: tuple[str, dict[str, Any]] = (early.env, {})
    if early.dataset and not early.env:
        found = environment_of(early.dataset)
    config, settings = default_config(algorithm, found[0], early.tuned, early.dataset)
    config = _unasked(forms.choose_parts(config, prog, rest))
    check_chosen(config, RESERVED)
    about = (
        f"{inspect.getdoc(inspect.getmodule(factory))}\n\n"
        "The defaults shown are those tuned for --env and --dataset, if any are."
    )
    if kind is Sweep:
        about += f"\n\n--over takes any of: {', '.join(sweepable(config))}."
    given = _parse(kind, config, prog, rest, about, found)
    typed = options.names_given(rest)
    for group in (given.scaling, given.output):
        check_needs(group, options.as_option)
    given = dataclasses.replace(given, config=settled(given.config, typed))
    swept = given.swept()
    for name in swept:
        if name in typed:
            option = options.as_option(name)
            raise JaxrlError(f"{option} has no effect beside --over {name}=…: leave one out.")
    with distributed.joined(given.processes):
        return _start(algorithm, given, _note_of_tuned(given, settings, typed | swept.keys()))


def _note_of_tuned(given: Train, settings: dict[str, Any], replaced: set[str]) -> str | None:
    """The tuned settings that the run takes: not those that the command line replaces."""
    config = flatten(given.scaling.apply(given.config))
    taken = [
        f"{name}={value}"
        for name, value in settings.items()
        if name not in replaced and config.get(name) == value
    ]
    return f"tuned settings for {given.env}: {', '.join(taken)}" if taken else None


def _parse(
    kind: type[Train],
    config: Any,
    prog: str,
    words: list[str],
    about: str,
    found: tuple[str, dict[str, Any]],
) -> Train:
    """The options that `words` give; `config` holds the defaults of the algorithm's.

    `found` are the environment and its options, which those that are given replace.
    """
    environment, env_options = found
    scaled = set(SCALED) <= {each.name for each in settings_of(config) if len(each.path) == 1}
    default = kind(
        env=environment or tyro.MISSING,
        env_options=tuple((f"{name}={json.dumps(value)}",) for name, value in env_options.items()),
        config=forms.form_of(config),
        scaling=options.Scaling() if scaled else options.Unscaled(),
    )
    generic: Any = kind
    command = generic[type(default.config), type(default.scaling)]
    read = functools.partial(
        options.parse, command, prog, words, default=default, description=about
    )
    given, unknown = read(return_unknown_args=True)
    if unknown:
        forms.refuse_unchosen(config, unknown)
        given = read()  # which says what is wrong with them
    return dataclasses.replace(given, config=forms.filled(config, given.config))


def _start(algorithm: str, given: Train, note: str | None) -> int:
    """Train what was asked for."""
    output = given.output
    console = options.console_of(quiet=output.quiet, deterministic=output.deterministic)
    parts = chosen(given.config).values()
    experiment = Experiment(
        algorithm=algorithm,
        environment=given.env,
        config=_long_enough(given.scaling.apply(given.config), console),
        run=given.run,
        sweep=given.swept(),
        environment_options=options.values("--env-options", given.env_options),
        trust=given.trust.also(given.env, algorithm, *parts, *given.run.measures),
    )
    result = loop.train(
        experiment,
        output.folder,
        note=note,
        overwrite=output.overwrite,
        sinks=output.sinks,
        console=console,
        profiled=output.profile,
    )
    return report.finish(result, experiment, console)


def _algorithm(words: list[str], command: str) -> tuple[str, list[str]]:
    """The algorithm's name, which stands first, and what comes after it."""
    usage = f"jaxrl {command} ALGORITHM --env ID"
    names = ", ".join(algorithm_names())
    if words and words[0] in ("-h", "--help"):
        Console().note(
            f"usage: {usage} ...\nalgorithms: {names}\n\n"
            f"jaxrl {command} ALGORITHM --help explains the rest."
        )
        raise SystemExit(0)
    if not words or words[0].startswith("-"):
        raise JaxrlError(f"name an algorithm first: {usage}. Algorithms: {names}.")
    if len(words) > 1 and not words[1].startswith("-"):
        raise JaxrlError(
            f"{words[1]!r} is not an option. Is it the environment? Write --env {words[1]}."
        )
    return words[0], words[1:]


def _unasked(config: Any) -> Any:
    """`config` with a budget that can be told from one that the user types."""
    found = budget_field(config)
    if found is None:
        return config
    name, _ = found
    return replace_leaves(config, {name: Unasked(_value(config, name))})


def _long_enough(config: Any, console: Console) -> Any:
    """`config` with a budget of at least `FEWEST_ITERATIONS`, unless the user has set one.

    The default budget suits few environments, and is soon spent by many.
    """
    found = budget_field(config)
    if found is None:
        return config
    name, unit = found
    budget = _value(config, name)
    if not isinstance(budget, Unasked):
        return config
    needed = int(budget)
    if unit == "transitions" and {"num_envs", "num_steps"} <= set(sizes(config)):
        num_envs, num_steps = _value(config, "num_envs"), _value(config, "num_steps")
        needed = max(needed, FEWEST_ITERATIONS * num_envs * num_steps)
        if needed > budget:
            console.note(
                f"{name} is {needed:,}: {FEWEST_ITERATIONS} iterations of {num_envs} environments"
            )
    return replace_leaves(config, {name: needed})


def _value(config: Any, name: str) -> Any:
    """The value of a setting by its flat name."""
    return next(each.value for each in settings_of(config) if each.name == name)


def read_sweep(given: tuple[tuple[str, ...], ...]) -> dict[str, list[float]]:
    """(("learning_rate=1e-4,1e-3",),) -> {"learning_rate": [1e-4, 1e-3]}."""
    found: dict[str, list[float]] = {}
    for name, text in options.assignments("--over", given).items():
        try:
            found[name] = [float(value) for value in text.split(",")]
        except ValueError:
            raise JaxrlError(
                f"{name}={text} should be numbers between commas, as in {name}=1e-4,1e-3."
            ) from None
    return found
