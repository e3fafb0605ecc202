"""One run a folder: two that train into the same one would undo each other's files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from jaxrl.errors import JaxrlError
from jaxrl.train import distributed

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system releases with the process, however it ends; refuse if it is held.

    Of several processes that share a run, the first one holds it for all.
    """
    with ExitStack() as stack:
        distributed.on_first(lambda: stack.enter_context(_held(folder)))
        yield


@contextmanager
def _held(folder: Path) -> Iterator[None]:
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
