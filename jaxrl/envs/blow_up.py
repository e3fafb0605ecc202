"""Simulations that blow up: their episode ends, and no learner sees their numbers.

A contact that penetrates too deep, or an action that is too hard, can drive a physics engine to
infinity. One such number in a batch makes every weight NaN.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxrl.core.tree import select_tree
from jaxrl.types import Array, PyTree, Timestep

INFO = ("blow_up",)


def guard(
    previous_state: PyTree, state: PyTree, observation: Array, reward: Array, terminated: Array
) -> tuple[PyTree, Timestep]:
    """What `step` returns, made safe: (state, Timestep); `info["blow_up"]` is 1 after a blow-up.

    If a number of the successor state, its observation or its reward is NaN or infinite, the
    episode terminates with an observation of zeros and a reward of 0, and the state stays the
    previous one, which is finite. Whoever resets before each episode never sees that state; whoever
    does not goes on from where the simulation was still right.
    """
    blown_up = ~all_finite((state, observation, reward))
    return select_tree(blown_up, previous_state, state), Timestep(
        observation=jnp.where(blown_up, jnp.zeros_like(observation), observation),
        reward=jnp.where(blown_up, 0.0, reward),
        terminated=terminated | blown_up,
        info={"blow_up": blown_up.astype(jnp.float32)},
    )


def all_finite(tree: PyTree) -> Array:
    """Whether every floating-point number of a pytree is finite, bool []."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.all(jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in leaves]))
