"""One run in several processes, on the devices of all of them; `jax.distributed` does the work.

Every process runs the same programs on the same numbers. The first one alone writes files and
speaks. Whatever depends on a clock, a signal or a file is agreed on first: a process that goes
another way than the rest waits for them for ever. When one process is lost, all of them end, and
the run goes on from its newest checkpoint (`jaxrl resume`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from jaxrl.errors import JaxrlError
from jaxrl.train.capacity import exhaustion_in_words
from jaxrl.train.devices import jax_settings
from jaxrl.train.devices.joining import place_of, telling_of_the_wait
from jaxrl.train.files.folder import differences, plain
from jaxrl.train.signals import Interrupted
from jaxrl.types import PyTree

# A process that is silent for so long counts as lost. On CPUs its broken connections tell at once.
HEARTBEAT_SECONDS = 30
# How long the processes wait for each other at the beginning; the last may have been in a queue.
JOIN_SECONDS = 300
# How long the first process, which the others depend on, outlives an error that they may be about
# to report as well.
GRACE_SECONDS = 3.0
LOST = re.compile(
    r"gloo|nccl|coordination|heartbeat|connection (closed|reset|refused)|barrier", re.IGNORECASE
)


@dataclass(frozen=True)
class Processes:
    """Several processes, started with the same command but for --process-id (docs/devices.md)."""

    coordinator: str | None = None
    """Address of the first process as HOST:PORT, the same for all;
    only for a run in several processes."""
    processes: int | None = None
    """How many processes there are."""
    process_id: int | None = None
    """Which of them this is, from 0."""
    distributed: bool = False
    """Find the other processes by itself, in a job of SLURM, Open MPI or Kubernetes."""

    @property
    def several(self) -> bool:
        """Whether the run is shared by processes."""
        return self.distributed or self.coordinator is not None

    def check(self) -> None:
        """Refuse what is incomplete or contradicts itself."""
        given = {
            "coordinator": self.coordinator,
            "processes": self.processes,
            "process-id": self.process_id,
        }
        missing = [f"--{name}" for name, value in given.items() if value is None]
        if self.distributed and len(missing) < len(given):
            raise JaxrlError(
                "--distributed finds the processes by itself: leave out --coordinator and the like."
            )
        if not self.distributed and missing and len(missing) < len(given):
            raise JaxrlError(
                f"several processes need --coordinator, --processes, --process-id: {missing[0]} is "
                "missing."
            )
        if self.coordinator is not None and not re.fullmatch(r".+:\d+", self.coordinator):
            raise JaxrlError(f"coordinator is {self.coordinator!r}, but must be like node17:12345.")
        if not 0 <= (self.process_id or 0) < (self.processes or 1):
            raise JaxrlError(
                f"process_id is {self.process_id}, but must lie in [0, {self.processes})."
            )


@contextmanager
def joined(options: Processes) -> Iterator[None]:
    """Join the other processes, and leave together with them.

    An error ends this process, and so all of them. To be entered before JAX has computed anything.
    """
    options.check()
    if not options.several:
        yield
        return
    grace = 0.0
    try:
        with place_of(options.coordinator, options.process_id):
            _initialize(options)
            grace = GRACE_SECONDS if is_first() else 0.0
            yield
            synchronize("the end")  # the first one may still have been drawing
    except BaseException as error:
        _end(error, grace)


def _initialize(options: Processes) -> None:
    # JAX's own handler of SIGTERM would swallow the first one: train/signals.py answers it.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        with telling_of_the_wait(options.coordinator or "the other processes", JOIN_SECONDS):
            jax.distributed.initialize(
                options.coordinator,
                options.processes,
                options.process_id,
                initialization_timeout=JOIN_SECONDS + 60,  # for then it crashes
                heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            )
    except Exception as error:
        if options.distributed:
            text = f"--distributed could not join a job of SLURM, Open MPI or Kubernetes ({error})"
            raise JaxrlError(
                f"{text}. Elsewhere: --coordinator HOST:PORT --processes N --process-id I"
            ) from error
        raise JaxrlError(
            f"the processes did not come together at {options.coordinator}: {error}"
        ) from error
    if not is_first():
        warnings.simplefilter("ignore", UserWarning)  # the first one says it
    synchronize("the beginning")


def _end(error: BaseException, grace: float) -> None:
    """Say why, and end at once: an orderly end would wait for others that may wait for this one."""
    status, text = 2, f"error: {error}"
    if isinstance(error, KeyboardInterrupt):
        number = error.number if isinstance(error, Interrupted) else signal.SIGINT
        status, text = 128 + number, "interrupted"
    elif not isinstance(error, JaxrlError):
        status, text = 1, "".join(traceback.format_exception(error)).rstrip()
        if isinstance(error, ValueError | RuntimeError) and LOST.search(str(error)):
            why = str(error).strip().splitlines()[0]
            text = (
                f"error: another process of this run has ended, and so must this one ({why}); go "
                "on: jaxrl resume RUN"
            )
        elif cause := jax_settings.explanation(error):
            status, text = 2, f"error: {cause}"
    sys.stdout.flush()
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
    time.sleep(grace)
    os._exit(status)


def are_several() -> bool:
    """Whether this run has more than one process."""
    return jax.distributed.is_initialized() and jax.process_count() > 1


def is_first() -> bool:
    """Whether this process writes and speaks."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def synchronize(where: str) -> None:
    """Wait for all processes.

    Also before a program's first run: its connections are made within seconds or not at all.
    """
    if are_several():
        multihost_utils.sync_global_devices(where)


