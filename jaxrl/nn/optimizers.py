"""Optimisers by name: Adam, or one of a user's own."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax

from jaxrl.config import Family, configuration
from jaxrl.errors import JaxrlError


@configuration
class OptimizerConfig:
    """The base class of the configurations of optimisers, each of which derives from it."""

    def make(self) -> optax.GradientTransformation | None:
        """An optimiser on the tree of parameters, whose updates are added as they are.

        None: the learner's own Adam.
        """
        raise NotImplementedError


@configuration
class AdamConfig(OptimizerConfig):
    """Adam after clipping, with the learner's learning rate and schedule."""

    def make(self) -> None:
        """None: the learner's own, on parameters kept as one vector: one kernel, one reduction."""
        return None


KINDS = {"adam": AdamConfig}
OPTIMIZERS = Family("optimizer", OptimizerConfig, names=KINDS.keys, find=KINDS.__getitem__)


def own_optimizer(config: Any) -> optax.GradientTransformation | None:
    """The optimiser that a configuration names; None: the learner's own Adam.

    Refuses settings of Adam where another optimiser would ignore them.
    """
    optimizer: optax.GradientTransformation | None = config.optimizer.make()
    if optimizer is None:
        return None
    defaults = type(config)()
    for name in ("learning_rate", "max_grad_norm"):
        value = getattr(config, name)
        if not isinstance(value, jax.core.Tracer) and np.any(value != getattr(defaults, name)):
            raise JaxrlError(f"{name} is for Adam: with an optimizer of your own, set it there.")
    return optimizer
