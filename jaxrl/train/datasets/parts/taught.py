"""Datasets of the teachers: what their policies do, and what they did while they learned."""

from __future__ import annotations

import functools
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxrl.data import recorded
from jaxrl.data.recorded import Recorded, describe
from jaxrl.data.replay import Row
from jaxrl.envs.registry import make
from jaxrl.errors import JaxrlError, RunWarning
from jaxrl.train import pretrained
from jaxrl.train.datasets.parts.playing import play_steps, until_terminated, whole_episodes
from jaxrl.train.datasets.parts.replayed import episodes_of, replayed, stop_after
from jaxrl.train.experiment import Experiment, versions
from jaxrl.train.files.folder import differences, read_description
from jaxrl.train.recorder import replay_rows
from jaxrl.train.saved import experiment_of, open_policy

# Mean returns of 100 episodes: of uniformly random actions (`playing.mean_return` with seed 0), and
# of the expert, deterministic (experiments/results/teachers.md).
REFERENCE_SCORES = {
    "Hopper-v5": (18.985, 2986.693),
    "HalfCheetah-v5": (-273.814, 8897.305),
    "Walker2d-v5": (1.093, 3845.231),
}
LEVELS = ("medium", "expert")
ROWS = 200_000  # of each policy
FEW = 20  # a small dataset has one row of so many
# The training of a small dataset, and how many of its rows are kept.
SMALL_TRAINING: dict[str, Any] = {
    "total_steps": 3_000,
    "num_steps": 100,
    "replay_capacity": 3_000,
    "warm_up": 500,
    "batch_size": 32,
    "hidden_sizes": (16,),
}
SMALL_ROWS = 2_000
CPU_SECONDS_PER_TRANSITION = 4.2e-3  # of a teacher's training, on a core of its own


# ---- What they do


def played(
    name: str,
    task: str,
    *levels: str,
    small: bool,
    seed: int,
    mode: str = "stochastic",
    num_rows: int = ROWS,
) -> Recorded:
    """`num_rows` rows of each teacher of a task, one level after the other.

    The last episode of each is cut where the number is reached. With the same mode, number and seed
    the rows of a level are the same in every dataset.
    """
    wanted = num_rows // FEW if small else num_rows
    parts = [_rows_of(task, level, mode, wanted, seed) for level in levels]
    policies = ", then as many of ".join(f"{pretrained.PREFIX}{task}/{level}" for level in levels)
    about = describe(
        name,
        f"{wanted:,} steps of {policies}, {mode}: whole episodes, but for the last one of each, "
        "which is cut",
        environment=task,
        reference_scores=REFERENCE_SCORES[task],
        seed=seed,
        small=small,
    )
    arrays = {
        array: np.concatenate([getattr(part, array) for part in parts])
        for array in recorded.STEPS + recorded.EPISODES
    }
    return Recorded(**arrays, about=about)


