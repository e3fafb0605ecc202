"""Pendulum between chance and skill: a controller, disturbed in each episode by a share of its own.

1,000 episodes of 200 steps. The hand-written controller brings the pendulum's energy to that of the
upright position and catches it there; with a probability that is drawn for each episode, uniformly
from [0, 1], a step's torque is random instead. Returns cover the range from the worst to the best,
so that a learner can be asked for any of them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.recorded import Recorded, describe
from jaxrl.envs.registry import make
from jaxrl.train.datasets.parts.playing import play_steps, whole_episodes
from jaxrl.types import Array, Key, View

NAME = "pendulum-mixed"
ENVIRONMENT = "Pendulum-v1"
EPISODES, FEW_EPISODES = 1_000, 50
# Mean returns of 10,000 episodes of uniformly random actions, and of TD3 (pendulum-medium-replay).
REFERENCE_SCORES = (-1229.0, -162.0)
TORQUE = 2.0
# θ'' = 15 sin θ + 3 u: ½ θ'² + 15 cos θ is kept without a torque, and is 15 upright at rest.
UPRIGHT = 15.0
CATCH = 0.9  # cos θ above which it is held


def controlled(observation: Array) -> Array:
    """The controller's torque [1] for (cos θ, sin θ, θ')."""
    cosine, sine, speed = observation
    energy = 0.5 * speed**2 + UPRIGHT * cosine
    swing = (UPRIGHT - energy) * jnp.where(speed >= 0.0, 1.0, -1.0)
    hold = -(10.0 * sine + 2.0 * speed)
    torque = jnp.where(cosine > CATCH, hold, swing)
    return jnp.clip(torque, -TORQUE, TORQUE)[None]


def act(share: Array, view: View, key: Key) -> tuple[Array, Array]:
    """The controller's torque, or with probability `share` a random one."""
    key_whether, key_torque = jax.random.split(key)
    random = jax.random.uniform(key_torque, (1,), minval=-TORQUE, maxval=TORQUE)
    is_random = jax.random.uniform(key_whether) < share
    return jnp.where(is_random, random, controlled(view.observation)), share


def build(small: bool = False, seed: int = 0) -> Recorded:
    """Record the episodes."""
    env = make(ENVIRONMENT)
    num_episodes = FEW_EPISODES if small else EPISODES
    shares = np.random.default_rng(seed).uniform(size=num_episodes).astype(np.float32)
    steps = play_steps(
        env, act, num_episodes, env.horizon, jax.random.key(seed), memory=jnp.asarray(shares)
    )
    about = describe(
        NAME,
        "a swing-up controller, each episode with its own share of random torques",
        environment=ENVIRONMENT,
        reference_scores=REFERENCE_SCORES,
        seed=seed,
        small=small,
    )
    return whole_episodes(steps, np.full(num_episodes, env.horizon), about)
