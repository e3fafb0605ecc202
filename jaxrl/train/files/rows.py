"""The rows of a Log on disk, each written once, in a segment that checkpoints' manifests name.

    checkpoints/rows/SHA256      rows of one log, under the SHA-256 of the file's bytes
    checkpoints/rows/.tmp-…      a segment in progress

A log is several rings of K rows, a *slot* for each member of the population and block of the log:
member by member, in the order of memory. Rows of a slot are counted since the beginning: row i lies
at place i mod K. A segment holds the rows first … last - 1 of each of some slots as raw bytes, slot
by slot and leaf by leaf. What is new since the last checkpoint is told by the counters alone; the
arrays are never compared. The segments of a log lie in the order in which they were written, so a
row that was overwritten is replaced by its successor when they are read one after the other.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import itertools
import math
import operator
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.train.files.folder import CHECKPOINTS, ROWS, file_size, segment_files, sync_folder

CHUNK_BYTES = 16 * 2**20  # what is in memory beside the log itself while it is written
# Files that a log may consist of, and how many of them become one where there would be more: a run
# saves less often, so that in all but the longest each row is written once.
MOST_SEGMENTS = 512
MERGED = 64


class Piece(NamedTuple):
    """Rows first … last - 1 of each of the slots slot … end - 1."""

    slot: int
    end: int
    first: int
    last: int


class Segment(NamedTuple):
    """A file of rows: its name, its bytes, and what they are, in order."""

    sha256: str
    size: int
    pieces: list[Piece]

    def described(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {
            "sha256": self.sha256,
            "bytes": self.size,
            "pieces": [list(piece) for piece in self.pieces],
        }


class Rings(NamedTuple):
    """A log on the host.

    `leaves` are [*members, blocks * capacity, ...], wherever they live; `written` counts rows per
    slot.
    """

    leaves: list[Any]
    members: tuple[int, ...]
    blocks: int
    capacity: int
    written: list[int]

    def begin(self, slot: int) -> tuple[tuple[int, ...], int]:
        """Where a slot begins in the first axes of a leaf: its member, and its first row."""
        member, block = divmod(slot, self.blocks)
        axes = np.unravel_index(member, self.members)
        return tuple(int(axis) for axis in axes), block * self.capacity

    def places(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Where rows first … last - 1 lie in their ring: (start, number) of one stretch, or two."""
        while first < last:
            start = first % self.capacity
            number = min(last - first, self.capacity - start)
            yield start, number
            first += number

    def alive(self, slot: int) -> int:
        """The oldest row of a slot that was not overwritten."""
        return max(0, self.written[slot] - self.capacity)


# Of each log: rows written per slot, and the segments that hold them.
Known = list[tuple[list[int], list[Segment]]]


class SegmentFolder:
    """The segments of one run, and which of the rows in memory they hold already."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: Known = []

    def write(self, logs: list[Rings]) -> Known:
        """Write the rows that no segment holds yet; returns what is on disk then."""
        if not logs:
            return []
        if self.path.is_symlink():
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(self.path))
        if not self.path.is_dir():
            self.path.mkdir()
            sync_folder(self.path.parent)
        known = self.known
        if len(known) != len(logs):
            known = [([0] * len(log.written), []) for log in logs]
        return [
            (log.written, self._write(log, before, segments))
            for log, (before, segments) in zip(logs, known, strict=True)
        ]

    def _write(self, log: Rings, before: list[int], segments: list[Segment]) -> list[Segment]:
        """The segments of one log, of which `segments` hold the rows up to `before`."""
        goes_on = len(before) == len(log.written) and all(map(operator.le, before, log.written))
        sizes = [file_size(self.path / segment.sha256) for segment in segments]
        if not goes_on or sizes != [segment.size for segment in segments]:
            before = [0] * len(log.written)
            segments = []
        segments = [segment for segment in segments if _is_needed(log, segment)]
        new = [(max(old, log.alive(slot)), log.written[slot]) for slot, old in enumerate(before)]
        if any(first < last for first, last in new):
            segments.append(self._save(log, new))
        if len(segments) > MOST_SEGMENTS:
            start = _cheapest([segment.size for segment in segments])
            end = start + MERGED
            merged = [_range(log, slot, segments[start:end]) for slot in range(len(log.written))]
            segments[start:end] = [self._save(log, merged)]
        return segments

    def _save(self, log: Rings, ranges: list[tuple[int, int]]) -> Segment:
        """Write rows first … last - 1 of each slot as one file, and make it durable."""
        pieces = _pieces(ranges)
        digest = hashlib.sha256()
        size = 0
        descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=self.path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                for data in _bytes_of(log, pieces):
                    digest.update(data)
                    file.write(data)
                    size += len(data)
                os.fchmod(file.fileno(), 0o644)
                file.flush()
                os.fsync(file.fileno())
            target = self.path / digest.hexdigest()
            if os.path.lexists(target) and file_size(target) is None:
                raise OSError(f"{target} is no file of jaxrl's")
            os.replace(temporary, target)
        finally:
            with suppress(OSError):
                os.unlink(temporary)
        sync_folder(self.path)
        return Segment(target.name, size, pieces)

    def collect(self, named: set[str]) -> None:
        """Remove segments that are not among those `named`, and what a kill has left of one."""
        for path in segment_files(self.path):
            if path.name not in named:
                path.unlink()


def rings(described: list[dict[str, Any]], values: list[Any]) -> list[Rings]:
    """The logs among leaves and what describes them, in the order of their numbers."""
    leaves = list(zip(described, values, strict=True))
    numbers = sorted({row["log"] for row in described if "log" in row})
    return [
        _ring(
            [(row, value) for row, value in leaves if row.get("log") == number],
            [value for row, value in leaves if row.get("counts") == number],
        )
        for number in numbers
    ]


def _ring(rows: list[tuple[dict[str, Any], Any]], counters: list[np.ndarray]) -> Rings:
    """One log, its shapes checked: they may be those of a stranger's manifest."""
    if len(counters) != 1 or not rows:
        raise ValueError("a log has no rows, or not one counter")
    counter = np.asarray(counters[0])
    if counter.dtype != np.uint32 or counter.ndim < 2 or counter.shape[-1] != 2 or not counter.size:
        raise ValueError(
            f"the counter of a log is {counter.dtype}{list(counter.shape)}, not uint32[..., B, 2]"
        )
    *members, blocks, _ = counter.shape
    axes = len(members)
    sizes = {tuple(row["shape"][: axes + 1]) for row, _ in rows}
    if len(sizes) != 1:
        raise ValueError("the leaves of a log have different numbers of rows")
    (size,) = sizes
    if len(size) <= axes or list(size[:axes]) != members or size[axes] % blocks or not size[axes]:
        raise ValueError(
            f"a log of {list(size)} rows cannot have a counter of shape {list(counter.shape)}"
        )
    words = counter.reshape(-1, 2).astype(object)
    written = [int(low) + (int(high) << 32) for low, high in words]
    return Rings(
        [value for _, value in rows], tuple(members), blocks, size[axes] // blocks, written
    )


