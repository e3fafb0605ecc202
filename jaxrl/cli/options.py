"""What the commands share: how the parser reads them, groups of options, values left as text."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from jaxrl.cli import spelling
from jaxrl.config import ON, install_command
from jaxrl.core.co_scaling import co_scale
from jaxrl.errors import JaxrlError, check_positive_int
from jaxrl.train import pretrained
from jaxrl.train.devices import distributed
from jaxrl.train.devices.distributed import Processes
from jaxrl.train.output.console import Console
from jaxrl.train.trust import Trust

Command = TypeVar("Command")

MOST = 2**63 - 1
# A number that is no JSON: 1_000, .7, +3, 5.
NUMBER = re.compile(r"[+-]?(\d+(_\d+)*\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
DETERMINISTIC_FLAG = "--xla_gpu_deterministic_ops=true"

# Values of an option that may be given several times, or several values at once: they add up.
Assignments = Annotated[
    tuple[tuple[str, ...], ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME=VALUE ...")
]
Modes = Annotated[
    tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME[=NUMBER]")
]
Pair = tuple[float, float]
Sinks = tuple[Literal["tensorboard", "wandb"], ...]
SINKS = (
    "Send metrics to these as well as to metrics.jsonl; to install what they need: "
    f"{install_command('jaxrl[track]')}"
)

rules = ConstructorRegistry()


def parse(command: type[Command], prog: str, words: Sequence[str], **options: Any) -> Command:
    """Read `words` into a dataclass; a mistake is printed, and ends in SystemExit."""
    names = (tyro.conf.OmitSubcommandPrefixes,)
    # Of few options there is one help (helping.py has the commands of many).
    words = ["--help" if word in ("--help-all", "--help_all") else word for word in words]
    words = spelling.corrected(command, prog, words, options.get("default"))
    return tyro.cli(command, prog=prog, args=words, config=names, registry=rules, **options)


def only_with(other: str, default: Any = None) -> Any:
    """An option of a command that is read only with another one of its group."""
    return field(default=default, metadata={"needs": {other: ON}})


def as_option(name: str) -> str:
    """How the option of a name is written: --scale-rule."""
    return "--" + name.replace("_", "-")


def names_given(words: Sequence[str]) -> set[str]:
    """The names of the options among `words`, with and without the no_ of a switch."""
    given = set()
    for word in words:
        if word.startswith("--"):
            name = word.removeprefix("--").partition("=")[0].replace("-", "_")
            given |= {name, name.removeprefix("no_")}
    return given


def whole_number(text: str) -> int:
    """A whole number as it is written, 1000000 or 1e6."""
    try:
        value = int(text)
    except ValueError:
        try:
            number = float(text)
            value = int(number)
        except (ValueError, OverflowError):  # a word, NaN, infinity
            raise ValueError(f"{text!r} is not a whole number") from None
        if value != number:
            raise ValueError(f"{text!r} is not a whole number") from None
    if abs(value) > MOST:
        raise ValueError(f"{text!r} is too large a whole number")
    return value


@rules.primitive_rule
def _whole_numbers(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Every option that is a whole number is read by `whole_number`."""
    kind: Any = info.type
    if not isinstance(kind, type) or not issubclass(kind, int) or issubclass(kind, bool):
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT",
        instance_from_str=lambda words: whole_number(words[0]),
        is_instance=lambda value: isinstance(value, int) and not isinstance(value, bool),
        str_from_instance=lambda value: [str(int(value))],
    )


@rules.primitive_rule
def _lists(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Whole numbers in a row, with spaces or commas between them: 64 64, or 64,64."""
    if info.type_origin is not tuple or get_args(info.type) != (int, ...):
        return None
    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="[INT [INT ...]]",
        instance_from_str=lambda words: tuple(
            whole_number(part) for word in words for part in word.strip("[](),").split(",")
        ),
        is_instance=lambda value: (
            isinstance(value, tuple) and all(isinstance(entry, int) for entry in value)
        ),
        str_from_instance=lambda value: [str(int(entry)) for entry in value],
    )


@rules.primitive_rule
def _pairs(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Two numbers, with a space or a comma between them: 7 4, or 7,4."""
    if info.type_origin is not tuple or get_args(info.type) != (float, float):
        return None

    def read(words: list[str]) -> Pair:
        parts = [part for word in words for part in word.strip("[](),").split(",")]
        if len(parts) != 2:
            raise ValueError(f"{' '.join(words)!r} is not two numbers")
        return float(parts[0]), float(parts[1])

    return PrimitiveConstructorSpec(
        nargs="*",
        metavar="NUMBER NUMBER",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, tuple) and len(value) == 2,
        str_from_instance=lambda value: [str(part) for part in value],
    )


@rules.primitive_rule
def _paths(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """A path must be one that can be looked at, and must not be empty.

    An empty one is a shell's variable which was not set, and is not meant as ".". It is refused
    here rather than where it is used, because the parser says which option was wrong.
    """
    if info.type is not Path:
        return None

    def read(words: list[str]) -> Path:
        if not words[0]:
            raise ValueError("a path is empty")
        path = Path(words[0])
        try:
            path.exists()
        except OSError as error:
            raise ValueError(f"{words[0]!r}: {error.strerror}") from None
        return path

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="PATH",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    )


class CheckpointName(str):
    """Which checkpoint: best, last, or an iteration."""


