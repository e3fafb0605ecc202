"""One process a run folder: two that train into the same one would undo each other's files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxrl.errors import JaxrlError

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system releases with the process, however it ends; refuse if it is held."""
    try:
        import fcntl
    except ImportError:  # Windows has no flock
        yield
        return
    with (folder / LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise JaxrlError(f"{folder} is being trained by another process: wait for it, or stop it.") from None
        yield
