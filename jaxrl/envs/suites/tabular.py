"""Finite-horizon tabular MDPs as environments: five kinds by name, or arrays of your own.

    tabular/paper        5 states, 5 actions, 3 steps, uniform rewards, transitions uniform on the
                         simplex
    tabular/hub          a state that pays, doors that do not, and one treasure behind one of them
    tabular/random       any size: states, actions, horizon, seed
    tabular/frozen-lake  the 4 × 4 lake, slippery or not
    tabular/deep-sea     a diving problem of any depth

The arrays are leaves, so that `vmap` makes batches of MDPs; core/tabular.py computes everything
about them exactly.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxrl.core.tabular import TabularEpisodes, draw_index, expected_return, optimal
from jaxrl.envs.api import Environment
from jaxrl.envs.registry import construct
from jaxrl.errors import JaxrlError, check_positive_int, check_range
from jaxrl.types import Array, Box, Discrete, Key, Space, Timestep

SUITE = "tabular"
TOLERANCE = 1e-5  # of a distribution's sum, in float32


class Place(NamedTuple):
    """Where an episode stands: the step h and the state s, int32 []."""

    step: Array
    state: Array


class TabularMDP(Environment):
    """H steps in S states with A actions; the observation is (s, h), each one-hot, [S + H].

    transitions [H, S, A, S], rewards [H, S, A] in [0, 1], initial [S]: float32. The time limit is
    part of the problem, so the last step terminates. Make it with `tabular_mdp`, which checks the
    arrays.
    """

    transitions: Array
    rewards: Array
    initial: Array

    @property
    def observation_space(self) -> Space:
        """One-hot state and one-hot step."""
        return Box(0.0, 1.0, (self.rewards.shape[1] + self.horizon,))

    @property
    def action_space(self) -> Space:
        """A actions."""
        return Discrete(self.rewards.shape[2])

    @property
    def horizon(self) -> int:
        """Steps of every episode."""
        return self.rewards.shape[0]

    @property
    def reference_scores(self) -> tuple[float, float] | None:
        """Exact expected returns of uniformly random actions and of an optimal policy.

        None if they are the same.
        """
        arrays = jax.device_get((self.transitions, self.rewards, self.initial))
        transitions, rewards, initial = map(jnp.asarray, arrays)
        uniform = jnp.full_like(rewards, 1.0 / rewards.shape[-1])
        random = float(expected_return(transitions, rewards, initial, uniform))
        best = float(jnp.sum(initial * optimal(transitions, rewards).state[0]))
        if best - random > TOLERANCE * self.horizon:
            return random, best
        return None

    def reset(self, key: Key) -> tuple[Place, Array]:
        """A state of the initial distribution, at step 0."""
        place = Place(jnp.zeros((), jnp.int32), draw_index(self.initial, jax.random.uniform(key)))
        return place, self.observe(place)

    def step(self, key: Key, state: Place, action: Array) -> tuple[Place, Timestep]:
        """The expected reward of the pair, a successor drawn, and the end after the last step."""
        row = self.transitions[state.step, state.state, action]
        reward = self.rewards[state.step, state.state, action].astype(jnp.float32)
        place = Place(state.step + 1, draw_index(row, jax.random.uniform(key, (), row.dtype)))
        return place, Timestep(self.observe(place), reward, place.step >= self.horizon)

    def observe(self, place: Place) -> Array:
        """The observation of a place; after the last step none is marked."""
        num_states = self.rewards.shape[1]
        return jnp.concatenate(
            [jax.nn.one_hot(place.state, num_states), jax.nn.one_hot(place.step, self.horizon)]
        )

    def locate(self, observation: Array) -> Place:
        """The place that an observation shows."""
        num_states = self.rewards.shape[1]
        state, step = observation[:num_states], observation[num_states:]
        return Place(jnp.argmax(step).astype(jnp.int32), jnp.argmax(state).astype(jnp.int32))


def tabular_mdp(
    transitions: ArrayLike, rewards: ArrayLike, initial: ArrayLike | None = None
) -> TabularMDP:
    """An MDP from arrays, checked; without `initial` episodes begin in state 0."""
    transitions = np.asarray(transitions, np.float64)
    rewards = np.asarray(rewards, np.float64)
    if initial is None and rewards.ndim == 3:
        initial = np.eye(1, rewards.shape[1])[0]
    check_mdp(transitions, rewards, np.asarray(initial, np.float64))
    return TabularMDP(
        transitions=jnp.asarray(transitions, jnp.float32),
        rewards=jnp.asarray(rewards, jnp.float32),
        initial=jnp.asarray(initial, jnp.float32),
    )


def check_mdp(transitions: np.ndarray, rewards: np.ndarray, initial: np.ndarray) -> None:
    """Refuse arrays that are no finite-horizon MDP with rewards in [0, 1]."""
    shape = rewards.shape
    if len(shape) != 3 or 0 in shape:
        axes = "[horizon, states, actions], each at least 1"
        raise JaxrlError(f"rewards have the shape {list(shape)}, but must have the axes {axes}.")
    for name, array, expected in (
        ("transitions", transitions, (*shape, shape[1])),
        ("initial", initial, (shape[1],)),
    ):
        if array.shape != expected:
            raise JaxrlError(
                f"{name} have the shape {list(array.shape)}, but the rewards ask for "
                f"{list(expected)}."
            )
        _check_distributions(name, array)
    check_range("rewards", rewards, 0.0, 1.0)


def check_policy(policy: ArrayLike, env: TabularMDP) -> None:
    """Refuse what is no policy [H, S, A] for `env`."""
    policy = np.asarray(policy, np.float64)
    shape = list(env.rewards.shape)
    if list(policy.shape) != shape:
        raise JaxrlError(
            f"the baseline has the shape {list(policy.shape)}, but this environment asks for "
            f"{shape}."
        )
    _check_distributions("baseline", policy)


def check_episodes(episodes: TabularEpisodes, env: TabularMDP) -> None:
    """Refuse a dataset that holds nothing, or that another environment made."""
    horizon, num_states, num_actions = env.rewards.shape
    states, actions = (np.asarray(each) for each in episodes)
    if states.ndim != 2 or actions.shape != (len(states) - 1, states.shape[-1]):
        shapes = f"{list(states.shape)} and {list(actions.shape)}"
        raise JaxrlError(
            f"the dataset's states and actions have the shapes {shapes}, but must be [H + 1, N] "
            "and [H, N]."
        )
    if states.size == 0 or actions.shape[1] == 0:
        raise JaxrlError("the dataset holds no episodes.")
    if len(actions) != horizon:
        raise JaxrlError(
            f"the dataset's episodes have {len(actions)} steps, but the environment's have "
            f"{horizon}."
        )
    for name, found, count in (("state", states, num_states), ("action", actions, num_actions)):
        if found.min() < 0 or found.max() >= count:
            worst = found.min() if found.min() < 0 else found.max()
            raise JaxrlError(
                f"the dataset has {name} {worst}, but the environment's are 0 … {count - 1}."
            )


def _check_distributions(name: str, array: np.ndarray) -> None:
    """Refuse rows [..., n] that are no probabilities."""
    check_range(name, array, 0.0, 1.0 + TOLERANCE)
    sums = array.sum(-1)
    worst = np.unravel_index(np.argmax(np.abs(sums - 1.0)), sums.shape)
    if abs(sums[worst] - 1.0) > TOLERANCE:
        where = f"{name}{[int(index) for index in worst]}" if worst else name
        raise JaxrlError(
            f"{where} sums to {sums[worst]:.6g}, but holds probabilities: it must sum to 1."
        )


def random_mdp(states: int = 5, actions: int = 5, horizon: int = 3, seed: int = 0) -> TabularMDP:
    """Rewards uniform on [0, 1], transitions uniform on the simplex, each (h, s, a) independently.

    With the defaults, the synthetic environment of Li et al. (2023), arXiv 2306.06265.
    """
    for name, value in (("states", states), ("actions", actions), ("horizon", horizon)):
        check_positive_int(name, value)
    generator = np.random.default_rng(seed)
    transitions = generator.dirichlet(np.ones(states), size=(horizon, states, actions))
    return tabular_mdp(transitions, generator.uniform(size=(horizon, states, actions)))


def paper(seed: int = 0) -> TabularMDP:
    """The random MDP of the paper's size."""
    return random_mdp(seed=seed)


