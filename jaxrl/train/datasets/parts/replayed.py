"""A training run as a dataset: what its replay buffer held at a moment, as episodes again."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.analysis.runs import load_run
from jaxrl.data.recorded import Recorded
from jaxrl.data.replay import Row
from jaxrl.nn.actor_critic import scale_action
from jaxrl.train.api import train
from jaxrl.train.experiment import RunSettings
from jaxrl.train.recorder import replay_rows
from jaxrl.types import Space


class Trained(NamedTuple):
    """A finished run of one seed: what it did, and how good it was."""

    rows: Row  # of all its steps, the first one first
    transitions: np.ndarray  # after how many it was evaluated, [K]
    returns: np.ndarray  # mean returns of the evaluations, [K]

    def until(self, wanted: float) -> Row:
        """The rows before the first evaluation with a return of `wanted`; all if none had it."""
        good = self.returns >= wanted
        point = good.argmax() if good.any() else -1
        return jax.tree.map(lambda leaf: leaf[: self.transitions[point]], self.rows)


def trained(algorithm: str, environment: str, num_evaluations: int, **settings: Any) -> Trained:
    """Train, with a replay buffer that keeps everything, in a folder that is then removed."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        run = RunSettings(num_evaluations=num_evaluations, devices=1)
        train(algorithm, environment, run=run, folder=folder, progress=False, **settings)
        found = load_run(folder)
        return Trained(
            replay_rows(folder), found.evaluations["transitions"], found.returns()[:, 0, 0]
        )


def episodes_of(rows: Row, action_space: Space, about: dict[str, Any]) -> Recorded:
    """The episodes of a replay buffer, those of each environment in turn.

    The last one of an environment is cut where the buffer ends.
    """
    order = np.argsort(rows.environment, kind="stable")
    rows = jax.tree.map(lambda leaf: leaf[order], rows)
    terminated, environment = np.asarray(rows.terminated), np.asarray(rows.environment)
    is_last = np.append(environment[1:] != environment[:-1], True)
    truncated = (np.asarray(rows.truncated) | is_last) & ~terminated
    ends = np.flatnonzero(terminated | truncated)
    return Recorded(
        observation=rows.observation,
        action=np.asarray(scale_action(jnp.asarray(rows.action), action_space, squash=False)),
        reward=np.asarray(rows.reward),
        terminated=terminated,
        truncated=truncated,
        final_observation=rows.final_observation[ends],
        length=np.diff(ends, prepend=-1).astype(np.int32),
        about=about,
    )
