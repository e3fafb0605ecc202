"""The commands behind `jaxrl`, one function each: parse, build an experiment, run it, report."""

from __future__ import annotations

import dataclasses
import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxrl.algos.registry import algorithm_names, load
from jaxrl.arguments import assignments, canonical, fresh_folder, gathered, peek, read_sweep, read_value
from jaxrl.config import sizes, sweepable
from jaxrl.core.co_scaling import co_scale
from jaxrl.errors import JaxrlError
from jaxrl.train import distributed, loop, report
from jaxrl.train.console import Console
from jaxrl.train.distributed import Processes
from jaxrl.train.experiment import Experiment, RunSettings, default_config

# What a run takes at least where only the number of environments was raised.
FEWEST_ITERATIONS = 20


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
    profile: bool = False
    """First measure and trace a few iterations: where the time goes, and what the device could do."""


@dataclass(frozen=True)
class Scaling:
    """Settings made fit for more environments than they were tuned for (docs/scaling.md)."""

    scale_from: int | None = None
    """Environments that minibatch_size and learning_rate were chosen for; num_envs is a multiple of it."""
    scale_rule: Literal["R1", "R2", "R3", "R4", "R5"] = "R1"
    """R1 keeps both and takes more minibatches; R2 scales the minibatch, R3 and R4 the learning rate with it."""

    def apply(self, config: Any) -> Any:
        """The configuration that is run."""
        return config if self.scale_from is None else co_scale(config, self.scale_from, self.scale_rule)


def train(arguments: list[str]) -> int:
    """Train one algorithm on one environment."""
    return _train(arguments, "train")


def sweep(arguments: list[str]) -> int:
    """Train every combination of some hyperparameters, and every seed, in one program."""
    return _train(arguments, "sweep")


def _train(arguments: list[str], command: str) -> int:
    algorithm, rest = _algorithm(arguments, command)
    rest = gathered(gathered(canonical(rest, sizes(load(algorithm).config_class())), "--over"), "--env-options")
    environment = peek(rest, "--env") or ""
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
        ("scaling", Annotated[Scaling, tyro.conf.OmitArgPrefixes], Scaling()),
        ("run", Annotated[RunSettings, tyro.conf.OmitArgPrefixes], RunSettings()),
        ("output", Annotated[Output, tyro.conf.OmitArgPrefixes], Output()),
        ("processes", Annotated[Processes, tyro.conf.OmitArgPrefixes], Processes()),
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
    note = f"tuned settings for {environment}: " + ", ".join(f"{k}={v}" for k, v in settings.items())
    with distributed.joined(given.processes):
        return _start(algorithm, given, "--total-steps" in rest, note if settings and given.tuned else None)


def _start(algorithm: str, given: Any, has_budget: bool, note: str | None) -> int:
    """Train what was asked for."""
    output, console = given.output, _console(given.output.quiet)
    experiment = Experiment(
        algorithm=algorithm,
        environment=given.env,
        config=_long_enough(given.scaling.apply(given.config), has_budget, console),
        run=given.run,
        sweep=read_sweep(getattr(given, "over", ())),
        environment_options={name: read_value(text) for name, text in assignments(given.env_options).items()},
    )
    experiment.program()  # refuses what cannot work, before there is a folder
    if note:
        console.note(note)
    folder = output.folder or Path(distributed.same_text(lambda: str(fresh_folder(algorithm, given.env))))
    options: dict[str, Any] = {"overwrite": output.overwrite, "sinks": output.sinks, "profiled": output.profile}
    result = loop.train(experiment, folder, console=console, **options)
    return report.finish(result, experiment, console)


def _console(quiet: bool) -> Console:
    """Where this process prints: of several, only the first does."""
    return Console(quiet=quiet or not distributed.is_first())


def _long_enough(config: Any, was_given: bool, console: Console) -> Any:
    """At least `FEWEST_ITERATIONS`, unless the user has set a budget: that of few environments is none of many."""
    if was_given or not {"total_steps", "num_envs", "num_steps"} <= set(sizes(config)):
        return config
    total_steps = FEWEST_ITERATIONS * config.num_envs * config.num_steps
    if config.total_steps >= total_steps:
        return config
    console.note(f"total_steps is {total_steps:,}: {FEWEST_ITERATIONS} iterations of {config.num_envs} environments")
    return dataclasses.replace(config, total_steps=total_steps)


def resume(arguments: list[str]) -> int:
    """Go on with a run from its newest whole checkpoint."""

    @dataclass(frozen=True, kw_only=True)
    class Resume:
        """Go on with a run from its newest whole checkpoint."""

        run: tyro.conf.Positional[Path]
        """The run folder."""
        set: tuple[str, ...] = ()
        """Settings to change, as name=value; needs --force."""
        force: bool = False
        """Go on although settings or versions have changed."""
        devices: int | None = None
        """Devices to share the run from now on; unless given, as it was begun."""
        mesh: tuple[str, ...] = ()
        """How they share it, as env=4,seed=2."""
        sinks: tuple[Literal["tensorboard", "wandb"], ...] = ()
        """Send metrics to these as well as to metrics.jsonl."""
        quiet: bool = False
        """Print nothing but errors."""
        deterministic: bool = False
        """Ask XLA for deterministic kernels on a GPU."""
        processes: Annotated[Processes, tyro.conf.OmitArgPrefixes] = Processes()

    given = tyro.cli(Resume, prog="jaxrl resume", args=gathered(canonical(arguments, []), "--set"))
    changes = {name: read_value(text) for name, text in assignments(given.set).items()}
    sharing = {"devices": given.devices, "mesh": given.mesh} if given.devices is not None or given.mesh else None
    with distributed.joined(given.processes):
        console = _console(given.quiet)
        options: dict[str, Any] = {"sharing": sharing, "force": given.force, "sinks": given.sinks}
        result = loop.resume(given.run, changes=changes, console=console, **options)
        return report.finish(result, report.experiment_of(given.run), console)


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

    def parse(text: tyro.conf.Positional[str] = "", suite: str | None = None) -> tuple[str, str | None]:
        """List the environments by suite, with their spaces and time limits.

        Args:
            text: Only ids, or suites, whose name contains this.
            suite: Only this suite; also says what of it is not served, and why.
        """
        return text, suite

    text, suite = tyro.cli(parse, prog="jaxrl envs", args=arguments)
    report.environments(text, suite, Console())
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
