"""Settings in a file beside a module, NAME.toml beside NAME.py, by environment or dataset."""

from __future__ import annotations

import inspect
import tomllib
from pathlib import Path
from typing import Any

from jaxrl.config.changes import override
from jaxrl.config.checks import check
from jaxrl.errors import JaxrlError


def settings_beside(made: Any, usual: Any) -> dict[str, dict[str, Any]]:
    """The tables beside the module of a function, each of settings by flat name; none without one.

    Every table has to fit the configuration `usual`.
    """
    module = inspect.getmodule(made)
    file = getattr(module, "__file__", None)
    if module is None or file is None:
        return {}
    path = Path(file).with_name(f"{module.__name__.rpartition('.')[2]}.toml")
    if not path.is_file():
        return {}
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # which includes what is no TOML, and no text
        raise JaxrlError(f"cannot read the tuned settings in {path}: {error}") from error
    for about, settings in tables.items():
        if not isinstance(settings, dict):
            raise JaxrlError(
                f"{path}: {about} stands outside of a table. Write the environment, or the "
                f'dataset, that it is tuned for above it: ["CartPole-v1"].'
            )
        try:
            check(override(usual, settings))
        except JaxrlError as error:
            raise JaxrlError(f'{path}, ["{about}"]: {error}') from error
    return tables
