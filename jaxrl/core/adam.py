"""Steps of Adam and AdamW on a tree of parameters, with numbers that may be traced."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Float

from jaxrl.types import Array, PyTree, Scalar

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


def descend_with_decay(
    params: PyTree,
    gradient: PyTree,
    state: PyTree,
    learning_rate: Scalar,
    weight_decay: Scalar,
    decays: PyTree,
) -> tuple[PyTree, PyTree]:
    """(parameters, state) after one step of AdamW: θ ← θ − α (m̂ / (√v̂ + ε) + λ θ).

    λ is `weight_decay` where `decays`, a tree of booleans like the parameters, is true, and else 0.

    Source: Loshchilov & Hutter, Decoupled Weight Decay Regularization (2019), algorithm 2.
    """

    def move(old: Array, change: Array, decayed: bool) -> Array:
        return old - learning_rate * (change + weight_decay * old if decayed else change)

    direction, state = _DIRECTION.update(gradient, state)
    return jax.tree.map(move, params, direction, decays), state


def clip_by_norm(gradient: PyTree, most: Scalar) -> tuple[PyTree, Float[Array, ""]]:
    """(a gradient scaled down to a norm of at most `most`, its norm before); ∞ leaves it as it is.

        g ← g · min(1, most / ‖g‖),   ‖g‖ over all leaves together

    Source: Pascanu et al., On the difficulty of training recurrent neural networks (2013).
    """
    norm = optax.tree.norm(gradient)
    # Of a gradient of 0 the quotient is infinite, and the factor 1.
    factor = jnp.minimum(1.0, most / norm)
    return jax.tree.map(lambda leaf: factor * leaf, gradient), norm
