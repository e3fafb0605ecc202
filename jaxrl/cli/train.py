"""`jaxrl train` and `jaxrl sweep`: an algorithm on an environment, or a population of settings."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from jaxrl.algos.registry import RESERVED, algorithm_names, load
from jaxrl.cli import budgets, forms, from_file, helping, options, over
from jaxrl.cli.options import Assignments
from jaxrl.cli.over import Over
from jaxrl.config import (
    check_chosen,
    check_needs,
    check_type,
    chosen,
    flatten,
    override,
    settled,
    sweepable,
)
from jaxrl.config import settings as settings_of
from jaxrl.core.co_scaling import SCALED
from jaxrl.errors import JaxrlError
from jaxrl.train import loop, turns
from jaxrl.train.devices import distributed
from jaxrl.train.devices.distributed import Processes
from jaxrl.train.experiment import Experiment, RunSettings, default_config
from jaxrl.train.inputs import environment_of
from jaxrl.train.output import report
from jaxrl.train.output.console import Console
from jaxrl.train.trust import Trust

Config = TypeVar("Config")
Scale = TypeVar("Scale")


@dataclass(frozen=True, kw_only=True)
class Early:
    """What is read first: what defaults, or the import of an algorithm's module, depend on."""

    config: Path | None = None
    env: str = ""
    env_options: Assignments = ()
    over: Assignments = ()
    dataset: str = ""
    tuned: bool = True
    deterministic: bool = False
    trust: options.TrustOptions = field(default_factory=Trust)


@dataclass(frozen=True, kw_only=True)
class Train(Generic[Config, Scale]):
    """What `jaxrl train ALGORITHM` takes; Config is the form of its configuration (forms.py)."""

    env: str
    """Environment id (see `jaxrl envs`), or package.module:Factory; that of the dataset unless
    given."""
    env_options: Assignments = ()
    """The environment's own options, as name=value."""
    config: Path | None = None
    """TOML file of options by name, learning_rate = 1e-3, or a run folder to repeat; what is typed
    here wins."""
    tuned: bool = True
    """Start from the settings tuned for the environment or the dataset, if any."""
    run: Annotated[RunSettings, tyro.conf.OmitArgPrefixes] = field(default_factory=RunSettings)
    output: options.OutputOptions = field(default_factory=options.Output)
    settings: Annotated[Config, tyro.conf.OmitArgPrefixes]
    scaling: Annotated[Scale, tyro.conf.OmitArgPrefixes]
    trust: options.TrustOptions = field(default_factory=Trust)
    processes: options.ProcessOptions = field(default_factory=Processes)

    def swept(self, config: Any) -> Over:
        """What is varied of the settings of `config`."""
        del config
        return Over({}, {}, {})


@dataclass(frozen=True, kw_only=True)
class Sweep(Train[Config, Scale]):
    """What `jaxrl sweep ALGORITHM` takes."""

    over: Assignments = ()
    """What to vary, as name=value,value,… ; several are combined in every way. With --samples also
    ranges: name=low..high, or name=log:low..high, evenly in the logarithm (required)."""
    samples: int | None = None
    """Draw so many settings from the ranges, and of values one each; --seed says which."""

    def swept(self, config: Any) -> Over:
        """What is varied of the settings of `config`."""
        return over.read(self.over, self.samples, self.run.seed, config)


def train(words: list[str]) -> int:
    """Train one algorithm on one environment."""
    return _train(words, "train", Train)


def sweep(words: list[str]) -> int:
    """Train settings of hyperparameters side by side, and every seed, in one program.

    Sizes and choices are no numbers, and are gone through in turn, each in a program of its own.
    """
    return _train(words, "sweep", Sweep)


