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
    """Which optimiser there is; each has a configuration of its own that derives from this one."""

    def make(self) -> optax.GradientTransformation | None:
        """An optimiser on the tree of parameters, whose updates are added as they are; None: the learner's own Adam."""
        raise NotImplementedError


@configuration
class AdamConfig(OptimizerConfig):
    """Adam after clipping, with the learner's learning rate and schedule."""

    def make(self) -> None:
        """The learner has it: on parameters as one vector, one kernel and one message between devices."""
        return None


KINDS = {"adam": AdamConfig}
OPTIMIZERS = Family("optimizer", OptimizerConfig, names=KINDS.keys, find=KINDS.__getitem__)


def own_optimizer(config: Any) -> optax.GradientTransformation | None:
    """The optimiser that a configuration names, None if it is the learner's own Adam; refuses what it makes idle."""
    optimizer: optax.GradientTransformation | None = config.optimizer.make()
    usual = type(config)()
    for name in ("learning_rate", "max_grad_norm") if optimizer is not None else ():
        value = getattr(config, name)
        if not isinstance(value, jax.core.Tracer) and np.any(value != getattr(usual, name)):
            raise JaxrlError(f"{name} is for Adam: with an optimizer of your own, set it there.")
    return optimizer
