"""The compiled programs of a run: `init`, `chunk` and `evaluate`, for one member or a whole population.

A population is H hyperparameter settings × S seeds in one program: two vmapped axes in front of every leaf of the
state. A single member has neither axis, so that it pays nothing for them.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.config import sweepable
from jaxrl.core.tree import copy
from jaxrl.envs.api import Environment
from jaxrl.train.evaluate import Episodes, evaluate
from jaxrl.types import Algorithm, Array, Key, Metrics, PyTree

# Streams of keys folded out of a member's root key; training itself uses stream 0.
TRAINING, EVALUATION = 0, 1


class Program:
    """Compiled functions over a population of `num_settings` × `num_seeds` members.

    `config` holds plain numbers, or for swept fields arrays [num_settings]. Its numbers and the environment's
    parameters are passed to the compiled functions as arguments: runs that differ in a learning rate or in gravity
    share one compilation, and nothing large is baked into it. `evaluation_seed` and
    those after it replace the members' own seeds in evaluations. `compiled` is a dict that programs of equal shapes
    may share.
    """

    def __init__(
        self,
        factory: Callable[[Environment, Any], Algorithm],
        env: Environment,
        config: Any,
        seeds: list[int],
        *,
        num_settings: int = 1,
        num_episodes: int = 100,
        evaluation_seed: int | None = None,
        compiled: dict[str, Callable] | None = None,
    ) -> None:
        self.algorithm = factory(env, config)
        self.shape = (num_settings, len(seeds))
        self.is_population = self.shape != (1, 1)
        self.compile_seconds = 0.0
        self._make = factory
        self.env = jax.tree.map(jnp.asarray, env)
        self._num_episodes = num_episodes
        self._config = self._broadcast(config)
        self._keys = self._population_keys(seeds)
        self._evaluation_keys = self._keys
        if evaluation_seed is not None:
            # Seeds differ in their episodes too: an interval over seeds takes them for independent.
            self._evaluation_keys = self._population_keys([evaluation_seed + index for index in range(len(seeds))])
        self._compiled = {} if compiled is None else compiled

    def init(self) -> PyTree:
        """The first state of every member."""
        return self._call("init", self._init, self._training_keys())

    def abstract_state(self) -> PyTree:
        """Shapes, types and structure of the state, without computing it."""
        return jax.eval_shape(self._init, self.env, self._config, self._training_keys())

    def chunk(self, state: PyTree, iterations: int) -> tuple[PyTree, Metrics]:
        """`iterations` steps; donates `state`. Metrics are summed over them: leaves [], or [H, S]."""
        return self._call("chunk", self._chunk, state, jnp.asarray(iterations, jnp.int32), donate=True)

    def evaluate(self, state: PyTree, iteration: int) -> tuple[Episodes, Episodes]:
        """(deterministic, stochastic) episodes of the policies in `state`; leaves [H, S, E]."""
        episodes = self._call(
            "evaluate", self._evaluate, state, self._evaluation_keys, jnp.asarray(iteration, jnp.int32)
        )
        return jax.tree.map(lambda leaf: leaf.reshape(*self.shape, self._num_episodes), episodes)

    def is_finite(self, state: PyTree) -> Array:
        """Whether every number of a member's policy is finite: bool [H, S], or []."""
        return self._call("is_finite", self._is_finite, state)

    def copy(self, state: PyTree) -> PyTree:
        """The same state in buffers of its own, which survive the donation of the originals."""
        return self._call("copy", lambda _env, _config, state: copy(state), state)

    def first_member(self, tree: PyTree) -> PyTree:
        """Member (0, 0) of a population's tree; a single member's tree as it is."""
        return jax.tree.map(lambda leaf: leaf[0, 0], tree) if self.is_population else tree

    def _call(self, name: str, function: Callable, *arguments: PyTree, donate: bool = False) -> Any:
        """Compile ahead of time on the first call; any other shape later is an error, never a recompilation."""
        if name not in self._compiled:
            begun = time.perf_counter()
            jitted = jax.jit(function, donate_argnums=2 if donate else ())
            self._compiled[name] = jitted.lower(self.env, self._config, *arguments).compile()
            self.compile_seconds += time.perf_counter() - begun
        return self._compiled[name](self.env, self._config, *arguments)

    def _init(self, env: Environment, config: Any, keys: Key) -> PyTree:
        return self._over_members(lambda env, config, key: self._make(env, config).init(key))(env, config, keys)

    def _chunk(self, env: Environment, config: Any, state: PyTree, iterations: Array) -> tuple[PyTree, Metrics]:
        step = self._over_members(lambda env, config, state: self._make(env, config).step(state))

        def body(_: Array, carry: tuple) -> tuple:
            state, metrics = carry
            state, more = step(env, config, state)
            return state, jax.tree.map(jnp.add, metrics, more)

        shapes = jax.eval_shape(step, env, config, state)[1]
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        # A loop with a traced length: chunks of any length are one compilation.
        return jax.lax.fori_loop(0, iterations, body, (state, nothing))

    def _is_finite(self, env: Environment, config: Any, state: PyTree) -> Array:
        def one(env: Environment, config: Any, state: PyTree) -> Array:
            leaves = jax.tree.leaves(self._make(env, config).policy(state))
            finite = [jnp.all(jnp.isfinite(leaf)) for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
            return functools.reduce(jnp.logical_and, finite, jnp.ones((), bool))

        return self._over_members(one)(env, config, state)

    def _evaluate(
        self, env: Environment, config: Any, state: PyTree, keys: Key, iteration: Array
    ) -> tuple[Episodes, Episodes]:
        def one(env: Environment, config: Any, member: tuple[PyTree, Key]) -> tuple[Episodes, Episodes]:
            state, root = member
            algorithm = self._make(env, config)
            policy = algorithm.policy(state)
            key = jax.random.fold_in(jax.random.fold_in(root, EVALUATION), iteration)
            key_deterministic, key_stochastic = jax.random.split(key)
            return (
                evaluate(env, algorithm, policy, key_deterministic, self._num_episodes, True),
                evaluate(env, algorithm, policy, key_stochastic, self._num_episodes, False),
            )

        return self._over_members(one)(env, config, (state, keys))

    def _over_members(self, function: Callable) -> Callable:
        """Map `function(env, config, x)` over settings, then seeds; all members share one environment."""
        if not self.is_population:
            return function
        return jax.vmap(jax.vmap(function, in_axes=(None, None, 0)), in_axes=(None, 0, 0))

    def _broadcast(self, config: Any) -> Any:
        """The configuration with float32 leaves: [] for one member, [H] for a population."""

        def leaf(name: str) -> Array:
            value = jnp.asarray(getattr(config, name), jnp.float32)
            return jnp.broadcast_to(value, self.shape[:1]) if self.is_population else value.reshape(())

        return dataclasses.replace(config, **{name: leaf(name) for name in sweepable(config)})

    def _population_keys(self, seeds: list[int]) -> Key:
        """Root keys [H, S], or [] for one member. A seed has the same key whatever it is run with."""
        keys = jnp.stack([jax.random.key(seed) for seed in seeds])
        return jnp.broadcast_to(keys, self.shape) if self.is_population else keys[0]

    def _training_keys(self) -> Key:
        def fold(key: Key) -> Key:
            return jax.random.fold_in(key, TRAINING)

        return jax.vmap(jax.vmap(fold))(self._keys) if self.is_population else fold(self._keys)
