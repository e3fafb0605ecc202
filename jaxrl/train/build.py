"""An experiment's programs: everything checked, its inputs read, and nothing compiled yet."""

from __future__ import annotations

import contextlib
import inspect
from pathlib import Path
from typing import Any

import jax

from jaxrl.algos.registry import load
from jaxrl.envs.registry import make
from jaxrl.errors import JaxrlError
from jaxrl.train.devices import layout
from jaxrl.train.devices.layout import LayoutError
from jaxrl.train.experiment import Experiment, described_by
from jaxrl.train.inputs import read_first_policies, read_inputs
from jaxrl.train.measures import read_measures
from jaxrl.train.modes import choose
from jaxrl.train.program import Program
from jaxrl.train.trust import Trust


def build(experiment: Experiment) -> Program:
    """The programs that train and evaluate an experiment."""
    run = experiment.check()
    spec = load(experiment.algorithm)
    env = make(experiment.environment, **experiment.environment_options)
    num_settings = len(experiment.settings())
    splits = "shards" in inspect.signature(spec.factory).parameters
    shared = layout.choose(experiment.config, num_settings * run.num_seeds, run.devices, tuple(run.mesh), splits)
    read = read_inputs(spec.factory, experiment.config, experiment.environment, env, experiment.trust)
    assert run.evaluation_episodes is not None
    program = Program(
        spec.factory,
        env,
        experiment.swept_config(),
        experiment.seeds(),
        inputs={name: each.value for name, each in read.items()},
        make_agent=spec.agent,
        num_settings=num_settings,
        num_episodes=run.evaluation_episodes,
        modes=choose(run.modes, spec.agent(env, experiment.config).modes, experiment.algorithm),
        layout=shared,
        measures=read_measures(run.measures),
    )
    if run.begin_from:
        if program.algorithm.begin_from is None:
            raise JaxrlError(f"{experiment.algorithm} cannot begin from another run's policy: leave out begin_from.")
        read["begin_from"] = read_first_policies(experiment, program.player)
        program.first_policies = read["begin_from"].value
    program.checksums = {name: each.sha256 for name, each in read.items()}
    return program


def reopen(
    folder: Path | str, old: dict[str, Any], changes: dict[str, Any], sharing: dict[str, Any] | None, trust: Trust
) -> tuple[Experiment, Program]:
    """The run that `old` describes, with changes to its configuration and, where given, other `devices` and `mesh`."""
    described = old if sharing is None else old | {"run": old.get("run", {}) | sharing}
    experiment = Experiment.from_description(described, folder, trust).changed(changes)
    trust.check_measures(described, folder)
    try:
        with described_by(folder) if not changes else contextlib.nullcontext():
            return experiment, build(experiment)
    except LayoutError as error:
        if sharing is not None:
            raise
        anew = f"jaxrl resume {folder} --devices {len(jax.devices())}"
        raise LayoutError(f"{error} The run was begun so; share it in another way: {anew}") from error
