"""Help in two tiers: `--help` shows what everybody needs of many options, `--help-all` the rest.

Of an algorithm's options, those are basic that a configuration class declares to be, `number(…,
basic=True)`, and all that a class declares which says so of none. Options that were typed, and
those of a part that was, are shown too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import shutil
import sys
import textwrap
import typing
from collections.abc import Collection, Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import tyro

from jaxrl.cli import options
from jaxrl.cli.forms import field_docs

HELP, HELP_ALL = ("-h", "--help"), ("--help-all", "--help_all")
# Of the options of every run.
BASIC = (
    *("env", "env_options", "config", "over", "samples"),
    *("seed", "num_seeds", "num_evaluations", "evaluation_episodes"),
    *("folder", "overwrite", "sinks", "quiet"),
)
# The algorithm's own options are in a field of this name.
ALGORITHM = "settings"
# A line of text is no longer, however wide the terminal.
WIDEST = 100


class Option(NamedTuple):
    """One option as the help shows it."""

    group: str
    name: str
    kind: Any  # annotated for the parser
    default: Any
    basic: bool


def is_asked(words: Sequence[str]) -> bool:
    """Whether the help is asked for."""
    return not {*HELP, *HELP_ALL}.isdisjoint(words)


def show(
    command: Any, prog: str, words: Sequence[str], typed: Collection[str], about: list[str]
) -> None:
    """Print the options of a filled command: the basic ones, or all.

    `about` says what it does, what is long first; of that, basic options get the first paragraph.
    """
    known = list(_options(command, "run", typed, shown=False))
    everything = not set(HELP_ALL).isdisjoint(words)
    shown = [each for each in known if everything or each.basic]
    hint = tyro.conf.arg(help=_more(len(known) - len(shown)), help_behavior_hint="")
    fields: list[Any] = [("help_all", Annotated[tyro.conf.FlagCreatePairsOff[bool], hint], False)]
    for index, group in enumerate(dict.fromkeys(each.group for each in shown)):
        title = tyro.conf.arg(name=group, prefix_name=False)
        held = _made([each for each in shown if each.group == group])
        fields.append((f"group_{index}", Annotated[held, tyro.conf.OmitArgPrefixes, title], held()))
    first, *more = about[0].split("\n\n")
    paragraphs = [first, *more, *about[1:]] if everything else [first, *about[1:]]
    columns = min(shutil.get_terminal_size().columns, WIDEST)
    text = [textwrap.fill(" ".join(each.split()), columns) for each in paragraphs]
    page = "\n\n".join([f"usage: {prog} --env ID [OPTIONS]", *text])
    sys.stdout.write(f"{page}\n\n{_boxes(_made(fields))}")


def _options(holder: Any, group: str, typed: Collection[str], *, shown: bool) -> Iterator[Option]:
    """The options of a filled dataclass, all of its own if `shown`, and of the groups in it."""
    kind: Any = type(holder)
    hints = typing.get_type_hints(kind, include_extras=True)
    docs = field_docs(kind)
    groups = []
    for field in dataclasses.fields(holder):
        value = getattr(holder, field.name)
        if dataclasses.is_dataclass(value):
            groups.append((field, value))
            continue
        about = tyro.conf.arg(help=docs.get(field.name), help_behavior_hint=_default)
        known = field.name in BASIC or field.metadata.get("basic", False)
        basic = shown or known or field.name in typed
        yield Option(group, field.name, Annotated[hints[field.name], about], value, basic)
    for field, value in groups:
        part = field.metadata.get("part")
        title = part or field.name
        if field.name == ALGORITHM:
            title = type(value).__name__.removesuffix("Config")
        yield from _options(value, title.replace("_", " "), typed, shown=part in typed)


def _default(text: str) -> str:
    """What is said of a default: nothing where that is nothing, for the option itself says it."""
    return "" if text in ("", "None", "''") else f"(default: {text})"


def _more(hidden: int) -> str:
    """What --help-all is for."""
    return f"show {hidden} more options, and exit" if hidden else "show every option, and exit"


def _made(fields: Sequence[Any]) -> type:
    """A dataclass of some options, or of such groups."""
    triples = [
        (each.name, each.kind, dataclasses.field(default=each.default))
        if isinstance(each, Option)
        else (each[0], each[1], dataclasses.field(default=each[2]))
        for each in fields
    ]
    made = dataclasses.make_dataclass("Group", triples, frozen=True, kw_only=True)
    made.__doc__ = ""
    return made


def _boxes(command: type) -> str:
    """The parser's boxes of options, with colours where the terminal has them."""
    page = _Page(is_terminal=sys.stdout.isatty())
    with contextlib.redirect_stdout(page), contextlib.suppress(SystemExit):
        options.parse(command, "", ["--help"])
    _, _, boxes = page.getvalue().partition("\n\n")  # the usage stands first
    return boxes


class _Page(io.StringIO):
    """Text that the parser takes for standard output."""

    encoding = "utf-8"

    def __init__(self, is_terminal: bool) -> None:
        super().__init__()
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        """Whether it will be read on a terminal."""
        return self._is_terminal
