"""Sequence models of episodes: what they read, what they predict, and the layers at both ends.

Each step of an episode is a group of three tokens: the action before it, what is observed, and the
return that is still to come. The step's action is read from the last of them. What was observed,
and the return, are also predicted, from the action before them, which is all that they follow from.
No label is among what its prediction may read.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.config import configuration, option, size
from jaxrl.nn.mamba import linear
from jaxrl.types import Array, PyTree

# Deviation of first weights of the table of timesteps.
TABLE_STD = 0.02


@configuration
class SequenceConfig:
    """Sizes that all sequence models have."""

    width: int = size(128, basic=True)
    """Numbers in a token."""
    num_layers: int = size(3, basic=True)
    """Layers over the tokens."""
    timestep_embedding: bool = option(True)
    """Tell the tokens how many steps the episode has had, by a learnt table."""


class Steps(NamedTuple):
    """K steps in a row, as a model reads them."""

    previous_action: Array  # a_{t−1}, as numbers, [K, A]; unread where `first`
    observation: Array  # s_t, [K, *shape]
    target: Array  # R_t, the return to come in units of the policy's scale, [K]
    step: Array  # t, counted from the beginning of the episode, int32 [K]
    first: Array  # bool [K]: nothing before this step is seen


class Predictions(NamedTuple):
    """What a model expects at K steps."""

    action: Array  # a_t, before any softmax, from all before it, [K, A]
    observation: Array  # s_t, from a_{t−1} and all before it, [K, S]; unread where `first`
    target: Array  # R_t, likewise, [K]


class Reading(NamedTuple):
    """Sizes of what is read and predicted."""

    observation: int  # numbers, S
    action: int  # numbers, A
    squashed: bool  # whether actions lie in [-1, 1]
    timesteps: int  # rows of the table; later steps read the last one


class Backbone(Protocol):
    """Layers over groups of tokens: a flax module."""

    @property
    def config(self) -> Any:
        """A SequenceConfig."""
        ...

    @property
    def target_last(self) -> bool:
        """Whether a group is (a_{t−1}, s_t, R_t), and not (a_{t−1}, R_t, s_t)."""
        ...

    @property
    def goes_on(self) -> bool:
        """Whether the layers go on from a memory, and need no more than the present step then."""
        ...

    @property
    def reads_last(self) -> bool:
        """Whether the last place of a window alone has not seen its label, so that steps end there.

        They follow zeros, which the layers do see.
        """
        ...

    def first_memory(self) -> PyTree:
        """What is remembered of nothing."""
        ...

    def __call__(
        self, tokens: Array, memory: PyTree, first: Array, training: bool
    ) -> tuple[Array, PyTree]:
        """Tokens [K, 3, width], first [K] -> (tokens [K, 3, width], memory)."""
        ...


class SequenceModel(nn.Module):
    """A backbone between embeddings and heads."""

    backbone: Backbone
    reading: Reading
    normalize_first: bool = False  # tokens, before they are told the time; else after it

    @nn.compact
    def __call__(
        self, steps: Steps, memory: PyTree, training: bool = False
    ) -> tuple[Predictions, PyTree]:
        """K steps that go on from a memory -> (predictions, memory)."""
        tokens, memory = self.backbone(self._embed(steps), memory, steps.first, training)
        action = linear(self.reading.action, name="action_head")(tokens[:, 2])
        if self.reading.squashed:
            action = jnp.tanh(action)
        following = linear(self.reading.observation + 1, name="next_head")(tokens[:, 0])
        return Predictions(action, following[:, :-1], following[:, -1]), memory

    def _embed(self, steps: Steps) -> Array:
        """[K, 3, width]."""
        config = self.backbone.config
        count = len(steps.step)
        observation = steps.observation.reshape(count, -1).astype(jnp.float32)
        action = linear(config.width, name="action")(steps.previous_action)
        observed = linear(config.width, name="observation")(observation)
        target = linear(config.width, name="target")(steps.target[:, None])
        present = (observed, target) if self.backbone.target_last else (target, observed)
        tokens = jnp.stack([action, *present], axis=1)
        if self.normalize_first:
            tokens = nn.LayerNorm(name="embedding_norm")(tokens)
        if config.timestep_embedding:
            tokens = tokens + self._times(steps.step)
        return tokens if self.normalize_first else nn.LayerNorm(name="embedding_norm")(tokens)

    def _times(self, step: Array) -> Array:
        """The embedding of each token's time, [K, 3, width]: an action's is the step before."""
        times = jnp.stack([step - 1, step, step], axis=1)
        table = self.param(
            "timesteps",
            nn.initializers.normal(TABLE_STD),
            (self.reading.timesteps, self.backbone.config.width),
        )
        return table[jnp.clip(times, 0, self.reading.timesteps - 1)]


def ending_last(steps: Steps, valid: Array) -> Steps:
    """A window whose steps stand where `valid` holds, from place 0 on, moved to the last places.

    The places before them are zeros, and so is the action before the first step, of which none was
    taken; `first` stays where it was.
    """
    nothing_before = jnp.zeros_like(steps.previous_action)
    previous = jnp.where(steps.first[:, None], nothing_before, steps.previous_action)

    def move(leaf: Array) -> Array:
        is_step = jnp.expand_dims(valid, tuple(range(1, leaf.ndim)))
        return jnp.roll(jnp.where(is_step, leaf, jnp.zeros_like(leaf)), jnp.sum(~valid), axis=0)

    moved = jax.tree.map(move, steps._replace(previous_action=previous))
    return moved._replace(first=steps.first)


def begins(first: Array) -> Array:
    """Which tokens begin a sequence of their own, bool [3K]: of a first step, what is observed.

    The action before it is of no step that is seen: whatever reads it is forgotten at once.
    """
    never = jnp.zeros_like(first)
    return jnp.stack([never, first, never], axis=1).reshape(-1)


def count_parameters(params: PyTree) -> int:
    """Numbers that are learnt."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))
