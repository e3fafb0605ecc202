"""Policies of run folders, read for use: to be evaluated, filmed, followed or tried from Python."""

from __future__ import annotations

import dataclasses
import functools
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxrl.algos.registry import load
from jaxrl.analysis.ranking import best_member, member_scores
from jaxrl.analysis.records import ranking_returns
from jaxrl.config import override
from jaxrl.envs.api import Environment
from jaxrl.envs.registry import make
from jaxrl.errors import JaxrlError, RunWarning, check_choice, check_positive_int, check_seed
from jaxrl.train import members, resuming
from jaxrl.train.devices import jax_settings
from jaxrl.train.experiment import Experiment, described_by
from jaxrl.train.files import logs
from jaxrl.train.files.checkpoint import Checkpoints, Restored
from jaxrl.train.files.folder import read_description
from jaxrl.train.members import Members
from jaxrl.train.modes import choose
from jaxrl.train.player import Player, make_player
from jaxrl.train.pretrained import comes_with_jaxrl
from jaxrl.train.trust import NOBODY, Trust
from jaxrl.types import Agent, PyTree


class Saved(NamedTuple):
    """Policies of a run, or of some of its members, with what plays them on one device."""

    experiment: Experiment  # of those members alone
    player: Player
    policies: PyTree  # leaves [H, S, ...], or [...] of a single member
    iteration: int  # of the checkpoint; a member's best policy may be older

    @property
    def env(self) -> Environment:
        """What they were trained on."""
        return self.player.population.env

    @property
    def agent(self) -> Agent:
        """What acts with the policy of a single member."""
        return agent_of(self.experiment)


def agent_of(experiment: Experiment) -> Agent:
    """The agent of an experiment without a sweep; the same one for the same settings."""
    described = experiment.description()
    options = json.dumps(described["environment_options"], sort_keys=True)
    config = json.dumps(described["config"], sort_keys=True)
    return _agent(experiment.algorithm, experiment.environment, options, config)


@functools.lru_cache(maxsize=64)
def _agent(algorithm: str, environment: str, options: str, config: str) -> Agent:
    spec = load(algorithm)
    env = make(environment, **json.loads(options))
    return spec.agent(env, override(spec.config_class(), json.loads(config)))


def experiment_of(folder: Path | str, trust: Trust = NOBODY) -> Experiment:
    """The experiment that a run folder holds."""
    return Experiment.from_description(read_description(folder), folder, trust)


def open_policy(
    folder: Path,
    checkpoint: str,
    *,
    member: Sequence[str] = (),
    modes: Sequence[str] = (),
    trust: Trust = NOBODY,
) -> Saved:
    """The policy of one member: the best of those that `member` describes, with a word on which."""
    experiment, player, restored = _restore(folder, checkpoint, modes, trust)
    policies = restored.state
    shape = player.population.shape
    found = members.matching(experiment, member)
    setting, seed = found.settings[0], found.seeds[0]
    if not found.are_one:
        scores = last_scores(folder, shape)[np.ix_(found.settings, found.seeds)]
        row, column = best_member(scores)
        setting, seed = found.settings[row], found.seeds[column]
        name = members.name_of(experiment, setting, seed)
        text = (
            f"{folder} has {scores.size} members to choose from: the best is taken, {name} "
            "(--member takes another)"
        )
        warnings.warn(text, RunWarning, stacklevel=3)
    alone = experiment.alone(setting, seed)
    if player.population.is_population:
        policies = jax.tree.map(lambda leaf: leaf[setting, seed], policies)
    return Saved(alone, make_player(alone), policies, restored.iteration)


def open_policies(
    folder: Path,
    checkpoint: str,
    num_episodes: int,
    seed: int,
    *,
    member: Sequence[str] = (),
    modes: Sequence[str] = (),
    trust: Trust = NOBODY,
) -> Saved:
    """The policies of all members that `member` describes, to be evaluated on episodes of `seed`.

    In the `modes` that are given, or else in those that the run itself evaluates.
    """
    check_positive_int("episodes", num_episodes)
    experiment, player, restored = _restore(folder, checkpoint, modes, trust)
    policies = restored.state
    found = members.matching(experiment, member)
    check_seed(seed, len(experiment.seeds()))
    if player.population.is_population:
        policies = _rows(policies, found)
    some = experiment.restricted(found.settings, found.seeds)
    run = dataclasses.replace(some.run, evaluation_episodes=num_episodes)
    some = dataclasses.replace(some, run=run)
    # Each seed's episodes are the same whether it is evaluated alone or with the others.
    return Saved(some, make_player(some, seed + found.seeds[0]), policies, restored.iteration)


def last_policies(folder: Path, trust: Trust = NOBODY) -> Saved:
    """The last policies of a run, of all its members; of an agent of ours, the one that it has."""
    checkpoint = "best" if comes_with_jaxrl(folder) else "last"
    experiment, player, restored = _restore(folder, checkpoint, (), trust)
    return Saved(experiment, player, restored.state, restored.iteration)


