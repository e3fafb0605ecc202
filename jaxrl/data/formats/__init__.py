"""The formats that datasets come in, recognised by what is in a file and never by its name.

A format is one module of this package, found by scanning it; adding one edits no other file:

    NAME: str                                       as `jaxrl dataset convert --to NAME` has it
    recognizes(path: Path) -> bool                  whether a file or a folder is of this format
    read(path: Path) -> Recorded
    write(path: Path, recorded: Recorded) -> None   replaces what is there; where it makes sense

`read` may leave to `Recorded.check` what that refuses. A third party is imported inside of
functions, so that whoever has none of its files does without it.
"""

from __future__ import annotations

import errno
import functools
import importlib
import os
import pkgutil
from pathlib import Path
from types import ModuleType

from jaxrl.data.files import HDF5, ZIP, begins_with
from jaxrl.data.recorded import Recorded
from jaxrl.errors import JaxrlError, unknown


@functools.cache
def formats() -> dict[str, ModuleType]:
    """The modules of this package, by the format's name."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__))
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return {module.NAME: module for module in modules}


def format_of(path: Path) -> ModuleType:
    """The format of a file or a folder."""
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    for module in formats().values():
        if module.recognizes(path):
            return module
    known = ", ".join(formats())
    if begins_with(path, ZIP) or begins_with(path, HDF5):
        raise JaxrlError(
            f"it is no dataset of a known format ({known}), or a part of it is missing."
        )
    raise JaxrlError(f"it is no dataset: it is neither .npz, HDF5 nor a Minari folder ({known}).")


def read_any(path: Path) -> Recorded:
    """The dataset in a file or a folder of any format, checked."""
    module = format_of(path)
    try:
        recorded = module.read(path)
    except (JaxrlError, OSError):  # the caller reports the latter
        raise
    except Exception as error:  # a stranger's file may hold anything under the names of a format
        raise JaxrlError(
            f"it cannot be read as {module.NAME}: {type(error).__name__}: {error}."
        ) from error
    recorded.check()
    return recorded


def write_as(name: str, path: Path, recorded: Recorded) -> None:
    """Write a dataset in the format of this name; what is at `path` is replaced."""
    writers = {each: module for each, module in formats().items() if hasattr(module, "write")}
    if name not in writers:
        raise unknown("format to write", name, writers)
    recorded.check()
    writers[name].write(path, recorded)
