"""Torsos: flax modules from an observation [..., *shape] to features [..., width].

Parameters are float32. With a `compute_dtype` of bfloat16, activations and the operands of products
are rounded to it; biases are added, and their gradients summed over a batch, in float32.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jaxrl.nn.products import Dense, dot_general
from jaxrl.types import Array, Key

# Of a grid: height, width, channels.
GRID_AXES = 3
# Beyond it mish(x) is x, to the last bit of a float32.
LARGE = 15.0


def mish(x: Array) -> Array:
    """x tanh(softplus(x)), with one exponential and no logarithm.

        e = exp(x),   tanh(ln(1 + e)) = (e² + 2 e) / (e² + 2 e + 2)

    On a CPU, at 64 units, a gradient step of OFQL is made of little else (benchmarks/NOTES.md).

    Source: Misra, Mish: A Self Regularized Non-Monotonic Activation Function (2020), equation 1.
    """
    exponential = jnp.exp(jnp.minimum(x, LARGE))
    weight = exponential * (exponential + 2.0)
    return x * (weight / (weight + 2.0))


def relu(x: Array) -> Array:
    """max(x, 0), and NaN for NaN.

    Written as a choice, as which XLA computes it once; a maximum it computes again wherever it is
    read, and one by one where it is read transposed (jaxrl/nn/products.py).
    """
    return jnp.where(x <= 0.0, 0.0, x)


ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "tanh": nn.tanh,
    "relu": relu,
    "swish": nn.swish,
    "gelu": nn.gelu,
    "elu": nn.elu,
    "mish": mish,
}


def orthogonal(scale: float) -> Callable[..., Array]:
    """Orthogonal weights of gain `scale` (Saxe et al. 2014, arXiv 1312.6120), mapped one by one.

    jaxlib 0.10's CPU kernels for batches of QR factorisations wait for each other in one thread
    pool: two of them at once, as in the layers of a population of seeds, can hang for good. Mapped
    one by one they cannot.
    """
    initializer = nn.initializers.orthogonal(scale)

    def initialize(key: Key, shape: Sequence[int], dtype: DTypeLike = jnp.float32) -> Array:
        # Key data, not keys: the checker of reused keys cannot follow keys through the mapping.
        def from_data(data: Array) -> Array:
            key_again = jax.random.wrap_key_data(data, impl=jax.random.key_impl(key))
            return initializer(key_again, shape, dtype)

        return jax.custom_batching.sequential_vmap(from_data)(jax.random.key_data(key))

    return initialize


def _cast(
    inputs: Array, kernel: Array, bias: Array, *, dtype: DTypeLike, **_: Any
) -> tuple[Array, Array, Array]:
    """The operands of a product in `dtype`; the bias stays: its gradient is summed in its type."""
    return inputs.astype(dtype), kernel.astype(dtype), bias


def dense(
    width: int, scale: float, name: str | None = None, compute_dtype: str = "float32"
) -> Dense:
    """A linear layer with orthogonal weights of gain `scale` and zero bias, as is usual in PPO."""
    return Dense(
        width, dtype=compute_dtype, promote_dtype=_cast, kernel_init=orthogonal(scale), name=name
    )


def head(width: int, scale: float, compute_dtype: str = "float32") -> Dense:
    """A linear layer as `dense`, whose outputs are float32, never rounded to `compute_dtype`."""
    return Dense(
        width,
        dtype=compute_dtype,
        promote_dtype=_cast,
        dot_general=functools.partial(dot_general, preferred_element_type=jnp.float32),
        kernel_init=orthogonal(scale),
    )


class MLP(nn.Module):
    """Hidden layers of `hidden_sizes` units, after flattening the `event_ndim` observation axes."""

    hidden_sizes: Sequence[int]
    activation: str
    event_ndim: int = 1
    compute_dtype: str = "float32"

    @nn.compact
    def __call__(self, observation: Array) -> Array:
        """[..., *shape] -> [..., hidden_sizes[-1]]."""
        batch_shape = observation.shape[: observation.ndim - self.event_ndim]
        features = observation.reshape(*batch_shape, -1).astype(jnp.float32)
        for width in self.hidden_sizes:
            linear = dense(width, np.sqrt(2), compute_dtype=self.compute_dtype)
            features = ACTIVATIONS[self.activation](linear(features).astype(self.compute_dtype))
        return features


class GridCNN(nn.Module):
    """The MinAtar network: one 3×3 convolution with `channels` filters, then an MLP.

    Source: Young & Tian 2019 (arXiv 1903.03176), which uses 16 filters and 128 hidden units.
    """

    hidden_sizes: Sequence[int]
    activation: str
    channels: int = 16
    compute_dtype: str = "float32"

    @nn.compact
    def __call__(self, observation: Array) -> Array:
        """[..., height, width, channels] -> [..., hidden_sizes[-1]]."""
        batch_shape = observation.shape[:-3]
        grid = observation.reshape(-1, *observation.shape[-3:]).astype(jnp.float32)
        convolution = nn.Conv(
            self.channels,
            (3, 3),
            padding="VALID",
            kernel_init=orthogonal(np.sqrt(2)),
            dtype=self.compute_dtype,
            promote_dtype=_cast,
        )
        features = convolution(grid).astype(self.compute_dtype)
        features = ACTIVATIONS[self.activation](features).reshape(*batch_shape, -1)
        return MLP(self.hidden_sizes, self.activation, compute_dtype=self.compute_dtype)(features)


class DictTorso(nn.Module):
    """Hidden layers over the arrays under some keys, side by side.

    Each is flattened, or, by a torso of `kind` "cnn" and if it is a grid, convolved first.
    """

    kind: str
    event_ndims: tuple[tuple[str, int], ...]  # axes of one observation, by key
    hidden_sizes: Sequence[int]
    activation: str
    compute_dtype: str = "float32"

    @nn.compact
    def __call__(self, observation: dict[str, Array]) -> Array:
        """[..., *shape] under each key -> [..., hidden_sizes[-1]]."""
        pieces = []
        for key, event_ndim in self.event_ndims:
            kind = self.kind if event_ndim == GRID_AXES else "mlp"
            encoder = make_torso(kind, (), self.activation, event_ndim, self.compute_dtype)
            pieces.append(encoder(observation[key]))
        layers = MLP(self.hidden_sizes, self.activation, compute_dtype=self.compute_dtype)
        return layers(jnp.concatenate(pieces, axis=-1))


def make_torso(
    kind: str,
    hidden_sizes: Sequence[int],
    activation: str,
    event_ndim: int,
    compute_dtype: str = "float32",
) -> nn.Module:
    """The torso named by `kind` ("mlp" or "cnn") for observations with `event_ndim` axes."""
    if kind == "cnn":
        return GridCNN(hidden_sizes, activation, compute_dtype=compute_dtype)
    return MLP(hidden_sizes, activation, event_ndim, compute_dtype)
