"""The list of environments, by suite, with what of them is not installed or not served."""

from __future__ import annotations

from typing import Any

from jaxrl.envs.registry import (
    describe,
    environment_ids,
    missing,
    package_that_adds,
    suites,
)
from jaxrl.errors import check_choice, unknown
from jaxrl.train.output.console import Console


def environments(text: str, suite: str | None, console: Console) -> None:
    """Print the environments whose id or suite contains `text`, by suite, and what is missing."""
    known = environment_ids()
    if suite is not None:
        check_choice("suite", suite, known)
        known = {suite: known[suite]}
    matching = {
        name: [one for one in ids if text.lower() in f"{name} {one}".lower()]
        for name, ids in known.items()
    }
    if not any(matching.values()):
        raise unknown("environment", text, [*known, *sum(known.values(), [])])
    for name, found in matching.items():
        module = suites().get(name)
        command = missing(module) if module else None
        rows = [_row(one, command is None or hasattr(module, "SPECS")) for one in found]
        console.summary(rows, name)
        if command is not None:
            console.note(f"{name} is not installed: {command}")
        notes = {one: text for one, text in getattr(module, "NOTES", {}).items() if one in found}
        for reason in dict.fromkeys(notes.values()):
            console.note(f"{', '.join(one for one in notes if notes[one] == reason)}: {reason}")
        if suite is not None:
            refused = getattr(module, "REFUSED", {})
            for reason in dict.fromkeys(refused.values()):
                names = ", ".join(one for one in refused if refused[one] == reason)
                console.note(f"not served: {names}: {reason}")


def _row(environment_id: str, described: bool) -> dict[str, Any]:
    """A line of the list of environments."""
    if not described:
        return {"environment": environment_id}
    package = package_that_adds(environment_id)
    if package is not None:  # which is imported when it is used
        return {"environment": environment_id, "package": package}
    spec = describe(environment_id).spec
    row = {
        "environment": environment_id,
        "observations": str(spec.observation_space),
        "actions": str(spec.action_space),
        "time limit": spec.horizon,
    }
    if spec.backends:
        row["back ends"] = ", ".join(spec.backends)
    return row
