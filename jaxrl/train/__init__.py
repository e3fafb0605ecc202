"""The runner. `jaxrl.train(algorithm, env, …)` trains: see `help(jaxrl.train.api.train)`."""

from __future__ import annotations

import sys
import types
from typing import Any


class _Callable(types.ModuleType):
    """A package that is a function too: once imported, it is what `jaxrl.train` stands for."""

    def __call__(self, *arguments: Any, **settings: Any) -> Any:
        """Train, as `jaxrl.train.api.train` does."""
        from jaxrl.train.api import train

        return train(*arguments, **settings)


sys.modules[__name__].__class__ = _Callable
