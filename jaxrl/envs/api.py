"""The Environment contract: unbatched, pure, never resets itself, knows no time limit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

import numpy as np
from flax import struct

from jaxrl.types import Array, Key, ObservationSpace, PyTree, Space, Timestep


class Environment(struct.PyTreeNode):
    """A Markov decision process as two pure functions of arrays.

    Subclasses give `reset`, `step`, the two spaces and `horizon`. Dataclass fields are pytree
    leaves (so dynamics can be batched and randomised); mark a size with
    `struct.field(pytree_node=False)`. `horizon` is the suite's usual time limit: VectorEnv applies
    it, the environment itself never does.
    """

    @property
    def observation_space(self) -> ObservationSpace:
        """Shape, type and bounds of one observation, or of each of its parts."""
        raise NotImplementedError

    @property
    def action_space(self) -> Space:
        """Shape, type and bounds of one action."""
        raise NotImplementedError

    @property
    def horizon(self) -> int:
        """Steps after which the suite cuts an episode (truncation, not termination)."""
        raise NotImplementedError

    @property
    def info(self) -> tuple[str, ...]:
        """Names of what `step` reports in `Timestep.info`, which becomes the metrics env_NAME.

        Each is a number, averaged over all steps.
        """
        return ()

    @property
    def reference_scores(self) -> tuple[float, float] | None:
        """Expected returns of a random and of an expert policy, if they are known.

        Tables give scores on that scale.
        Of one environment that is not batched; asked for on the host, and never while something is
        traced.
        """
        return None

    def reset(self, key: Key) -> tuple[PyTree, PyTree]:
        """Draw a first state: (state, observation)."""
        raise NotImplementedError

    def step(self, key: Key, state: PyTree, action: Array) -> tuple[PyTree, Timestep]:
        """Apply one action: (next state, Timestep of that next state)."""
        raise NotImplementedError


@runtime_checkable
class Drawable(Protocol):
    """An Environment that can draw its states: `jaxrl render` makes films of it."""

    @property
    def seconds(self) -> float:
        """Simulated seconds per step; films run at that speed."""
        ...

    def painter(self) -> AbstractContextManager[Callable[[PyTree], np.ndarray]]:
        """A function that draws a state, uint8 [height, width, 3].

        Raises JaxrlError where nothing can be drawn.
        """
        ...
