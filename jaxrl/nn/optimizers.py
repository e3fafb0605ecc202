"""Optimisers by name: Adam, or one of a user's own."""

from __future__ import annotations

import optax

from jaxrl.config import Family, configuration


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
