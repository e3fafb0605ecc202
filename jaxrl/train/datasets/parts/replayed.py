"""A training run as a dataset: what its replay buffer holds, as episodes again."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.recorded import Recorded
from jaxrl.data.replay import Row
from jaxrl.nn.action_units import scale_action
from jaxrl.train.callbacks import Callback, Pause
from jaxrl.train.experiment import Experiment
from jaxrl.train.loop import train
from jaxrl.train.recorder import replay_rows
from jaxrl.train.signals import Interrupted
from jaxrl.types import Space


def replayed(experiment: Experiment, stop: Callback) -> Row:
    """The replay buffer of a training that ends where `stop` ends it; its folder is removed.

    A signal that ends it before leaves nothing: `Interrupted`.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        result = train(experiment, folder, callbacks=[stop])
        if result.signal:
            raise Interrupted(result.signal)
        return replay_rows(folder)


def stop_at(wanted: float) -> Callback:
    """Ends a run that has trained, and has just earned `wanted` on average."""

    def stop(pause: Pause) -> None:
        if pause.iteration and pause.returns:
            returns = next(iter(pause.returns.values()))
            if np.mean(returns, dtype=np.float64) >= wanted:
                pause.stop()

    return stop


def stop_after(transitions: int) -> Callback:
    """Ends a run that has made so many transitions."""

    def stop(pause: Pause) -> None:
        if pause.transitions >= transitions:
            pause.stop()

    return stop


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
