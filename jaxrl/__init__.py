"""jaxrl: fast policy-gradient experiments in JAX.

    import jaxrl

    result = jaxrl.train("ppo", "CartPole-v1", total_steps=500_000, folder="runs/cartpole")
    agent = jaxrl.load("runs/cartpole")
    action = agent.act(observation)

Every name is imported when it is first used. Besides those that `dir(jaxrl)` lists there is each
algorithm's factory, `jaxrl.ppo(env, config)`, and its own ones' configuration, `jaxrl.PPOConfig`.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxrl.algos.registry import algorithm_names as algorithms
    from jaxrl.envs.api import Environment
    from jaxrl.envs.registry import environment_ids as environments
    from jaxrl.envs.registry import make, register
    from jaxrl.errors import JaxrlError
    from jaxrl.train.acting import LoadedAgent, load
    from jaxrl.train.api import resume, train
    from jaxrl.train.callbacks import Pause
    from jaxrl.train.experiment import Experiment, RunSettings
    from jaxrl.train.pretrained import names as pretrained
    from jaxrl.train.runner import Result
    from jaxrl.types import Agent, Algorithm

__version__ = "0.2.0"

# Where each public name is from, "module:name" below jaxrl.
_PUBLIC = {
    "make": "envs.registry:make",
    "register": "envs.registry:register",
    "environments": "envs.registry:environment_ids",
    "Environment": "envs.api:Environment",
    "algorithms": "algos.registry:algorithm_names",
    "Algorithm": "types:Algorithm",
    "Agent": "types:Agent",
    "train": "train.api:train",
    "resume": "train.api:resume",
    "Pause": "train.callbacks:Pause",
    "Experiment": "train.experiment:Experiment",
    "RunSettings": "train.experiment:RunSettings",
    "Result": "train.runner:Result",
    "load": "train.acting:load",
    "LoadedAgent": "train.acting:LoadedAgent",
    "pretrained": "train.pretrained:names",
    "JaxrlError": "errors:JaxrlError",
}

__all__ = [
    "Agent",
    "Algorithm",
    "Environment",
    "Experiment",
    "JaxrlError",
    "LoadedAgent",
    "Pause",
    "Result",
    "RunSettings",
    "algorithms",
    "environments",
    "load",
    "make",
    "pretrained",
    "register",
    "resume",
    "train",
]


def __getattr__(name: str) -> Any:
    """A public name, imported now; or an algorithm's factory or configuration."""
    if name in _PUBLIC:
        module, _, attribute = _PUBLIC[name].partition(":")
        return getattr(importlib.import_module(f"jaxrl.{module}"), attribute)
    # `from jaxrl import cli` asks for an attribute first, and must not import jax on the way.
    parts = [module.name for module in pkgutil.iter_modules(__path__)]
    if not name.startswith("_") and name not in parts:
        from jaxrl.algos.registry import algorithm_names, load, own_names

        if name in algorithm_names():
            return load(name).factory
        if name.endswith("Config"):
            configurations = {
                spec.config_class.__name__: spec.config_class for spec in map(load, own_names())
            }
            if name in configurations:
                return configurations[name]
    raise AttributeError(f"module 'jaxrl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
