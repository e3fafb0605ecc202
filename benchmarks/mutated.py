"""A plugin of pytest: an algorithm from which one option is dropped, whatever a test asks for.

    export JAXRL_MUTANT='{"algorithm": "ppo", "option": "gae_lambda", "value": 1.0}'
    pytest -p benchmarks.mutated tests/algos

Both the factory and the learner of the algorithm's file see the configuration with that option at
`value`. Without an option they see it as it is: to show that a test fails for the option, and not
for the plugin.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import os
from collections.abc import Callable
from typing import Any

# What takes the configuration in each file: the factory, and the class of its functions, which
# tests use by itself.
LEARNERS = {"ppo": "PPO", "stepmix": "StepMix", "td3": "TD3", "sac": "SAC"}


def pytest_sessionstart() -> None:
    """After tests/conftest.py, which must come before JAX, and before any test is imported."""
    from jaxrl.config import field_names, override

    mutant = json.loads(os.environ["JAXRL_MUTANT"])
    name, option = mutant["algorithm"], mutant.get("option")
    settings = {option: mutant["value"]} if option else {}
    module = importlib.import_module(f"jaxrl.algos.{name}")

    def drop(config: Any) -> Any:
        here = field_names(config)  # an option of a part that is not chosen is none
        return override(config, {name: value for name, value in settings.items() if name in here})

    setattr(module, name, with_config(getattr(module, name), drop))
    learner = getattr(module, LEARNERS[name])
    learner.__init__ = with_config(learner.__init__, drop)


def with_config(function: Callable, drop: Callable[[Any], Any]) -> Callable:
    """`function`, whose argument `config` is passed through `drop`.

    What it refuses stays refused.
    """
    position = list(inspect.signature(function).parameters).index("config")

    @functools.wraps(function)
    def changed(*arguments: Any, **named: Any) -> Any:
        function(*arguments, **named)
        if "config" in named:
            return function(*arguments, **named | {"config": drop(named["config"])})
        given = [*arguments]
        given[position] = drop(given[position])
        return function(*given, **named)

    return changed
