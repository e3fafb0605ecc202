"""Memories of policies: layers that read a sequence, and carry on what they have read.

A layer is called with tokens [L, width], the memory before them, and where episodes begin, bool
[L]; it returns features [L, memory_size], and the memory after them. A sequence of one token is the
recurrent step, and the whole is its steps in turn. Environments are mapped over by vmap.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.config import Family, configuration, nested, size
from jaxrl.nn.mamba import MambaBlock, MambaConfig, check_mamba, first_memory, linear, norm
from jaxrl.nn.torsos import dense, orthogonal
from jaxrl.types import Array, Key, PyTree


@configuration
class MemoryConfig:
    """The base class of the configurations of memories, each of which derives from it."""

    def make(self) -> nn.Module | None:
        """The layer; None: the policy has no memory."""
        raise NotImplementedError

    def initial(self) -> PyTree:
        """One environment's memory at the start of an episode."""
        raise NotImplementedError


@configuration
class NoMemoryConfig(MemoryConfig):
    """Each observation is read by itself."""

    def make(self) -> None:
        """There is no layer."""
        return None

    def initial(self) -> tuple:
        """Nothing."""
        return ()


@configuration
class GRUConfig(MemoryConfig):
    """A gated recurrent unit."""

    memory_size: int = size(64)
    """Numbers in the memory, and features that it gives."""

    def make(self) -> nn.Module:
        """The unit."""
        return GRU(self.memory_size)

    def initial(self) -> Array:
        """Zeros, [memory_size]."""
        return jnp.zeros(self.memory_size)


@configuration
class MambaMemoryConfig(MemoryConfig):
    """A Mamba layer, whose memory is a state per channel and its convolution's last inputs."""

    memory_size: int = size(64)
    """Features that it gives, and the width of its layer."""
    layer: MambaConfig = nested(MambaConfig())
    """Sizes of the layer."""

    def make(self) -> nn.Module:
        """A layer, between a projection and a norm."""
        check_mamba(self.layer, self.memory_size)
        return Mamba(self.memory_size, self.layer)

    def initial(self) -> PyTree:
        """Zeros."""
        return first_memory(self.layer, self.memory_size)


class GRU(nn.Module):
    """A gated recurrent unit.

        r = σ(W_r x + U_r h),   z = σ(W_z x + U_z h),   n = tanh(W_n x + b_x + r (U_n h + b_h))
        h ← (1 − z) n + z h

    with h = 0 where an episode begins. Products with the tokens are taken for all of them at once;
    those with h, for one token of all environments.

    Source: Cho et al. (2014), arXiv 1406.1078, as cuDNN has it: the reset gate after the product.
    """

    size: int

    @nn.compact
    def __call__(self, tokens: Array, memory: Array, reset: Array) -> tuple[Array, Array]:
        """[L, width], [size], bool [L] -> ([L, size], [size])."""
        inputs = dense(3 * self.size, 1.0, name="inputs")(tokens)
        weights = self.param("recurrent", _three_orthogonal, (self.size, 3 * self.size))
        bias = self.param("candidate_bias", nn.initializers.zeros, (self.size,))

        def step(h: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
            x, begins = now
            h = jnp.where(begins, 0.0, h)
            reset_x, update_x, candidate_x = jnp.split(x, 3)
            reset_h, update_h, candidate_h = jnp.split(h @ weights, 3)
            reset_gate = nn.sigmoid(reset_x + reset_h)
            update_gate = nn.sigmoid(update_x + update_h)
            candidate = jnp.tanh(candidate_x + reset_gate * (candidate_h + bias))
            h = (1.0 - update_gate) * candidate + update_gate * h
            return h, h

        last, features = jax.lax.scan(step, memory, (inputs, reset))
        return features, last


class Mamba(nn.Module):
    """A Mamba layer of its own width: norm(block(W x))."""

    size: int
    config: MambaConfig

    @nn.compact
    def __call__(self, tokens: Array, memory: PyTree, reset: Array) -> tuple[Array, PyTree]:
        """[L, width], memory, bool [L] -> ([L, size], memory)."""
        features, memory = MambaBlock(self.config)(
            linear(self.size, name="inputs")(tokens), memory, reset
        )
        return norm()(features), memory


def _three_orthogonal(key: Key, shape: Sequence[int]) -> Array:
    """An orthogonal matrix for each of the unit's three products, side by side."""
    each = (shape[0], shape[1] // 3)
    matrices = [orthogonal(1.0)(part, each) for part in jax.random.split(key, 3)]
    return jnp.concatenate(matrices, axis=1)


KINDS = {"none": NoMemoryConfig, "gru": GRUConfig, "mamba": MambaMemoryConfig}
MEMORIES = Family("memory", MemoryConfig, names=KINDS.keys, find=KINDS.__getitem__)
