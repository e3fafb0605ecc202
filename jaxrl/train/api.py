"""Training from Python: `jaxrl.train("ppo", "CartPole-v1", seeds=5, folder="runs/cartpole")`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxrl.config import override, settled
from jaxrl.envs.api import Environment
from jaxrl.envs.registry import name_of
from jaxrl.errors import JaxrlError
from jaxrl.train import loop
from jaxrl.train.callbacks import Callback
from jaxrl.train.experiment import GIVEN, Experiment, RunSettings, default_config
from jaxrl.train.inputs import environment_of
from jaxrl.train.output.console import Console
from jaxrl.train.runner import Result
from jaxrl.train.trust import NOBODY, Trust


def train(
    algorithm: str,
    env: str | Environment | None = None,
    *,
    config: Any = None,
    seeds: int = 1,
    seed: int = 0,
    sweep: Mapping[str, Sequence[float]] | Sequence[Mapping[str, float]] | None = None,
    folder: Path | str | None = None,
    overwrite: bool = False,
    callbacks: Sequence[Callback] = (),
    run: RunSettings | None = None,
    sinks: Sequence[str] = (),
    progress: bool = True,
    trust: Trust = NOBODY,
    **settings: Any,
) -> Result:
    """Train `algorithm` in `env` into a run folder, as `jaxrl train` does, and return how it ended.

    algorithm: its name (`jaxrl.algorithms()`), or "package.module:factory".
    env:       its name (`jaxrl.environments()`), "package.module:Class", or what `jaxrl.make` made;
               that of the `dataset` among the settings unless given.
    config:    its configuration; that tuned for the environment unless given.
    settings:  single settings in place of the configuration's, by flat name: `gamma=0.95`.
    seeds:     how many are trained side by side, beginning with `seed`.
    sweep:     the values to try of numbers of the configuration, in every combination:
               `{"gamma": [0.9, 0.99]}`; or settings one by one, as a tuner has them:
               `[{"gamma": 0.9, "learning_rate": 1e-3}, …]`.
    folder:    where the run is kept: runs/ALGORITHM-ENVIRONMENT-TIME unless given.
    callbacks: functions called between chunks, to log, stop or steer (`jaxrl.train.callbacks`).
    run:       how it is evaluated and shared by devices (`jaxrl.RunSettings`), but for its seeds.
    sinks:     "tensorboard", "wandb".
    """
    dataset = settings.get("dataset", getattr(config, "dataset", ""))
    name, options = _environment(env, dataset, trust)
    usual = default_config(algorithm, name, dataset=dataset)[0]
    if config is not None and not isinstance(config, type(usual)):
        raise JaxrlError(
            f"config is a {type(config).__name__}, but {algorithm} takes a {type(usual).__name__}."
        )
    values, sampled = _swept(sweep or {})
    for swept in values:
        if swept in settings:
            raise JaxrlError(f"{swept} is given twice: {swept}={settings[swept]!r}, and in sweep.")
    asked = override(usual if config is None else config, settings)
    experiment = Experiment(
        algorithm=algorithm,
        environment=name,
        config=settled(asked, settings) if config is None else asked,
        run=dataclasses.replace(run or RunSettings(), seed=seed, num_seeds=seeds),
        sweep=values,
        sampled=sampled,
        environment_options=options,
        trust=trust,
    )
    console = Console(quiet=not progress)
    return loop.train(
        experiment,
        folder,
        overwrite=overwrite,
        sinks=tuple(sinks),
        console=console,
        callbacks=callbacks,
    )


def _swept(
    sweep: Mapping[str, Sequence[float]] | Sequence[Mapping[str, float]],
) -> tuple[dict[str, list[float]], dict[str, str]]:
    """The values of each number, and where they stand side by side, that they were given so."""
    if isinstance(sweep, Mapping):
        return {name: list(values) for name, values in sweep.items()}, {}
    names = list(sweep[0])
    for setting in sweep:
        if setting.keys() != set(names) or not names:
            raise JaxrlError(
                f"the settings of a sweep should all be of the same numbers: {dict(sweep[0])}, "
                f"{dict(setting)}."
            )
    return {name: [setting[name] for setting in sweep] for name in names}, dict.fromkeys(
        names, GIVEN
    )


def _environment(
    env: str | Environment | None, dataset: str, trust: Trust
) -> tuple[str, dict[str, Any]]:
    """The id and the options of an environment; unless given, those of the dataset's."""
    if isinstance(env, str):
        return env, {}
    if env is not None:
        return name_of(env)
    if not dataset:
        raise JaxrlError("give the environment, as in jaxrl.train('ppo', 'CartPole-v1').")
    return environment_of(dataset, trust)


def resume(
    folder: Path | str,
    *,
    callbacks: Sequence[Callback] = (),
    force: bool = False,
    sinks: Sequence[str] = (),
    progress: bool = True,
    trust: Trust = NOBODY,
    **settings: Any,
) -> Result:
    """Go on with a run from its newest checkpoint, as `jaxrl resume` does.

    `settings` that differ from the run's need `force`. A run that was trained with callbacks goes
    on with those of the same names.
    """
    console = Console(quiet=not progress)
    return loop.resume(
        folder,
        changes=settings,
        force=force,
        sinks=tuple(sinks),
        console=console,
        trust=trust,
        callbacks=callbacks,
    )
