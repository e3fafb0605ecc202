"""The commands behind `jaxrl`, one function each: parse, build an experiment, run it, report."""

from __future__ import annotations

import dataclasses
import inspect
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxrl.algos.registry import algorithm_names, load
from jaxrl.config import sweepable
from jaxrl.errors import JaxrlError
from jaxrl.train import loop, report
from jaxrl.train.console import Console
from jaxrl.train.experiment import Experiment, RunSettings, default_config


@dataclass(frozen=True)
class Output:
    """Where a run goes, and what it prints."""

    folder: Path | None = None
    """Run folder; runs/ALGORITHM-ENVIRONMENT-TIME unless given."""
    overwrite: bool = False
    """Start again in a folder that already holds a run."""
    sinks: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Send metrics to these as well as to metrics.jsonl (pip install 'jaxrl[track]')."""
    quiet: bool = False
    """Print nothing but errors."""
    deterministic: bool = False
    """Ask XLA for deterministic kernels on a GPU (slower); a CPU is deterministic as it is."""


def train(arguments: list[str]) -> int:
    """Train one algorithm on one environment."""
    return _train(arguments, "train")


def sweep(arguments: list[str]) -> int:
    """Train every combination of some hyperparameters, and every seed, in one program."""
    return _train(arguments, "sweep")


def _train(arguments: list[str], command: str) -> int:
    algorithm, rest = _algorithm(arguments, command)
    rest = _gathered(_gathered(rest, "--over"), "--env-options")
    environment = _peek(rest, "--env") or ""
    use_tuned = "--no-tuned" not in rest
    config, settings = default_config(algorithm, environment, use_tuned)
    fields: list[tuple] = [
        ("env", Annotated[str, tyro.conf.arg(help="Environment id (see `jaxrl envs`), or package.module:Factory.")]),
        (
            "env_options",
            Annotated[tuple[str, ...], tyro.conf.arg(help="The environment's own options, as name=value.")],
            (),
        ),
        (
            "tuned",
            Annotated[bool, tyro.conf.arg(help="Start from the settings tuned for the environment, if any.")],
            True,
        ),
        ("config", Annotated[type(config), tyro.conf.OmitArgPrefixes], config),
        ("run", Annotated[RunSettings, tyro.conf.OmitArgPrefixes], RunSettings()),
        ("output", Annotated[Output, tyro.conf.OmitArgPrefixes], Output()),
    ]
    if command == "sweep":
        help_text = (
            "Numbers to vary, as name=value,value,… ; several are combined in every way. "
            f"Any of: {', '.join(sweepable(config))}."
        )
        fields.insert(1, ("over", Annotated[tuple[str, ...], tyro.conf.arg(help=help_text)]))
    parser = dataclasses.make_dataclass(command.capitalize(), fields, kw_only=True)
    about = inspect.getdoc(inspect.getmodule(load(algorithm).factory))
    parser.__doc__ = f"{about}\n\nThe defaults shown are those tuned for --env, where there are any."
    given: Any = tyro.cli(
        parser, prog=f"jaxrl {command} {algorithm}", args=rest, config=(tyro.conf.OmitSubcommandPrefixes,)
    )
    console = Console(quiet=given.output.quiet)
    experiment = Experiment(
        algorithm=algorithm,
        environment=given.env,
        config=given.config,
        run=given.run,
        sweep=_sweep(getattr(given, "over", ())),
        environment_options={name: _value(text) for name, text in map(_assignment, given.env_options)},
    )
    if settings and given.tuned:
        console.note(f"tuned settings for {environment}: " + ", ".join(f"{k}={v}" for k, v in settings.items()))
    folder = given.output.folder or _fresh_folder(algorithm, environment)
    result = loop.train(experiment, folder, overwrite=given.output.overwrite, sinks=given.output.sinks, console=console)
    return report.finish(result, experiment, console)


def resume(arguments: list[str]) -> int:
    """Go on with a run from its newest whole checkpoint."""

    def parse(
        run: tyro.conf.Positional[Path],
        set: tuple[str, ...] = (),  # noqa: A002 - the option's name is --set
        force: bool = False,
        sinks: tuple[Literal["tensorboard", "wandb"], ...] = (),
        quiet: bool = False,
        deterministic: bool = False,
    ) -> tuple[Path, tuple[str, ...], bool, tuple[str, ...], bool]:
        """Go on with a run from its newest whole checkpoint.

        Args:
            run: The run folder.
            set: Settings to change, as name=value; needs --force.
            force: Go on although settings or versions have changed.
            sinks: Send metrics to these as well as to metrics.jsonl.
            quiet: Print nothing but errors.
            deterministic: Ask XLA for deterministic kernels on a GPU.
        """
        del deterministic  # read by jaxrl.cli before JAX was imported
        return run, set, force, sinks, quiet

    given = _gathered(arguments, "--set")
    folder, assignments, force, sinks, quiet = tyro.cli(parse, prog="jaxrl resume", args=given)
    console = Console(quiet=quiet)
    changes = {name: _value(text) for name, text in map(_assignment, assignments)}
    result = loop.resume(folder, changes=changes, force=force, sinks=sinks, console=console)
    return report.finish(result, report.experiment_of(folder), console)


def evaluate(arguments: list[str]) -> int:
    """Evaluate a saved policy on fresh episodes."""

    def parse(
        run: tyro.conf.Positional[Path],
        episodes: int = 1000,
        checkpoint: Literal["best", "last"] = "best",
        seed: int = 1_000_000,
        quiet: bool = False,
    ) -> tuple[Path, int, str, int, bool]:
        """Evaluate a saved policy on fresh episodes, with the likeliest and with sampled actions.

        Args:
            run: The run folder.
            episodes: Episodes of each kind, and for every member of a population.
            checkpoint: The best policy of the run's own evaluations, or the last one.
            seed: Seed of the episodes; training and its evaluations use other streams.
            quiet: Print nothing but errors.
        """
        return run, episodes, checkpoint, seed, quiet

    folder, episodes, checkpoint, seed, quiet = tyro.cli(parse, prog="jaxrl eval", args=arguments)
    return report.evaluate(folder, episodes, checkpoint, seed, Console(quiet=quiet))


def plot(arguments: list[str]) -> int:
    """Draw learning curves."""

    def parse(
        runs: tyro.conf.Positional[tuple[Path, ...]], output: Path | None = None
    ) -> tuple[tuple[Path, ...], Path | None]:
        """Draw the learning curve of a run, the result of a sweep, or several runs against each other.

        Args:
            runs: One run folder or several.
            output: The picture to write (.png, .pdf or .svg); in the first run's plots/ unless given.
        """
        return runs, output

    folders, output = tyro.cli(parse, prog="jaxrl plot", args=arguments)
    if not folders:
        raise JaxrlError("jaxrl plot needs at least one run folder: jaxrl plot runs/mine")
    Console().note(f"wrote {report.plot(list(folders), output)}")
    return 0


def render(arguments: list[str]) -> int:
    """Draw an episode of a saved policy as a GIF."""

    def parse(
        run: tyro.conf.Positional[Path],
        checkpoint: Literal["best", "last"] = "best",
        seed: int = 0,
        stochastic: bool = False,
        output: Path | None = None,
    ) -> tuple[Path, str, int, bool, Path | None]:
        """Draw an episode of a saved policy as a GIF; needs no display.

        Args:
            run: The run folder.
            checkpoint: The best policy of the run's own evaluations, or the last one.
            seed: Seed of the episode.
            stochastic: Sample actions, where otherwise the likeliest is taken.
            output: The GIF to write; in the run's plots/ unless given.
        """
        return run, checkpoint, seed, stochastic, output

    folder, checkpoint, seed, stochastic, output = tyro.cli(parse, prog="jaxrl render", args=arguments)
    Console().note(f"wrote {report.render(folder, checkpoint, seed, not stochastic, output)}")
    return 0


def environments(arguments: list[str]) -> int:
    """List the environments."""

    def parse(text: tyro.conf.Positional[str] = "") -> str:
        """List the environments by suite, with their spaces and time limits.

        Args:
            text: Only ids that contain this.
        """
        return text

    report.environments(tyro.cli(parse, prog="jaxrl envs", args=arguments), Console())
    return 0


def _algorithm(arguments: list[str], command: str) -> tuple[str, list[str]]:
    """The algorithm's name and the arguments after it."""
    usage = f"jaxrl {command} ALGORITHM --env ID"
    names = ", ".join(algorithm_names())
    if arguments and arguments[0] in ("-h", "--help"):
        Console().note(
            f"usage: {usage} ...\nalgorithms: {names}\n\njaxrl {command} ALGORITHM --help explains the rest."
        )
        raise SystemExit(0)
    if not arguments or arguments[0].startswith("-"):
        raise JaxrlError(f"name an algorithm first: {usage}. Algorithms: {names}.")
    if len(arguments) > 1 and not arguments[1].startswith("-"):
        raise JaxrlError(f"{arguments[1]!r} is not an option. Is it the environment? Write --env {arguments[1]}.")
    return load(arguments[0]).name, arguments[1:]


