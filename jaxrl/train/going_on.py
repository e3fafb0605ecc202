"""Whether what is changed of a run that goes on has an effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxrl.config import budget_field
from jaxrl.errors import JaxrlError
from jaxrl.train.files.folder import differences


def check_effect(
    folder: Path | str, config: Any, old: dict[str, Any], new: dict[str, Any], iteration: int
) -> None:
    """Refuse a budget that is spent already, and changes to a run that has nothing left to train.

    `old` and `new` are what config.json says before and after the changes, `config` is the changed
    configuration, and `iteration` how far the run has come.
    """
    iterations, per_iteration = new["num_iterations"], new["samples_per_step"]
    found = budget_field(config)
    name = found[0] if found else "its budget"
    trained = f"has trained {iteration * per_iteration} {new['unit']}"
    if iteration > iterations:
        raise JaxrlError(
            f"{name} is {new['config'].get(name)}, but the run in {folder} {trained} already: "
            "choose as many or more."
        )
    compared = old["config"].keys() & new["config"].keys() - {name, *new["inputs"]}
    before, after = ({key: each["config"][key] for key in sorted(compared)} for each in (old, new))
    changed = differences(before, after)
    if iteration == iterations and changed:
        raise JaxrlError(
            f"the run in {folder} is finished, so that these have no effect: {'; '.join(changed)}. "
            f"It {trained}: raise {name} as well."
        )
