"""Before processes join: a free port, a place that nobody has taken, a word while they wait.

`jax.distributed` itself ends in a crash where its port is taken or nobody comes, waits in silence,
and ends a whole run when a process of the same number comes a second time.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxrl.errors import JaxrlError

# Seconds after which a process says that it waits, and between one word and the next.
FIRST_WORD = 10.0
EVERY = 30.0


@contextmanager
def place_of(coordinator: str | None, process_id: int | None) -> Iterator[None]:
    """Hold the place of one process of a run on this machine, or refuse if it is held.

    What the same number on another machine does is not seen here, nor can it be: of who has not
    joined yet, the coordinator takes no word, such as a claim in its key-value store. It answers
    with "wrong service incarnation", and XLA ends the process that asked. Where the processes find
    each other by themselves, their places are the scheduler's.
    """
    if coordinator is None:
        yield
        return
    with _lock(coordinator, process_id):
        if process_id == 0:
            _check_port(coordinator)
        yield


@contextmanager
def _lock(coordinator: str, process_id: int | None) -> Iterator[None]:
    """Hold the file that stands for the place; the system releases it with the process."""
    try:
        import fcntl
    except ImportError:  # Windows has no flock
        yield
        return
    name = hashlib.sha256(f"{coordinator} {process_id}".encode()).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"jaxrl-{os.getuid()}-{name}.lock"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError:  # nowhere to put it: nothing is checked
        yield
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise JaxrlError(
            f"process {process_id} of the run at {coordinator} is there already: each process has "
            "its own --process-id, and each run its own --coordinator."
        ) from None
    except OSError:  # a file system without locks
        pass
    try:
        yield
    finally:
        os.close(descriptor)


def _check_port(coordinator: str) -> None:
    """Refuse a port that something else listens on, on any address of this machine."""
    port = int(coordinator.rpartition(":")[2])
    if not 0 < port < 65536:
        raise JaxrlError(f"coordinator is {coordinator!r}, but its port must lie in [1, 65535].")
    for family, address in ((socket.AF_INET, ""), (socket.AF_INET6, "::")):
        try:
            with socket.socket(family, socket.SOCK_STREAM) as probe:
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((address, port))
        except OSError as error:
            if error.errno in (errno.EADDRINUSE, errno.EACCES):
                raise JaxrlError(
                    f"port {port} cannot be had on this machine ({os.strerror(error.errno)}): give "
                    "every process a --coordinator with another one."
                ) from error


@contextmanager
def telling_of_the_wait(where: str, limit: float) -> Iterator[None]:
    """Say on stderr, now and then, that the other processes are not there yet; at last give up.

    The process ends here: JAX, which waits in the meantime, would end it by a crash a little later.
    """
    joined = threading.Event()
    begun = time.monotonic()

    def watch() -> None:
        pause = FIRST_WORD
        while not joined.wait(min(pause, begun + limit - time.monotonic())):
            waited = time.monotonic() - begun
            if waited >= limit:
                sys.stderr.write(
                    f"error: after {waited:.0f} s not all processes have come together at {where}: "
                    "start each with the same --coordinator and --processes, within that time.\n"
                )
                sys.stderr.flush()
                os._exit(2)
            sys.stderr.write(
                f"waiting for the other processes at {where}: {waited:.0f} of {limit:.0f} s\n"
            )
            sys.stderr.flush()
            pause = EVERY

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        joined.set()
        watcher.join()
