"""`jaxrl resume`: go on with a run that was stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from jaxrl.cli import options
from jaxrl.errors import JaxrlError
from jaxrl.train import loop, turns
from jaxrl.train.devices import distributed
from jaxrl.train.devices.distributed import Processes
from jaxrl.train.output import report
from jaxrl.train.output.console import Console
from jaxrl.train.trust import Trust


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Go on with a run from its newest whole checkpoint."""

    run: tyro.conf.Positional[Path]
    """The run folder, or that of a sweep over sizes and choices."""
    set: options.Assignments = ()
    """Settings to change, as name=value; needs --force, unless an input has only moved."""
    force: bool = False
    """Go on although settings or versions have changed."""
    devices: int | None = None
    """Devices that share the run from now on; those it was begun on unless given."""
    mesh: tuple[str, ...] = ()
    """How they share it, as env=4,seed=2."""
    sinks: options.Sinks = ()
    """Send metrics to these as well as to metrics.jsonl."""
    quiet: bool = False
    """Print nothing but errors."""
    deterministic: bool = False
    """Ask XLA for deterministic kernels on a GPU."""
    trust: options.TrustOptions = field(default_factory=Trust)
    processes: options.ProcessOptions = field(default_factory=Processes)


def resume(words: list[str]) -> int:
    """Go on with a run from its newest whole checkpoint."""
    given = options.parse(Resume, "jaxrl resume", words)
    if given.deterministic:
        options.ask_for_determinism()
    sharing = None
    if given.devices is not None or given.mesh:
        sharing = {"devices": given.devices, "mesh": given.mesh}
    with distributed.joined(given.processes):
        console = options.console_of(quiet=given.quiet, deterministic=given.deterministic)
        if turns.is_one(given.run):
            return _go_on_in_turn(given, sharing, console)
        result = loop.resume(
            given.run,
            changes=options.values("--set", given.set),
            sharing=sharing,
            force=given.force,
            sinks=given.sinks,
            console=console,
            trust=given.trust,
        )
        return report.finish(result, result.experiment, console)


def _go_on_in_turn(given: Resume, sharing: dict[str, Any] | None, console: Console) -> int:
    """Go on with a sweep over sizes and choices."""
    changes = options.values("--set", given.set)
    for name in turns.read(given.run).varied:
        if name in changes:
            raise JaxrlError(f"{name} is what the runs in {given.run} differ in: it cannot be set.")
    results = turns.train(
        given.run,
        sinks=given.sinks,
        console=console,
        trust=given.trust,
        changes=changes,
        sharing=sharing,
        force=given.force,
    )
    return report.finish_turns(given.run, results, console)
