"""What is run: an algorithm, its configuration, an environment, seeds and a sweep.

Its plain-data description is `config.json` of a run folder: all that is needed to build the same
programs again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import itertools
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxrl
from jaxrl.algos.registry import RESERVED, load, package_that_adds, tuned
from jaxrl.analysis.records import CONFIG, FORMAT
from jaxrl.config import (
    check,
    check_chosen,
    check_type,
    check_types,
    flatten,
    override,
    replace_leaves,
    sweepable,
    without_unchosen,
)
from jaxrl.envs.registry import evaluation_episodes, requirements
from jaxrl.errors import JaxrlError, check_positive_int, unknown
from jaxrl.train.devices import jax_settings
from jaxrl.train.trust import NOBODY, Trust

# What config.json must say for a run to be built from it.
REQUIRED = ("algorithm", "environment", "environment_options", "config", "run", "sweep")

# What a sweep's values were drawn from where they were given one by one, in Python.
GIVEN = "given"
# What of a run's settings are tuples, which JSON takes for lists.
TUPLES = ("mesh", "modes", "measures")


@dataclass(frozen=True)
class RunSettings:
    """How a run is seeded and evaluated."""

    seed: int = 0
    """First seed. A run with --num-seeds trains seed, seed + 1, … each as it would be trained
    alone."""
    num_seeds: int = 1
    """Seeds trained side by side in one program."""
    num_evaluations: int = 20
    """Evaluations spread evenly over the run, beside one before it."""
    evaluation_episodes: int | None = None
    """Episodes of each evaluation in each mode; 100, or 10 of simulated robots, unless given."""
    modes: tuple[str, ...] = ()
    """Modes to evaluate, as NAME or NAME=NUMBER (target=3600); the first ranks policies.
    All of the algorithm's unless given."""
    measures: tuple[str, ...] = ()
    """Functions to compute at each evaluation, package.module:function (docs/faq.md)."""
    keep_policies: bool = False
    """Keep the policies of every evaluation, to be used with --checkpoint ITERATION; unless asked
    for, the best and the last one are kept."""
    init_from: str = ""
    """Run folder whose last policies this run goes on with: its only one, or those of as many
    settings and seeds."""
    devices: int | None = None
    """Devices (CPU cores, GPUs, …) to share the run; unless given, as many as make it faster."""
    mesh: tuple[str, ...] = ()
    """How they share it, as env=4,seed=2: environments over 4 devices, seeds over 2.
    Chosen unless given."""


