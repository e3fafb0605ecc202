"""Bandits whose values are known exactly: episodes of one step.

    bandit/contextual   what limits a policy gradient, without noise of evaluation
    bandit/four-modes   whether a policy can clone four modes, and find the one of them that pays

In the contextual one rewards are far noisier than what an action is worth, so the policy cannot
settle: it drifts around the optimum, at a distance that the size of its steps and the number of
transitions behind each of them decide (docs/scaling.md).
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.envs.api import Environment
from jaxrl.envs.options import check_numbers
from jaxrl.envs.registry import construct
from jaxrl.errors import check_range
from jaxrl.types import Array, Box, Key, Scalar, Space, Timestep

SUITE = "bandit"
IDS = ("bandit/contextual", "bandit/four-modes")

STATES, HIDDEN, ACTIONS = 8, 16, 2
_generator = np.random.RandomState(0)  # NumPy promises that its stream never changes


def _gaussian(inputs: int, outputs: int) -> np.ndarray:
    """The next weights of the optimal action, float32 [inputs, outputs]."""
    weights = _generator.standard_normal((inputs, outputs)).astype(np.float32)
    return weights / np.sqrt(inputs, dtype=np.float32)


INNER = _gaussian(STATES, HIDDEN)
OUTER = _gaussian(HIDDEN, ACTIONS)

# Where data of the four modes lies; only the last of them pays.
MODES = np.array([[-0.8, 0.8], [-0.8, -0.8], [0.8, 0.8], [0.8, -0.8]], np.float32)


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


class FourModes(Environment):
    """One step: see nothing, a 0, act a in [-1, 1]², earn exp(−|a − m|² / (2 width²)).

    m = (0.8, −0.8) is one of four MODES, which data of the other three hides: their mean, 0, earns
    nothing. After the bandit of diffusion Q-learning (Wang et al. 2023, arXiv 2208.06193), with a
    reward that has no noise.
    """

    width: Scalar = 0.2

    @property
    def observation_space(self) -> Space:
        """A zero."""
        return Box(-1.0, 1.0, (1,))

    @property
    def action_space(self) -> Space:
        """A point of the square."""
        return Box(-1.0, 1.0, (ACTIONS,))

    @property
    def horizon(self) -> int:
        """One step, which always ends the episode by itself."""
        return 1

    @property
    def reference_scores(self) -> tuple[float, float]:
        """Exact expected returns of uniformly random actions, and of m."""
        scale = float(self.width) * math.sqrt(2.0)
        ends = [math.erf((side - 0.8) / scale) for side in (-1.0, 1.0)]
        # ½ ∫ exp(−(x − 0.8)² / (2 width²)) dx over [-1, 1], of one coordinate as of the other.
        mean = 0.25 * scale * math.sqrt(math.pi) * (ends[1] - ends[0])
        return mean**ACTIONS, 1.0

    def reset(self, key: Key) -> tuple[tuple, Array]:
        """Nothing is drawn."""
        return (), jnp.zeros(1)

    def step(self, key: Key, state: tuple, action: Array) -> tuple[tuple, Timestep]:
        """The reward, and the end."""
        return state, Timestep(jnp.zeros(1), self.expected_reward(action), jnp.ones((), bool))

    def expected_reward(self, actions: Array) -> Array:
        """exp(−|a − m|² / (2 width²)), [...], of actions [..., 2]."""
        x, y = MODES[-1].tolist()
        away = jnp.square(actions[..., 0] - x) + jnp.square(actions[..., 1] - y)
        return jnp.exp(-away / (2.0 * self.width**2))


def fixed_states(count: int = 4096) -> Array:
    """The same `count` states on every call, [count, 8], to average regret over."""
    return jax.random.normal(jax.random.key(2603_06009), (count, STATES))


_CLASSES: dict[str, type[Environment]] = {
    "bandit/contextual": ContextualBandit,
    "bandit/four-modes": FourModes,
}


def make(environment_id: str, **kwargs: Any) -> Environment:
    """Build by id.

    Of the contextual one `noise` is the deviation of the reward, `scale` the largest |a*|; of the
    one with modes `width` is how near an action must be.
    """
    environment = construct(environment_id, _CLASSES[environment_id], kwargs)
    check_numbers(kwargs, {})
    if "width" in kwargs:
        check_range("width", kwargs["width"], 0.0, open_low=True)
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), environment)
