"""Mamba layers: a short convolution and a selective scan, behind a gate.

A layer reads a sequence [L, width], the memory of what came before it, and where sequences of their
own begin; it returns as many tokens, and the memory after them. A sequence of one token is the
recurrent step: its memory and its work do not grow with what has been read. Others are mapped over
by vmap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.config import configuration, option, size
from jaxrl.core.scan import selective_scan, ssd_scan
from jaxrl.errors import JaxrlError
from jaxrl.nn.q_networks import uniform_fan_in
from jaxrl.types import Array, Key

# Of the steps Δ before training, drawn log-uniformly.
FIRST_STEPS = (1e-3, 0.1)
LEAST_STEP = 1e-4
# Of the decays of an SSD's heads before training, drawn uniformly.
FIRST_DECAYS = (1.0, 16.0)
# Channels per number of the projection that Δ is read from.
CHANNELS_PER_RANK = 32
NORM_EPSILON = 1e-5


@configuration
class MambaConfig:
    """Sizes of a Mamba layer."""

    mixer: Literal["s6", "ssd"] = option("s6")
    """Scan: s6, a decay for every number of the state (Mamba); ssd, one for each head (Mamba-2)."""
    state_size: int = size(16, basic=True)
    """Numbers in the state of each channel."""
    expand: int = size(2)
    """Channels of a layer per number of a token."""
    conv_width: int = size(4)
    """Tokens that the short convolution reads."""
    head_size: int = size(32, needs={"mixer": "ssd"})
    """Channels of a head."""


class Memory(NamedTuple):
    """What a mixer keeps of the tokens that it has read."""

    inputs: Array  # of the convolution, its last ones, [conv_width - 1, E]
    state: Array  # of the scan, [Z, E], or [Z, G, F] of G heads


def causal_convolution(
    x: Array, kernel: Array, bias: Array, before: Array, reset: Array
) -> tuple[Array, Array]:
    """A convolution of each channel over the tokens up to the present one, and its last inputs.

        y_t = b + Σ_k w_{W−1−k} x_{t−k},   k = 0 … W − 1, of the tokens of t's own sequence

    x [L, E], kernel [W, E], bias [E], the W − 1 inputs before them [W − 1, E], and reset, bool [L],
    of tokens that begin a sequence. Inputs returned are zero where a reset has cut them off.
    """
    length, width = len(x), len(kernel)
    inputs = jnp.concatenate([before, x])
    begun = jnp.concatenate([jnp.zeros(width - 1, bool), reset])
    # Whether the input k tokens ago is of the same sequence: none has begun since. Sums of resets
    # would say it too, but XLA's CPU back end computes them again for every channel.
    within = [jnp.ones(length, bool)]
    for back in range(1, width):
        within.append(within[-1] & ~begun[width - back : width - back + length])
    y = jnp.broadcast_to(bias, x.shape)
    for place, same in enumerate(reversed(within)):
        tap = inputs[place : place + length]
        y = y + jnp.where(same[:, None], tap, 0.0) * kernel[place][None]
    left = jnp.array([same[-1] for same in reversed(within[:-1])], bool)
    return y, jnp.where(left[:, None], inputs[length:], 0.0)


class ShortConvolution(nn.Module):
    """`causal_convolution` with weights of its own."""

    width: int

    @nn.compact
    def __call__(self, x: Array, before: Array, reset: Array) -> tuple[Array, Array]:
        """[L, E] -> ([L, E], the last inputs)."""
        kernel = self.param("taps", uniform_fan_in, (self.width, x.shape[-1]))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[-1],))
        return causal_convolution(x, kernel, bias, before, reset)


class SelectiveScan(nn.Module):
    """A scan whose Δ, B and C are linear in its input.

        Δ = softplus(W_Δ u + b_Δ),   B = W_B u,   C = W_C u,   A = −exp(A_log)

    S6 has a Δ per channel, through a projection of few numbers; an SSD has one per head.
    """

    config: MambaConfig

    @nn.compact
    def __call__(self, u: Array, state: Array, reset: Array) -> tuple[Array, Array]:
        """[L, E] -> ([L, E], the last state)."""
        return (self._s6 if self.config.mixer == "s6" else self._ssd)(u, state, reset)

    def _s6(self, u: Array, state: Array, reset: Array) -> tuple[Array, Array]:
        channels, states = u.shape[-1], self.config.state_size
        rank = math.ceil(channels / CHANNELS_PER_RANK)
        projected = linear(rank + 2 * states, use_bias=False, name="select")(u)
        step, B, C = jnp.split(projected, [rank, rank + states], axis=-1)
        delta = jax.nn.softplus(linear(channels, bias_init=first_steps, name="step")(step))
        A_log = self.param("A_log", _log_of_counts, (states, channels))
        D = self.param("D", nn.initializers.ones, (channels,))
        return selective_scan(u, delta, -jnp.exp(A_log), B, C, D, initial=state, reset=reset)

    def _ssd(self, u: Array, state: Array, reset: Array) -> tuple[Array, Array]:
        channels, states = u.shape[-1], self.config.state_size
        heads = channels // self.config.head_size
        projected = linear(heads + 2 * states, use_bias=False, name="select")(u)
        step, B, C = jnp.split(projected, [heads, heads + states], axis=-1)
        delta = jax.nn.softplus(step + self.param("bias", first_steps, (heads,))[None])
        A_log = self.param("A_log", _log_of_uniform, (heads,))
        D = self.param("D", nn.initializers.ones, (heads,))
        in_heads = u.reshape(len(u), heads, self.config.head_size)
        y, last = ssd_scan(in_heads, delta, -jnp.exp(A_log), B, C, D, initial=state, reset=reset)
        return y.reshape(u.shape), last


class Mixer(nn.Module):
    """The whole of a Mamba layer but its norm and its residual sum.

    [x, z] = n W_in,   out = (scan(silu(conv(x))) · silu(z)) W_out
    """

    config: MambaConfig

    @nn.compact
    def __call__(self, tokens: Array, memory: Memory, reset: Array) -> tuple[Array, Memory]:
        """[L, width] -> ([L, width], memory)."""
        width = tokens.shape[-1]
        channels = self.config.expand * width
        x, gate = jnp.split(linear(2 * channels, use_bias=False, name="into")(tokens), 2, axis=-1)
        y, memory = Branch(self.config)(x, memory, reset)
        return linear(width, use_bias=False, name="out")(y * jax.nn.silu(gate)), memory


class Branch(nn.Module):
    """The convolution and the scan of a layer, between its projections."""

    config: MambaConfig

    @nn.compact
    def __call__(self, x: Array, memory: Memory, reset: Array) -> tuple[Array, Memory]:
        """[L, E] -> ([L, E], memory)."""
        convolution = ShortConvolution(self.config.conv_width)
        x, inputs = convolution(x, memory.inputs, reset)
        y, state = SelectiveScan(self.config)(jax.nn.silu(x), memory.state, reset)
        return y, Memory(inputs, state)


class MambaBlock(nn.Module):
    """x + mixer(norm(x))."""

    config: MambaConfig

    @nn.compact
    def __call__(self, tokens: Array, memory: Memory, reset: Array) -> tuple[Array, Memory]:
        """[L, width] -> ([L, width], memory)."""
        mixed, memory = Mixer(self.config)(norm()(tokens), memory, reset)
        return tokens + mixed, memory


def first_memory(config: MambaConfig, width: int) -> Memory:
    """The memory of a layer for tokens of a width that has read nothing."""
    channels = config.expand * width
    return Memory(jnp.zeros((config.conv_width - 1, channels)), first_state(config, channels))


def first_state(config: MambaConfig, channels: int) -> Array:
    """The state of a scan of so many channels that has read nothing."""
    if config.mixer == "s6":
        return jnp.zeros((config.state_size, channels))
    heads = channels // config.head_size
    return jnp.zeros((config.state_size, heads, config.head_size))


def check_mamba(config: MambaConfig, width: int) -> None:
    """Refuse heads that do not divide the channels."""
    channels = config.expand * width
    if config.mixer == "ssd" and channels % config.head_size:
        raise JaxrlError(
            f"head_size is {config.head_size}, but must divide the {channels} channels of a layer "
            f"(expand {config.expand} × width {width})."
        )


def linear(width: int, **settings: Any) -> nn.Dense:
    """A linear layer whose weights begin as PyTorch draws them, with zero biases unless given."""
    return nn.Dense(width, kernel_init=uniform_fan_in, **settings)


def norm() -> nn.RMSNorm:
    """The norm before a layer: by the root of the mean square."""
    return nn.RMSNorm(epsilon=NORM_EPSILON)


def first_steps(key: Key, shape: Sequence[int], dtype: Any = jnp.float32) -> Array:
    """Biases whose softplus is log-uniform in `FIRST_STEPS`, as Mamba's authors draw them."""
    low, high = map(math.log, FIRST_STEPS)
    step = jnp.exp(jax.random.uniform(key, shape, dtype, low, high))
    step = jnp.maximum(step, LEAST_STEP)
    return step + jnp.log(-jnp.expm1(-step))


def _log_of_counts(key: Key, shape: Sequence[int]) -> Array:
    """log(n + 1) for the n-th number of a state, whatever the channel."""
    del key
    counts = jnp.arange(1, shape[0] + 1, dtype=jnp.float32)
    return jnp.broadcast_to(jnp.log(counts)[:, None], shape)


def _log_of_uniform(key: Key, shape: Sequence[int]) -> Array:
    return jnp.log(jax.random.uniform(key, shape, minval=FIRST_DECAYS[0], maxval=FIRST_DECAYS[1]))
