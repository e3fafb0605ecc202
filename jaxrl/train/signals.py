"""Stopping on request: the first signal asks for it, the second one ends the process at once.

Python runs the handler of a signal between two of its own steps, so not before a call of XLA
returns: a compilation, or a chunk of an hour. What is said at once, and what the second signal
does, is therefore left to a thread, which reads each signal's number from a pipe
(`signal.set_wakeup_fd`) while XLA works.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# `timeout` sends its signal twice in one go, and others do: that is one request.
ONE_REQUEST_SECONDS = 0.1
RUN_STOPS = "stopping once the iterations under way are done and saved; again: stop at once"
COMMAND_STOPS = "stopping once what is being computed or compiled is done; again: stop at once"
AT_ONCE = "stopped at once"
SHOW_CURSOR = b"\x1b[?25h"
LAST = b"\0"  # the number of no signal: ends the thread


class Interrupted(KeyboardInterrupt):
    """A signal has asked this command to stop."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class StopSignals:
    """SIGINT (Ctrl-C), SIGTERM and SIGHUP while it is entered, but for those that are ignored.

    Of a run, the first one is remembered (`received`). `of_command`, it raises `Interrupted`, as
    soon as Python can. The second one ends a process that is a command's, and elsewhere (a
    notebook, a script) it acts as if there were no run. A repeated SIGHUP asks for nothing new:
    shell and system both send one when a terminal is closed.
    """

    _entered: list[StopSignals] = []  # a process has one set of handlers, and so one list of these

    def __init__(self, of_command: bool = False) -> None:
        self.received: int | None = None
        self._of_command = of_command
        self._previous: dict[int, Any] = {}
        self._asked_at: float | None = None

    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.received is not None

    @property
    def status(self) -> int:
        """The exit status of a process that was interrupted."""
        return 128 + (self.received or signal.SIGINT)

    def __enter__(self) -> StopSignals:
        # Only the main thread may set handlers; elsewhere (a notebook's worker, say) signals keep
        # their meaning.
        if threading.current_thread() is threading.main_thread():
            self._entered.append(self)
            reader, self._writer = os.pipe()
            os.set_blocking(self._writer, False)
            self._outer = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
            self._thread = threading.Thread(target=self._watch, args=(reader,), daemon=True)
            self._thread.start()
            for number in STOPPING:
                # What is ignored (under nohup), or handled outside Python, stays so.
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._answer)
        return self

    def __exit__(self, *exception: object) -> None:
        if self not in self._entered:
            return
        self._restore()
        self._entered.remove(self)
        signal.set_wakeup_fd(self._outer, warn_on_full_buffer=False)
        os.write(self._writer, LAST)
        self._thread.join()
        os.close(self._writer)

    def _answer(self, number: int, frame: FrameType | None) -> None:
        """What Python calls, in the main thread, when it can."""
        if self.received is None:
            self.received = number
            if self._of_command:
                raise Interrupted(number)
        elif not self._ends_process() and not self._is_same_request(number):
            self._restore()
            signal.raise_signal(number)

    def _watch(self, reader: int) -> None:
        """What the thread does: read the signals as they come."""
        while (read := os.read(reader, 1)) != LAST:
            (number,) = read
            if number not in STOPPING:
                with contextlib.suppress(OSError):
                    os.write(self._outer, read)
            elif self._asked_at is None:
                self._asked_at = time.monotonic()
                _say(COMMAND_STOPS if self._of_command else RUN_STOPS)
            elif self._ends_process() and not self._is_same_request(number):
                _say(AT_ONCE)
                _show_cursor()
                os._exit(128 + number)
        os.close(reader)

    def _is_same_request(self, number: int) -> bool:
        """Whether a signal only repeats the one before."""
        asked_at = self._asked_at or time.monotonic()
        return number == signal.SIGHUP or time.monotonic() - asked_at < ONE_REQUEST_SECONDS

    def _ends_process(self) -> bool:
        return any(each._of_command for each in self._entered)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}


def _say(text: str) -> None:
    """Write a line to standard error.

    Not through sys.stderr, which may be in the middle of a write, but if there is one: the
    descriptor could be any file's.
    """
    if sys.__stderr__ is not None:
        with contextlib.suppress(OSError):
            os.write(2, f"\n{text}\n".encode())


def _show_cursor() -> None:
    """Give a terminal its cursor back, which a progress bar has hidden."""
    if os.environ.get("TERM", "dumb") not in ("dumb", "unknown"):
        with contextlib.suppress(OSError):
            if os.isatty(1):
                os.write(1, SHOW_CURSOR)
