"""How a policy's network reads what it is shown: each observation by itself, or in turn.

A network without a memory is a flax module from observations [..., *shape] to (distribution,
values [...]), with a method `value` for the values alone. One with a memory has the methods
`initial_memory() -> memory` and `recall(views [L, ...], memory) -> (distributions [L], values [L],
memory)` instead. Observations are arrays, or dictionaries of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxrl.core import minibatch
from jaxrl.nn.action_units import scale_action
from jaxrl.nn.actor_critic import Distribution
from jaxrl.nn.policy import Policy, no_observations, normalized
from jaxrl.types import Agent, Array, Key, Mode, ObservationSpace, PyTree, Space, View, zeros_of


class Reader(Protocol):
    """How a network is used: for one step of any number of environments, and for rows of a batch.

    A row is a transition, or with a memory all the steps of one environment in a rollout.
    """

    @property
    def initial_memory(self) -> PyTree:
        """One environment's memory at the start of an episode; () without one."""
        ...

    def transitions_per_row(self, num_steps: int) -> int:
        """How many of `num_steps` transitions of an environment are one row."""
        ...

    def init(self, key: Key, observation_space: ObservationSpace, action_space: Space) -> PyTree:
        """The network's parameters."""
        ...

    def step(
        self, policy: Policy, memory: PyTree, view: View
    ) -> tuple[Distribution, Array, PyTree]:
        """(distribution, value, memory) of views [...]; memories are those before them."""
        ...

    def critic_reads(self, memory: PyTree, view: View) -> PyTree:
        """What `value` needs of the state that a view shows, after the memory of those before."""
        ...

    def value(self, policy: Policy, kept: PyTree) -> Array:
        """The critic's values [...] of what `critic_reads` has kept."""
        ...

    def inputs(self, memory: PyTree, views: View) -> PyTree:
        """What `read` needs of a rollout, [T, N, ...], before which memories were [N, ...]."""
        ...

    def rows(self, rollout: PyTree) -> PyTree:
        """Leaves [T, N, ...] as rows, [rows, ...]."""
        ...

    def read(self, policy: Policy, inputs: PyTree) -> tuple[Distribution, Array]:
        """(distribution, value) of rows of inputs, with a value per transition."""
        ...


def reader_of(network: nn.Module) -> Reader:
    """How a network with or without a memory is used."""
    remembers = hasattr(network, "initial_memory") and jax.tree.leaves(network.initial_memory())
    return Recurrent(network) if remembers else FeedForward(network)


@dataclass(frozen=True)
class FeedForward:
    """A network that reads each observation by itself."""

    network: nn.Module
    initial_memory: tuple = ()

    def transitions_per_row(self, num_steps: int) -> int:
        """1: each is a row."""
        del num_steps
        return 1

    def init(self, key: Key, observation_space: ObservationSpace, action_space: Space) -> PyTree:
        """Parameters, from a batch of one observation."""
        del action_space
        return self.network.init(key, zeros_of(observation_space, (1,)))

    def step(self, policy: Policy, memory: tuple, view: View) -> tuple[Distribution, Array, tuple]:
        """Of the observation alone."""
        distribution, value = self.read(policy, view.observation)
        return distribution, value, memory

    def critic_reads(self, memory: tuple, view: View) -> PyTree:
        """The observation."""
        del memory
        return view.observation

    def value(self, policy: Policy, kept: PyTree) -> Array:
        """Values of observations."""
        return self.network.apply(policy.params, normalized(policy, kept), method="value")

    def inputs(self, memory: tuple, views: View) -> PyTree:
        """The observations."""
        del memory
        return views.observation

    def rows(self, rollout: PyTree) -> PyTree:
        """Each transition is a row: [T·N, ...]."""
        return minibatch.flatten_time(rollout)

    def read(self, policy: Policy, inputs: PyTree) -> tuple[Distribution, Array]:
        """Of observations [..., *shape]."""
        return self.network.apply(policy.params, normalized(policy, inputs))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sequences:
    """What a network with a memory reads of a rollout, [T, N, ...], or of rows of it, [B, T, ...].

    `memory` is that before the first step. It has an axis of length 1 where the others have time,
    so that rows of both are made alike.
    """

    views: View
    memory: PyTree


