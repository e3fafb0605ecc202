"""What is run: an algorithm, its configuration, an environment, seeds and a sweep; and its plain-data description.

The description is `config.json` of a run folder: all that is needed to build the same programs again.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import inspect
import itertools
import os
import platform
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

import jaxrl
from jaxrl.algos.registry import flatten, load, override, tuned
from jaxrl.config import sweepable
from jaxrl.envs.registry import evaluation_episodes, make, requirements
from jaxrl.errors import JaxrlError, check_positive_int, unknown
from jaxrl.train import layout
from jaxrl.train.inputs import read_inputs
from jaxrl.train.program import Program


@dataclass(frozen=True)
class RunSettings:
    """How a run is seeded and evaluated."""

    seed: int = 0
    """First seed. A run with --num-seeds trains seed, seed + 1, … each as it would be trained alone."""
    num_seeds: int = 1
    """Seeds trained side by side in one program."""
    num_evaluations: int = 20
    """Evaluations spread evenly over the run, beside one before it."""
    evaluation_episodes: int | None = None
    """Episodes of each evaluation, once with the likeliest actions and once with sampled ones; 100, or 10 of simulated
    robots, unless given."""
    devices: int | None = None
    """Devices (CPU cores, GPUs, …) to share the run; unless given, as many as make it faster."""
    mesh: tuple[str, ...] = ()
    """How they share it, as env=4,seed=2: environments over 4 devices, seeds over 2. Chosen unless given."""


@dataclass(frozen=True)
class Experiment:
    """One training job. `sweep` maps numbers of the configuration to the values to try, in every combination."""

    algorithm: str
    environment: str
    config: Any
    run: RunSettings = field(default_factory=RunSettings)
    sweep: dict[str, list[float]] = field(default_factory=dict)
    environment_options: dict[str, Any] = field(default_factory=dict)

    def settings(self) -> list[dict[str, float]]:
        """The swept combinations in order; one empty combination without a sweep."""
        return [dict(zip(self.sweep, values, strict=True)) for values in itertools.product(*self.sweep.values())]

    def changed(self, settings: dict[str, Any]) -> Experiment:
        """The same with some settings of the configuration replaced, by flat name."""
        return dataclasses.replace(self, config=override(self.config, settings))

    def program(self, evaluation_seed: int | None = None) -> Program:
        """Check everything, and make the functions to compile; nothing is compiled yet."""
        run = self.run
        if run.evaluation_episodes is None:
            run = dataclasses.replace(run, evaluation_episodes=evaluation_episodes(self.environment))
        for name in ("num_seeds", "num_evaluations", "evaluation_episodes"):
            check_positive_int(name, getattr(run, name))
        if not 0 <= run.seed < 2**31 - run.num_seeds:
            raise JaxrlError(f"seed is {run.seed}, but must lie in [0, 2^31 - num_seeds).")
        for name in self.sweep:
            if name not in sweepable(self.config):
                raise unknown("number to sweep", name, sweepable(self.config))
        env = make(self.environment, **self.environment_options)
        settings = self.settings()
        swept = {name: np.asarray([each[name] for each in settings], np.float32) for name in self.sweep}
        factory = load(self.algorithm).factory
        splits = "shards" in inspect.signature(factory).parameters
        return Program(
            factory=functools.partial(factory, **read_inputs(factory, self.config, self.environment)),
            env=env,
            config=dataclasses.replace(self.config, **swept),
            seeds=list(range(run.seed, run.seed + run.num_seeds)),
            num_settings=len(settings),
            num_episodes=run.evaluation_episodes,  # type: ignore[arg-type]
            evaluation_seed=evaluation_seed,
            layout=layout.choose(self.config, run.num_seeds, run.devices, tuple(run.mesh), splits),
        )

    def description(self) -> dict[str, Any]:
        """Plain data that `from_description` reads back."""
        return {
            "algorithm": self.algorithm,
            "environment": self.environment,
            "environment_options": self.environment_options,
            "config": flatten(self.config),
            "run": dataclasses.asdict(self.run),
            "sweep": self.sweep,
        }

    @staticmethod
    def from_description(description: dict[str, Any]) -> Experiment:
        """The experiment that a run folder describes."""
        try:
            return Experiment(
                algorithm=description["algorithm"],
                environment=description["environment"],
                config=override(load(description["algorithm"]).config_class(), description["config"]),
                run=RunSettings(**description["run"]),
                sweep=description["sweep"],
                environment_options=description["environment_options"],
            )
        except KeyError as error:
            raise JaxrlError(f"the run's config.json lacks {error}.") from error
        except TypeError as error:
            raise JaxrlError(f"the run's config.json does not fit this version of jaxrl: {error}.") from error


def default_config(algorithm: str, environment: str, use_tuned: bool = True) -> tuple[Any, dict[str, Any]]:
    """An algorithm's configuration for an environment, and the tuned settings that went into it."""
    settings = tuned(algorithm, environment) if use_tuned else {}
    return override(load(algorithm).config_class(), settings), settings


def versions(environment: str = "") -> dict[str, str]:
    """What the numbers of a run depend on besides its configuration."""
    packages = dict.fromkeys(("jax", "jaxlib", "flax", "optax", "gymnax", "numpy", *requirements(environment)))
    found = {name: importlib.metadata.version(name) for name in packages}
    # How many devices a CPU is taken for is no part of what is computed; the layout is recorded by itself.
    flags = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if "host_platform_device_count" not in flag]
    return {
        "jaxrl": jaxrl.__version__,
        "python": platform.python_version(),
        **found,
        "device": jax.devices()[0].device_kind,
        "xla_flags": " ".join(flags),
    }
