"""Uniformly random actions from key to door; 13 % of the episodes succeed.

5,000 episodes of at most 16 steps.
"""

from __future__ import annotations

import jax
import numpy as np

from jaxrl.data.recorded import Recorded, describe
from jaxrl.envs.registry import make
from jaxrl.train.datasets.parts.playing import (
    play_steps,
    random_action,
    until_terminated,
    whole_episodes,
)
from jaxrl.types import Array, Key, View

NAME = "key-to-door-random"
ENVIRONMENT = "keydoor/16"
EPISODES, FEW_EPISODES = 5_000, 500


def build(small: bool = False, seed: int = 0) -> Recorded:
    """Record the episodes."""
    env = make(ENVIRONMENT)

    def act(memory: tuple, view: View, key: Key) -> tuple[Array, tuple]:
        return random_action(env, view.observation, key), memory

    num_episodes = FEW_EPISODES if small else EPISODES
    steps = play_steps(env, act, num_episodes, env.horizon, jax.random.key(seed))
    about = describe(
        NAME,
        "uniformly random actions",
        environment=ENVIRONMENT,
        reference_scores=env.reference_scores,
        seed=seed,
        small=small,
    )
    return whole_episodes(steps, np.asarray(until_terminated(steps)), about)