def known(manifest: dict[str, Any], values: list[Any]) -> Known:
    """What a manifest says of its logs: rows written per slot, and the segments that hold them."""
    logs = rings(manifest["leaves"], values)
    named = [
        [
            Segment(each["sha256"], each["bytes"], [Piece(*piece) for piece in each["pieces"]])
            for each in segments
        ]
        for segments in manifest.get("logs", [])
    ]
    return [(log.written, segments) for log, segments in zip(logs, named, strict=True)]


def read(folder: Path, manifest: dict[str, Any], values: list[Any]) -> None:
    """Read the rows of logs into `values`, in place; a ValueError says what is damaged."""
    logs = rings(manifest["leaves"], values)
    for log, (_, segments) in zip(logs, known(manifest, values), strict=True):
        _check_complete(log, segments)
        _read_log(folder, log, segments)


def _read_log(folder: Path, log: Rings, segments: list[Segment]) -> None:
    for segment in segments:
        name = f"{CHECKPOINTS}/{ROWS}/{segment.sha256}"
        path = folder / segment.sha256
        size = file_size(path)
        if size is None:
            raise ValueError(f"{name} {'is no file' if os.path.lexists(path) else 'is missing'}")
        digest = hashlib.sha256()
        if size == segment.size == sum(len(data) for data in _views(log, segment.pieces)):
            with open(path, "rb") as file:
                for data in _views(log, segment.pieces):
                    _fill(file, data)
                    digest.update(data)
        if digest.hexdigest() != segment.sha256:
            raise ValueError(f"{name} was altered")


def _fill(file: BinaryIO, data: memoryview) -> None:
    """Read as many bytes as there is room for."""
    done = 0
    while done < len(data):
        number = file.readinto(data[done:])  # type: ignore[attr-defined]
        if not number:
            raise ValueError("a file of rows ended while it was read")
        done += number


def _check_complete(log: Rings, segments: list[Segment]) -> None:
    """Refuse segments that do not hold each row of the log, one after the other: a ValueError."""
    held: list[list[tuple[int, int]]] = [[] for _ in log.written]
    for segment in segments:
        for piece in segment.pieces:
            if piece.end > len(held) or piece.last - piece.first > log.capacity:
                raise ValueError(f"{CHECKPOINTS}/{ROWS}/{segment.sha256} is of another log")
            for slot in range(piece.slot, piece.end):
                held[slot].append((piece.first, piece.last))
    for slot, ranges in enumerate(held):
        reached = log.alive(slot)
        needed = [(first, last) for first, last in ranges if last > reached]
        for position, (first, last) in enumerate(needed):
            if first > reached or (first < reached and position > 0):
                break
            reached = last
        if reached != log.written[slot]:
            raise ValueError(
                f"its segments do not hold the {log.written[slot]} rows that were written"
            )


