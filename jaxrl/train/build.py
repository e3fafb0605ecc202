"""An experiment's programs: everything checked, its inputs read, and nothing compiled yet."""

from __future__ import annotations

import contextlib
import inspect
import itertools
from pathlib import Path
from typing import Any

import jax

from jaxrl.algos.registry import agent_beside, load, no_agent
from jaxrl.envs.registry import make
from jaxrl.errors import JaxrlError
from jaxrl.train.capacity import check_episodes, check_state
from jaxrl.train.devices import layout
from jaxrl.train.devices.layout import LayoutError
from jaxrl.train.experiment import Experiment, described_by
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.state_arrays import refuse_logs
from jaxrl.train.inputs import InputError, read_first_policies, read_inputs
from jaxrl.train.measures import read_measures
from jaxrl.train.modes import choose
from jaxrl.train.program import Program
from jaxrl.train.trust import Trust
from jaxrl.types import PyTree


def build(experiment: Experiment, begun_from: str | None = None) -> Program:
    """The programs that train and evaluate an experiment.

    begun_from: the checksum of the policies that it began from, where it has begun: what became of
                them is in its checkpoints, and they are not read again.
    """
    run = experiment.check()
    spec = load(experiment.algorithm)
    env = make(experiment.environment, **experiment.environment_options)
    num_settings = len(experiment.settings())
    splits = "shards" in inspect.signature(spec.factory).parameters
    shared = layout.choose(
        experiment.config, num_settings * run.num_seeds, run.devices, tuple(run.mesh), splits
    )
    read = read_inputs(
        spec.factory, experiment.config, experiment.environment, env, experiment.trust
    )
    if read and agent_beside(spec.factory) is None:
        raise no_agent(spec.factory, f"this run reads {' and '.join(read)}")
    assert run.evaluation_episodes is not None
    inputs = {name: each.value for name, each in read.items()}
    num_members = num_settings * run.num_seeds
    config = experiment.swept_config()
    check_state(spec.factory, env, config, inputs, num_members)
    agent = spec.agent(env, experiment.config)
    check_episodes(env, agent, run.evaluation_episodes, num_members)
    program = Program(
        spec.factory,
        env,
        config,
        experiment.seeds(),
        inputs=inputs,
        make_agent=spec.agent,
        num_settings=num_settings,
        num_episodes=run.evaluation_episodes,
        modes=choose(run.modes, agent.modes, experiment.algorithm),
        layout=shared,
        measures=read_measures(run.measures),
    )
    if run.init_from:
        if program.algorithm.begin_from is None:
            raise JaxrlError(
                f"{experiment.algorithm} cannot begin from another run's policy: leave out "
                "init_from."
            )
        if begun_from is None:
            read["init_from"] = read_first_policies(experiment, program.player)
            program.first_policies = read["init_from"].value
    program.checksums = {name: each.sha256 for name, each in read.items()}
    if begun_from is not None:
        program.checksums["init_from"] = begun_from
    check_policies(program, experiment.algorithm)
    return program


def check_policies(program: Program, algorithm: str) -> None:
    """Refuse policies that cannot be saved or are not the agent's, before the training."""
    found = program.abstract_policies()
    refuse_logs(found)
    of_agent = _leaves(program.player.abstract_policies())
    of_state = _leaves(found)
    for expected, given in itertools.zip_longest(of_agent, of_state, fillvalue="nothing"):
        if expected != given:
            raise JaxrlError(
                f"a policy of {algorithm} is not what its agent's init makes: {given} where that "
                f"has {expected}. Once saved, it could not be read back."
            )


def _leaves(tree: PyTree) -> list[str]:
    """The path, type and shape of every leaf, as text."""
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [
        f"policy{jax.tree_util.keystr(path)} {leaf.dtype.name}{list(leaf.shape)}"
        for path, leaf in leaves
    ]


def reopen(
    folder: Path | str,
    old: dict[str, Any],
    changes: dict[str, Any],
    sharing: dict[str, Any] | None,
    trust: Trust,
) -> tuple[Experiment, Program]:
    """The run that `old` describes, with changes to its configuration.

    `sharing` holds other `devices` and `mesh`, where they are given. Of a run that was begun from
    another one, `changes` may say where that has moved to; it is read where there is no checkpoint.
    """
    run = old.get("run", {})
    moved = {
        name: value for name, value in changes.items() if name == "init_from" and run.get(name)
    }
    described = old | {"run": run | (sharing or {}) | moved}
    changes = {name: value for name, value in changes.items() if name not in moved}
    experiment = Experiment.from_description(described, folder, trust).changed(changes)
    for name in changes:
        if name in experiment.sweep:
            raise JaxrlError(
                f"{name} is swept in {folder}, over {', '.join(map(str, experiment.sweep[name]))}: "
                f"to set it has no effect. Train the one value by itself, or sweep anew."
            )
    trust.check_measures(described, folder)
    has_begun = not moved and Checkpoints(folder).iterations()
    begun_from = old.get("inputs", {}).get("init_from") if has_begun else None
    try:
        # Where the user has changed something, the folder is not to blame.
        blamed = contextlib.nullcontext() if changes or moved else described_by(folder)
        with blamed:
            return experiment, build(experiment, begun_from)
    except InputError as error:
        advice = f"If it has moved, say where to: jaxrl resume {folder} --set {error.name}=PATH"
        raise JaxrlError(f"{error} {advice}") from error
    except LayoutError as error:
        if sharing is not None:
            raise
        anew = f"jaxrl resume {folder} --devices {len(jax.devices())}"
        raise LayoutError(
            f"{error} The run was begun so; share it in another way: {anew}"
        ) from error
