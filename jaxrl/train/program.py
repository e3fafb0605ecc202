"""The compiled programs of a run: `init`, `chunk` and `evaluate`, for one member or a whole population.

A population is H hyperparameter settings × S seeds in one program: two vmapped axes in front of every leaf of the
state. A single member has neither axis, so that it pays nothing for them. On several devices each function runs under
`shard_map`: seeds and environments are dealt out as the layout says (train/devices/layout.py), all else is on every
device.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxrl.core.tree import copy
from jaxrl.envs.api import Environment
from jaxrl.train.devices import distributed
from jaxrl.train.devices.layout import ENV, SEED, Layout
from jaxrl.train.evaluate import Episodes, evaluate
from jaxrl.types import Algorithm, Array, Key, Metrics, PyTree

P = jax.P
ONE_DEVICE = Layout()
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
        factory: Callable[..., Algorithm],
        env: Environment,
        config: Any,
        seeds: list[int],
        *,
        num_settings: int = 1,
        num_episodes: int = 100,
        evaluation_seed: int | None = None,
        compiled: dict[str, Callable] | None = None,
        layout: Layout = ONE_DEVICE,
    ) -> None:
        self.layout, self.mesh = layout, layout.mesh()
        self._make = functools.partial(factory, shards=layout.shards) if layout.env > 1 else factory
        self.algorithm = self._make(env, config)
        self.shape = (num_settings, len(seeds))
        self.is_population = self.shape != (1, 1)
        self.compile_seconds = 0.0
        self.env = self._everywhere(jax.tree.map(jnp.asarray, env))
        self._num_episodes = num_episodes
        self._config = self._everywhere(self._broadcast(config))
        self._keys = self._population_keys(seeds)
        self._evaluation_keys = self._keys
        if evaluation_seed is not None:
            # Seeds differ in their episodes too: an interval over seeds takes them for independent.
            self._evaluation_keys = self._population_keys([evaluation_seed + index for index in range(len(seeds))])
        self._compiled = {} if compiled is None else compiled
        self.inputs: dict[str, str] = {}  # checksums of what was read from disk for the algorithm

    def init(self) -> PyTree:
        """The first state of every member."""
        return self._call("init", self._init, self._state_spec, self._training_keys())

    def abstract_state(self) -> PyTree:
        """Shapes, types, structure and shardings of the state, without computing it."""
        init = self._spread(self._init, (self._members,), self._state_spec)
        shapes = jax.eval_shape(init, self.env, self._config, self._training_keys())
        mesh = self.mesh
        if mesh is None:
            return shapes

        def place(spec: P, shapes: PyTree) -> PyTree:
            sharding = jax.NamedSharding(mesh, spec)
            return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)

        return jax.tree.map(place, self._state_spec, shapes)

    def chunk(self, state: PyTree, iterations: int) -> tuple[PyTree, Metrics]:
        """`iterations` steps; donates `state`. Metrics are summed over them: leaves [], or [H, S]."""
        out = (self._state_spec, self._members)
        return self._call("chunk", self._chunk, out, state, np.int32(iterations), donate=True)

    def policies(self, state: PyTree) -> PyTree:
        """The policy of every member, which is all that acting needs: leaves [H, S, ...], or [...]."""
        return self._call("policies", self._policies, self._members, state)

    def abstract_policies(self) -> PyTree:
        """Shapes, types and structure of `policies`, as they are on one device, without computing them."""
        policies = self._spread(self._policies, (self._state_spec,), self._members)
        return jax.eval_shape(policies, self.env, self._config, self.abstract_state())

    def evaluate(self, policies: PyTree, iteration: int) -> tuple[Episodes, Episodes]:
        """(deterministic, stochastic) episodes of the policies; leaves [H, S, E]."""
        arguments = (policies, self._evaluation_keys, np.int32(iteration))
        episodes = self._call("evaluate", self._evaluate, self._members, *arguments)
        return jax.tree.map(lambda leaf: leaf.reshape(*self.shape, self._num_episodes), episodes)

    def is_finite(self, state: PyTree) -> Array:
        """Whether every number of a member's policy is finite: bool [H, S], or []."""
        return self._call("is_finite", self._is_finite, self._members, state)

    def copy(self, state: PyTree) -> PyTree:
        """The same state in buffers of its own, which survive the donation of the originals."""
        return self._call("copy", lambda _env, _config, state: copy(state), self._state_spec, state)

    @property
    def _members(self) -> P:
        """How what has one entry a member is dealt out."""
        return P(None, SEED) if self.is_population else P()

    @functools.cached_property
    def _state_spec(self) -> PyTree:
        """How the state is dealt out: a prefix of it."""
        return jax.tree.map(lambda split: P(*self._members, ENV) if split else self._members, self.algorithm.sharded)

    def _everywhere(self, tree: PyTree) -> PyTree:
        """The same on every device of the mesh, of all processes."""
        if self.mesh is None:
            return tree
        everywhere = jax.NamedSharding(self.mesh, P())
        if everywhere.is_fully_addressable:
            return jax.device_put(tree, everywhere)
        return jax.jit(lambda tree: tree, out_shardings=everywhere)(tree)  # device_put cannot spread keys so far

    def _spread(self, function: Callable, inputs: tuple, output: PyTree) -> Callable:
        """`function(env, config, *arguments)` as it runs on each device."""
        if self.mesh is None:
            return function
        specs = (P(), P(), *inputs)
        return jax.shard_map(function, mesh=self.mesh, in_specs=specs, out_specs=output, check_vma=False)

    def _call(self, name: str, function: Callable, output: PyTree, *arguments: PyTree, donate: bool = False) -> Any:
        """Compile ahead of time on the first call; any other shape later is an error, never a recompilation."""
        if name not in self._compiled:
            begun = time.perf_counter()
            inputs = tuple(self._input_spec(name, position) for position in range(len(arguments)))
            jitted = jax.jit(self._spread(function, inputs, output), donate_argnums=2 if donate else ())
            self._compiled[name] = jitted.lower(self.env, self._config, *arguments).compile()
            distributed.meet(name)
            self.compile_seconds += time.perf_counter() - begun
        return self._compiled[name](self.env, self._config, *arguments)

    def _input_spec(self, name: str, position: int) -> PyTree:
        """How an argument is dealt out: keys, policies or the state; then numbers, but for an evaluation's keys."""
        if position == 0:
            return self._members if name in ("init", "evaluate") else self._state_spec
        return self._members if name == "evaluate" and position == 1 else P()

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
        state, metrics = jax.lax.fori_loop(0, iterations, body, (state, nothing))
        if self.layout.env > 1:  # once a chunk, as one message
            flat, unravel = ravel_pytree(metrics)
            metrics = unravel(jax.lax.psum(flat, ENV))
        return state, metrics

    def _policies(self, env: Environment, config: Any, state: PyTree) -> PyTree:
        return self._over_members(lambda env, config, state: self._make(env, config).policy(state))(env, config, state)

    def _is_finite(self, env: Environment, config: Any, state: PyTree) -> Array:
        def one(env: Environment, config: Any, state: PyTree) -> Array:
            leaves = jax.tree.leaves(self._make(env, config).policy(state))
            finite = [jnp.all(jnp.isfinite(leaf)) for leaf in leaves if jnp.issubdtype(leaf.dtype, jnp.inexact)]
            return functools.reduce(jnp.logical_and, finite, jnp.ones((), bool))

        return self._over_members(one)(env, config, state)

    def _evaluate(
        self, env: Environment, config: Any, policies: PyTree, keys: Key, iteration: Array
    ) -> tuple[Episodes, Episodes]:
        def one(env: Environment, config: Any, member: tuple[PyTree, Key]) -> tuple[Episodes, Episodes]:
            policy, root = member
            algorithm = self._make(env, config)
            key = jax.random.fold_in(jax.random.fold_in(root, EVALUATION), iteration)
            key_deterministic, key_stochastic = jax.random.split(key)
            return (
                evaluate(env, algorithm, policy, key_deterministic, self._num_episodes, True),
                evaluate(env, algorithm, policy, key_stochastic, self._num_episodes, False),
            )

        return self._over_members(one)(env, config, (policies, keys))

    def _over_members(self, function: Callable) -> Callable:
        """Map `function(env, config, x)` over settings, then seeds; all members share one environment."""
        if not self.is_population:
            return function
        return jax.vmap(jax.vmap(function, in_axes=(None, None, 0)), in_axes=(None, 0, 0))

    def _broadcast(self, config: Any) -> Any:
        """The configuration with its numbers, at any depth, as float32: [] for one member, [H] for a population."""

        def leaf(value: Any) -> Array:
            value = jnp.asarray(value, jnp.float32)
            return jnp.broadcast_to(value, self.shape[:1]) if self.is_population else value.reshape(())

        return jax.tree.map(leaf, config)

    def _population_keys(self, seeds: list[int]) -> Key:
        """Root keys [H, S], or [] for one member. A seed has the same key whatever it is run with."""
        keys = jnp.stack([jax.random.key(seed) for seed in seeds])
        return self._everywhere(jnp.broadcast_to(keys, self.shape) if self.is_population else keys[0])

    def _training_keys(self) -> Key:
        def fold(key: Key) -> Key:
            return jax.random.fold_in(key, TRAINING)

        return jax.vmap(jax.vmap(fold))(self._keys) if self.is_population else fold(self._keys)
