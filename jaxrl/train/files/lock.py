"""One run per folder: two that train into the same one would undo each other's files.

The lock comes before anything in the folder is changed, and is held until the run has ended.
"""

from __future__ import annotations

import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from jaxrl.errors import JaxrlError, RunWarning
from jaxrl.train.devices import distributed
from jaxrl.train.files.folder import check_can_record, file_errors

LOCK = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, or refuse if it is held; the system releases it with the process.

    The folder is made if it is not there. Of several processes that share a run, the first one
    holds it for all.
    """
    with ExitStack() as stack:
        distributed.on_first_process(lambda: stack.enter_context(_held(folder)))
        yield


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows has no flock
        yield
        return
    with file_errors("use the run folder", folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOCK
    with file_errors("lock", path):
        # Never emptied, and no link is followed: whatever a stranger has put there keeps its
        # contents.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise JaxrlError(
            f"{folder} is being trained by another process: wait for it, or stop it."
        ) from None
    except OSError as error:  # some file systems of clusters have no locks
        if error.errno not in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            os.close(descriptor)
            raise JaxrlError(f"cannot lock {path}: {error.strerror}.") from error
        text = (
            f"{folder} is on a file system without locks: see to it that no other process trains "
            "there"
        )
        warnings.warn(text, RunWarning, stacklevel=2)
    try:
        check_can_record(folder)
        yield
    finally:
        os.close(descriptor)