def hub(horizon: int = 5) -> TabularMDP:
    """A hub that pays 1/2 for staying, four doors that pay nothing, and 1 per step behind one.

    In the hub, state 0, action 0 stays and pays 1/2; action a > 0 goes to state a with probability
    0.9. There every action stays with probability 0.9, else leads back; action 2 in state 3 pays 1,
    all else nothing. A baseline that always takes action 0 is decent (V = H/2), deterministic, and
    shows nothing of what it is worth leaving the hub for.
    """
    check_positive_int("horizon", horizon)
    transitions = np.zeros((5, 5, 5))
    rewards = np.zeros((5, 5))
    transitions[0, 0, 0] = 1.0
    rewards[0, 0] = 0.5
    for state in range(1, 5):
        transitions[0, state, [state, 0]] = 0.9, 0.1
        transitions[state, :, [state, 0]] = np.array([[0.9], [0.1]])
    rewards[3, 2] = 1.0
    return _stationary(transitions, rewards, horizon)


def frozen_lake(horizon: int = 20, slippery: bool = True) -> TabularMDP:
    """The 4 × 4 FrozenLake: reach the goal, for 1, and no hole.

    If it is slippery, a third of the steps goes to either side. Holes and the goal are absorbing
    and pay nothing more. Actions: left, down, right, up.
    """
    check_positive_int("horizon", horizon)
    lake, size = "SFFFFHFHFFFHHFFG", 4
    transitions = np.zeros((16, 4, 16))
    rewards = np.zeros((16, 4))
    moves = [(0, -1), (1, 0), (0, 1), (-1, 0)]
    for state, cell in enumerate(lake):
        for action in range(4):
            if cell in "HG":
                transitions[state, action, state] = 1.0
                continue
            directions = [action]
            if slippery:
                directions = [(action - 1) % 4, action, (action + 1) % 4]
            for taken in directions:
                row, column = np.clip(np.add(divmod(state, size), moves[taken]), 0, size - 1)
                transitions[state, action, row * size + column] += 1 / len(directions)
            rewards[state, action] = transitions[state, action, lake.index("G")]
    return _stationary(transitions, rewards, horizon)


