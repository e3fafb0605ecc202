"""Actions as the numbers that a sequence model reads and predicts, for every kind of space."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.nn.action_units import scale_action, unscale_action
from jaxrl.types import Array, Box, Discrete, MultiDiscrete, Space


@dataclass(frozen=True)
class ActionLabels:
    """Labels of actions, and what is made of a head's outputs for them.

    Continuous actions are labels themselves, in units where [-1, 1] spans the space if all of it is
    bounded, and outputs are predictions of them. Of actions that are whole numbers labels are
    probabilities, one-hot as recorded, and outputs are logits.
    """

    space: Space

    @property
    def size(self) -> int:
        """Numbers in a label."""
        return math.prod(self.space.shape) if isinstance(self.space, Box) else sum(self.counts)

    @property
    def squashed(self) -> bool:
        """Whether outputs lie in [-1, 1]."""
        return isinstance(self.space, Box) and self.space.bounded

    @property
    def counts(self) -> tuple[int, ...]:
        """Choices of each whole number; () of continuous actions."""
        if isinstance(self.space, Discrete):
            return (self.space.n,)
        return self.space.nvec if isinstance(self.space, MultiDiscrete) else ()

    def of_rows(self, action: Array) -> Array:
        """Labels [K, A] of K actions as batches and windows have them."""
        if isinstance(self.space, Box):
            return action.reshape(len(action), -1).astype(jnp.float32)
        entries = action.reshape(len(action), len(self.counts))
        one_hot = [jax.nn.one_hot(entries[:, i], n) for i, n in enumerate(self.counts)]
        return jnp.concatenate(one_hot, axis=-1)

    def of_executed(self, action: Array) -> Array:
        """The label [A] of one action in the environment's units."""
        row = action[None]
        if self.squashed:
            row = unscale_action(row, self.space)
        return self.of_rows(row)[0]

    def expected(self, output: Array) -> Array:
        """The labels [..., A] that outputs [..., A] stand for."""
        if isinstance(self.space, Box):
            return output
        return jnp.exp(self._log_probabilities(output))

    def error(self, output: Array, label: Array) -> Array:
        """How far outputs [..., A] are from labels [..., A]: [...].

        The mean square over coordinates, or the cross-entropy in nats, summed over whole numbers.
        """
        if isinstance(self.space, Box):
            return jnp.mean(jnp.square(output - label), axis=-1)
        return -jnp.sum(label * self._log_probabilities(output), axis=-1)

    def decide(self, output: Array) -> Array:
        """The action of an output [A], in the environment's units; the most probable one."""
        if self.squashed:
            return scale_action(output, self.space, squash=False)
        if isinstance(self.space, Box):
            shape = self.space.shape
            low, high = (
                np.broadcast_to(np.asarray(bound, np.float32), shape)
                for bound in (self.space.low, self.space.high)
            )
            return jnp.clip(output.reshape(shape), low, high).astype(self.space.dtype)
        chosen = [jnp.argmax(logits, axis=-1) for logits in self._split(output)]
        action = chosen[0] if isinstance(self.space, Discrete) else jnp.stack(chosen)
        return action.astype(self.space.dtype)

    def _split(self, output: Array) -> list[Array]:
        """The logits of each whole number."""
        ends = tuple(itertools.accumulate(self.counts))
        return jnp.split(output, ends[:-1], axis=-1)

    def _log_probabilities(self, output: Array) -> Array:
        parts = [jax.nn.log_softmax(logits, axis=-1) for logits in self._split(output)]
        return jnp.concatenate(parts, axis=-1)
