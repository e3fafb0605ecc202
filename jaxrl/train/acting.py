"""A trained policy outside of JAX: NumPy observations in, NumPy actions out, as in Gymnasium."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core.tree import select_rows
from jaxrl.envs.api import Environment
from jaxrl.errors import JaxrlError, check_positive_int
from jaxrl.train.modes import choose
from jaxrl.train.player import steered
from jaxrl.train.pretrained import located
from jaxrl.train.saved import open_policy
from jaxrl.train.trust import NOBODY, Trust
from jaxrl.types import Agent, Array, Dict, Key, PyTree, Space, View


class LoadedAgent:
    """A trained policy that acts on observations of one environment, or of several side by side.

        agent = jaxrl.load("runs/cartpole")
        observation, _ = env.reset()
        agent.reset()
        action = agent.act(observation)

    It holds what the policy remembers of the episodes that it plays, and the action it took last:
    `reset` forgets both, and belongs to each `env.reset()`. `env`, `agent` and `policy` are what it
    is made of, for use under jit.
    """

    def __init__(
        self,
        env: Environment,
        agent: Agent,
        policy: PyTree,
        mode: str,
        num_envs: int | None = None,
        seed: int = 0,
    ) -> None:
        self.env = env
        self.agent = agent
        self.policy = policy
        self.mode = mode
        self.num_envs = num_envs
        self._batch = () if num_envs is None else (num_envs,)
        act = agent.modes[mode].act
        if num_envs is not None:
            act = jax.vmap(act, in_axes=(None, 0, 0, 0))
        self._act = jax.jit(partial(_act, act, self._batch))
        self.reset(seed=seed)

    def reset(self, where: Any = None, *, seed: int | None = None) -> None:
        """Begin a new episode, and forget the one before.

        Of several environments, in those that `where` marks (bool [N]), or in all. `seed` begins
        the random numbers of a stochastic mode again.
        """
        if seed is not None:
            self._key = jax.random.key(seed)
            self._count = 0
        space = self.env.action_space
        begun = self._repeated(self.agent.memory(self.policy))
        action = np.zeros((*self._batch, *space.shape), space.dtype)
        if where is None:
            self._memory = begun
            self._action = action
            self._first = np.ones(self._batch, bool)
            return
        marked = np.asarray(where, bool)
        if self.num_envs is None or marked.shape != self._batch:
            raise JaxrlError(
                f"where is of shape {marked.shape}, but must mark each environment: {self._batch}."
            )
        self._memory = select_rows(jnp.asarray(marked), begun, self._memory)
        self._action = np.where(marked.reshape(-1, *(1 for _ in space.shape)), action, self._action)
        self._first = self._first | marked

    def act(self, observation: Any, reward: Any = 0.0) -> Any:
        """The action for an observation; few policies read the `reward` of the action before.

        At the first step of an episode there was none, and what is given counts as 0.
        Observations are [...], or [N, ...] of N environments; so are actions. A single Discrete
        action is an int.
        """
        rewards = np.broadcast_to(np.asarray(reward, np.float32), self._batch)
        rewards = np.where(self._first, np.float32(0.0), rewards)
        seen = {
            "observation": self._observed(observation),
            "reward": rewards,
            "action": self._action,
            "first": self._first,
        }
        key = jax.random.fold_in(self._key, self._count)
        action, self._memory = self._act(self.policy, self._memory, seen, key)
        self._count += 1
        self._first = np.zeros(self._batch, bool)
        self._action = np.asarray(action)
        return self._action.item() if self._action.ndim == 0 else self._action.copy()

    def _observed(self, observation: Any) -> PyTree:
        """An observation as arrays, if it is of the environment's space."""
        space = self.env.observation_space
        if not isinstance(space, Dict):
            return self._checked("the observation", observation, space)
        wanted = sorted(space.spaces)
        if not isinstance(observation, Mapping):
            raise JaxrlError(f"the observation is no dictionary, but must be one of {wanted}.")
        if sorted(observation) != wanted:
            raise JaxrlError(f"the observation has {sorted(observation)}, but must have {wanted}.")
        return {
            key: self._checked(f"{key} of the observation", observation[key], each)
            for key, each in space.entries
        }

    def _checked(self, what: str, given: Any, space: Space) -> np.ndarray:
        """An array of the space's type, if it has its shape."""
        shown = np.asarray(given)
        if shown.shape != (*self._batch, *space.shape):
            several = "" if self.num_envs is None else f", of {self.num_envs} environments"
            raise JaxrlError(
                f"{what} is of shape {shown.shape}, but must be of "
                f"{(*self._batch, *space.shape)}{several}."
            )
        return shown.astype(space.dtype)

    def _repeated(self, memory: PyTree) -> PyTree:
        """One environment's memory for each of them."""
        return jax.tree.map(
            lambda leaf: jnp.broadcast_to(leaf, (*self._batch, *jnp.shape(leaf))), memory
        )


def _act(
    act: Any, batch: tuple[int, ...], policy: PyTree, memory: PyTree, seen: dict, key: Key
) -> tuple[Array, PyTree]:
    """Actions of `batch` environments, each with a key of its own; `seen` are a View's fields."""
    keys = jax.random.split(key, batch) if batch else key
    return act(policy, memory, View(**seen), keys)


def load(
    folder: Path | str,
    *,
    mode: str | None = None,
    checkpoint: str = "best",
    member: Sequence[str] = (),
    num_envs: int | None = None,
    seed: int = 0,
    trust: Trust = NOBODY,
) -> LoadedAgent:
    """The trained policy of a run folder, to act with in Python.

    Or an agent that comes with jaxrl, by its name: `load("ppo/CartPole-v1")`; all are in
    `jaxrl.pretrained()`.

    `mode` is one of the agent's, "deterministic", "stochastic" or "target=3600"; the one that ranks
    policies unless given. `checkpoint` is "best", "last", or an iteration whose policies were kept.
    Of a population it is the policy of `member`, as ("learning_rate=3e-3", "seed=2"), or of the
    best one. With `num_envs`, it acts in so many environments side by side. `seed` begins the
    random numbers of a stochastic mode.
    """
    if num_envs is not None:
        check_positive_int("num_envs", num_envs)
    asked = () if mode is None else (mode,)
    saved = open_policy(located(folder), checkpoint, member=member, modes=asked, trust=trust)
    agent = saved.agent
    chosen = choose(saved.experiment.run.modes, agent.modes, saved.experiment.algorithm)[0]
    return LoadedAgent(
        saved.env, agent, steered(agent, saved.policies, chosen), chosen.name, num_envs, seed
    )
