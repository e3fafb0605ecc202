"""Standard output and error that a command outlives: what cannot be written is dropped.

A reader may leave (`| head`), a disk be full, a terminal be closed, an alphabet be ASCII, a stream
not be there at all (`>&-`). A run loses its voice by that, and not its life.
"""

from __future__ import annotations

import contextlib
import os
import sys
import unicodedata
from collections.abc import Callable, Iterator
from typing import Any, TextIO

STANDARD_INPUT, STANDARD_OUTPUT, STANDARD_ERROR = 0, 1, 2
# What a shell reports of a command that wrote to a pipe without a reader: 128 + SIGPIPE.
STATUS_OF_BROKEN_PIPE = 141
STATUS_OF_NO_OUTPUT = 2


class Voice:
    """A text stream that never fails its writer.

    Of a command whose `only_product` is what it prints there is nothing left to do once that cannot
    be written: it ends (SystemExit), without a word where the reader has left.
    """

    def __init__(self, stream: TextIO | None, only_product: bool = False) -> None:
        self._stream = stream
        self._only_product = only_product
        self._is_lost = False

    @property
    def encoding(self) -> str:
        """The encoding of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    def write(self, text: str) -> int:
        """Write the text, as far as it can be."""
        self._attempt(lambda stream: stream.write(spelt(text, self.encoding)))
        return len(text)

    def flush(self) -> None:
        """Bring what was written to where it belongs."""
        self._attempt(lambda stream: stream.flush())

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        try:
            return self._stream is not None and self._stream.isatty()
        except ValueError:  # it was closed
            return False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _attempt(self, action: Callable[[TextIO], Any]) -> None:
        if self._is_lost:
            return
        try:
            if self._stream is None:
                raise OSError("it is closed")
            action(self._stream)
        except (OSError, ValueError) as error:  # a ValueError: it was closed
            self._is_lost = True
            self._lead_nowhere()
            if self._only_product:
                _end(error)

    def _lead_nowhere(self) -> None:
        """Let its descriptor lead to /dev/null.

        Others write to it too: Python, as it ends, what is still in its buffer.
        """
        with contextlib.suppress(OSError, ValueError, AttributeError):
            descriptor = self._stream.fileno()  # type: ignore[union-attr]
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


@contextlib.contextmanager
def speaking(only_product: bool) -> Iterator[None]:
    """Standard output and error as voices, in a process whose three standard files are open."""
    _open_standard_files()
    output, errors = sys.stdout, sys.stderr
    heard: Any = Voice(output, only_product)
    complaints: Any = Voice(errors)
    sys.stdout, sys.stderr = heard, complaints
    try:
        yield
    finally:
        complaints.flush()
        sys.stdout, sys.stderr = output, errors


def spelt(text: str, encoding: str) -> str:
    """The text in the letters that `encoding` has: of others the nearest, or their number."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return "".join(_letters(letter, encoding) for letter in text)
    return text


def _letters(letter: str, encoding: str) -> str:
    """One letter in those of `encoding`: frames by lines and corners, `…` by three dots."""
    name = unicodedata.name(letter, "")
    simple = unicodedata.normalize("NFKD", letter)
    if name.startswith("BOX DRAWINGS"):
        simple = {"HORIZONTAL": "-", "VERTICAL": "|"}.get(name.split()[-1], "+")
    with contextlib.suppress(UnicodeEncodeError):
        simple.encode(encoding)
        return simple
    return letter.encode(encoding, "backslashreplace").decode(encoding)


def _end(error: Exception) -> None:
    """End a command that has nothing to say it to."""
    if isinstance(error, BrokenPipeError):
        raise SystemExit(STATUS_OF_BROKEN_PIPE)
    why = getattr(error, "strerror", None) or str(error)
    sys.stderr.write(f"error: standard output cannot be written: {why}\n")
    raise SystemExit(STATUS_OF_NO_OUTPUT)


def _open_standard_files() -> None:
    """Open what is closed of the three, on /dev/null, and let those that are open block.

    Else the next file that is opened, a checkpoint perhaps, would be standard output: XLA, and
    programs that are started, would write into it.
    """
    for descriptor in (STANDARD_INPUT, STANDARD_OUTPUT, STANDARD_ERROR):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        with contextlib.suppress(OSError):
            # Another program may have left a terminal that both share without blocking: a write
            # that has to wait would fail.
            if descriptor != STANDARD_INPUT and not os.get_blocking(descriptor):
                os.set_blocking(descriptor, True)
