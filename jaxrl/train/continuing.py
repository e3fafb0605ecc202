"""A run that goes on: what has to be as it was, and what may have changed.

Devices may: the state has the same shapes however many share the run. Only the bits differ, for environments on another
device draw other numbers, and sums are taken in another order.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax

from jaxrl.errors import JaxrlError
from jaxrl.train import distributed
from jaxrl.train import folder as run_folder
from jaxrl.train.experiment import Experiment, versions
from jaxrl.train.layout import LayoutError
from jaxrl.train.program import Program


def describe(experiment: Experiment, program: Program) -> dict[str, Any]:
    """What config.json says of a run."""
    algorithm = program.algorithm
    budget = {"samples_per_step": algorithm.samples_per_step, "num_iterations": algorithm.num_iterations}
    found = {"layout": str(program.layout), "versions": versions(experiment.environment)}
    return experiment.description() | budget | found


def reopen(
    folder: Path | str, old: dict[str, Any], changes: dict[str, Any], sharing: dict[str, Any] | None
) -> tuple[Experiment, Program]:
    """The run that `old` describes, with changes to its configuration and, where given, other `devices` and `mesh`."""
    described = old if sharing is None else old | {"run": old.get("run", {}) | sharing}
    experiment = Experiment.from_description(described).changed(changes)
    try:
        return experiment, experiment.program()
    except LayoutError as error:
        if sharing is not None:
            raise
        anew = f"jaxrl resume {folder} --devices {len(jax.devices())}"
        raise LayoutError(f"{error} The run was begun so; share it in another way: {anew}") from error


def check_same(folder: Path | str, old: dict[str, Any], new: dict[str, Any], force: bool) -> None:
    """Refuse to go on with other settings or versions than a run was begun with."""
    differences = run_folder.differences(_fixed(old), _fixed(new))
    if differences and not force:
        lines = "\n".join(f"  {line}" for line in differences)
        raise JaxrlError(f"the run in {folder} was begun with other settings:\n{lines}\nUse --force to go on anyway.")


def note(old: dict[str, Any], new: dict[str, Any]) -> str | None:
    """What to tell of a run that other devices share from now on; None if all is as it was."""
    before, after = old.get("layout"), new["layout"]
    if before in (None, after):
        return None
    return f"devices were {before} and are {after}: the run goes on, with other random numbers than it would have had"


def rewind(folder: Path | str, iteration: int, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Drop what was recorded after the checkpoint of `iteration`, and write down what has changed."""
    run_folder.truncate_metrics(folder, iteration)
    run_folder.truncate_evaluations(folder, iteration)
    if run_folder.differences(old, new):
        run_folder.write_description(folder, new)


def check_seen(number: int, what: str) -> None:
    """Refuse to go on where the processes read different things in the run folder."""
    if distributed.most(number) != -distributed.most(-number):
        raise JaxrlError(f"the processes see different {what}: the run folder must be on a file system that all share.")


def _fixed(description: dict[str, Any]) -> dict[str, Any]:
    """What must not change: all but the devices."""
    run = {name: value for name, value in description.get("run", {}).items() if name not in ("devices", "mesh")}
    return {name: value for name, value in description.items() if name != "layout"} | {"run": run}
