"""Files of arrays: read without trusting them, and put in their place whole or not at all.

Errors say "it …", of the file: whoever asked for it knows its name.
"""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaxrl.config import install_command, installed
from jaxrl.errors import JaxrlError

ZIP = b"PK\x03\x04"
HDF5 = b"\x89HDF\r\n\x1a\n"


def begins_with(path: Path, magic: bytes) -> bool:
    """Whether a path is a file whose first bytes are these."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(magic)) == magic


def npz_names(path: Path) -> set[str]:
    """The names of the arrays in an .npz file; none where it is no such file, or is damaged."""
    if not begins_with(path, ZIP):
        return set()
    try:
        with zipfile.ZipFile(path) as file:
            return {name.removesuffix(".npy") for name in file.namelist()}
    except Exception:  # of a damaged directory: zipfile's errors, struct's, the file system's
        return set()


def hdf5_names(path: Path) -> set[str]:
    """The names at the root of an HDF5 file; none where it is no such file, or cannot be read."""
    if not begins_with(path, HDF5) or not installed("h5py"):
        return set()
    try:
        with optional("h5py").File(path, "r") as file:
            return set(file)
    except Exception:  # of a damaged file: h5py's errors are of many kinds
        return set()


def load_npz(
    path: str | os.PathLike, kind: str, only: Collection[str] = ()
) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name: every one, or `only` those of some names.

    What is no such file, is cut off or holds Python objects is refused: nothing is ever unpickled.
    `kind` begins the error: "it should be a recording, but".
    """
    with open(path, "rb") as file:  # where that fails, the caller reports it
        try:
            if not zipfile.is_zipfile(file):  # which NumPy would take for pickled objects
                raise JaxrlError(f"{kind} it is none, or the end of it is missing.")
            file.seek(0)
            with np.load(file) as found:
                names = [name for name in found.files if not only or name in only]
                return {name: np.asarray(found[name]) for name in names}
        except JaxrlError:
            raise
        except Exception as error:  # zipfile, zlib, NumPy and the file system each have their own
            raise JaxrlError(f"{kind} {error}.") from error


def optional(package: str) -> Any:
    """A package that not everybody has, or an error with the command that installs it."""
    if not installed(package):
        raise JaxrlError(
            f"reading or writing it needs {package}: {install_command('jaxrl[offline]')}"
        )
    return importlib.import_module(package)


def in_file(parent: Any, name: str) -> Any:
    """What lies in an HDF5 file under a name: a group, or a dataset that holds its own numbers.

    A link into another file, or a dataset whose numbers are in one, is refused: whoever made the
    file decides which of the reader's files that would be.
    """
    found = parent[name]
    elsewhere = getattr(found, "external", None) or getattr(found, "is_virtual", False)
    if elsewhere or found.file.filename != parent.file.filename:
        raise JaxrlError(f"{name} lies in another file, and none but the one given is read.")
    return found


def numbers(name: str, array: np.ndarray) -> np.ndarray:
    """`array` in the types that a device takes: float32, int32, uint8 or bool."""
    kind = array.dtype.kind
    if kind == "f":
        return array.astype(np.float32, copy=False)
    if kind == "b" or array.dtype == np.uint8:
        return array
    if kind in "iu":
        limits = np.iinfo(np.int32)
        if array.size and (array.max() > limits.max or array.min() < limits.min):
            raise JaxrlError(f"{name} holds whole numbers beyond 32 bits, as {array.max()}.")
        return array.astype(np.int32, copy=False)
    raise JaxrlError(f"{name} is of {array.dtype}, but must be made of numbers.")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Where to write a file or a folder that takes the place of `path` once the block ends well.

    It is written beside its place, synchronised and renamed: readers see the old one or the new.
    """
    folder = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"))
    written, replaced = folder / path.name, folder / "replaced"
    try:
        yield written
        for each in [*written.rglob("*"), written, folder]:
            _synchronize(each)
        if path.is_dir() and not path.is_symlink():  # which no rename replaces
            if not written.is_dir():
                raise JaxrlError(f"{path} is a folder, which no file may take the place of.")
            os.rename(path, replaced)
        os.replace(written, path)
        _synchronize(path.parent)
    finally:
        if replaced.exists() and not path.exists():  # interrupted between the two
            os.rename(replaced, path)
        shutil.rmtree(folder, ignore_errors=True)


def _synchronize(path: Path) -> None:
    """Make a file's contents, or the names in a folder, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