def _peek(arguments: list[str], option: str) -> str | None:
    """The value of `option`, read before the real parser runs because its defaults depend on it."""
    for index, argument in enumerate(arguments):
        if argument.startswith(option + "="):
            return argument.split("=", 1)[1]
        if argument == option and index + 1 < len(arguments):
            return arguments[index + 1]
    return None


def _gathered(arguments: list[str], option: str) -> list[str]:
    """`--set a=1 … --set b=2` as `… --set a=1 b=2`: the parser would keep only the last, and say nothing."""
    others: list[str] = []
    values: list[str] = []
    inside, before = False, ""
    for argument in arguments:
        if argument == option or argument.startswith(f"{option}="):
            inside = True
            values += [argument.removeprefix(f"{option}=")] if argument != option else []
        elif inside and not argument.startswith("-") and ("=" in argument or before == option):
            values.append(argument)
        else:
            inside = False
            others.append(argument)
        before = argument
    return [*others, option, *values] if len(others) < len(arguments) else others


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise JaxrlError(f"{text!r} should be written name=value.")
    return name.replace("-", "_"), value


def _value(text: str) -> Any:
    """A value written on the command line: JSON where it is JSON, else the text itself."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return {"True": True, "False": False, "None": None}.get(text, text)


def _sweep(assignments: tuple[str, ...]) -> dict[str, list[float]]:
    """["learning_rate=1e-4,1e-3"] -> {"learning_rate": [1e-4, 1e-3]}."""
    sweep: dict[str, list[float]] = {}
    for name, text in map(_assignment, assignments):
        try:
            sweep[name] = [float(value) for value in text.split(",")]
        except ValueError:
            raise JaxrlError(f"{name}={text} should be numbers between commas, as in {name}=1e-4,1e-3.") from None
    return sweep


def _fresh_folder(algorithm: str, environment: str) -> Path:
    """runs/ALGORITHM-ENVIRONMENT-TIME, with a counter if that exists."""
    name = f"{algorithm}-{environment.replace('/', '-').replace(':', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
    folder, count = Path("runs") / name, 1
    while folder.exists():
        count += 1
        folder = Path("runs") / f"{name}-{count}"
    return folder