def _train(words: list[str], command: str, kind: type[Train]) -> int:
    named, rest = _algorithm(words, command)
    typed = options.names_given(rest)
    early, file = _early(f"jaxrl {command} {named or 'ALGORITHM'}", rest, typed)
    algorithm = named or file.get("algorithm")
    if algorithm is None:
        raise _unnamed(command)
    prog = f"jaxrl {command} {algorithm}"
    if early.deterministic:
        options.ask_for_determinism()
    found: tuple[str, dict[str, Any]] = (early.env, {})
    if early.dataset and not early.env:
        found = environment_of(early.dataset, early.trust)
    with from_file.naming(None if named else early.config):
        factory = load(algorithm).factory
    config, tuned = default_config(algorithm, found[0], early.tuned, early.dataset)
    config = budgets.unasked(config)
    with from_file.naming(early.config):
        config = from_file.settings(config, file, forms.parts_named(config, prog, rest))
    config = forms.choose_parts(config, prog, rest)
    check_chosen(config, RESERVED)
    default = _filled(kind, config, early, file, typed, found)
    with from_file.naming(early.config):
        from_file.check_names(file, default, config, prog)
    if helping.is_asked(rest):
        about = [inspect.getdoc(inspect.getmodule(factory)) or ""]
        if kind is Sweep:
            numbers = ", ".join(sweepable(config))
            about.append(f"--over takes numbers, side by side: {numbers}; and others, in turn.")
        about.append("The defaults shown are those tuned for --env and --dataset, if any are.")
        helping.show(default, prog, rest, typed, about)
        return 0
    given = _parse(kind, config, prog, rest, default)
    for group in (given.scaling, given.output):
        check_needs(group, options.as_option)
    given = dataclasses.replace(given, settings=settled(given.settings, typed))
    varied = given.swept(given.settings)
    for name in sorted(varied.names() & typed):
        option = options.as_option(name)
        raise JaxrlError(f"{option} has no effect beside --over {name}=…: leave one out.")
    with distributed.joined(given.processes):
        note = _note_of_tuned(given, tuned, typed | varied.names() | file.keys())
        return _start(algorithm, given, varied, typed, note)


def _early(prog: str, words: list[str], typed: set[str]) -> tuple[Early, dict[str, Any]]:
    """What is read first, and the options of the file that --config names, if it does."""
    read: Any = functools.partial(options.parse, Early, prog, words, add_help=False)
    early, _ = read(return_unknown_args=True)
    if early.config is None:
        return early, {}
    with from_file.naming(early.config):
        file = from_file.read(early.config, early.trust)
        known = {name: value for name, value in file.items() if name not in typed}
        return from_file.filled(early, known), file


def _note_of_tuned(given: Train, settings: dict[str, Any], replaced: set[str]) -> str | None:
    """The tuned settings that the run takes: not those that the command line replaces."""
    config = flatten(given.scaling.apply(given.settings))
    taken = [
        f"{name}={value}"
        for name, value in settings.items()
        if name not in replaced and config.get(name) == value
    ]
    return f"tuned settings for {given.env}: {', '.join(taken)}" if taken else None


def _filled(
    kind: type[Train],
    config: Any,
    early: Early,
    file: dict[str, Any],
    typed: set[str],
    found: tuple[str, dict[str, Any]],
) -> Train:
    """The command with its defaults: the file's, and of the algorithm's options those of `config`.

    `found` are the environment and its options, which those that are given replace.
    """
    environment, env_options = found
    scaled = set(SCALED) <= {each.name for each in settings_of(config) if len(each.path) == 1}
    default = kind(
        env=environment or tyro.MISSING,
        env_options=from_file.as_words(env_options),
        settings=forms.form_of(config),
        scaling=options.Scaling() if scaled else options.Unscaled(),
    )
    typed_options = set(options.assignments("--env-options", early.env_options))
    typed_over = {*options.assignments("--over", early.over), *typed}
    with from_file.naming(early.config):
        groups = {
            name: from_file.filled(getattr(default, name), file)
            for name in ("scaling", "run", "output", "trust", "processes")
        }
        tables: dict[str, Any] = {}
        if "env_options" in file:
            own = from_file.as_words(file["env_options"], typed_options)
            tables["env_options"] = (*default.env_options, *own)
        if kind is Sweep and "over" in file:
            tables["over"] = from_file.as_words(file["over"], typed_over)
        if kind is Sweep and "samples" in file:
            check_type("samples", file["samples"], int)
            tables["samples"] = file["samples"]
    return dataclasses.replace(default, **groups, **tables)


