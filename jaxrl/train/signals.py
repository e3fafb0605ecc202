"""Stopping on request: the chunk in flight is finished and the state saved."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any


class StopSignals:
    """Remembers SIGINT (Ctrl-C) or SIGTERM while it is entered; a second one acts as usual."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def requested(self) -> bool:
        """Whether a signal has come."""
        return self.received is not None

    def __enter__(self) -> StopSignals:
        # Only the main thread may set handlers; elsewhere (a notebook's worker, say) signals keep
        # their meaning.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        # Not through sys.stderr, which may be in the middle of a write.
        os.write(
            2, b"\nstopping once the iterations under way are done and saved; again: stop at once\n"
        )
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
