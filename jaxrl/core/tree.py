"""Small operations on pytrees of arrays."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Bool, PyTree, Shaped

from jaxrl.types import Array


def expand(mask: Array, ndim: int) -> Array:
    """Append axes of length one until `mask` has `ndim` axes."""
    return mask.reshape(mask.shape + (1,) * (ndim - mask.ndim))


def select_rows(
    mask: Bool[Array, "N"],
    on_true: PyTree[Shaped[Array, "N ..."]],
    on_false: PyTree[Shaped[Array, "N ..."]],
) -> PyTree[Shaped[Array, "N ..."]]:
    """Row by row, `on_true` where `mask` holds, else `on_false`."""

    def select(left: Array, right: Array) -> Array:
        # Keys have no `astype`: only what differs is cast.
        left = left if left.dtype == right.dtype else left.astype(right.dtype)
        return jnp.where(expand(mask, right.ndim), left, right)

    return jax.tree.map(select, on_true, on_false)


def strip_weak_types(tree: PyTree) -> PyTree:
    """Make every leaf strongly typed: a weak type at init would compile a step a second time."""

    def strip(leaf: ArrayLike) -> Array:
        leaf = jnp.asarray(leaf)
        # A key outside of jit has no such attribute.
        if getattr(leaf, "weak_type", False):
            return jax.lax.convert_element_type(leaf, leaf.dtype)
        return leaf

    return jax.tree.map(strip, tree)


def copy(tree: PyTree) -> PyTree:
    """Fresh buffers with the same bits, which survive the donation of the originals."""
    return jax.tree.map(jnp.copy, tree)


def select_tree(condition: Bool[Array, ""], on_true: PyTree, on_false: PyTree) -> PyTree:
    """`on_true` if `condition` holds, else `on_false`, without branching."""
    return jax.tree.map(lambda left, right: jnp.where(condition, left, right), on_true, on_false)