def _rows(policies: PyTree, found: Members) -> PyTree:
    """The policies of some members of a population; without member axes if it is one."""
    if found.are_one:
        return jax.tree.map(lambda leaf: leaf[found.settings[0], found.seeds[0]], policies)
    settings, seeds = np.asarray(found.settings), np.asarray(found.seeds)
    return jax.tree.map(lambda leaf: leaf[settings][:, seeds], policies)


def _restore(
    folder: Path, checkpoint: str, modes: Sequence[str], trust: Trust
) -> tuple[Experiment, Player, Restored]:
    """A run's experiment, what plays its policies on one device, and those of a checkpoint.

    The experiment is to be evaluated in `modes`, where some are given.
    """
    if not checkpoint.isdecimal():
        check_choice("checkpoint", checkpoint, ("best", "last"))
    description = read_description(folder)
    experiment = Experiment.from_description(description, folder, trust)
    experiment = dataclasses.replace(
        experiment, run=dataclasses.replace(experiment.run, devices=1, mesh=())
    )
    checkpoints = Checkpoints(folder)
    # Said first: it may be the reason why what follows fails.
    said = _say_edited(folder, description, checkpoints.vouched())
    if others := jax_settings.others(description):
        text = f"{folder} was trained under other settings of JAX: {'; '.join(others)}"
        warnings.warn(text, RunWarning, stacklevel=4)
    with described_by(folder):
        player = make_player(experiment)
        abstract_policies = player.abstract_policies()
    if modes:  # apart from the run's own: what is wrong with them is not wrong with the folder
        choose(modes, player.agent().modes, experiment.algorithm)
        experiment = dataclasses.replace(
            experiment, run=dataclasses.replace(experiment.run, modes=tuple(modes))
        )
    if checkpoint == "best":
        restored = checkpoints.restore_best(abstract_policies)
        if np.shape(restored.metadata.get("scores", ())) != player.population.shape:
            text = f"{checkpoints.path}/best-… has scores of another run's members"
            warnings.warn(text, RunWarning, stacklevel=4)
    elif checkpoint == "last":
        restored = checkpoints.restore_latest_policies(abstract_policies)
    else:
        restored = checkpoints.restore_kept(int(checkpoint), abstract_policies)
    for problem in restored.problems:
        warnings.warn(
            f"{problem}; iteration {restored.iteration} is used instead", RunWarning, stacklevel=4
        )
    if checkpoint == "last" and not restored.problems:
        _warn_of_later_records(folder, restored.iteration)
    if not said:
        _say_edited(folder, description, restored.metadata)
    return experiment, player, restored


def _say_edited(folder: Path, description: dict[str, Any], vouched: dict[str, Any]) -> bool:
    """Warn of a config.json that says otherwise than a checkpoint, and return whether it does."""
    changes = resuming.edited(description, vouched)
    if changes:
        text = (
            f"{folder}/config.json was changed by hand since the checkpoint was made: "
            f"{'; '.join(changes)}"
        )
        warnings.warn(text, RunWarning, stacklevel=5)
    return bool(changes)


def _warn_of_later_records(folder: Path, iteration: int) -> None:
    """Say so where evaluations tell of a later checkpoint: each is written after its own."""
    try:
        evaluated = max(logs.points(logs.load_evaluations(folder)), default=-1)
    except JaxrlError:  # nothing here depends on them
        return
    if evaluated > iteration:
        text = (
            f"{folder}/checkpoints has lost the checkpoint of iteration {evaluated}: {iteration} "
            "is used instead"
        )
        warnings.warn(text, RunWarning, stacklevel=5)


def last_scores(folder: Path, shape: tuple[int, int]) -> np.ndarray:
    """What ranks the members of a run, [H, S]: the mean return of the last evaluation.

    Its first mode counts. If evaluations.npz cannot be read, the scores that the best checkpoint
    keeps.
    """
    try:
        evaluations = logs.load_evaluations(folder)
        why = "" if evaluations else f"{folder} has no evaluations"
    except JaxrlError as error:
        evaluations, why = {}, str(error)
    if evaluations and ranking_returns(evaluations).shape[1:3] != shape:
        evaluations = {}
        settings, seeds = shape
        why = f"the evaluations in {folder} are not those of {settings} settings and {seeds} seeds"
    if evaluations:
        return member_scores(ranking_returns(evaluations)[-1])
    kept = Checkpoints(folder).best()
    scores = np.asarray(kept[0].get("scores", ()) if kept else (), np.float64)
    if scores.shape != shape:
        raise JaxrlError(f"{why}, so its best member is not known. Name one: --member.")
    warnings.warn(
        f"{why}; members are ranked by their best evaluations instead", RunWarning, stacklevel=4
    )
    return scores
