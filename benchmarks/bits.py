"""What two run folders hold, compared bit for bit: checkpoints, metrics and evaluations.

The folders may be of different versions of the code. So nothing here calls what wrote them: of a
checkpoint it is known that manifest.json lists its leaves in tree order with path, dtype and shape,
and that Orbax keeps the array of leaf 7 under a name that begins with 0007-.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxrl.errors import JaxrlError

# Measured, not computed.
CLOCKS = {"seconds"}
Table = dict[str, np.ndarray]  # of columns, each with a first axis of rows


class Leaf(NamedTuple):
    """An array of a checkpoint; of keys, their data."""

    path: str
    dtype: str
    value: np.ndarray


class Pairing(NamedTuple):
    """Which leaf of one tree is which of another."""

    pairs: list[tuple[Leaf, Leaf]]
    renamed: dict[str, str]
    dropped: list[str]  # leaves of the first tree alone
    added: list[str]  # leaves of the second tree alone


@dataclass
class Comparison:
    """How many things were compared, and which of them differ."""

    compared: int = 0
    different: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)  # those that differ by more than the tolerance
    largest: float = (
        0.0  # absolute difference; infinite where only one is a number, or shapes differ
    )
    renamed: dict[str, str] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)  # only the old one has these
    added: list[str] = field(default_factory=list)  # only the new one has these

    def add(self, name: str, old: np.ndarray, new: np.ndarray, tolerance: float) -> None:
        """Compare two arrays."""
        self.compared += 1
        if not same_bits(old, new):
            self.different.append(name)
            self.largest = max(self.largest, largest_difference(old, new))
            if not is_close(old, new, tolerance):
                self.outside.append(name)

    def notes(self) -> list[str]:
        """What is there under another name, no longer, or newly."""
        renamed = [f"{one} → {other}" for one, other in self.renamed.items()]
        return (
            renamed
            + [f"no longer there: {name}" for name in self.dropped]
            + [f"new: {name}" for name in self.added]
        )

    def differs(self, name: str) -> None:
        """Something that cannot be compared number by number."""
        self.different.append(name)
        self.outside.append(name)
        self.largest = float("inf")


def compare_runs(old: Path, new: Path, tolerance: float = 0.0) -> dict[str, Comparison]:
    """The newest training state, the best policy, metrics and evaluations of two run folders."""
    return {
        "state": compare_checkpoints(newest(old, "[0-9]*"), newest(new, "[0-9]*"), tolerance),
        "policy": compare_checkpoints(newest(old, "best-*"), newest(new, "best-*"), tolerance),
        "metrics": compare_tables(read_metrics(old), read_metrics(new), tolerance),
        "evaluations": compare_tables(read_evaluations(old), read_evaluations(new), tolerance),
    }


def compare_checkpoints(old: Path, new: Path, tolerance: float = 0.0) -> Comparison:
    """The leaves of two checkpoints, and the iterations that they are of."""
    found = Comparison()
    if old.name != new.name:
        found.differs(f"iteration {old.name} → {new.name}")
    matched = pair(read_leaves(old), read_leaves(new))
    for one, other in matched.pairs:
        found.add(one.path, one.value, other.value, tolerance)
    for path in sorted(set(matched.dropped) & set(matched.added)):
        found.differs(f"{path}: its shape or type")
    found.renamed, found.dropped, found.added = matched.renamed, matched.dropped, matched.added
    return found


def compare_tables(old: Table, new: Table, tolerance: float = 0.0) -> Comparison:
    """Tables row by row; every column of the old one must be in the new one."""
    found = Comparison()
    common = [name for name in old if name in new]
    lengths = [max((len(column) for column in table.values()), default=0) for table in (old, new)]
    for index in range(max(lengths)):
        row = Comparison()
        for name in common:
            if index >= min(len(old[name]), len(new[name])):
                row.differs(name)
            else:
                row.add(name, old[name][index], new[name][index], tolerance)
        found.compared += bool(common)
        found.largest = max(found.largest, row.largest)
        if row.different:
            found.different.append(f"row {index}: {', '.join(row.different)}")
        if row.outside:
            found.outside.append(f"row {index}: {', '.join(row.outside)}")
    found.added = [name for name in new if name not in old]
    for name in old:
        if name not in new:
            found.differs(f"{name} is no longer there")
    return found


def same_bits(old: np.ndarray, new: np.ndarray) -> bool:
    """Whether two arrays are the same: NaN is itself, and 0 is not -0."""
    return old.dtype == new.dtype and old.shape == new.shape and old.tobytes() == new.tobytes()


def largest_difference(old: np.ndarray, new: np.ndarray) -> float:
    """The largest absolute difference of two arrays; infinite where they cannot be subtracted."""
    if old.shape != new.shape:
        return float("inf")
    one, other = old.astype(np.float64), new.astype(np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        difference = np.where(same, 0.0, np.abs(one - other))
    return float(np.max(np.where(np.isnan(difference), np.inf, difference), initial=0.0))


def is_close(old: np.ndarray, new: np.ndarray, tolerance: float) -> bool:
    """Whether |old - new| ≤ tolerance · max(1, |old|, |new|) everywhere.

    Whole numbers must be the same, and without a tolerance everything.
    """
    if old.shape != new.shape or old.dtype != new.dtype:
        return False
    if tolerance == 0 or old.dtype.kind in "biu":
        return same_bits(old, new)
    one, other = old.astype(np.float64), new.astype(np.float64)
    scale = np.maximum(1.0, np.maximum(np.abs(one), np.abs(other)))
    with np.errstate(invalid="ignore"):
        close = np.abs(one - other) <= tolerance * scale
    return bool(np.all(close | (one == other) | (np.isnan(one) & np.isnan(other))))


def pair(old: list[Leaf], new: list[Leaf]) -> Pairing:
    """Leaves of the same path; then, of those left over, leaves of the same type and shape.

    Where several would do, the one whose path ends alike is taken, and of these the first in tree
    order. What the arrays hold has no say.
    """
    by_path = {leaf.path: leaf for leaf in new}
    pairs = [
        (leaf, by_path[leaf.path])
        for leaf in old
        if leaf.path in by_path and _alike(leaf, by_path[leaf.path])
    ]
    named = {leaf.path for leaf, _ in pairs}
    left = [leaf for leaf in new if leaf.path not in named]
    renamed, dropped = {}, []
    for leaf in old:
        if leaf.path in named:
            continue
        candidates = [other for other in left if _alike(leaf, other)]
        if not candidates:
            dropped.append(leaf.path)
            continue
        chosen = max(candidates, key=lambda other: _common_end(leaf.path, other.path))
        left.remove(chosen)
        pairs.append((leaf, chosen))
        renamed[leaf.path] = chosen.path
    return Pairing(pairs, renamed, dropped, [leaf.path for leaf in left])


def _alike(one: Leaf, other: Leaf) -> bool:
    """Whether two leaves have the same type and shape."""
    return one.dtype == other.dtype and one.value.shape == other.value.shape


def _common_end(one: str, other: str) -> int:
    """How many parts of two paths are the same, from their ends."""
    count = 0
    for a, b in zip(reversed(one.split(".")), reversed(other.split(".")), strict=False):
        if a != b:
            break
        count += 1
    return count


def newest(folder: Path, pattern: str) -> Path:
    """The newest checkpoint of a run folder whose name is of this kind."""
    found = sorted((folder / "checkpoints").glob(pattern))
    if not found:
        raise JaxrlError(f"{folder} has no checkpoint {pattern}.")
    return found[-1]


def read_leaves(path: Path) -> list[Leaf]:
    """The leaves of a checkpoint's state, or policy, in tree order; what was saved twice,
    for those who act, once."""
    rows = json.loads((path / "manifest.json").read_text())["leaves"]
    arrays = {
        int(name.partition("-")[0]): value for name, value in _read_arrays(path / "arrays").items()
    }
    found = []
    for index, row in enumerate(rows):
        if row.get("part"):
            continue
        if index not in arrays and 0 not in row["shape"]:
            raise JaxrlError(f"{path} holds no array of {row['path']}.")
        value = arrays.get(index, np.zeros(row["shape"]))  # what has no elements is not kept
        found.append(Leaf(row["path"], row["dtype"], value))
    return found


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Everything that Orbax keeps under `path`, as NumPy arrays."""
    import orbax.checkpoint as ocp

    logging.getLogger("absl").setLevel(logging.CRITICAL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        checkpointer = ocp.Checkpointer(ocp.PyTreeCheckpointHandler())
        names: Iterable[str] = checkpointer.metadata(path.absolute()).item_metadata.tree
        kinds = {name: ocp.RestoreArgs(restore_type=np.ndarray) for name in names}
        return checkpointer.restore(
            path.absolute(), args=ocp.args.PyTreeRestore(restore_args=kinds)
        )


def read_metrics(folder: Path) -> Table:
    """metrics.jsonl as columns, null as NaN, without what a clock says.

    A number is written so that it reads back to the same bits.
    """
    rows: list[dict[str, Any]] = [
        json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()
    ]
    names = dict.fromkeys(name for row in rows for name in row if name not in CLOCKS)
    return {name: np.array([row.get(name) for row in rows], np.float64) for name in names}


def read_evaluations(folder: Path) -> Table:
    """The arrays of evaluations.npz, whose first axis is that of the evaluations."""
    with np.load(folder / "evaluations.npz") as file:
        return {name: file[name] for name in file.files}
