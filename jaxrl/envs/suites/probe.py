"""Probe environments: minimal problems whose optimal policy and value function are known exactly.

Each isolates one link of a learner, so that the first one to fail names the fault (after A. Jones,
"Debugging reinforcement learning systems", 2021). Each is learned in seconds.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxrl.envs.api import Environment
from jaxrl.envs.registry import construct
from jaxrl.types import Array, Box, Discrete, Key, MultiDiscrete, PyTree, Space, Timestep

SUITE = "probe"


class Probe(Environment):
    """What the probes share by default: one number observed, two actions, optimal value 1."""

    observed: ClassVar[Space] = Box(-1.0, 1.0, (1,))
    acted: ClassVar[Space] = Discrete(2)
    # Beyond every episode that terminates by itself: the two ends never coincide.
    limit: ClassVar[int] = 20

    @property
    def observation_space(self) -> Space:
        """What `reset` and `step` observe."""
        return self.observed

    @property
    def action_space(self) -> Space:
        """What `step` takes."""
        return self.acted

    @property
    def horizon(self) -> int:
        """The time limit."""
        return self.limit

    def optimal_value(self, observation: Array, gamma: float | Array) -> Array:
        """Discounted return of the optimal policy, float32 [...], from observations [..., d]."""
        return jnp.ones(observation.shape[:-1])

    def optimal_action(self, observation: Array) -> Array:
        """From the *first* observation of an episode, an action that is optimal throughout it."""
        return (observation[..., 0] > 0).astype(jnp.int32)


class OneStep(Probe):
    """Episodes of one step: draw a state, observe it, earn `reward(state, action)`."""

    def draw(self, key: Key) -> PyTree:
        """The state; none by default."""
        return ()

    def observe(self, state: PyTree) -> Array:
        """The observation; [0] by default."""
        return jnp.zeros(1)

    def reward(self, state: PyTree, action: Array) -> Array:
        """The reward, float32 []; 1 by default."""
        return jnp.ones(())

    def reset(self, key: Key) -> tuple[PyTree, Array]:
        """Draw and observe a state."""
        state = self.draw(key)
        return state, self.observe(state)

    def step(self, key: Key, state: PyTree, action: Array) -> tuple[PyTree, Timestep]:
        """The reward, and the end."""
        return state, Timestep(self.observe(state), self.reward(state, action), jnp.ones((), bool))


class ConstantReward(OneStep):
    """Reward 1. Any policy is optimal; V = 1. Fails: the value loss or its optimiser."""


class NeverEnding(OneStep):
    """Reward 1 on every step, forever; only the time limit of 10 cuts episodes.

    Any policy is optimal; V = 1/(1-γ). A learner that takes the time limit for a termination finds
    at most (1-γ¹⁰)/(1-γ) instead.
    """

    limit: ClassVar[int] = 10

    def step(self, key: Key, state: PyTree, action: Array) -> tuple[PyTree, Timestep]:
        """Reward 1, and no end."""
        return state, Timestep(self.observe(state), self.reward(state, action), jnp.zeros((), bool))

    def optimal_value(self, observation: Array, gamma: float | Array) -> Array:
        """V = 1/(1-γ)."""
        return jnp.ones(observation.shape[:-1]) / (1.0 - gamma)


class ContinuousNeverEnding(NeverEnding):
    """The same for actions in [-1, 1], with a time limit of 5: V = Q = 1/(1-γ)."""

    acted: ClassVar[Space] = Box(-1.0, 1.0, (1,))
    limit: ClassVar[int] = 5

    def optimal_action(self, observation: Array) -> Array:
        """Any action, as 0."""
        return jnp.zeros(1)


class TwoStep(Probe):
    """Two steps, observed as 0 and 1; reward 0, then 1. Any policy is optimal; V(0) = γ, V(1) = 1.

    Fails, where ObservationReward passes: discounting or bootstrapping.
    """

    def reset(self, key: Key) -> tuple[Array, Array]:
        """The state is the number of steps done, float32 []."""
        return jnp.zeros(()), jnp.zeros(1)

    def step(self, key: Key, state: Array, action: Array) -> tuple[Array, Timestep]:
        """Reward 1 and the end on the second step."""
        return jnp.ones(()), Timestep(jnp.ones(1), state, state > 0)

    def optimal_value(self, observation: Array, gamma: float | Array) -> Array:
        """V(o) = γ at 0, 1 at 1."""
        return jnp.where(observation[..., 0] > 0.5, 1.0, gamma)


class ActionReward(OneStep):
    """Reward 1 for action 1, 0 for action 0.

    Optimal: always 1; V = 1. Fails: the policy loss or its sign.
    """

    def reward(self, state: PyTree, action: Array) -> Array:
        """The action."""
        return action.astype(jnp.float32)

    def optimal_action(self, observation: Array) -> Array:
        """Action 1."""
        return jnp.ones((), jnp.int32)


class ContinuousAction(OneStep):
    """Reward -(a-0.5)² for an action in [-1, 1]. Optimal: 0.5; V = 0."""

    acted: ClassVar[Space] = Box(-1.0, 1.0, (1,))

    def reward(self, state: PyTree, action: Array) -> Array:
        """The negative squared distance to 0.5."""
        return -((action[0] - 0.5) ** 2)

    def optimal_value(self, observation: Array, gamma: float | Array) -> Array:
        """V = 0."""
        return jnp.zeros(observation.shape[:-1])

    def optimal_action(self, observation: Array) -> Array:
        """Action 0.5."""
        return jnp.full(1, 0.5)


class ObservationAction(OneStep):
    """A coin, -1 or 1, is observed; reward 1 if the action names it (0 for -1, 1 for 1), else -1.

    Optimal: name it; V = 1. Fails, where ActionReward passes: observations do not reach the policy,
    or advantages meet the wrong rows.
    """

    def draw(self, key: Key) -> Array:
        """The coin, float32 []."""
        return _coin(key)

    def observe(self, state: Array) -> Array:
        """The coin, [1]."""
        return state[None]

    def reward(self, state: Array, action: Array) -> Array:
        """1 for the right name, -1 for the wrong one."""
        return _match(action, state)


class ObservationReward(ObservationAction):
    """The same coin is itself the reward. Any policy is optimal; V(o) = o.

    Fails, where ConstantReward passes: observations are shuffled, or do not reach the value
    network.
    """

    def reward(self, state: Array, action: Array) -> Array:
        """The coin."""
        return state

    def optimal_value(self, observation: Array, gamma: float | Array) -> Array:
        """V(o) = o."""
        return observation[..., 0]


class MultiDiscreteAction(OneStep):
    """Two targets, of 2 and of 3 values, are observed one-hot; the reward is the fraction matched.

    Optimal: repeat the targets; V = 1. A distribution that ties or swaps its factors cannot reach
    it.
    """

    observed: ClassVar[Space] = Box(0.0, 1.0, (5,))
    acted: ClassVar[Space] = MultiDiscrete((2, 3))

    def draw(self, key: Key) -> Array:
        """The targets, int32 [2]."""
        return self.action_space.sample(key)

    def observe(self, state: Array) -> Array:
        """The targets one-hot, float32 [5]."""
        return jnp.concatenate([jax.nn.one_hot(state[0], 2), jax.nn.one_hot(state[1], 3)])

    def reward(self, state: Array, action: Array) -> Array:
        """The fraction of entries matched."""
        return jnp.mean(action == state, dtype=jnp.float32)

    def optimal_action(self, observation: Array) -> Array:
        """Both targets, int32 [..., 2]."""
        first = jnp.argmax(observation[..., :2], axis=-1)
        second = jnp.argmax(observation[..., 2:], axis=-1)
        return jnp.stack([first, second], axis=-1).astype(jnp.int32)


class Countdown(NamedTuple):
    """A coin drawn at reset and the steps that remain."""

    coin: Array  # float32 [], -1 or 1
    remaining: Array  # int32 []


class TwoLengths(Probe):
    """Reward 1 per step; a coin at reset makes the episode 2 or 10 steps long.

    So returns are 2 or 10, 6 on average.

    Any policy is optimal; V = 1 + γ + … + γ^(r-1) with r steps remaining. An average over whichever
    episodes end first comes out below 6: the short ones end five times as often.
    """

    observed: ClassVar[Space] = Box(-1.0, 1.0, (2,))  # coin, steps remaining / 10

    def reset(self, key: Key) -> tuple[Countdown, Array]:
        """A coin: -1 short, 1 long."""
        coin = _coin(key)
        state = Countdown(coin, jnp.where(coin > 0, jnp.int32(10), jnp.int32(2)))
        return state, self._observe(state)

    def step(self, key: Key, state: Countdown, action: Array) -> tuple[Countdown, Timestep]:
        """Reward 1; ends when nothing remains."""
        state = state._replace(remaining=state.remaining - 1)
        return state, Timestep(self._observe(state), jnp.ones(()), state.remaining <= 0)

    def optimal_value(self, observation: Array, gamma: float | Array) -> Array:
        """V = (1-γʳ)/(1-γ)."""
        remaining = jnp.round(observation[..., 1] * 10.0)
        return (1.0 - gamma**remaining) / (1.0 - gamma)

    def _observe(self, state: Countdown) -> Array:
        return jnp.stack([state.coin, jnp.maximum(state.remaining, 0) / 10.0])


class Memory(Probe):
    """The coin is seen once, at reset; two steps later the third action must name it: reward ±1.

    Optimal: remember the coin and name it at the end, V = γ^(r-1) with r steps remaining. A policy
    without memory cannot do better than 0 on average.
    """

    observed: ClassVar[Space] = Box(-1.0, 1.0, (2,))  # coin, then 0; steps remaining / 3

    def reset(self, key: Key) -> tuple[Countdown, Array]:
        """A coin, shown."""
        state = Countdown(_coin(key), jnp.int32(3))
        return state, jnp.stack([state.coin, jnp.ones(())])

    def step(self, key: Key, state: Countdown, action: Array) -> tuple[Countdown, Timestep]:
        """Reward ±1 on the last step, 0 before it; the coin is hidden."""
        state = state._replace(remaining=state.remaining - 1)
        last = state.remaining <= 0
        observation = jnp.stack([jnp.zeros(()), jnp.maximum(state.remaining, 0) / 3.0])
        return state, Timestep(observation, jnp.where(last, _match(action, state.coin), 0.0), last)

    def optimal_value(self, observation: Array, gamma: float | Array) -> Array:
        """V = γ^(r-1), for a policy that remembers the coin."""
        return gamma ** (jnp.round(observation[..., 1] * 3.0) - 1.0)


_FACTORIES = {
    "probe/constant-reward": ConstantReward,
    "probe/never-ending": NeverEnding,
    "probe/continuous-never-ending": ContinuousNeverEnding,
    "probe/observation-reward": ObservationReward,
    "probe/two-step": TwoStep,
    "probe/action-reward": ActionReward,
    "probe/continuous-action": ContinuousAction,
    "probe/observation-action": ObservationAction,
    "probe/multi-discrete-action": MultiDiscreteAction,
    "probe/two-lengths": TwoLengths,
    "probe/memory": Memory,
}
IDS = tuple(_FACTORIES)
NOTES = {"probe/memory": "cannot be learnt without a memory: the coin is shown at the start alone"}


def make(environment_id: str, **kwargs: Any) -> Environment:
    """Build by id; `kwargs` are the fields of its class."""
    return construct(environment_id, _FACTORIES[environment_id], kwargs)


def _coin(key: Key) -> Array:
    """-1 or 1 with equal chance, float32 []."""
    return jnp.where(jax.random.bernoulli(key), jnp.float32(1), jnp.float32(-1))


def _match(action: Array, coin: Array) -> Array:
    """1 if the action names the coin, else -1, float32 []."""
    return jnp.where(action == (coin > 0), jnp.float32(1), jnp.float32(-1))
