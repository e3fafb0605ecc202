"""Backbones of Decision Mamba: a coarse branch over tokens, and a fine one over steps.

Source: Lv et al., Decision Mamba: A Multi-Grained State Space Model with Self-Evolution
Regularization for Offline RL (2024), arXiv 2406.05427: its figure of a block, and its authors'
code, which is another block (docs/sequence_models.md).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.config import configuration, nested, option
from jaxrl.nn.mamba import (
    Branch,
    MambaBlock,
    MambaConfig,
    Memory,
    Mixer,
    SelectiveScan,
    first_memory,
    first_state,
    linear,
    norm,
)
from jaxrl.nn.sequence import SequenceConfig, begins
from jaxrl.types import Array, PyTree


@configuration
class DecisionMambaNetworkConfig(SequenceConfig):
    """Layers of Decision Mamba."""

    branches: Literal["figure", "coarse", "repository"] = option("figure")
    """Blocks: figure, the paper's, with a coarse and a fine branch behind one gate; coarse, plain
    Mamba; repository, the authors' code, which shows the model the actions that it is to predict.
    """
    mamba: MambaConfig = nested(MambaConfig())
    """Sizes of the branches."""


class FigureMemory(NamedTuple):
    """What a figure's block keeps of the steps that it has read."""

    coarse: Memory
    fine: Array  # the state of the fine scan
    before: Array  # what the fine scan gave at the last step, [E]


class FigureBlock(nn.Module):
    """The block of the paper's figure: two branches behind one gate and one projection.

        n = norm(x)
        c = scan(silu(conv(W_c n)))                over all tokens
        f = scan(silu(W_f [a_{t−1}, s_t, R_t]))    over steps; of n, one vector per group
        x + W_o ((c + f) · silu(W_g n))

    f_t goes to the tokens s_t, R_t and a_t: each of them follows what f_t has read.
    """

    config: MambaConfig

    @nn.compact
    def __call__(
        self, tokens: Array, memory: FigureMemory, first: Array
    ) -> tuple[Array, FigureMemory]:
        """Tokens [K, 3, width] and first [K] -> (tokens, memory)."""
        count, group, width = tokens.shape
        channels = self.config.expand * width
        normed = norm()(tokens)

        entering = linear(channels, use_bias=False, name="coarse_into")(normed)
        coarse, coarse_memory = Branch(self.config, name="coarse")(
            entering.reshape(count * group, channels), memory.coarse, begins(first)
        )

        # Where nothing came before there is no action before.
        has_action = ~jnp.stack([first, jnp.zeros_like(first), jnp.zeros_like(first)], axis=1)
        seen = jnp.where(has_action[:, :, None], normed, 0.0).reshape(count, group * width)
        # One product, not a convolution with a stride: the same function, a fraction of its cost.
        together = jax.nn.silu(linear(channels, name="fine_into")(seen))
        fine, state = SelectiveScan(self.config, name="fine")(together, memory.fine, first)
        earlier = jnp.concatenate([memory.before[None], fine[:-1]])
        earlier = jnp.where(first[:, None], 0.0, earlier)
        of_tokens = jnp.stack([earlier, fine, fine], axis=1)

        gate = jax.nn.silu(linear(channels, use_bias=False, name="gate")(normed))
        both = (coarse.reshape(count, group, channels) + of_tokens) * gate
        mixed = linear(width, use_bias=False, name="out")(both)
        return tokens + mixed, FigureMemory(coarse_memory, state, fine[-1])


class RepositoryBlock(nn.Module):
    """The block of the authors' code: two mixers of their own, and a fine branch that leaks.

        x + mixer(n) + norm(tile(mixer(W [R_t, s_t, a_t])))

    The K vectors of the groups are laid over the 3K tokens three times in a row instead of three
    times each: token i is given group i mod K, and with it actions that it is to predict, all but
    the last. It goes on from no memory, and what a window is filled up with is seen.
    """

    config: MambaConfig

    @nn.compact
    def __call__(self, tokens: Array, memory: tuple, first: Array) -> tuple[Array, tuple]:
        """Tokens [K, 3, width], first [K] -> (tokens, ())."""
        count, group, width = tokens.shape
        normed = norm()(tokens).reshape(count * group, width)
        begun = first_memory(self.config, width)
        coarse, _ = Mixer(self.config, name="coarse")(normed, begun, begins(first))
        # The stream of the authors' groups begins a token later; its last action is zeros.
        stream = jnp.concatenate([normed[1:], jnp.zeros((1, width))])
        together = linear(width, name="fine_into")(stream.reshape(count, group * width))
        fine, _ = Mixer(self.config, name="fine")(together, begun, first)
        tiled = nn.LayerNorm()(jnp.tile(fine, (group, 1)))
        mixed = coarse + jnp.roll(tiled, 1, axis=0)
        return tokens + mixed.reshape(tokens.shape), memory


class CoarseBlock(nn.Module):
    """Mamba over all tokens."""

    config: MambaConfig

    @nn.compact
    def __call__(self, tokens: Array, memory: Memory, first: Array) -> tuple[Array, Memory]:
        """Tokens [K, 3, width] and first [K] -> (tokens, memory)."""
        flat = tokens.reshape(-1, tokens.shape[-1])
        mixed, memory = MambaBlock(self.config)(flat, memory, begins(first))
        return mixed.reshape(tokens.shape), memory


BLOCKS = {"figure": FigureBlock, "coarse": CoarseBlock, "repository": RepositoryBlock}


class DecisionMambaBackbone(nn.Module):
    """Blocks of one kind, one after the other, and a norm."""

    config: DecisionMambaNetworkConfig

    @property
    def target_last(self) -> bool:
        """As in the figure; the authors' code has the return before what is observed."""
        return self.config.branches != "repository"

    @property
    def goes_on(self) -> bool:
        """Whether it goes on from a memory."""
        return self.config.branches != "repository"

    @property
    def reads_last(self) -> bool:
        """The authors' code shows all labels but the last."""
        return self.config.branches == "repository"

    def first_memory(self) -> PyTree:
        """One memory for each layer."""
        return tuple(self._first_memory() for _ in range(self.config.num_layers))

    def _first_memory(self) -> PyTree:
        mamba, width = self.config.mamba, self.config.width
        if not self.goes_on:
            return ()
        coarse = first_memory(mamba, width)
        if self.config.branches == "coarse":
            return coarse
        channels = mamba.expand * width
        return FigureMemory(coarse, first_state(mamba, channels), jnp.zeros(channels))

    @nn.compact
    def __call__(
        self, tokens: Array, memory: PyTree, first: Array, training: bool
    ) -> tuple[Array, PyTree]:
        """Tokens [K, 3, width] and first [K] -> (tokens, memory)."""
        del training
        block: Any = BLOCKS[self.config.branches]
        kept = []
        for of_layer in memory:
            tokens, after = block(self.config.mamba)(tokens, of_layer, first)
            kept.append(after)
        return norm()(tokens), tuple(kept)
