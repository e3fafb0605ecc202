"""`jaxrl envs`: list the environments."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from jaxrl.cli import options
from jaxrl.train.output import listing


@dataclass(frozen=True, kw_only=True)
class Envs:
    """List the environments by suite, with their spaces and time limits."""

    text: tyro.conf.Positional[str] = ""
    """Only ids, or suites, whose name contains this."""
    suite: str | None = None
    """Only this suite; also says what of it is not served, and why."""


def environments(words: list[str]) -> int:
    """List the environments."""
    given = options.parse(Envs, "jaxrl envs", words)
    listing.environments(given.text, given.suite, options.console_of(quiet=False))
    return 0
