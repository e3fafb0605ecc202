"""A gradient step on parameters kept as one vector: clip, Adam, an average of the past, a stop.

One vector and not a tree: the update is one fused kernel, and the reduction over devices one
message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.flatten_util import ravel_pytree
from jaxtyping import Bool, Float

from jaxrl.core import ewma
from jaxrl.core.ewma import Ewma
from jaxrl.core.tree import select_tree
from jaxrl.types import Array, PyTree, Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Learner:
    """What a gradient step changes."""

    params: Float[Array, "P"]
    # The same as a tree. Sliced from the vector where it is used, a bias would keep a GPU's
    # compiler from adding it within the matrix product (benchmarks/NOTES.md).
    tree: PyTree
    optimizer: PyTree
    proximal: Ewma | None  # an average of `params`, where one is kept
    # The KL divergence exceeded its target, and nothing moves any more.
    stopped: Bool[Array, ""]


class FlatOptimizer(NamedTuple):
    """How to descend.

    `own`, when given, replaces clipping, Adam and the learning rate: an optimiser on the tree that
    `unravel` makes of the parameters, whose updates are added as they are.
    """

    max_grad_norm: Scalar  # the global norm to clip at
    center_of_mass: Scalar | None = None  # age of the average of parameters; None: no average
    target_kl: Scalar | None = None  # the KL divergence beyond which to stop; None: never
    own: optax.GradientTransformation | None = None
    unravel: Callable[[Float[Array, "P"]], PyTree] = lambda params: params

    @property
    def optimizer(self) -> optax.GradientTransformation:
        """Clipping, then Adam's direction, to which `step` applies the learning rate."""
        return optax.chain(
            optax.clip_by_global_norm(self.max_grad_norm), optax.scale_by_adam(eps=1e-5)
        )

    def init(self, params: PyTree) -> Learner:
        """A learner before its first step."""
        flat, _ = ravel_pytree(params)
        proximal = None if self.center_of_mass is None else ewma.init(flat)
        if self.own is None:
            optimizer = self.optimizer.init(flat)
        else:
            optimizer = self.own.init(self.unravel(flat))
        return self.begin(params, optimizer, proximal)

    def begin(self, params: PyTree, optimizer: PyTree, proximal: Ewma | None) -> Learner:
        """A learner that goes on from what earlier steps have left, and is not stopped."""
        flat, _ = ravel_pytree(params)
        return Learner(flat, self.unravel(flat), optimizer, proximal, jnp.zeros((), bool))

    def gradient(
        self, loss: Callable[[PyTree], tuple[Array, Any]], learner: Learner
    ) -> tuple[Array, Any]:
        """The gradient of `loss(params) -> (loss, diagnostics)` as one vector, and those."""
        gradient, seen = jax.grad(loss, has_aux=True)(learner.tree)
        flat, _ = ravel_pytree(gradient)
        return flat, seen

    def step(
        self,
        learner: Learner,
        grad: Float[Array, "P"],
        kl: Float[Array, ""],
        learning_rate: Scalar,
    ) -> Learner:
        """One step along `grad`, unless `kl` exceeds `target_kl` or did so before an earlier step.

        `kl` is measured before the step.
        """
        params, optimizer = self._moved(learner, grad, learning_rate)
        proximal = learner.proximal
        if proximal is not None and self.center_of_mass is not None:
            proximal = ewma.update(proximal, params, self.center_of_mass)
        moved = Learner(params, self.unravel(params), optimizer, proximal, learner.stopped)
        if self.target_kl is None:
            return moved
        stopped = learner.stopped | (kl > self.target_kl)
        return replace(select_tree(stopped, learner, moved), stopped=stopped)

    def _moved(
        self, learner: Learner, grad: Float[Array, "P"], learning_rate: Scalar
    ) -> tuple[Float[Array, "P"], PyTree]:
        """(parameters, state of the optimiser) after one step."""
        if self.own is None:
            direction, optimizer = self.optimizer.update(grad, learner.optimizer)
            return learner.params - learning_rate * direction, optimizer
        updates, optimizer = self.own.update(self.unravel(grad), learner.optimizer, learner.tree)
        params, _ = ravel_pytree(optax.apply_updates(learner.tree, updates))
        return params, optimizer