@rules.primitive_rule
def _checkpoints(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """A checkpoint is named by one of two words, or by the iteration that it is of."""
    if info.type is not CheckpointName:
        return None

    def read(words: list[str]) -> CheckpointName:
        name = words[0]
        if name not in ("best", "last") and not (name.isascii() and name.isdecimal()):
            raise ValueError(f"{name!r} is none of 'best', 'last', or an iteration")
        return CheckpointName(name)

    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="best|last|ITERATION",
        instance_from_str=read,
        is_instance=lambda value: isinstance(value, CheckpointName),
        str_from_instance=lambda value: [str(value)],
    )


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where a run goes, and what it prints."""

    folder: Path | None = None
    """Run folder; runs/ALGORITHM-ENVIRONMENT-TIME unless given."""
    overwrite: bool = only_with("folder", False)
    """Start again in a --folder that already holds a run."""
    sinks: Annotated[Sinks, tyro.conf.arg(help=SINKS)] = ()
    quiet: bool = False
    """Print nothing but errors."""
    deterministic: bool = False
    """Ask XLA for deterministic kernels on a GPU (slower); a CPU is deterministic as it is."""
    profile: bool = False
    """First measure and trace a few iterations: where time goes, and what the device could do."""


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Settings made fit for more environments than they were tuned for (docs/scaling.md)."""

    scale_from: int | None = None
    """Environments that minibatch_size and learning_rate were chosen for; num_envs is a multiple
    of it."""
    scale_rule: Literal["R1", "R2", "R3", "R4", "R5"] | None = only_with("scale_from")
    """R1 keeps both and takes more minibatches; R2 scales the minibatch, R3 and R4 the learning
    rate with it, R5 shortens the rollout. R1 unless given."""

    def apply(self, config: Any) -> Any:
        """The configuration that is run."""
        if self.scale_from is None:
            return config
        check_positive_int("num_envs", config.num_envs)
        return co_scale(config, self.scale_from, self.scale_rule or "R1")


@dataclass(frozen=True, kw_only=True)
class Unscaled:
    """In the place of `Scaling` where the algorithm lacks the settings that it scales."""

    def apply(self, config: Any) -> Any:
        """The configuration that is run."""
        return config


OutputOptions = Annotated[Output, tyro.conf.OmitArgPrefixes]
TrustOptions = Annotated[Trust, tyro.conf.OmitArgPrefixes]
ProcessOptions = Annotated[Processes, tyro.conf.OmitArgPrefixes]


WHICH_RUN = f"The run folder, or an agent that comes with jaxrl: {', '.join(pretrained.names())}."


@dataclass(frozen=True, kw_only=True)
class Saved:
    """A saved policy: of which run, and from which checkpoint."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(help=WHICH_RUN)]
    checkpoint: CheckpointName = CheckpointName("best")
    """The best policy of the run's own evaluations, the last one, or the one of an iteration, if
    the run was trained with --keep-policies."""
    trust: TrustOptions = field(default_factory=Trust)


def ask_for_determinism() -> None:
    """Add to XLA_FLAGS, which XLA reads when the first array is made and not before."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    if DETERMINISTIC_FLAG not in flags:
        os.environ["XLA_FLAGS"] = " ".join([*flags, DETERMINISTIC_FLAG])


def console_of(*, quiet: bool, deterministic: bool = False) -> Console:
    """Where this process prints: of several, only the first does.

    The first line is the flags of XLA, if determinism was asked for.
    """
    console = Console(quiet=quiet or not distributed.is_first())
    if deterministic:
        console.note(f"XLA_FLAGS={os.environ['XLA_FLAGS']}")
    return console


def read_value(text: str) -> Any:
    """A value written on the command line: JSON where it is JSON, else the text itself.

    Numbers may be written as Python reads them: .7, 1_000.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        # No JSON, or numbers and brackets beyond what Python reads.
        if len(text) < 100 and NUMBER.fullmatch(text):
            return float(text) if re.search(r"[.e]", text, re.IGNORECASE) else int(text)
        return {"True": True, "False": False, "None": None}.get(text, text)


def assignment(text: str) -> tuple[str, str]:
    """Name and value: learning-rate=1e-3 -> ("learning_rate", "1e-3")."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise JaxrlError(f"{text!r} should be written name=value.")
    return name.replace("-", "_"), value


def assignments(option: str, given: Iterable[Sequence[str]]) -> dict[str, str]:
    """What `option` was given, [["a=1", "b=2"], ["c=3"]], as one dict; no name may come twice."""
    found: dict[str, str] = {}
    for texts in given:
        if not texts:
            raise JaxrlError(f"{option} needs at least one name=value.")
        for text in texts:
            try:
                name, value = assignment(text)
            except JaxrlError as error:
                raise JaxrlError(f"{option}: {error}") from None
            if name in found:
                raise JaxrlError(f"{name} is given twice: {name}={found[name]} and {name}={value}.")
            found[name] = value
    return found


def values(option: str, given: Iterable[Sequence[str]]) -> dict[str, Any]:
    """`assignments`, with each value read as JSON where it is JSON."""
    return {name: read_value(text) for name, text in assignments(option, given).items()}


def member(given: Iterable[Sequence[str]]) -> tuple[str, ...]:
    """The settings and the seed that name one of a population: ("learning_rate=3e-3", "seed=2")."""
    split = []
    for texts in given:
        split.append([part for text in texts for part in text.split(",")])
    return tuple(f"{name}={value}" for name, value in assignments("--member", split).items())