def _parse(kind: type[Train], config: Any, prog: str, words: list[str], default: Train) -> Train:
    """The options that `words` give; `default` holds what the others are."""
    generic: Any = kind
    command = generic[type(default.settings), type(default.scaling)]
    read = functools.partial(options.parse, command, prog, words, default=default)
    given, unknown = read(return_unknown_args=True)
    if unknown:
        forms.refuse_unchosen(config, unknown)
        given = read()  # which says what is wrong with them
    return dataclasses.replace(given, settings=forms.filled(config, given.settings))


def _start(algorithm: str, given: Train, varied: Over, typed: set[str], note: str | None) -> int:
    """Train what was asked for."""
    output = given.output
    console = options.console_of(quiet=output.quiet, deterministic=output.deterministic)
    experiment = Experiment(
        algorithm=algorithm,
        environment=given.env,
        config=given.settings,
        run=given.run,
        sweep=varied.numbers,
        sampled=varied.sampled,
        environment_options=options.values("--env-options", given.env_options),
        trust=given.trust.also(given.env, algorithm, *given.run.measures),
    )

    def configured(setting: dict[str, Any]) -> Experiment:
        unscaled = settled(override(given.settings, setting), typed | setting.keys())
        config = given.scaling.apply(unscaled)
        before, after = flatten(unscaled), flatten(config)
        for name in varied.numbers:
            if before.get(name) != after.get(name):
                raise JaxrlError(
                    f"--scale-from scales {name}, but not the values that --over gives it: leave "
                    "out one of the two, or take another --scale-rule."
                )
        config = budgets.long_enough(config, console)
        trust = experiment.trust.also(*chosen(config).values())
        return dataclasses.replace(experiment, config=config, trust=trust)

    if varied.turns:
        return _in_turn(configured, varied, output, note, console)
    experiment = configured({})
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


def _in_turn(
    configured: Callable[[dict[str, Any]], Experiment],
    varied: Over,
    output: options.Output,
    note: str | None,
    console: Console,
) -> int:
    """Train one program after the other, for each combination of sizes and choices."""
    if output.profile:
        raise JaxrlError("--profile measures one program, and sizes and choices need several.")
    loop.check_request(output.sinks)
    runs: dict[str, Experiment] = {}
    for setting in turns.combinations(varied.turns):
        with over.naming(setting):
            runs[over.folder_name(setting, runs)] = configured(setting)
    folder = turns.begin(runs, list(varied.turns), output.folder, output.overwrite)
    if note:
        console.note(note)
    first, *others = (each.trust for each in runs.values())
    trust = first.also(*(name for each in others for name in each.imports))
    results = turns.train(folder, sinks=output.sinks, console=console, trust=trust)
    return report.finish_turns(folder, results, console)


def _algorithm(words: list[str], command: str) -> tuple[str | None, list[str]]:
    """The algorithm's name, which stands first unless a file has it, and what comes after it."""
    if words and words[0] in (*helping.HELP, *helping.HELP_ALL):
        Console().note(
            f"usage: {_usage(command)} ...\nalgorithms: {', '.join(algorithm_names())}\n\n"
            f"jaxrl {command} ALGORITHM --help explains the rest."
        )
        raise SystemExit(0)
    if not words or words[0].startswith("-"):
        if "config" not in options.names_given(words):
            raise _unnamed(command)
        return None, words
    if len(words) > 1 and not words[1].startswith("-"):
        raise JaxrlError(
            f"{words[1]!r} is not an option. Is it the environment? Write --env {words[1]}."
        )
    return words[0], words[1:]


def _usage(command: str) -> str:
    """How a command is written, in short."""
    return f"jaxrl {command} ALGORITHM --env ID"


def _unnamed(command: str) -> JaxrlError:
    """An error where no algorithm is named."""
    names = ", ".join(algorithm_names())
    return JaxrlError(f"name an algorithm first: {_usage(command)}. Algorithms: {names}.")
