"""Beginning a run, or going on with one: what is checked, made and read before the runner runs."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from jaxrl.config import install_command, installed
from jaxrl.errors import JaxrlError, RunWarning, unknown
from jaxrl.train import resuming
from jaxrl.train.build import build, reopen
from jaxrl.train.callbacks import Callback, check_callbacks
from jaxrl.train.devices import distributed
from jaxrl.train.experiment import Experiment
from jaxrl.train.files import folder as run_folder
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.lock import locked
from jaxrl.train.going_on import check_effect
from jaxrl.train.output.console import Console
from jaxrl.train.pretrained import comes_with_jaxrl
from jaxrl.train.profile.profile import profile
from jaxrl.train.program import Program
from jaxrl.train.runner import Result, Runner
from jaxrl.train.trust import NOBODY, Trust
from jaxrl.types import PyTree

SINK_PACKAGES = {"tensorboard": "tensorboardX", "wandb": "wandb"}


class Begun(NamedTuple):
    """Where a session of a run begins, and what its checkpoint says besides."""

    state: PyTree
    iteration: int
    metadata: dict[str, Any]  # seconds trained, and what the checkpoint vouches for


def train(
    experiment: Experiment,
    folder: Path | str | None = None,
    *,
    overwrite: bool = False,
    sinks: tuple[str, ...] = (),
    console: Console | None = None,
    profiled: bool = False,
    note: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> Result:
    """Train from the beginning into a new run folder, runs/ALGORITHM-ENVIRONMENT-TIME unless named.

    `profiled`: measure and trace some iterations first. `note` is printed once there is nothing to
    refuse. `callbacks` are called between chunks (jaxrl/train/callbacks.py).
    """
    console = console or Console(quiet=True)
    check_request(sinks, profiled)
    check_callbacks(callbacks)
    program = build(experiment)  # refuses what cannot work before there is a folder
    if note:
        console.note(note)

    def fresh_folder() -> str:
        return str(run_folder.fresh_folder(experiment.algorithm, experiment.environment))

    path = Path(folder or distributed.broadcast_text(fresh_folder))
    description = resuming.describe(experiment, program)
    asked = {"command": "train", "folder": path, "overwrite": overwrite, "sinks": sinks}
    distributed.check_agreed(description | asked)
    # Before anything is touched.
    distributed.on_first_process(lambda: run_folder.check_free(path, overwrite))
    with locked(path):
        distributed.on_first_process(lambda: run_folder.create(path, description, overwrite))
        with _withdrawn_unless_begun(path):
            runner = Runner(experiment, program, path, sinks, console, callbacks=callbacks)
            state = program.init()
            if profiled:
                profile(program, state, path, runner.console)
            return runner.run(state, iteration=0, seconds=0.0)


@contextmanager
def _withdrawn_unless_begun(folder: Path) -> Iterator[None]:
    """Of a new run that fails before it has recorded anything, leave nothing to refuse the next."""
    try:
        yield
    except Exception:
        if distributed.is_first():
            run_folder.withdraw(folder)
        raise


def resume(
    folder: Path | str,
    *,
    changes: dict[str, Any] | None = None,
    sharing: dict[str, Any] | None = None,
    force: bool = False,
    sinks: tuple[str, ...] = (),
    console: Console | None = None,
    trust: Trust = NOBODY,
    callbacks: Sequence[Callback] = (),
) -> Result:
    """Go on from the newest whole checkpoint. `changes` to the configuration need `force`.

    Other devices do not: `sharing` holds `devices` and `mesh`, where they are to replace the run's
    own. A run that was killed before its first checkpoint begins again; one that is finished is
    left as it is. Code that the folder names is imported only as far as `trust` goes. A run that
    had `callbacks` goes on with those of the same names, unless forced to.
    """
    console = console or Console(quiet=True)
    check_request(sinks)
    check_callbacks(callbacks)
    if comes_with_jaxrl(folder):
        raise JaxrlError(
            f"{folder} is part of jaxrl, a policy that cannot be trained on. A run of your own may "
            f"begin from it: jaxrl train … --init-from {folder}"
        )
    path = Path(folder)
    run_folder.read_description(path)  # what is no run folder gets no lock either
    distributed.on_first_process(lambda: run_folder.refuse_links(path))
    with locked(path):
        old = run_folder.read_description(path)
        trust.check(old, path)  # whatever else may be wrong, code is named first
        resuming.check_unedited(path, old, Checkpoints(path).vouched(), force)
        experiment, program = reopen(path, old, changes or {}, sharing, trust)
        new = resuming.describe(experiment, program)
        asked = {"command": "resume", "folder": path, "force": force, "sinks": sinks}
        distributed.check_agreed(new | asked)
        checkpoints = Checkpoints(path)
        begun = _begin(checkpoints, experiment, program, old, new, force)
        steering = resuming.steering(path, begun.metadata, callbacks, program.env, force)
        if text := resuming.note(old, new):
            console.note(text)
        runner = Runner(
            experiment,
            program,
            path,
            sinks,
            console,
            checkpoints=checkpoints,
            callbacks=callbacks,
            steering=steering,
        )
        return runner.run(begun.state, begun.iteration, begun.metadata.get("seconds", 0.0))


def _begin(
    checkpoints: Checkpoints,
    experiment: Experiment,
    program: Program,
    old: dict[str, Any],
    new: dict[str, Any],
    force: bool,
) -> Begun:
    """Where a run goes on: its folder checked first, then brought back to that moment."""
    folder = checkpoints.path.parent
    resuming.check_same(folder, old, new, force)
    if checkpoints.iterations() and old.get("samples_per_step") != new["samples_per_step"]:
        raise JaxrlError(
            "num_envs and num_steps cannot change in a run: its iterations would count other "
            "transitions."
        )
    begun = _newest(checkpoints, program)
    check_effect(folder, experiment.config, old, new, begun.iteration)
    kept = begun.iteration if checkpoints.iterations() else -1

    def rewind() -> None:
        resuming.rewind(folder, kept, begun.metadata)
        resuming.rewrite(folder, old, new, max(kept, 0), begun.metadata)
        resuming.set_aside_other_evaluations(folder, program)

    distributed.on_first_process(rewind)
    return begun


def _newest(checkpoints: Checkpoints, program: Program) -> Begun:
    """The newest whole checkpoint, or the beginning."""
    resuming.check_seen(max(checkpoints.iterations(), default=-1), "checkpoints")
    if not checkpoints.iterations():
        return Begun(program.init(), 0, {})
    restored = checkpoints.restore_latest(program.abstract_state())
    resuming.check_seen(restored.iteration, "checkpoints")
    for problem in restored.problems:
        warnings.warn(
            f"{problem}; going on from iteration {restored.iteration}", RunWarning, stacklevel=4
        )
    return Begun(program.place(restored.state), restored.iteration, restored.metadata)


def check_request(sinks: tuple[str, ...], profiled: bool = False) -> None:
    """Refuse what cannot be had before there is a folder, or a run is overwritten."""
    for name in sinks:
        if name not in SINK_PACKAGES:
            raise unknown("sink", name, SINK_PACKAGES)
        package = SINK_PACKAGES[name]
        if not installed(package):
            raise JaxrlError(
                f"{name} needs the package {package}. Install it with: "
                f"{install_command('jaxrl[track]')}"
            )
        try:
            importlib.import_module(package)
        except Exception as error:  # what is damaged raises whatever it likes
            raise JaxrlError(
                f"{name} needs the package {package}, whose import fails: "
                f"{type(error).__name__}: {error}"
            ) from error
    if profiled and distributed.are_several():
        raise JaxrlError(
            "--profile measures a run in one process: leave out --coordinator or --distributed."
        )
