"""A run that goes on: what has to be as it was, and what may have changed.

Devices may: the state has the same shapes however many share the run. Only the bits differ, for
environments on another device draw other numbers, and sums are taken in another order.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxrl.algos.registry import load
from jaxrl.analysis.records import EVALUATIONS, measures_of, modes_of
from jaxrl.config import flatten
from jaxrl.envs.api import Environment
from jaxrl.envs.registry import requirements
from jaxrl.errors import JaxrlError, RunWarning
from jaxrl.train.callbacks import Callback, Steering, names_of
from jaxrl.train.devices import distributed
from jaxrl.train.experiment import Experiment, versions
from jaxrl.train.files import folder as run_folder
from jaxrl.train.files import logs
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.folder import plain
from jaxrl.train.program import Program

# What may differ from one session of a run to the next, and is no part of what its checkpoints
# vouch for.
FREE = ("layout", "history")
FREE_OF_RUN = ("devices", "mesh")


def describe(experiment: Experiment, program: Program) -> dict[str, Any]:
    """What config.json says of a run."""
    budget = program.algorithm.budget
    counted = {
        "unit": budget.unit,
        "samples_per_step": budget.per_step,
        "num_iterations": budget.steps,
    }
    found = {
        "layout": str(program.layout),
        "versions": versions(experiment.environment, experiment.algorithm),
        "inputs": program.checksums,
        "reference_scores": program.reference_scores,
    }
    return experiment.description() | counted | found


def check_same(folder: Path | str, old: dict[str, Any], new: dict[str, Any], force: bool) -> None:
    """Refuse to go on with other settings or versions unless forced to, and with other inputs."""
    # A setting that is there no more was one of a part that is not chosen: nothing else is read
    # without a word.
    kept = {name: value for name, value in old["config"].items() if name in new["config"]}
    # One that has come to the algorithm since, and is not used, changes nothing.
    usual = default_settings(new["algorithm"])
    kept |= {
        name: value
        for name, value in new["config"].items()
        if name not in old["config"] and name in usual and value == usual[name]
    }
    read = old.get("inputs", {})
    # The same content in another place is the same input.
    same = [
        name
        for name, held in new["inputs"].items()
        if read.get(name) == held and name in new["config"]
    ]
    kept |= {name: new["config"][name] for name in same}
    run = dict(old["run"])
    if read.get("init_from") and read["init_from"] == new["inputs"].get("init_from"):
        run["init_from"] = new["run"]["init_from"]
    # Runs that were begun before it was kept there do not say what scores mean.
    scores = {name: new[name] for name in ("reference_scores",) if name not in old}
    # Nor do they tell versions of what has come to be noted since.
    noted = new["versions"].keys() & requirements(new["environment"])
    known = {name: new["versions"][name] for name in noted} | old.get("versions", {})
    before = scores | old | {"config": kept, "run": run, "versions": known}
    found = run_folder.differences(fixed(before), fixed(new))
    gone = [name for name in read if name not in new["inputs"]]
    if gone:
        begun_with = f"{gone[0]} = {_path(old, gone[0])}"
        raise JaxrlError(
            f"the run in {folder} was begun with {begun_with}, and goes on with the same alone."
        )
    inputs = [name for name, held in new["inputs"].items() if read.get(name, "") not in ("", held)]
    if inputs:
        name = inputs[0]
        raise JaxrlError(
            f"{name} is not what the run in {folder} was begun with: {_path(old, name)} held "
            f"{read[name][:12]}… then, {_path(new, name)} holds {new['inputs'][name][:12]}… now. "
            "Put the old one back, or train anew with this one."
        )
    if found and not force:
        lines = "\n".join(f"  {line}" for line in found)
        raise JaxrlError(
            f"the run in {folder} was begun with other settings:\n"
            f"{lines}\n"
            "Use --force to go on anyway."
        )


def default_settings(algorithm: str) -> dict[str, Any]:
    """An algorithm's settings where nothing is chosen, as config.json holds them."""
    settings: dict[str, Any] = plain(flatten(load(algorithm).config_class()))
    return settings


def _path(description: dict[str, Any], name: str) -> Any:
    """Where an input is read from: a setting of the algorithm, or of the run."""
    return description["config"].get(name) or description["run"].get(name)


def steering(
    folder: Path | str,
    saved: dict[str, Any],
    callbacks: Sequence[Callback],
    env: Environment,
    force: bool,
) -> Steering:
    """What callbacks had set when a checkpoint was saved; refuses callbacks of other names."""
    before = saved.get("callbacks", [])
    now = names_of(callbacks)
    if saved and before != now and not force:
        raise JaxrlError(
            f"the run in {folder} was trained with {_callbacks_text(before)}, and would go on with "
            f"{_callbacks_text(now)}: give it "
            "the same (jaxrl.resume(folder, callbacks=[…])), or force it."
        )
    return Steering.restored(saved.get("steering", {}), env)


def _callbacks_text(names: Sequence[str]) -> str:
    """Callbacks in words."""
    return f"the callbacks {', '.join(names)}" if names else "no callbacks"


def edited(description: dict[str, Any], vouched: dict[str, Any]) -> list[str]:
    """How config.json differs from what the checkpoint vouches for, but by no command of jaxrl."""
    known = vouched.get("description")
    if known is None or checksum(known) == checksum(description):
        return []
    earlier = {step.get("before") for step in description.get("history", ())}
    if checksum(known) in earlier:
        return []
    return run_folder.differences(fixed(known), fixed(description))


