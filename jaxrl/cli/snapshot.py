"""`jaxrl snapshot`: keep states of a saved policy's episodes, and say what a bank of them holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from jaxrl.cli import options
from jaxrl.cli.collect import Collect, record
from jaxrl.errors import JaxrlError
from jaxrl.train.output.banks import describe_bank


@dataclass(frozen=True, kw_only=True)
class Snapshot(Collect):
    """Keep states of a saved policy's episodes, for others to begin theirs at.

    The bank is what jaxrl collect writes, and any of its recordings is a bank: jaxrl train …
    --starts snapshots --bank BANK. Values are the policy's own critic's, if it has one.
    """

    stride: int = 10
    """Keep every k-th step of an episode, its first one always."""
    output: Path | None = None
    """The file to write (.npz); bank.npz in the run folder unless given."""


@dataclass(frozen=True, kw_only=True)
class Info:
    """Say what a bank holds, and draw it by value, cluster and time."""

    bank: tyro.conf.Positional[Path]
    """The bank (.npz)."""
    clusters: int = 6
    """Clusters of the value, K."""
    output: Path | None = None
    """The picture to write (.png, .pdf or .svg); beside the bank unless given."""


def snapshot(words: list[str]) -> int:
    """Record a bank, or describe one."""
    if words[:1] != ["info"]:
        return record(options.parse(Snapshot, "jaxrl snapshot", words), "bank.npz")
    given = options.parse(Info, "jaxrl snapshot info", words[1:])
    if given.clusters < 1:
        raise JaxrlError(f"clusters is {given.clusters}, but must be at least 1.")
    console = options.console_of(quiet=False)
    console.note(describe_bank(given.bank, given.clusters, given.output))
    return 0
