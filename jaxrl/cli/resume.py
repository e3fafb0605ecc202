"""`jaxrl resume`: go on with a run that was stopped."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from jaxrl.cli import options
from jaxrl.train import loop
from jaxrl.train.devices import distributed
from jaxrl.train.devices.distributed import Processes
from jaxrl.train.output import report
from jaxrl.train.trust import Trust


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Go on with a run from its newest whole checkpoint."""

    run: tyro.conf.Positional[Path]
    """The run folder."""
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