def max_over_processes(values: Any) -> np.ndarray:
    """The largest value over the processes, entry by entry."""
    values = np.asarray(values)
    return np.max(multihost_utils.process_allgather(values), axis=0) if are_several() else values


def on_first_process(function: Callable[[], Any]) -> None:
    """Call `function` in the first process alone; all wait for it, and where it fails, all fail."""
    failure = None
    if is_first():
        try:
            function()
        except Exception as error:
            failure = error
    if max_over_processes(failure is not None):
        raise failure or JaxrlError("the first process could not go on: see what it says.")


def broadcast_text(make: Callable[[], str]) -> str:
    """The text that the first process makes, in all of them."""
    texts: list[str] = []
    on_first_process(lambda: texts.append(make()))
    text = "".join(texts)
    return _broadcast(text) if are_several() else text


def check_agreed(description: dict[str, Any]) -> None:
    """Refuse to go on where processes were started with different settings; name the difference."""
    if not are_several():
        return
    text = json.dumps(plain(description), sort_keys=True)
    digest = np.frombuffer(hashlib.sha256(text.encode()).digest(), np.uint8)
    others = multihost_utils.process_allgather(digest)
    differing = [
        index for index, other in enumerate(others) if not np.array_equal(other, others[0])
    ]
    if not differing:
        return
    first = json.loads(_broadcast(text))
    if jax.process_index() in differing:
        lines = "\n".join(f"  {line}" for line in differences(first, json.loads(text)))
        raise JaxrlError(
            f"process {jax.process_index()} was started with other settings than process 0:\n"
            f"{lines}\n"
            "Start every process with the same command but for --process-id."
        )
    who = ", ".join(map(str, differing))
    raise JaxrlError(
        f"other settings than process 0 were given to process {who}: see what it says."
    )


def _broadcast(text: str) -> str:
    """The first process's text, however long, in all of them."""
    data = np.frombuffer(text.encode(), np.uint8)
    size = int(max_over_processes(len(data)))
    buffer = np.zeros(size, np.uint8)
    buffer[: len(data)] = data
    return multihost_utils.broadcast_one_to_all(buffer).tobytes().rstrip(b"\0").decode()


def to_host(tree: PyTree) -> PyTree:
    """`tree` as NumPy arrays, the same in all processes: sharded leaves are gathered."""
    if not are_several():
        with exhaustion_in_words("what it has computed"):  # on a CPU it is said only here
            return jax.device_get(tree)

    def whole(leaf: Any) -> np.ndarray:
        if leaf.is_fully_replicated:
            return np.asarray(leaf)
        return multihost_utils.process_allgather(leaf, tiled=True)

    return jax.tree.map(whole, tree)
