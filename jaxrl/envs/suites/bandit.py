"""A contextual bandit whose regret is known exactly.

It shows what limits a policy gradient, without noise of evaluation.

Rewards are far noisier than what an action is worth, so the policy cannot settle: it drifts around
the optimum, at a distance that the size of its steps and the number of transitions behind each of
them decide (docs/scaling.md).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.api import Environment
from jaxrl.envs.options import check_numbers
from jaxrl.envs.registry import construct
from jaxrl.types import Array, Box, Key, Scalar, Space, Timestep

SUITE = "bandit"
IDS = ("bandit/contextual",)

STATES, HIDDEN, ACTIONS = 8, 16, 2
_generator = np.random.RandomState(0)  # NumPy promises that its stream never changes


def _gaussian(inputs: int, outputs: int) -> np.ndarray:
    """The next weights of the optimal action, float32 [inputs, outputs]."""
    weights = _generator.standard_normal((inputs, outputs)).astype(np.float32)
    return weights / np.sqrt(inputs, dtype=np.float32)


INNER = _gaussian(STATES, HIDDEN)
OUTER = _gaussian(HIDDEN, ACTIONS)


class ContextualBandit(Environment):
    """One step: see s ~ N(0, I) in R⁸, act a in R², earn −|a − a*(s)|² + noise · N(0, 1).

    a*(s) = scale · tanh(W₂ᵀ tanh(W₁ᵀ s)) with fixed Gaussian W₁ [8, 16] and W₂ [16, 2], so |a*| <
    scale in each coordinate. Actions are unbounded: none is clipped, so the best mean of a Gaussian
    policy is a* itself.
    """

    noise: Scalar = 3.0
    scale: Scalar = 2.0

    @property
    def observation_space(self) -> Space:
        """The state."""
        return Box(-np.inf, np.inf, (STATES,))

    @property
    def action_space(self) -> Space:
        """Without bounds."""
        return Box(-np.inf, np.inf, (ACTIONS,))

    @property
    def horizon(self) -> int:
        """One step, which always ends the episode by itself."""
        return 1

    def reset(self, key: Key) -> tuple[Array, Array]:
        """Draw a state and show it."""
        state = jax.random.normal(key, (STATES,))
        return state, state

    def step(self, key: Key, state: Array, action: Array) -> tuple[Array, Timestep]:
        """A noisy reward, and the end."""
        reward = self.expected_reward(state, action) + self.noise * jax.random.normal(key)
        return state, Timestep(state, reward, jnp.ones((), bool))

    def optimal_action(self, states: Array) -> Array:
        """a*(s), [..., 2] for states [..., 8]."""
        return self.scale * jnp.tanh(jnp.tanh(states @ INNER) @ OUTER)

    def expected_reward(self, states: Array, actions: Array) -> Array:
        """−|a − a*(s)|², [...]."""
        return -jnp.sum(jnp.square(actions - self.optimal_action(states)), axis=-1)

    def gap(self, states: Array, means: Array) -> Array:
        """Exact expected regret, [], of taking the actions `means` [S, 2] in `states` [S, 8]."""
        return -jnp.mean(self.expected_reward(states, means))


def fixed_states(count: int = 4096) -> Array:
    """The same `count` states on every call, [count, 8], to average regret over."""
    return jax.random.normal(jax.random.key(2603_06009), (count, STATES))


def make(environment_id: str, **kwargs: Any) -> Environment:
    """Build by id; `noise` is the deviation of the reward, `scale` the largest |a*|."""
    environment = construct(environment_id, ContextualBandit, kwargs)
    check_numbers(kwargs, {})
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), environment)
