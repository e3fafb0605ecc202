"""Optimisers by name: Adam, or one of a user's own."""

from __future__ import annotations

import optax

from jaxrl.config import Family, configuration


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
