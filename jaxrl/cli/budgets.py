"""The budget of a run that nobody has set: long enough for as many environments as there are."""

from __future__ import annotations

from typing import Any

from jaxrl.config import budget_field, replace_leaves, settings, sizes
from jaxrl.train.output.console import Console

# The fewest iterations of a run whose number of environments was raised but not its budget.
FEWEST_ITERATIONS = 20


class Unasked(int):
    """A whole number that nobody has typed: the parser hands a default on as the same object."""


def unasked(config: Any) -> Any:
    """`config` with a budget that can be told from one that the user types."""
    found = budget_field(config)
    if found is None:
        return config
    name, _ = found
    return replace_leaves(config, {name: Unasked(_value(config, name))})


def long_enough(config: Any, console: Console) -> Any:
    """`config` with a budget of at least `FEWEST_ITERATIONS`, unless somebody has set one.

    The default budget suits few environments, and is soon spent by many.
    """
    found = budget_field(config)
    if found is None:
        return config
    name, unit = found
    budget = _value(config, name)
    if not isinstance(budget, Unasked):
        return config
    needed = int(budget)
    if unit == "transitions" and {"num_envs", "num_steps"} <= set(sizes(config)):
        num_envs, num_steps = _value(config, "num_envs"), _value(config, "num_steps")
        needed = max(needed, FEWEST_ITERATIONS * num_envs * num_steps)
        if needed > budget:
            console.note(
                f"{name} is {needed:,}: {FEWEST_ITERATIONS} iterations of {num_envs} environments"
            )
    return replace_leaves(config, {name: needed})


def _value(config: Any, name: str) -> Any:
    """The value of a setting by its flat name."""
    return next(each.value for each in settings(config) if each.name == name)
