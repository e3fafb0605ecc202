"""Linear layers whose weights' gradients take a CPU no longer than their other products.

A weight's gradient is xᵀ g, over the rows of a batch. Differentiated by JAX, both factors are
summed over their first axis, and for those XLA's CPU back end calls another library, which takes
1.2 to 1.45 times as long as the one behind all other products (benchmarks/NOTES.md). Here xᵀ is
written down before it is multiplied. That is for layers of batches, [..., in]: where vmap maps over
the batch, as over the sequences of a memory, it would have to be written down twice (`mapped`).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxrl.types import Array

_traced = threading.local()


@contextlib.contextmanager
def mapped() -> Iterator[None]:
    """Products that are traced in here are XLA's own: their batch is vmap's."""
    before, _traced.mapped = is_mapped(), True
    try:
        yield
    finally:
        _traced.mapped = before


def is_mapped() -> bool:
    """Whether `mapped` holds."""
    return getattr(_traced, "mapped", False)


def product(inputs: Array, kernel: Array, **settings: Any) -> Array:
    """inputs [..., in] times kernel [in, out], [..., out]; `settings` are `lax.dot_general`'s."""
    # The gradient of a column is a vector. Other back ends sum over any axis equally fast, and are
    # bound by memory: x once more would cost them the time that is saved here.
    if kernel.shape[1] == 1 or is_mapped() or jax.default_backend() != "cpu":
        return _product(inputs, kernel, settings)
    return _fast_backwards(tuple(sorted(settings.items())), inputs, kernel)


def _product(inputs: Array, kernel: Array, settings: Any) -> Array:
    return lax.dot_general(inputs, kernel, _dimensions(inputs), **dict(settings))


def _dimensions(inputs: Array) -> Any:
    """The axes that are summed over, and those of batches, as `lax.dot_general` takes them."""
    return (((inputs.ndim - 1,), (0,)), ((), ()))


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _fast_backwards(settings: Any, inputs: Array, kernel: Array) -> Array:
    return _product(inputs, kernel, settings)


@partial(_fast_backwards.defjvp, symbolic_zeros=True)
def _tangent(settings: Any, primals: Any, tangents: Any) -> tuple[Array, Array]:
    """The product x W, and its tangent dx W + x dW.

    What is linear in dW becomes its gradient when it is transposed: (xᵀ)ᵀ dW becomes (xᵀ) g.
    """
    (inputs, kernel), (of_inputs, of_kernel) = primals, tangents
    found = _fast_backwards(settings, inputs, kernel)
    tangent = jnp.zeros_like(found)
    if not isinstance(of_inputs, SymbolicZero):
        tangent += _fast_backwards(settings, of_inputs, kernel)
    if not isinstance(of_kernel, SymbolicZero):
        rows = inputs.reshape(-1, inputs.shape[-1])
        # The barrier keeps XLA from taking the transposition into the product.
        transposed = lax.optimization_barrier(rows.T)
        change = lax.dot_general(transposed, of_kernel, (((0,), (0,)), ((), ())), **dict(settings))
        tangent += change.reshape(found.shape)
    return found, tangent


def dot_general(inputs: Array, kernel: Array, dimensions: Any, **settings: Any) -> Array:
    """`lax.dot_general`, as flax's linear layer calls it."""
    if dimensions != _dimensions(inputs) or kernel.ndim != 2:
        return lax.dot_general(inputs, kernel, dimensions, **settings)
    return product(inputs, kernel, **settings)


class Dense(nn.Dense):
    """flax's linear layer, of these products."""

    dot_general: Any = dot_general
