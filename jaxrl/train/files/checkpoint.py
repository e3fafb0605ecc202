"""Checkpoints: the whole training state, bit for bit, readable after a kill at any moment.

    checkpoints/000000120/        a training state: the arrays (Orbax) and manifest.json
    checkpoints/best-000000100/   the best policy of each member so far; one such folder at most
    checkpoints/policy-000000100/ the policies of an evaluation, of a run that keeps them
    checkpoints/rows/             the rows of logs, which checkpoints may share (rows.py)
    checkpoints/.tmp-…            a save in progress, which counts for nothing until it is renamed
    checkpoints/damaged-1-…       what could not be read when it was to be replaced or dropped

A checkpoint is written under a temporary name, made durable and renamed in one step, and only then
are older ones removed. Its manifest holds a SHA-256 of every file, so that damage is found before
Orbax stumbles over it, and one over every leaf, so that what is restored is what was saved. Nothing
without a manifest is ever removed. Saving is synchronous: about 50 ms for a small state, and no
copy is in flight when the next chunk donates the buffers.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl.analysis import records
from jaxrl.errors import JaxrlError, check_positive_int
from jaxrl.train.devices import distributed
from jaxrl.train.files import rows as log_rows
from jaxrl.train.files import state_arrays
from jaxrl.train.files.folder import (
    CHECKPOINTS,
    MANIFEST,
    ROWS,
    file_errors,
    is_checkpoint,
    plain,
    set_aside,
    sync_folder,
)
from jaxrl.train.files.verified import (
    ARRAYS,
    BEST,
    KEPT,
    REPLACED,
    Damaged,
    file_digests,
    first_line,
    read,
    read_manifest,
)
from jaxrl.types import PyTree

POLICY = "policy"  # the part of a training checkpoint that is saved for those who act
TEMPORARY = ".tmp-"
NAME = re.compile(r"(best-|policy-)?([0-9]{9}|[1-9][0-9]{9,})")
HASH = re.compile(rb"[0-9a-f]{64}")


HostLeaves = tuple[list[dict[str, Any]], list[Any]]  # as state_arrays.host_leaves makes them


class Restored(NamedTuple):
    """What a restore returns; `problems` says which newer checkpoints are unreadable, and why."""

    iteration: int
    state: PyTree
    metadata: dict[str, Any]
    problems: list[str]


class Checkpoints:
    """The checkpoints of one run folder: the `keep` newest, and the best.

    With more than one process every method is called by all of them; the first one writes.
    """

    def __init__(self, folder: Path | str, keep: int = 3) -> None:
        self.path = (Path(folder) / CHECKPOINTS).absolute()
        check_positive_int("keep", keep)
        self.keep = keep
        self._rows = log_rows.SegmentFolder(self.path / ROWS)

    @property
    def newest(self) -> Path:
        """The folder of the newest checkpoint (which may turn out to be damaged)."""
        return self.path / _name(self.iterations()[-1])

    def iterations(self) -> list[int]:
        """The iterations that were saved, ascending."""
        return sorted(int(name) for name in self._names() if name.isdigit())

    def save(
        self, iteration: int, state: PyTree, metadata: dict[str, Any], policies: PyTree = ()
    ) -> None:
        """Save `state`, then drop all but the `keep` newest, and those of later iterations.

        Later ones are left where a run was resumed from an earlier one. The `policies` are saved
        beside it: whoever acts with them need not know what the rest of the state is.
        """
        rows, values = state_arrays.host_leaves(state)
        policy_rows, policy_values = state_arrays.host_leaves(policies)
        rows += [row | {"part": POLICY} for row in policy_rows]
        self._write(_name(iteration), iteration, (rows, [*values, *policy_values]), metadata)
        past = [saved for saved in self.iterations() if saved <= iteration]
        self._remove(_name(saved) for saved in self.iterations() if saved not in past[-self.keep :])
        self._remove_unnamed_rows()

    def save_best(self, iteration: int, policies: HostLeaves, metadata: dict[str, Any]) -> None:
        """Save the best policies so far, the newest of them of `iteration`; drop those before."""
        name = BEST + _name(iteration)
        self._write(name, iteration, policies, metadata)
        self._remove(other for other in self._names() if other.startswith(BEST) and other != name)

    def keep_policies(self, iteration: int, policies: PyTree, metadata: dict[str, Any]) -> None:
        """Save the policies of an evaluation, to be kept for good; drop those of later ones.

        Later ones are left where a run was resumed from an earlier checkpoint.
        """
        name = KEPT + _name(iteration)
        self._write(name, iteration, state_arrays.host_leaves(policies), metadata)
        self._remove(KEPT + _name(later) for later in self.kept() if later > iteration)

    def kept(self) -> list[int]:
        """The iterations whose policies are kept, ascending."""
        names = (name for name in self._names() if name.startswith(KEPT))
        return sorted(int(name.removeprefix(KEPT)) for name in names)

    def restore_kept(self, iteration: int, abstract_policies: PyTree) -> Restored:
        """Restore the policies that were kept of one evaluation."""
        if iteration not in self.kept():
            kept = ", ".join(map(str, self.kept())) or "none (train with --keep-policies)"
            raise JaxrlError(
                f"{self.path} keeps no policies of iteration {iteration}. Kept: {kept}."
            )
        return self._restore_first([KEPT + _name(iteration)], abstract_policies)

    def restore(self, iteration: int, abstract_state: PyTree) -> Restored:
        """Restore one checkpoint into the structure, and the shardings, of `abstract_state`."""
        if iteration not in self.iterations():
            saved = ", ".join(map(str, self.iterations())) or "none"
            raise JaxrlError(
                f"{self.path} has no checkpoint of iteration {iteration}. Saved: {saved}."
            )
        return self._restore_first([_name(iteration)], abstract_state)

    def restore_latest(self, abstract_state: PyTree) -> Restored:
        """Restore the newest whole checkpoint; damaged ones stay, and are named in `problems`."""
        return self._restore_first(
            [_name(saved) for saved in reversed(self.iterations())], abstract_state
        )

    def restore_latest_policies(self, abstract_policies: PyTree) -> Restored:
        """Restore the policies saved with the newest whole state, and nothing else of it."""
        return self._restore_first(
            [_name(saved) for saved in reversed(self.iterations())], abstract_policies, POLICY
        )

    def restore_best(self, abstract_state: PyTree) -> Restored:
        """Restore what `save_best` kept last: policies, in the structure of `abstract_state`."""
        return self._restore_first(self._best_names(), abstract_state)

    def best(self) -> tuple[dict[str, Any], HostLeaves] | None:
        """What `save_best` kept last: (metadata, policies); None where nothing whole is there."""
        for name in self._best_names():
            with contextlib.suppress(Damaged):
                manifest, values = read(self._place(name))
                return manifest["metadata"], (manifest["leaves"], values)
        return None

    def vouched(self) -> dict[str, Any]:
        """The metadata of the newest checkpoint with a readable manifest; {} if there is none."""
        for iteration in reversed(self.iterations()):
            with contextlib.suppress(Damaged):
                return read_manifest(self._place(_name(iteration)))["metadata"]
        return {}

    def set_aside_damaged(self, iteration: int) -> list[str]:
        """Rename what is damaged before a run goes on from `iteration`; a sentence per checkpoint.

        Nothing removes what has such a name. Every checkpoint after it could not be read, or
        `iteration` would be that one.
        """
        said = []
        later = [_name(saved) for saved in self.iterations() if saved > iteration]
        for name in later + self._best_names():
            path = self._place(name)
            try:
                read(path)
            except Damaged as damage:
                with file_errors("set aside", path):
                    kept = set_aside(path)
                said.append(f"the checkpoint {path} is damaged: {damage}; it is kept as {kept}")
        return said

    def set_aside_best(self) -> None:
        """Give the best checkpoint, which is another run's, a name that nothing touches."""
        for name in self._best_names():
            with file_errors("set aside", self._place(name)):
                set_aside(self._place(name))

    def has_best(self) -> bool:
        """Whether there is a best checkpoint, whole or not."""
        return bool(self._best_names())

    def _best_names(self) -> list[str]:
        return sorted((name for name in self._names() if name.startswith(BEST)), reverse=True)

    def _place(self, name: str) -> Path:
        """Where a checkpoint lies: under its name, or aside while its replacement is written."""
        path = self.path / name
        return path if path.exists() else self.path / (REPLACED + name)

    def _names(self) -> set[str]:
        """The checkpoints there are; counts one that was being replaced at a kill."""
        with file_errors("read", self.path):
            if not self.path.is_dir():
                return set()
            folders = [path for path in self.path.iterdir() if path.is_dir()]
        names = {path.name.removeprefix(REPLACED) for path in folders}
        return {name for name in names if NAME.fullmatch(name)}

    def _restore_first(self, names: list[str], abstract_state: PyTree, part: str = "") -> Restored:
        """The first of `names` that is whole, or a `part` of it."""
        problems = []
        for name in names:
            path = self._place(name)
            try:
                manifest, values = read(path, part)
            except Damaged as damage:
                problems.append(f"the checkpoint {path} is damaged: {damage}")
                continue
            state = state_arrays.assemble(path, manifest, values, abstract_state, part)
            if not part and manifest.get("logs"):
                self._rows.known = log_rows.known(manifest, values)
            return Restored(manifest["iteration"], state, manifest["metadata"], problems)
        if problems:
            lines = "\n".join(f"  {line}" for line in problems)
            last = (
                "\nThe last policy may be whole: --checkpoint last."
                if names[0].startswith(BEST)
                else ""
            )
            raise JaxrlError(f"no checkpoint can be read:\n{lines}{last}")
        raise JaxrlError(
            f"{self.path} holds no checkpoint of this kind ({BEST}… is the best policy, {_name(0)} "
            "and so on are states): the run was stopped before it saved one, or it was removed."
        )

    def _write(
        self, name: str, iteration: int, state: HostLeaves, metadata: dict[str, Any]
    ) -> None:
        """Write one checkpoint; it appears under its name whole, or not at all."""
        rows, values = state
        metadata = plain(metadata, name="metadata")
        manifest: dict[str, Any] = {
            "iteration": int(iteration),
            "metadata": metadata,
            "leaves": rows,
        }
        distributed.on_first_process(lambda: self._commit(name, manifest, values))

    def _commit(self, name: str, manifest: dict[str, Any], values: list[np.ndarray]) -> None:
        """The first process's part of a save: clean, write, make durable, rename."""
        target = self.path / name
        temporary = self.path / (TEMPORARY + name)
        with file_errors("save the checkpoint", target):
            self.path.mkdir(parents=True, exist_ok=True)
            self._clean()
            try:
                saved = self._rows.write(log_rows.rings(manifest["leaves"], values))
                manifest["logs"] = [
                    [segment.described() for segment in segments] for _, segments in saved
                ]
                temporary.mkdir()
                begun = manifest | {"files": {}, "sha256": "unfinished"}
                # From here on it is known to be ours.
                (temporary / MANIFEST).write_text(json.dumps(begun))
                state_arrays.save_arrays(temporary / ARRAYS, manifest["leaves"], values)
                manifest["files"] = file_digests(temporary / ARRAYS)
                manifest["sha256"] = state_arrays.digest(manifest, values)
                (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1))
                _sync_tree(temporary)
                if target.exists():
                    os.rename(target, self.path / (REPLACED + name))
                os.rename(temporary, target)
                sync_folder(self.path)
                if saved:
                    self._rows.known = saved
                _discard(self.path / (REPLACED + name))
            except OSError:
                raise
            except Exception as error:  # TensorStore reports a full disk as a ValueError
                raise JaxrlError(
                    f"cannot save the checkpoint {target}: {first_line(error)}"
                ) from error
            finally:
                shutil.rmtree(temporary, ignore_errors=True)

    def _clean(self) -> None:
        """Remove what a killed save left behind, and put back what it was about to replace."""
        for path in self.path.iterdir():
            unfinished = path.name.removeprefix(TEMPORARY)
            replaced = path.name.removeprefix(REPLACED)
            if path.name.startswith(TEMPORARY) and NAME.fullmatch(unfinished):
                _discard(path)
            if path.name.startswith(REPLACED) and NAME.fullmatch(replaced):
                target = self.path / replaced
                if target.exists():
                    _discard(path)
                else:
                    os.rename(path, target)

    def _remove(self, names: Iterable[str]) -> None:
        """Remove checkpoints, each by a rename first so that none is ever seen half removed."""
        if jax.process_index() == 0:
            for name in list(names):
                with file_errors("remove the checkpoint", self.path / name):
                    if not is_checkpoint(self.path / name):
                        set_aside(self.path / name)
                        continue
                    doomed = self.path / (TEMPORARY + name)
                    os.rename(self.path / name, doomed)
                    _discard(doomed)

    def _remove_unnamed_rows(self) -> None:
        """Remove segments that no manifest names; those of damaged checkpoints count as well."""
        if jax.process_index() == 0 and self._rows.path.is_dir():
            named = set()
            for path in self.path.iterdir():
                with contextlib.suppress(OSError, ValueError):
                    named.update(HASH.findall(records.read_file(path / MANIFEST)))
            with file_errors("remove old rows from", self._rows.path):
                self._rows.collect({name.decode() for name in named})


def _discard(path: Path) -> None:
    """Remove a checkpoint; what is damaged beyond being known as one is set aside."""
    if is_checkpoint(path):
        shutil.rmtree(path, ignore_errors=True)
    elif path.exists() or path.is_symlink():
        set_aside(path)


def _name(iteration: int) -> str:
    """The folder of an iteration's checkpoint; zero-padded, so that names sort as numbers do."""
    return f"{int(iteration):09d}"


def _sync_tree(path: Path) -> None:
    """Make every file below `path` durable; Orbax leaves its small metadata files to the system."""
    for folder, _, files in os.walk(path):
        for name in files:
            with open(os.path.join(folder, name), "rb") as file:
                os.fsync(file.fileno())
        sync_folder(folder)
