"""Copies of the code as it was at some revision, and as it is now,
side by side in a temporary folder."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from benchmarks.report import ROOT
from jaxrl.errors import JaxrlError

WORKING_TREE = "the working tree"


class Revision(NamedTuple):
    """The code of one revision."""

    name: str  # as it was asked for
    commit: str  # its hash; of the working tree, that of the commit it was made from
    tree: str  # git's hash over all of its files
    path: Path  # of the copy

    @property
    def label(self) -> str:
        """A short name: 1a2b3c4d5e, or 1a2b3c4d5e with changes."""
        changed = self.name == WORKING_TREE and self.tree != git(
            "rev-parse", f"{self.commit}^{{tree}}"
        )
        return self.commit[:10] + (" with changes" if changed else "")

    def described(self) -> dict[str, str]:
        """Plain data, for a record of results."""
        return {"name": self.name, "commit": self.commit, "tree": self.tree, "label": self.label}


@contextmanager
def copies(*names: str) -> Iterator[list[Revision]]:
    """Each revision's files in a folder of its own, all of which are removed at the end.

    Copies, and not git's worktrees: a process that is killed leaves nothing in the repository.
    """
    with tempfile.TemporaryDirectory(prefix="revisions-") as folder:
        yield [copy(name, Path(folder) / str(index)) for index, name in enumerate(names)]


def copy(name: str, path: Path) -> Revision:
    """The files of a revision, or of the working tree with what git does not know yet,
    under `path`."""
    commit = hash_of("HEAD" if name == WORKING_TREE else name)
    tree = tree_now() if name == WORKING_TREE else git("rev-parse", f"{commit}^{{tree}}")
    archive = subprocess.run(
        ["git", "archive", tree], cwd=ROOT, check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(path, filter="data")
    return Revision(name, commit, tree, path)


def hash_of(name: str) -> str:
    """The commit that `name` stands for."""
    try:
        return git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}")
    except subprocess.CalledProcessError:
        raise JaxrlError(
            f"{name!r} is no revision of this repository: give a hash, a branch or a tag of `git "
            "log`."
        ) from None


def tree_now() -> str:
    """The working tree as a tree of git's, whatever is staged:
    everything but what .gitignore names."""
    with tempfile.TemporaryDirectory() as folder:
        own = {"GIT_INDEX_FILE": str(Path(folder) / "index")}
        git("read-tree", "HEAD", **own)
        git("add", "--all", **own)
        return git("write-tree", **own)


def git(*words: str, **variables: str) -> str:
    """What a command of git prints."""
    command = ["git", *words]
    done = subprocess.run(
        command, cwd=ROOT, env=os.environ | variables, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()
