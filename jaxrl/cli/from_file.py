"""`--config FILE`: options that stand in a TOML file, or are those of a run, by their names.

They take the place of the defaults: what is typed beside them wins. A file with an option that is
not there, or with a value that it cannot have, is refused by its name.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import stat
import tomllib
import typing
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, TypeVar

from jaxrl.analysis.records import CONFIG
from jaxrl.cli import spelling
from jaxrl.config import (
    check,
    check_type,
    flatten,
    override,
    possible,
    settled,
)
from jaxrl.errors import JaxrlError, unknown
from jaxrl.train.experiment import Experiment
from jaxrl.train.files.folder import file_errors, read_description
from jaxrl.train.trust import Trust

Group = TypeVar("Group")

# More than anybody writes; a data set, say, given by mistake.
MOST_BYTES = 1_000_000
# The options that are tables: each name in them with its value.
TABLES = ("env_options", "over")


def read(path: Path, trust: Trust) -> dict[str, Any]:
    """The options in a file by name, with underscores; of a run folder, those of the run.

    The algorithm is among them if the file names one.
    """
    if path.is_dir() or path.name == CONFIG:
        return _of_run(path if path.is_dir() else path.parent, trust)
    return _checked(_toml(path))


@contextlib.contextmanager
def naming(path: Path | None) -> Iterator[None]:
    """Errors in what a file holds, as errors that name it."""
    try:
        yield
    except JaxrlError as error:
        if path is None or str(path) in str(error):
            raise
        raise JaxrlError(f"{path}: {error}") from error


def check_names(given: Collection[str], command: Any, config: Any, prog: str) -> None:
    """Refuse names that are no options of a filled command, nor of its algorithm's settings."""
    known = {*spelling.names_of(command), "algorithm"} - {"config"}
    settings = {each.setting.name for each in possible(config)}
    for name in given:
        if name in known | settings:
            continue
        if name == "over":
            raise JaxrlError("over is an option of jaxrl sweep alone.")
        if meant := spelling.name_here(name, known):
            raise JaxrlError(f"{prog} has no {name}: it is called {meant} here.")
        raise unknown(f"option of {prog}", name, known)


def settings(config: Any, given: dict[str, Any], parts: dict[str, str]) -> Any:
    """An algorithm's configuration with those of its settings that are given, checked.

    `parts` are those that are typed beside a file: it may have options of one that it does not
    choose.
    """
    names = {each.setting.name for each in possible(config)}
    mine = {name: value for name, value in given.items() if name in names}
    if not mine:
        return config
    mine = parts | mine
    changed = settled(override(config, mine), mine)
    check(changed)
    return changed


def filled(group: Group, given: dict[str, Any]) -> Group:
    """A group of options with those of them that are given, checked."""
    kind: Any = type(group)
    hints = typing.get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(kind):
        if field.name in given and field.name not in TABLES:
            value = given[field.name]
            if isinstance(value, list):
                value = tuple(value)
            if isinstance(value, str) and Path in typing.get_args(hints[field.name]):
                if not value:
                    raise JaxrlError(f"{field.name} is an empty path.")
                value = Path(value)
            check_type(field.name, value, hints[field.name])
            values[field.name] = value
    changed: Any = dataclasses.replace(group, **values)  # type: ignore[type-var]
    return changed


def as_words(table: dict[str, Any], without: Collection[str] = ()) -> tuple[tuple[str, ...], ...]:
    """A table as the command line has it, name=value, but for some names."""
    texts = []
    for name, value in table.items():
        name = name.replace("-", "_")
        if name not in without:
            values = value if isinstance(value, list) else [value]
            texts.append(f"{name}={','.join(map(_text, values))}")
    return tuple((text,) for text in texts)


def _text(value: Any) -> str:
    """A value as it is typed."""
    return value if isinstance(value, str) else json.dumps(value)


def _of_run(folder: Path, trust: Trust) -> dict[str, Any]:
    """The options that a run was trained with."""
    description = read_description(folder)
    trust.check_measures(description, folder)
    run = Experiment.from_description(description, folder, trust)
    found: dict[str, Any] = {"algorithm": run.algorithm, "env": run.environment}
    found |= flatten(run.config) | vars(run.run)
    if run.environment_options:
        found["env_options"] = run.environment_options
    if run.sweep:
        found = {name: value for name, value in found.items() if name not in run.sweep}
        found["over"] = run.sampled or run.sweep
    if run.sampled:
        found["samples"] = len(run.settings())
    return found


def _toml(path: Path) -> dict[str, Any]:
    """What a TOML file holds."""
    with file_errors("read", path):
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise JaxrlError(f"{path} is no file: --config takes TOML, or a run folder.")
        if found.st_size > MOST_BYTES:
            raise JaxrlError(
                f"{path} has {found.st_size:,} bytes, but a file of options has at most "
                f"{MOST_BYTES:,}."
            )
        held = path.read_bytes()
    try:
        return tomllib.loads(held.decode())
    except (ValueError, RecursionError) as error:  # a number of too many digits is one of Python's
        raise JaxrlError(
            f"{path} is no TOML, lines such as learning_rate = 1e-3: {error}."
        ) from None


def _checked(table: dict[str, Any]) -> dict[str, Any]:
    """A table of options by name, each once; its values are what options can be."""
    check_type("algorithm", table.get("algorithm", ""), str)
    found: dict[str, Any] = {}
    for name, value in table.items():
        name = name.replace("-", "_")
        if name in found:
            raise JaxrlError(f"{name} is given twice, with a hyphen and with an underscore.")
        if isinstance(value, dict) != (name in TABLES):
            wanted = (
                "a table" if name in TABLES else f"a value; only {' and '.join(TABLES)} are tables"
            )
            raise JaxrlError(f"{name} is {_kind(value)}, but must be {wanted}.")
        for inner, each in value.items() if isinstance(value, dict) else [(name, value)]:
            if not _is_plain(each):
                raise JaxrlError(
                    f"{inner} is {_kind(each)}, but must be a number, text, true or false, or a "
                    "list of them."
                )
        found[name] = value
    for name in found.get("over", ()):
        if name.replace("-", "_") in found:
            raise JaxrlError(f"{name} is given twice: by itself, and under over.")
    return found


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, text, a switch, or a list of such."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return isinstance(value, bool | int | float | str)


def _kind(value: Any) -> str:
    """What a value of TOML is, in words."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "a list"
    return repr(value) if _is_plain(value) else f"the date or time {value}"
