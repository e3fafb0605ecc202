"""A small causal transformer over the tokens of an episode, in the manner of GPT-2."""

from __future__ import annotations

import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.config import configuration, option, size
from jaxrl.errors import JaxrlError
from jaxrl.nn.sequence import SequenceConfig
from jaxrl.nn.torsos import ACTIVATIONS
from jaxrl.types import Array

# Deviation of first weights, GPT-2's.
WEIGHT_STD = 0.02
# Units of the hidden layer of a block, per number of a token.
EXPANSION = 4


@configuration
class TransformerConfig(SequenceConfig):
    """Layers of a transformer."""

    num_heads: int = size(1, basic=True)
    """Heads of attention; they share the numbers of a token."""
    activation: Literal["relu", "gelu"] = option("relu")
    """Nonlinearity of the hidden layers."""
    dropout: float = option(0.1, 0, 1)
    """Share of the activations, and of what is attended to, that is left out in training."""


class Attention(nn.Module):
    """Each token attends to itself and to those that `visible` allows it."""

    num_heads: int
    dropout: float

    @nn.compact
    def __call__(self, tokens: Array, visible: Array, training: bool) -> Array:
        """Tokens [L, width] and visible, bool [L, L], of which row attends to which column."""
        length, width = tokens.shape
        projected = _linear(3 * width)(tokens)
        heads = projected.reshape(length, 3, self.num_heads, width // self.num_heads)
        query, key, value = heads[:, 0], heads[:, 1], heads[:, 2]
        scores = jnp.einsum("qhd,khd->hqk", query, key) / math.sqrt(query.shape[-1])
        weights = jax.nn.softmax(jnp.where(visible[None], scores, -jnp.inf), axis=-1)
        weights = nn.Dropout(self.dropout)(weights, deterministic=not training)
        mixed = jnp.einsum("hqk,khd->qhd", weights, value).reshape(length, width)
        return nn.Dropout(self.dropout)(_linear(width)(mixed), deterministic=not training)


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + layers(norm(x))."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, tokens: Array, visible: Array, training: bool) -> Array:
        """Tokens [L, width] and visible, bool [L, L]."""
        config = self.config
        attention = Attention(config.num_heads, config.dropout)
        tokens = tokens + attention(nn.LayerNorm()(tokens), visible, training)
        hidden = _linear(EXPANSION * config.width)(nn.LayerNorm()(tokens))
        out = _linear(config.width)(ACTIVATIONS[config.activation](hidden))
        return tokens + nn.Dropout(config.dropout)(out, deterministic=not training)


class TransformerBackbone(nn.Module):
    """Blocks over the tokens of K steps, each of which sees those before it."""

    config: TransformerConfig

    @property
    def target_last(self) -> bool:
        """Decision Transformer's order: the return before what is observed."""
        return False

    @property
    def goes_on(self) -> bool:
        """It reads whole windows."""
        return False

    @property
    def reads_last(self) -> bool:
        """No place sees its label."""
        return False

    def first_memory(self) -> tuple:
        """None is kept."""
        return ()

    @nn.compact
    def __call__(
        self, tokens: Array, memory: tuple, first: Array, training: bool
    ) -> tuple[Array, tuple]:
        """Tokens [K, 3, width] and first [K] -> (tokens, ())."""
        flat = tokens.reshape(-1, tokens.shape[-1])
        flat = nn.Dropout(self.config.dropout)(flat, deterministic=not training)
        visible = visible_tokens(first)
        for _ in range(self.config.num_layers):
            flat = TransformerBlock(self.config)(flat, visible, training)
        return nn.LayerNorm()(flat).reshape(tokens.shape), memory


def visible_tokens(first: Array) -> Array:
    """Which token (a row) attends to which (a column), bool [3K, 3K], from first [K].

    To those before it of its own stretch of steps, and itself; never to the action before a first
    step, which is of no step that is seen.
    """
    count = len(first)
    place = jnp.arange(3 * count)
    stretch = jnp.repeat(jnp.cumsum(first), 3)
    is_absent = jnp.repeat(first, 3) & (place % 3 == 0)
    earlier = place[:, None] >= place[None]
    together = stretch[:, None] == stretch[None]
    return (earlier & together & ~is_absent[None]) | jnp.eye(3 * count, dtype=bool)


def check_transformer(config: TransformerConfig) -> None:
    """Refuse heads that do not share a token evenly."""
    if config.width % config.num_heads:
        raise JaxrlError(
            f"num_heads is {config.num_heads}, but must divide the width of a token, "
            f"{config.width}."
        )


def _linear(width: int) -> nn.Dense:
    return nn.Dense(width, kernel_init=nn.initializers.normal(WEIGHT_STD))