def _is_needed(log: Rings, segment: Segment) -> bool:
    """Whether a segment holds a row that was not overwritten."""
    return any(
        log.alive(slot) < piece.last
        for piece in segment.pieces
        for slot in range(piece.slot, piece.end)
    )


def _cheapest(sizes: list[int]) -> int:
    """Where the `MERGED` neighbouring segments with the fewest bytes begin."""
    totals = np.convolve(np.asarray(sizes, np.float64), np.ones(MERGED), "valid")
    return int(np.argmin(totals))


def _range(log: Rings, slot: int, segments: list[Segment]) -> tuple[int, int]:
    """The rows of a slot that neighbouring segments hold, without those that were overwritten."""
    pieces = [
        piece for segment in segments for piece in segment.pieces if piece.slot <= slot < piece.end
    ]
    if not pieces:
        return 0, 0
    last = pieces[-1].last
    first = max(pieces[0].first, log.alive(slot))
    return min(first, last), last


def _pieces(ranges: list[tuple[int, int]]) -> list[Piece]:
    """The rows of each slot, without empty ones; neighbours with the same rows are one entry."""
    pieces = []
    slot = 0
    for (first, last), group in itertools.groupby(ranges):
        end = slot + len(list(group))
        if first < last:
            pieces.append(Piece(slot, end, first, last))
        slot = end
    return pieces


def _stretches(log: Rings, pieces: Iterable[Piece]) -> Iterator[tuple[int, Any, int, int]]:
    """(slot, leaf, start, number) of each stretch that the pieces fill, ordered as in a segment."""
    for piece in pieces:
        for slot in range(piece.slot, piece.end):
            for leaf in log.leaves:
                for start, number in log.places(piece.first, piece.last):
                    yield slot, leaf, start, number


def _views(log: Rings, pieces: Iterable[Piece]) -> Iterator[memoryview]:
    """The memory of NumPy leaves that the pieces fill."""
    for slot, leaf, start, number in _stretches(log, pieces):
        member, begin = log.begin(slot)
        yield _raw(leaf[member][begin + start : begin + start + number])


def _bytes_of(log: Rings, pieces: Iterable[Piece]) -> Iterator[memoryview]:
    """The bytes of the pieces, not many at a time; leaves in the host's memory are not copied."""
    for slot, leaf, start, number in _stretches(log, pieces):
        member, begin = log.begin(slot)
        rows_of = _reader(leaf, member, begin)
        row_bytes = leaf.dtype.itemsize * math.prod(leaf.shape[len(member) + 1 :])
        step = max(1, CHUNK_BYTES // max(1, row_bytes))
        for offset in range(start, start + number, step):
            yield _raw(rows_of(offset, min(step, start + number - offset)))


def _reader(leaf: Any, member: tuple[int, ...], begin: int) -> Callable[[int, int], np.ndarray]:
    """A function (offset, number) -> rows of a member from `begin` + offset on, read in place."""
    if isinstance(leaf, np.ndarray):
        return lambda offset, number: leaf[member][begin + offset :][:number]
    for shard in leaf.addressable_shards:
        # Where the shard lies in the leaf, [low, high) along the axes of members and of rows.
        place = (*member, begin)
        axes = zip(shard.index, leaf.shape, strict=True)
        bounds = [axis.indices(size)[:2] for axis, size in axes][: len(place)]
        if all(low <= at < high for at, (low, high) in zip(place, bounds, strict=True)):
            offsets = [at - low for at, (low, _) in zip(place, bounds, strict=True)]
            own = tuple(offsets[:-1])
            first = offsets[-1]
            if next(iter(shard.data.devices())).platform == "cpu":
                array = np.asarray(shard.data)[own]  # the device's memory itself
                return lambda offset, number: array[first + offset :][:number]
            return lambda offset, number: _fetch(shard.data, own, first + offset, number)
    raise AssertionError("unreachable: what other processes hold was gathered")


def _fetch(leaf: jax.Array, member: tuple[int, ...], first: int, number: int) -> np.ndarray:
    """Rows of a member in an accelerator's memory.

    They are read by programs for powers of two: each number of rows costs a compilation.
    """
    capacity = leaf.shape[len(member)]
    size = min(2 ** (number - 1).bit_length(), capacity)
    begin = min(first, capacity - size)
    window = np.asarray(_window(leaf, jnp.asarray((*member, begin), jnp.int32), size))
    return window[first - begin :][:number]


@functools.partial(jax.jit, static_argnums=2)
def _window(leaf: jax.Array, start: jax.Array, size: int) -> jax.Array:
    """`size` rows of a leaf [*members, C, ...] from `start` on, an index into those first axes."""
    rest = leaf.shape[len(start) :]
    starts = [*start, *(0 for _ in rest)]
    ones = (1,) * (len(start) - 1)
    return jax.lax.dynamic_slice(leaf, starts, (*ones, size, *rest)).reshape(size, *rest)


def _raw(array: np.ndarray) -> memoryview:
    """An array's bytes."""
    return np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
