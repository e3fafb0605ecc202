"""The members of a population by name, `learning_rate=3e-3,seed=2`, and which of them is best."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np

from jaxrl.config import budget_field, chosen, flatten, override, settings
from jaxrl.errors import JaxrlError, unknown
from jaxrl.train.experiment import GIVEN, Experiment, RunSettings, default_config


class Members(NamedTuple):
    """Some members of a population, by their positions among its settings and its seeds."""

    settings: list[int]
    seeds: list[int]

    @property
    def are_one(self) -> bool:
        """Whether it is a single member."""
        return len(self.settings) == len(self.seeds) == 1


def matching(experiment: Experiment, texts: Iterable[str]) -> Members:
    """The members that `texts` describe; all of them for none.

    As ("learning_rate=3e-3", "seed=2"), or as one text with commas.
    """
    settings, seeds = experiment.settings(), experiment.seeds()
    asked: dict[str, float] = {}
    for text in filter(None, ",".join(texts).split(",")):
        name, equals, value = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise JaxrlError(
                f"{text!r} should be written name=value, as in --member {_example(experiment)}."
            )
        if name != "seed" and name not in experiment.sweep:
            raise unknown("part of a member", name, [*experiment.sweep, "seed"])
        if name in asked:
            raise JaxrlError(f"--member gives {name} twice.")
        allowed = seeds if name == "seed" else experiment.sweep[name]
        asked[name] = _value(name, value, allowed)
    swept = {name: value for name, value in asked.items() if name != "seed"}
    positions = [
        index
        for index, setting in enumerate(settings)
        if all(setting[name] == value for name, value in swept.items())
    ]
    if not positions:  # of values that stand side by side
        named = ",".join(f"{name}={value:g}" for name, value in swept.items())
        raise JaxrlError(f"no member has {named} together. One is {_example(experiment)}.")
    if "seed" in asked:
        return Members(positions, [seeds.index(int(asked["seed"]))])
    return Members(positions, list(range(len(seeds))))


def _value(name: str, text: str, allowed: Iterable[float]) -> float:
    """The one of the allowed values that is written as `text`.

    Settings are compared as a run computes, in float32; seeds are whole numbers beyond its reach.
    """
    try:
        given = float(text)
    except ValueError:
        given = float("nan")
    read, written = (float, str) if name == "seed" else (np.float32, "{:g}".format)
    for value in allowed:
        if read(value) == read(given):
            return value
    values = ", ".join(map(written, allowed))
    raise JaxrlError(f"no member has {name}={text}. There are: {values}.")


def name_of(experiment: Experiment, setting: int, seed: int) -> str:
    """A member as `--member` takes it: "learning_rate=0.003,seed=2"."""
    return in_words(experiment.settings()[setting] | {"seed": experiment.seeds()[seed]})


def in_words(setting: dict[str, Any]) -> str:
    """A setting as `--member` takes it: "learning_rate=0.003,gamma=0.9"."""
    return ",".join(
        f"{name}={value if isinstance(value, str) else repr(value)}"
        for name, value in setting.items()
    )


def _example(experiment: Experiment) -> str:
    return name_of(experiment, 0, 0)


def command_of(experiment: Experiment, setting: dict[str, float] | None = None) -> str:
    """The command line that repeats a run, or trains one `setting` of a sweep alone.

    What is usual is left out.
    """
    swept = experiment.sweep if setting is None else {}
    setting = setting or {}
    experiment = experiment.changed(setting)
    command = "sweep" if swept else "train"
    words = ["jaxrl", command, experiment.algorithm, "--env", experiment.environment]
    if GIVEN in (experiment.sampled if swept else {}).values():
        raise JaxrlError("its settings were given one by one, which no command line can.")
    if swept:
        texts = {name: ",".join(map(str, values)) for name, values in swept.items()}
        words += ["--over", *(f"{k}={v}" for k, v in (texts | experiment.sampled).items())]
    if swept and experiment.sampled:
        words += ["--samples", str(len(experiment.settings()))]
    if experiment.environment_options:
        options = experiment.environment_options.items()
        words += ["--env-options", *(f"{name}={value}" for name, value in options)]
    usual, _ = default_config(
        experiment.algorithm,
        experiment.environment,
        dataset=getattr(experiment.config, "dataset", ""),
    )
    before, parts = chosen(usual), chosen(experiment.config)
    for name, part in parts.items():
        words += _option(name, part, before.get(name))
    defaults = {each.name: each.value for each in settings(override(usual, parts))}
    said = {*setting, *_raised_budget(experiment.config, defaults)}
    for each in settings(experiment.config):
        if each.name not in parts and each.name not in swept:
            default = None if each.name in said else defaults[each.name]
            words += _option(each.name, each.value, default)
    for name, value in vars(experiment.run).items():
        words += _option(name, value, getattr(RunSettings(), name))
    return shlex.join(words)


def _raised_budget(config: Any, defaults: dict[str, Any]) -> list[str]:
    """The budget, where a command line without it would raise it for other numbers of steps."""
    found, values = budget_field(config), flatten(config)
    resized = any(values.get(name) != defaults.get(name) for name in ("num_envs", "num_steps"))
    return [found[0]] if found and resized else []


def _option(name: str, value: Any, default: Any) -> list[str]:
    """An option as words, unless it is at its default."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    if values == (list(default) if isinstance(default, list | tuple) else [default]):
        return []
    dashed = name.replace("_", "-")
    if isinstance(value, bool):
        return [f"--{dashed}" if value else f"--no-{dashed}"]
    return [f"--{dashed}", *map(str, values)]