def deep_sea(depth: int = 8) -> TabularMDP:
    """`depth` steps of diving left or right; only who always goes right finds the treasure, for 1.

    The state is the column. Every step pays 0.01/depth for going left, nothing for going right; the
    last step to the right from the last column pays 1. (Osband et al. 2019, arXiv 1908.03568, with
    its cost of going right moved to a gain of going left, so that rewards lie in [0, 1].)
    """
    check_positive_int("depth", depth)
    transitions = np.zeros((depth, 2, depth))
    rewards = np.zeros((depth, depth, 2))
    columns = np.arange(depth)
    transitions[columns, 0, np.maximum(columns - 1, 0)] = 1.0
    transitions[columns, 1, np.minimum(columns + 1, depth - 1)] = 1.0
    rewards[:, :, 0] = 0.01 / depth
    rewards[-1, -1, 1] = 1.0
    return tabular_mdp(np.broadcast_to(transitions, (depth, *transitions.shape)), rewards)


def _stationary(transitions: np.ndarray, rewards: np.ndarray, horizon: int) -> TabularMDP:
    """The same dynamics [S, A, S] and rewards [S, A] on every step."""
    return tabular_mdp(
        np.broadcast_to(transitions, (horizon, *transitions.shape)),
        np.broadcast_to(rewards, (horizon, *rewards.shape)),
    )


_FACTORIES = {
    "tabular/paper": paper,
    "tabular/hub": hub,
    "tabular/random": random_mdp,
    "tabular/frozen-lake": frozen_lake,
    "tabular/deep-sea": deep_sea,
}
IDS = tuple(_FACTORIES)


def make(environment_id: str, **kwargs: Any) -> Environment:
    """Build by id; `kwargs` are the arguments of its generator."""
    return construct(environment_id, _FACTORIES[environment_id], kwargs)