@dataclass(frozen=True)
class Experiment:
    """One training job.

    `sweep` maps numbers of the configuration to the values to try, in every combination; where
    `sampled` says what they were drawn from, by name, each setting has those of one place.
    """

    algorithm: str
    environment: str
    config: Any
    run: RunSettings = field(default_factory=RunSettings)
    sweep: dict[str, list[float]] = field(default_factory=dict)
    sampled: dict[str, str] = field(default_factory=dict)
    environment_options: dict[str, Any] = field(default_factory=dict)
    # Whose code the run folders that it reads may name; no part of what is run.
    trust: Trust = NOBODY

    def settings(self) -> list[dict[str, float]]:
        """The swept combinations in order; one empty combination without a sweep."""
        lists = self.sweep.values()
        rows = zip(*lists, strict=True) if self.sampled else itertools.product(*lists)
        return [dict(zip(self.sweep, values, strict=True)) for values in rows]

    def changed(self, settings: dict[str, Any]) -> Experiment:
        """The same with some settings of the configuration replaced, by flat name."""
        return dataclasses.replace(self, config=override(self.config, settings))

    def seeds(self) -> list[int]:
        """The seeds, in order."""
        return list(range(self.run.seed, self.run.seed + self.run.num_seeds))

    def alone(self, setting: int, seed: int) -> Experiment:
        """One member by itself, by its positions: nothing is swept any more."""
        member = self.changed(self.settings()[setting]).restricted([0], [seed])
        return dataclasses.replace(member, sweep={}, sampled={})

    def restricted(self, settings: list[int], seeds: list[int]) -> Experiment:
        """Some members, by position: settings that form a sweep again, and one or all seeds."""
        chosen = [self.settings()[index] for index in settings]
        sweep = {name: [setting[name] for setting in chosen] for name in self.sweep}
        if not self.sampled:
            sweep = {name: list(dict.fromkeys(values)) for name, values in sweep.items()}
        run = dataclasses.replace(self.run, seed=self.run.seed + seeds[0], num_seeds=len(seeds))
        return dataclasses.replace(self, sweep=sweep, run=run)

    def swept_config(self) -> Any:
        """The configuration, with an array [H] of the settings' values for each swept number."""
        settings = self.settings()
        swept = {
            name: np.asarray([each[name] for each in settings], np.float32) for name in self.sweep
        }
        return replace_leaves(self.config, swept)

    def check(self) -> RunSettings:
        """Refuse what cannot be run; the run's settings, with the number of episodes filled in."""
        run = self.checked_run()
        check_chosen(self.config, RESERVED)
        check(self.config)
        self.check_sweep()
        return run

    def checked_run(self) -> RunSettings:
        """The run's settings, checked, and with the number of episodes filled in."""
        run = self.run
        check_types(run)
        if run.evaluation_episodes is None:
            run = dataclasses.replace(
                run, evaluation_episodes=evaluation_episodes(self.environment)
            )
        for name in ("num_seeds", "num_evaluations", "evaluation_episodes"):
            check_positive_int(name, getattr(run, name))
        if not 0 <= run.seed < 2**31 - run.num_seeds:
            raise JaxrlError(f"seed is {run.seed}, but must lie in [0, 2^31 - num_seeds).")
        return run

    def check_sweep(self) -> None:
        """Refuse a sweep over what is no number of the configuration, or without numbers."""
        for name, values in self.sweep.items():
            if name not in sweepable(self.config):
                raise unknown("number to sweep", name, sweepable(self.config))
            if not values:
                raise JaxrlError(f"the sweep of {name} has no values.")
            for value in values:
                check_type(f"{name} (swept)", value, float)
                if not np.isfinite(_as_float32(value)):
                    raise JaxrlError(
                        f"the sweep of {name} has the value {value!r}, but must be of finite "
                        "numbers."
                    )
            if not self.sampled and len(set(map(np.float32, values))) < len(values):
                raise JaxrlError(
                    f"the sweep of {name} has a value twice: {', '.join(map(str, values))}."
                )
        self.check_sampled()
        if self.sampled and len({tuple(each.values()) for each in self.settings()}) < len(
            self.settings()
        ):
            drawn = ", ".join(f"{name}={text}" for name, text in self.sampled.items())
            raise JaxrlError(
                f"two of the settings drawn from {drawn} are the same: draw fewer, or widen a "
                "range."
            )

    def check_sampled(self) -> None:
        """Refuse drawn values that do not stand side by side."""
        if not self.sampled:
            return
        if self.sampled.keys() != self.sweep.keys():
            raise JaxrlError("the sweep and what it was sampled from have different names.")
        if len({len(values) for values in self.sweep.values()}) > 1:
            raise JaxrlError("a sampled sweep needs as many values of each of its numbers.")

    def description(self) -> dict[str, Any]:
        """Plain data that `from_description` reads back."""
        drawn = {"sampled": self.sampled} if self.sampled else {}
        return {
            "format": FORMAT,
            "algorithm": self.algorithm,
            "environment": self.environment,
            "environment_options": self.environment_options,
            "config": flatten(self.config),
            "run": dataclasses.asdict(self.run),
            "sweep": self.sweep,
        } | drawn

    @staticmethod
    def from_description(
        description: dict[str, Any], folder: Path | str, trust: Trust = NOBODY
    ) -> Experiment:
        """The experiment that a run folder describes, if what it names may be imported."""
        trust.check(description, folder)
        with described_by(folder):
            return Experiment._from_description(description, folder, trust)

    @staticmethod
    def _from_description(
        description: dict[str, Any], folder: Path | str, trust: Trust
    ) -> Experiment:
        if description.get("format") != FORMAT:
            raise JaxrlError(
                f"{folder} was written by another version of jaxrl (format "
                f"{description.get('format', 1)} in its config.json; this one reads {FORMAT}). Its "
                "metrics and evaluations can be plotted; to train it again, repeat its command."
            )
        missing = [name for name in REQUIRED if name not in description]
        if missing:
            raise JaxrlError(f"config.json in {folder} lacks {' and '.join(map(repr, missing))}.")
        config = load(description["algorithm"]).config_class()
        settings = description["config"]
        gate = functools.partial(trust.allow, folder)
        run = description["run"]
        known = {field.name for field in dataclasses.fields(RunSettings)}
        for name in run:
            if name not in known:
                raise unknown(f"setting under run in config.json of {folder}", name, known)
        lists = {name: tuple(run[name]) for name in TUPLES if isinstance(run.get(name), list)}
        described = Experiment(
            algorithm=description["algorithm"],
            environment=description["environment"],
            config=override(config, without_unchosen(config, settings, gate), gate),
            run=RunSettings(**(run | lists)),
            sweep=description["sweep"],
            sampled=description.get("sampled", {}),
            environment_options=description["environment_options"],
            trust=trust,
        )
        described.check_sampled()
        return described


@contextlib.contextmanager
def described_by(folder: Path | str) -> Iterator[None]:
    """Errors in the run that a folder describes, as errors that name its config.json."""
    try:
        yield
    except JaxrlError as error:
        if str(folder) in str(error):
            raise
        told = type(error)(f"{Path(folder) / CONFIG}: {error}")
        vars(told).update(vars(error))
        raise told from error


def _as_float32(value: float) -> np.float32:
    """A number as runs compute with it; infinite if it is too large."""
    try:
        with np.errstate(over="ignore"):
            return np.float32(value)
    except OverflowError:  # a whole number beyond every float
        return np.float32(np.inf)


def default_config(
    algorithm: str, environment: str, use_tuned: bool = True, dataset: str = ""
) -> tuple[Any, dict[str, Any]]:
    """An algorithm's configuration, and the tuned settings that went into it.

    They are those for the environment and, over these, those for the dataset.
    """
    settings = tuned(algorithm, environment, dataset) if use_tuned else {}
    return override(load(algorithm).config_class(), settings), settings


def versions(environment: str = "", algorithm: str = "") -> dict[str, str]:
    """What the numbers of a run depend on besides its configuration."""
    package = package_that_adds(algorithm)
    packages = dict.fromkeys(
        ("jax", "jaxlib", "flax", "optax", "gymnax", "numpy", *requirements(environment))
        + (() if package is None else (package,))
    )
    found = {}
    for name in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # what nothing here uses
            found[name] = importlib.metadata.version(name)
    # How many devices a CPU is taken for is no part of what is computed; the layout is recorded by
    # itself.
    flags = [
        flag
        for flag in os.environ.get("XLA_FLAGS", "").split()
        if "host_platform_device_count" not in flag
    ]
    return {
        "jaxrl": jaxrl.__version__,
        "python": platform.python_version(),
        **found,
        "device": jax.devices()[0].device_kind,
        "xla_flags": " ".join(flags),
        **jax_settings.unusual(),
    }