def _rows_of(task: str, level: str, mode: str, wanted: int, seed: int) -> Recorded:
    """`wanted` rows of a teacher, played in rounds of as many episodes as could be enough."""
    saved = open_policy(pretrained.located(f"{pretrained.PREFIX}{task}/{level}"), "best")
    act = functools.partial(saved.agent.modes[mode].act, saved.policies)
    num_episodes, horizon = -(-wanted // saved.env.horizon), saved.env.horizon
    key = jax.random.fold_in(jax.random.key(seed), LEVELS.index(level))
    rounds: list[dict[str, np.ndarray]] = []
    while sum(int(until_terminated(each).sum()) for each in rounds) < wanted:
        key_round = jax.random.fold_in(key, len(rounds))
        rounds.append(play_steps(saved.env, act, num_episodes, horizon, key_round))
    steps = {name: np.concatenate([each[name] for each in rounds]) for name in rounds[0]}
    return whole_episodes(steps, until_terminated(steps), {}, wanted)


# ---- What they did while they learned


def learned(name: str, task: str, *, small: bool, seed: int) -> Recorded:
    """Every row up to the medium teacher's checkpoint, whatever its length.

    The teacher's training is run again up to there, with `seed` added to its own; or else, where
    its run folder is at hand (jaxrl/train/pretrained), the rows are taken from that. A small one is
    of a small network, always trained.
    """
    training, num_rows = training_of(task)
    training = replace(training, run=replace(training.run, seed=training.run.seed + seed))
    found = None if small else pretrained.training(task)
    if small:
        num_rows = SMALL_ROWS
        run = replace(training.run, num_evaluations=1, evaluation_episodes=1, keep_policies=False)
        training = replace(training.changed(SMALL_TRAINING), run=run)
    if found is None:
        if not small:
            warnings.warn(_told(name, task, num_rows), RunWarning, stacklevel=2)
        rows, trained_with = replayed(training, stop_after(num_rows)), versions(task)
    else:
        rows, trained_with = _rows_at_hand(found, training, num_rows)
    rows = jax.tree.map(lambda leaf: leaf[:num_rows], rows)
    about = describe(
        name,
        f"the first {num_rows:,} rows of the replay buffer of SAC, seed {training.run.seed}: "
        f"{training.config.warm_up:,} random ones, then all up to "
        + ("an early end" if small else f"the checkpoint of {pretrained.PREFIX}{task}/medium"),
        environment=task,
        reference_scores=REFERENCE_SCORES[task],
        seed=seed,
        small=small,
        cannot_be_remade="all rows after the random ones are of policies that are not kept: they "
        "are had from the run folder of that training alone, or by training again, which gives "
        "the same bits with the same versions on the same kind of processor, and elsewhere "
        "another run of the same settings",
        trained_with=trained_with,
    )
    return episodes_of(rows, make(task).action_space, about)


def training_of(task: str) -> tuple[Experiment, int]:
    """The training that made the teachers of a task, and its transitions up to the medium one."""
    folder = pretrained.located(f"{pretrained.PREFIX}{task}/medium")
    iteration = open_policy(folder, "best").iteration
    return experiment_of(folder), iteration * read_description(folder)["samples_per_step"]


def _told(name: str, task: str, transitions: int) -> str:
    """What is said before a training."""
    return (
        f"{name} trains SAC for {transitions:,} transitions, some "
        f"{transitions * CPU_SECONDS_PER_TRANSITION / 60:.0f} minutes of a core. If the teacher's "
        f"run folder is FOLDER/{task}, {pretrained.TRAININGS}=FOLDER takes its rows instead"
    )


def _rows_at_hand(folder: Path, training: Experiment, wanted: int) -> tuple[Row, dict[str, str]]:
    """The replay buffer of a run folder, and the versions that it was trained with.

    Refused if it is not of that training, or has not come as far.
    """
    description = read_description(folder)
    found = differences(_decisive(training), _decisive(experiment_of(folder)))
    if found:
        lines = "\n".join(f"  {line}" for line in found)
        raise JaxrlError(
            f"{folder} is not the run that is wanted, but differs in:\n{lines}\n"
            f"Name another folder with {pretrained.TRAININGS}, or unset it to train here."
        )
    rows = replay_rows(folder)
    if (have := len(rows.reward)) < wanted:
        raise JaxrlError(
            f"{folder} has {have:,} transitions, but {wanted:,} are wanted: go on with it (jaxrl "
            f"resume), or unset {pretrained.TRAININGS} to train here."
        )
    return rows, description["versions"]


def _decisive(experiment: Experiment) -> dict[str, Any]:
    """What of an experiment decides what is in its replay buffer."""
    described = experiment.description()
    return {
        **{name: described[name] for name in ("algorithm", "environment", "environment_options")},
        **described["config"],
        "sweep": described["sweep"],
        "seed": experiment.run.seed,
        "num_seeds": experiment.run.num_seeds,
        "init_from": experiment.run.init_from,
    }