def check_unedited(
    folder: Path | str, description: dict[str, Any], vouched: dict[str, Any], force: bool
) -> None:
    """Refuse to train on from a config.json that was edited by hand, unless forced to."""
    found = edited(description, vouched)
    if found and not force:
        lines = "\n".join(f"  {line}" for line in found)
        raise JaxrlError(
            f"{folder}/config.json was changed by hand; its checkpoints were made with other "
            "settings:\n"
            f"{lines}\n"
            "Put it back, or use --force to go on with what it says now."
        )


def note(old: dict[str, Any], new: dict[str, Any]) -> str | None:
    """What to tell of a run that other devices share from now on; None if all is as it was."""
    before, after = old.get("layout"), new["layout"]
    if before in (None, after):
        return None
    return (
        f"devices were {before} and are {after}: the run goes on, with other random numbers than "
        "it would have had"
    )


def rewind(folder: Path | str, iteration: int, vouched: dict[str, Any]) -> None:
    """Drop what was recorded after the checkpoint of `iteration`; say what is missing before it.

    Without a checkpoint (-1) there can be no records yet: those that there are have lost theirs,
    and are kept.
    """
    said = _lost_checkpoints(folder, iteration, vouched)
    if vouched:
        said += [f"{text}; going on without" for text in logs.lost(folder, vouched, iteration)]
    if iteration < 0:
        kept: list[Path | None] = [*logs.set_aside_records(folder)]
    else:
        truncated = logs.truncate_evaluations(folder, iteration, vouched)
        kept = [logs.truncate_metrics(folder, iteration), truncated]
    said += [f"what is damaged is kept as {path}" for path in kept if path is not None]
    for text in said:
        warnings.warn(text, RunWarning, stacklevel=3)


def _lost_checkpoints(folder: Path | str, iteration: int, vouched: dict[str, Any]) -> list[str]:
    """Which checkpoints are damaged, and now set aside, or gone: a sentence each."""
    checkpoints = Checkpoints(folder)
    said = checkpoints.set_aside_damaged(iteration)
    try:
        evaluated = max(logs.points(logs.load_evaluations(folder)), default=-1)
    except JaxrlError:  # which is said elsewhere
        evaluated = -1
    # An evaluation is written after the checkpoint of its iteration.
    if evaluated > iteration and not said:
        since = f"going on from iteration {iteration}" if iteration >= 0 else "the run begins again"
        said.append(f"{checkpoints.path} has lost the checkpoint of iteration {evaluated}: {since}")
    if vouched.get("evaluated") and not checkpoints.has_best():
        said.append(
            f"{checkpoints.path} has no best-… any more: the best policy is sought among those to "
            "come"
        )
    return said


def rewrite(
    folder: Path | str,
    old: dict[str, Any],
    new: dict[str, Any],
    iteration: int,
    vouched: dict[str, Any],
) -> None:
    """Write down what has changed, by hand or by this command, and since which iteration."""
    steps = [
        (edited(old, vouched), vouched.get("description", {})),
        (run_folder.differences(fixed(old), fixed(new)), old),
    ]
    history = list(old.get("history", ()))
    history += [
        {"iteration": iteration, "changes": changes, "before": checksum(before)}
        for changes, before in steps
        if changes
    ]
    changed = [line for changes, _ in steps for line in changes]
    if any(line.startswith("run.evaluation_episodes:") for line in changed):
        for path in logs.set_aside_records(folder, [EVALUATIONS]):
            warnings.warn(
                f"evaluations of as many episodes as before are kept as {path}",
                RunWarning,
                stacklevel=3,
            )
    new = new | ({"history": history} if history else {})
    if run_folder.differences(old, new):
        run_folder.write_description(folder, new)


def set_aside_other_evaluations(folder: Path | str, program: Program) -> None:
    """Set aside evaluations of other modes or measures, and best policies another mode ranked."""
    modes = tuple(map(str, program.player.modes))
    evaluations = logs.load_evaluations(folder)
    before = modes_of(evaluations)
    measured = {name: values.shape[3:] for name, values in measures_of(evaluations).items()}
    if not before or (before, measured) == (modes, program.measured):
        return
    what = f"in the modes {', '.join(before)}" if before != modes else f"with {_named(measured)}"
    for path in logs.set_aside_records(folder, [EVALUATIONS]):
        warnings.warn(f"evaluations {what} are kept as {path}", RunWarning, stacklevel=3)
    if before[0] != modes[0]:
        Checkpoints(folder).set_aside_best()


def _named(measured: dict[str, tuple[int, ...]]) -> str:
    """Measures with their shapes, in words."""
    shapes = [f"{name} {list(shape)}" for name, shape in measured.items()]
    return f"the measures {', '.join(shapes)}" if shapes else "no measures"


def check_seen(number: int, what: str) -> None:
    """Refuse to go on where the processes read different things in the run folder."""
    if distributed.max_over_processes(number) != -distributed.max_over_processes(-number):
        raise JaxrlError(
            f"the processes see different {what}: the run folder must be on a file system that all "
            "share."
        )


def fixed(description: dict[str, Any]) -> dict[str, Any]:
    """What must not change: all but the devices."""
    run = {
        name: value for name, value in description.get("run", {}).items() if name not in FREE_OF_RUN
    }
    plain: dict[str, Any] = run_folder.plain(description | {"run": run})
    return {name: value for name, value in plain.items() if name not in FREE}


def checksum(description: dict[str, Any]) -> str:
    """SHA-256 of what must not change."""
    return hashlib.sha256(json.dumps(fixed(description), sort_keys=True).encode()).hexdigest()
