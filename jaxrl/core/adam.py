"""A step of Adam on a tree of parameters, with a learning rate that may be traced."""

from __future__ import annotations

import jax
import optax

from jaxrl.types import PyTree, Scalar

# Its direction alone. The constants are Kingma & Ba's (2015).
_DIRECTION = optax.scale_by_adam()


def init(params: PyTree) -> PyTree:
    """The state of Adam before the first step on `params`."""
    return _DIRECTION.init(params)


def descend(
    params: PyTree, gradient: PyTree, state: PyTree, learning_rate: Scalar
) -> tuple[PyTree, PyTree]:
    """(parameters, state) after one step.

        m ← β1 m + (1 − β1) g,   v ← β2 v + (1 − β2) g²
        θ ← θ − α m̂ / (√v̂ + ε),   with m̂ = m / (1 − β1^t) and v̂ = v / (1 − β2^t)

    Source: Kingma & Ba, Adam (2015), algorithm 1.
    """
    direction, state = _DIRECTION.update(gradient, state)
    return jax.tree.map(lambda old, change: old - learning_rate * change, params, direction), state


def clip_by_norm(gradient: PyTree, maximum: Scalar) -> PyTree:
    """The gradient, scaled down to norm `maximum` where it is longer; ∞ leaves it as it is.

        g ← g · min(1, maximum / ‖g‖),   ‖g‖ over all leaves together

    Source: Pascanu et al., On the difficulty of training recurrent neural networks (2013).
    """
    clipped: PyTree = optax.clip_by_global_norm(maximum).update(gradient, optax.EmptyState())[0]
    return clipped
