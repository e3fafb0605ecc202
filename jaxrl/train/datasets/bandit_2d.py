"""Actions from four modes of a two-dimensional bandit, one of which pays.

10,000 episodes of one step: the modes (±0.8, ±0.8) in equal parts, with deviation 0.05, clipped to
[-1, 1], as in the bandit of diffusion Q-learning (Wang et al. 2023, arXiv 2208.06193).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.recorded import Recorded, describe
from jaxrl.envs.registry import make
from jaxrl.envs.suites.bandit import MODES
from jaxrl.train.datasets.parts.playing import play_steps, whole_episodes
from jaxrl.types import Array, Key, View

NAME = "bandit-2d"
ENVIRONMENT = "bandit/four-modes"
EPISODES, FEW_EPISODES = 10_000, 1_000
DEVIATION = 0.05


def act(mode: Array, view: View, key: Key) -> tuple[Array, Array]:
    """An action near a mode [2]."""
    del view
    return jnp.clip(mode + DEVIATION * jax.random.normal(key, (2,)), -1.0, 1.0), mode


def build(small: bool = False, seed: int = 0) -> Recorded:
    """Record the actions."""
    env = make(ENVIRONMENT)
    num_episodes = FEW_EPISODES if small else EPISODES
    modes = np.random.default_rng(seed).permutation(np.arange(num_episodes) % len(MODES))
    steps = play_steps(
        env, act, num_episodes, 1, jax.random.key(seed), memory=jnp.asarray(MODES[modes])
    )
    about = describe(
        NAME,
        f"actions from four Gaussian modes of deviation {DEVIATION}",
        environment=ENVIRONMENT,
        reference_scores=env.reference_scores,
        seed=seed,
        small=small,
    )
    return whole_episodes(steps, np.ones(num_episodes), about)
