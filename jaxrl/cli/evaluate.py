"""`jaxrl eval`: evaluate a saved policy."""

from __future__ import annotations

from dataclasses import dataclass

from jaxrl.cli import options
from jaxrl.train.output import report


@dataclass(frozen=True, kw_only=True)
class Eval(options.Saved):
    """Evaluate a saved policy on fresh episodes, in the modes of its run or in others."""

    episodes: int = 1000
    """Episodes per mode and, of a population, per member."""
    mode: options.Modes = ()
    """A mode to act in, as NAME or NAME=NUMBER (target=3600), once or several times; those of the
    run unless given."""
    seed: int = 1_000_000
    """Seed of the episodes; training and its evaluations use other streams."""
    member: options.Assignments = ()
    """Of a population, the member to evaluate: settings and seed, as learning_rate=3e-3,seed=2; all
    unless given."""
    quiet: bool = False
    """Print nothing but errors."""


def evaluate(words: list[str]) -> int:
    """Evaluate a saved policy on fresh episodes."""
    given = options.parse(Eval, "jaxrl eval", words)
    return report.evaluate(
        given.run,
        given.episodes,
        given.checkpoint,
        given.seed,
        options.console_of(quiet=given.quiet),
        member=options.member(given.member),
        modes=given.mode,
        trust=given.trust,
    )