@dataclass(frozen=True)
class Recurrent:
    """A network that reads what it is shown in turn, and keeps a memory.

    Gradients go back through all steps of a rollout. The memory before its first step is that of
    the policy that acted, and is kept as it was while the parameters change.
    """

    network: nn.Module

    @property
    def initial_memory(self) -> PyTree:
        """The network's own."""
        return self.network.initial_memory()

    def transitions_per_row(self, num_steps: int) -> int:
        """All: a row is an environment."""
        return num_steps

    def init(self, key: Key, observation_space: ObservationSpace, action_space: Space) -> PyTree:
        """Parameters, from a sequence of one view."""
        view = _as_sequence(View.at_start(zeros_of(observation_space), action_space))
        return self.network.init(key, view, self.initial_memory, method="recall")

    def step(
        self, policy: Policy, memory: PyTree, view: View
    ) -> tuple[Distribution, Array, PyTree]:
        """A sequence of one view, of each environment."""

        def one(view: View, memory: PyTree) -> tuple[Distribution, Array, PyTree]:
            distribution, value, after = self._recall(policy, _as_sequence(view), memory)
            return *jax.tree.map(lambda leaf: leaf[0], (distribution, value)), after

        return _mapped(one, view.first.ndim)(view, memory)

    def critic_reads(self, memory: PyTree, view: View) -> PyTree:
        """Both."""
        return view, memory

    def value(self, policy: Policy, kept: PyTree) -> Array:
        """Values of views after memories."""
        view, memory = kept
        _, value, _ = self.step(policy, memory, view)
        return value

    def inputs(self, memory: PyTree, views: View) -> Sequences:
        """The views, and the memories before the first of them."""
        return Sequences(views, _as_sequence(memory))

    def rows(self, rollout: PyTree) -> PyTree:
        """Each environment is a row: [N, T, ...]."""
        return jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), rollout)

    def read(self, policy: Policy, inputs: Sequences) -> tuple[Distribution, Array]:
        """Of sequences [B, T, ...]."""

        def one(views: View, memory: PyTree) -> tuple[Distribution, Array]:
            before = jax.tree.map(lambda leaf: leaf[0], memory)
            distribution, value, _ = self._recall(policy, views, before)
            return distribution, value

        return jax.vmap(one)(inputs.views, inputs.memory)

    def _recall(
        self, policy: Policy, views: View, memory: PyTree
    ) -> tuple[Distribution, Array, PyTree]:
        """The network on views [L, ...] of one environment."""
        views = replace(views, observation=normalized(policy, views.observation))
        return self.network.apply(policy.params, views, memory, method="recall")


def _as_sequence(tree: PyTree) -> PyTree:
    """The same with an axis of length 1 in front."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], tree)


def _mapped(function: Callable[..., Any], ndim: int) -> Callable[..., Any]:
    """The function of one environment for batches with `ndim` leading axes."""
    for _ in range(ndim):
        function = jax.vmap(function)
    return function


def actor_critic_agent(
    network: nn.Module,
    observation_space: ObservationSpace,
    action_space: Space,
    *,
    squash_actions: bool,
    normalize_observations: bool,
) -> Agent:
    """What acts by the mode of the network's distribution, or by a sample of it."""
    reader = reader_of(network)

    def init(key: Key) -> Policy:
        params = reader.init(key, observation_space, action_space)
        return Policy(
            params, no_observations(observation_space) if normalize_observations else None
        )

    def acting(choose: Callable[[Distribution, Key], Array]) -> Mode:
        def act(policy: Policy, memory: PyTree, view: View, key: Key) -> tuple[Array, PyTree]:
            distribution, _, memory = reader.step(policy, memory, view)
            return scale_action(choose(distribution, key), action_space, squash_actions), memory

        return Mode(act)

    def value(policy: Policy, memory: PyTree, view: View, key: Key) -> Array:
        del key
        return reader.value(policy, reader.critic_reads(memory, view))

    modes = {
        "deterministic": acting(lambda distribution, key: distribution.mode()),
        "stochastic": acting(lambda distribution, key: distribution.sample(key)),
    }
    return Agent(init=init, modes=modes, memory=lambda _: reader.initial_memory, value=value)
