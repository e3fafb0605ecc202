"""Callbacks: functions of your own that a run calls between chunks, to log, stop or steer it.

    def stop_when_solved(pause: Pause) -> None:
        if pause.returns and pause.returns["deterministic"].mean() > 475:
            pause.stop()

    jaxrl.train("ppo", "CartPole-v1", callbacks=[stop_when_solved])

A callback is called before the first chunk of a session and after each one. What it sets holds from
the next chunk on and is saved with every checkpoint. It needs no compilation: the numbers of a
configuration and of an environment are arguments of the compiled programs. Evaluations keep to the
configuration and the environment that the run began with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.config import check, override, sweepable
from jaxrl.envs.api import Environment
from jaxrl.errors import JaxrlError, unknown
from jaxrl.types import PyTree


@dataclass
class Steering:
    """What callbacks have changed: the environment, and numbers of the configuration by name."""

    numbers: dict[str, float] = field(default_factory=dict)
    env: Environment | None = None

    @property
    def has_changes(self) -> bool:
        """Whether anything is to be other than it was at first."""
        return bool(self.numbers) or self.env is not None

    def saved(self) -> dict[str, Any]:
        """As a checkpoint keeps it: plain data. A float32 is exact as the float of JSON."""
        leaves = (
            None
            if self.env is None
            else [np.asarray(leaf).tolist() for leaf in jax.tree.leaves(self.env)]
        )
        return {"numbers": dict(self.numbers), "env": leaves}

    @staticmethod
    def restored(saved: dict[str, Any], env: Environment) -> Steering:
        """What a checkpoint kept, of a run whose environment was `env` at first."""
        if saved.get("env") is None:
            return Steering(dict(saved.get("numbers", {})))
        leaves, structure = jax.tree.flatten(env)
        values = [
            jnp.asarray(value, jnp.asarray(leaf).dtype)
            for value, leaf in zip(saved["env"], leaves, strict=True)
        ]
        return Steering(dict(saved["numbers"]), jax.tree.unflatten(structure, values))


@dataclass
class Pause:
    """A run between two chunks, as a callback sees it.

    metrics: the row of metrics of the chunk before, [H, S] or [] by name; {} before the first one.
    returns: [H, S, E] by mode where the policies have just been evaluated, else {}.
    config:  the configuration that the next chunk is trained with; the first one's of a sweep.
    env:     the environment that the next chunk is trained in.
    """

    folder: Path
    iteration: int
    num_iterations: int
    transitions: int
    metrics: dict[str, np.ndarray]
    returns: dict[str, np.ndarray]
    config: Any
    env: Environment
    steering: Steering
    stopping: bool = False

    def stop(self) -> None:
        """End the run here, with everything saved; it can be resumed."""
        self.stopping = True

    def set(self, **numbers: float) -> None:
        """Train on with other numbers of the configuration: `pause.set(learning_rate=1e-4)`.

        They are named as options are. They hold for all members of a population, in place of those
        that are swept too.
        """
        for name in numbers:
            if name not in sweepable(self.config):
                raise unknown("number of the configuration", name, sweepable(self.config))
        changed = override(self.config, numbers)
        check(changed)
        self.config = changed
        self.steering.numbers |= {name: float(value) for name, value in numbers.items()}

    def set_env(self, env: Environment) -> None:
        """Train on with other environment parameters: `set_env(pause.env.replace(gravity=9.0))`."""
        if _shapes(env) != _shapes(self.env):
            raise JaxrlError(
                f"the environment is to be replaced by a {type(env).__name__} of other shapes, "
                f"types or sizes than the run's {type(self.env).__name__}: only its numbers can "
                "change."
            )
        self.env = env
        self.steering.env = env


Callback = Callable[[Pause], None]


def check_callbacks(callbacks: Sequence[Callback]) -> None:
    """Refuse what cannot be called."""
    for callback in callbacks:
        if not callable(callback):
            raise JaxrlError(f"a callback is {callback!r}, but must be a function of a Pause.")


def names_of(callbacks: Sequence[Callback]) -> list[str]:
    """What callbacks are called."""
    return [
        getattr(callback, "__qualname__", type(callback).__qualname__) for callback in callbacks
    ]


def _shapes(env: Environment) -> PyTree:
    """The structure of an environment, with the shapes and types of its numbers."""
    return jax.tree.map(lambda leaf: (jnp.shape(leaf), jnp.asarray(leaf).dtype), env)
