"""`jaxrl collect`: record whole episodes of a saved policy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jaxrl.cli import options
from jaxrl.train.output import report


@dataclass(frozen=True, kw_only=True)
class Collect(options.Saved):
    """Record whole episodes of a saved policy, with the full state of the environment at each step.

    The file holds states, observations, actions, rewards, ends and, where the agent has a critic,
    values, with a header that refuses any other environment (jaxrl/data/recording.py).
    """

    episodes: int = 10
    """Episodes to record, each to its own end."""
    stride: int = 1
    """Keep every k-th step of an episode, its first one always."""
    mode: str | None = None
    """The mode to act in, as NAME or NAME=NUMBER (target=3600); the first that the run evaluates
    unless given."""
    seed: int = 2_000_000
    """Seed of the episodes; training and evaluations use other streams."""
    member: options.Assignments = ()
    """Of a population, the member to record: settings and seed, as learning_rate=3e-3,seed=2; the
    best unless given."""
    output: Path | None = None
    """The file to write (.npz); recording.npz in the run folder unless given."""
    overwrite: bool = False
    """Replace the file, if it is there."""
    quiet: bool = False
    """Print errors only."""


def collect(words: list[str]) -> int:
    """Record episodes of a saved policy."""
    return record(options.parse(Collect, "jaxrl collect", words), "recording.npz")


def record(given: Collect, usual_name: str) -> int:
    """Record what is asked for, into a file of that name unless another one is given."""
    console = options.console_of(quiet=given.quiet)
    text = report.collect(
        given.run,
        given.checkpoint,
        given.episodes,
        given.output,
        usual_name=usual_name,
        stride=given.stride,
        seed=given.seed,
        mode=given.mode,
        member=options.member(given.member),
        overwrite=given.overwrite,
        trust=given.trust,
        console=console,
    )
    console.note(text)
    return 0
