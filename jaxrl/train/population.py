"""A population of members as arrays, and functions over all of them, compiled once.

A population is H hyperparameter settings × S seeds. On one device, or on several that share each
member's environments, it is two axes in front of every leaf, [H, S, ...]; a single member has
neither, so that it pays nothing for them. Where members are sharded over devices they are one axis,
[M, ...]: M = S · H, all settings of the first seed first, padded by copies of the last member to a
multiple of the devices. What leaves this module has the axes [H, S], whatever the devices.

Functions are vmapped over these axes; on a CPU, members with large layers are trained one after
another, which can be twice as fast (`CACHED`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl.core.tree import strip_weak_types
from jaxrl.envs.api import Environment
from jaxrl.train.capacity import check_program, exhaustion_in_words
from jaxrl.train.compiler import compile_program
from jaxrl.train.devices import distributed
from jaxrl.train.devices.layout import ENV, SEED, Layout
from jaxrl.train.profile.flops import count
from jaxrl.types import Array, Key, PyTree

P = jax.P
ONE_DEVICE = Layout()
# Side by side, the members' layers are one product, whose result should stay in a core's cache. On
# a CPU, members whose own products give more bytes than so are trained one after another
# (benchmarks/members.py).
CACHED = 40 * 1024


class Population:
    """The members' configurations and keys on the devices, and the programs compiled for them.

    `config` holds plain numbers, or for swept fields arrays [H]. Its numbers, the environment's
    parameters and the `inputs` are passed to the compiled functions as arguments: runs that differ
    in a learning rate, in gravity or in their data share one compilation, and nothing large is
    baked into it. Environment and inputs are the same for all members, and replicated on each
    device. `compiled` is a dict that populations of equal shapes may share.
    """

    def __init__(
        self,
        env: Environment,
        config: Any,
        inputs: dict[str, PyTree],
        shape: tuple[int, int],
        layout: Layout = ONE_DEVICE,
        compiled: dict[str, Callable] | None = None,
    ) -> None:
        self.layout = layout
        self.mesh = layout.mesh()
        self.shape = shape
        self.is_population = shape != (1, 1)
        self.is_flat = layout.seed > 1
        self.compile_seconds = 0.0
        self.env = self.everywhere(strip_weak_types(jax.tree.map(jnp.asarray, env)))
        self.inputs = self.everywhere(jax.tree.map(jnp.asarray, inputs))
        self.first_config = jax.tree.map(
            lambda value: jnp.asarray(value, jnp.float32).reshape(-1)[0], config
        )
        self.config = self._spread_config(config)
        self.compiled = {} if compiled is None else compiled

    @property
    def size(self) -> int:
        """Members, H · S."""
        return self.shape[0] * self.shape[1]

    @property
    def _padded(self) -> int:
        """Members with those that fill up the devices."""
        return -(-self.size // self.layout.seed) * self.layout.seed

    @property
    def members(self) -> P:
        """The PartitionSpec of leaves with an entry per member."""
        if self.is_flat:
            return P(SEED)
        return P(None, None) if self.is_population else P()

    def rows_of(self, sharded: PyTree) -> PyTree:
        """The PartitionSpecs of a state; it has a row per environment where `sharded` is True."""
        return jax.tree.map(lambda split: P(*self.members, ENV) if split else self.members, sharded)

    def deal(self, tree: PyTree, specs: PyTree | None = None) -> PyTree:
        """Leaves [H, S, ...] sharded over the devices by `specs`, a prefix of PartitionSpecs.

        `gather` is its inverse.
        """
        if not self.is_flat:
            return tree
        padding, mesh = self._padded - self.size, self.mesh
        assert mesh is not None

        def pad(leaf: Array) -> Array:
            rows = jnp.swapaxes(leaf, 0, 1).reshape(self.size, *leaf.shape[2:])
            if not padding:
                return rows
            return jnp.concatenate([rows, jnp.repeat(rows[-1:], padding, axis=0)])

        specs = self.members if specs is None else specs
        shardings = jax.tree.map(lambda spec: jax.NamedSharding(mesh, spec), specs)
        return jax.jit(lambda tree: jax.tree.map(pad, tree), out_shardings=shardings)(tree)

    def gather(self, tree: PyTree) -> PyTree:
        """Leaves with an entry per member as [H, S, ...], or [...] of one member; undoes `deal`."""
        if not self.is_flat:
            return tree

        def whole(leaf: Array) -> Array:
            settings, seeds = self.shape
            rows = leaf[: self.size].reshape(seeds, settings, *leaf.shape[1:])
            return jnp.swapaxes(rows, 0, 1)

        assert self.mesh is not None
        everywhere = jax.NamedSharding(self.mesh, P())
        return jax.jit(lambda tree: jax.tree.map(whole, tree), out_shardings=everywhere)(tree)

    def everywhere(self, tree: PyTree) -> PyTree:
        """The tree, replicated on every device of the mesh, of all processes."""
        if self.mesh is None:
            return tree
        everywhere = jax.NamedSharding(self.mesh, P())
        if everywhere.is_fully_addressable:
            return jax.device_put(tree, everywhere)
        # device_put does not spread keys over processes.
        return jax.jit(lambda tree: tree, out_shardings=everywhere)(tree)

    def call(
        self,
        name: str,
        function: Callable,
        arguments: dict[str, tuple[PyTree, PyTree]],
        output: PyTree,
        donate: str = "",
        instead: tuple[Environment, Any] | None = None,
    ) -> Any:
        """`function(env, config, inputs, *arguments)`, compiled ahead of time on its first call.

        Each argument comes with its PartitionSpecs; `output` holds those of the result, and
        `donate` names an argument whose buffers the result may use. In place of the members'
        environment and configurations, `instead` may pass others, as `steered` makes them. Other
        shapes later are an error, never a recompilation.
        """
        values = [value for value, _ in arguments.values()]
        env, config = instead or (self.env, self.config)
        with exhaustion_in_words(name):
            if name not in self.compiled:
                begun = time.perf_counter()
                spread = self.spread(function, [spec for _, spec in arguments.values()], output)
                donated = [3 + list(arguments).index(donate)] if donate else []
                jitted = jax.jit(spread, donate_argnums=donated)
                lowered = jitted.lower(env, config, self.inputs, *values)
                self.compiled[name] = compile_program(lowered)
                check_program(name, self.compiled[name])
                distributed.synchronize(name)
                self.compile_seconds += time.perf_counter() - begun
            return self.compiled[name](env, config, self.inputs, *values)

    def steered(self, config: Any, env: Environment | None = None) -> tuple[Environment, Any]:
        """Another environment, if given, and configurations of equal shapes, on the devices."""
        if env is None:
            return self.env, self._spread_config(config)
        leaves = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), env, self.env)
        return self.everywhere(leaves), self._spread_config(config)

    def shapes_of(
        self, function: Callable, arguments: dict[str, tuple[PyTree, PyTree]], output: PyTree
    ) -> PyTree:
        """Shapes, types and structure of what `call` would return, without computing it."""
        spread = self.spread(function, [spec for _, spec in arguments.values()], output)
        return jax.eval_shape(
            spread, self.env, self.config, self.inputs, *(value for value, _ in arguments.values())
        )

    def spread(self, function: Callable, arguments: list[PyTree], output: PyTree) -> Callable:
        """`function(env, config, inputs, *arguments)` as it runs on each device."""
        if self.mesh is None:
            return function
        config = self.members if self.is_flat else P()
        specs = (P(), config, P(), *arguments)
        return jax.shard_map(
            function, mesh=self.mesh, in_specs=specs, out_specs=output, check_vma=False
        )

    def over_members(self, function: Callable) -> Callable:
        """`function(env, config, inputs, x)`, vmapped over members, which share env and inputs."""
        if self.is_flat:
            return jax.vmap(function, in_axes=(None, 0, None, 0))
        if not self.is_population:
            return function
        over_seeds = jax.vmap(function, in_axes=(None, None, None, 0))
        return jax.vmap(over_seeds, in_axes=(None, 0, None, 0))

    def one_by_one(self, function: Callable) -> Callable:
        """`function(env, config, inputs, state) -> (state, found)`, one member after another."""

        def of_all(
            env: Environment, config: Any, inputs: PyTree, states: PyTree
        ) -> tuple[PyTree, PyTree]:
            axes = len(self.members)
            shape = jax.tree.leaves(states)[0].shape[:axes]
            seeds = 1 if self.is_flat else self.shape[1]  # that share a configuration

            def of_member(number: Array | int, states: PyTree) -> tuple[PyTree, PyTree]:
                own = _entry(config, number // seeds), inputs, _entry(states, number)
                found: tuple[PyTree, PyTree] = function(env, *own)
                return found

            def body(number: Array, carry: tuple) -> tuple:
                return _with_entry(carry, number, of_member(number, carry[0]))

            states = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[axes:]), states)
            shapes = jax.eval_shape(of_member, 0, states)[1]
            members = math.prod(shape)
            nothing = jax.tree.map(
                lambda leaf: jnp.zeros((members, *leaf.shape), leaf.dtype), shapes
            )
            found = jax.lax.fori_loop(0, members, body, (states, nothing))
            return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), found)

        return of_all

    def outgrows_cache(
        self, function: Callable, env: Environment, config: Any, inputs: PyTree, states: PyTree
    ) -> bool:
        """Whether the products of one member's `function` give more than `CACHED` bytes."""
        if not self.is_population or jax.default_backend() != "cpu":
            return False
        axes = len(self.members)

        def first(leaf: Array) -> Array:
            return leaf[(0,) * axes]

        state = jax.eval_shape(lambda: jax.tree.map(first, states))
        own = jax.eval_shape(lambda: _entry(config, 0))
        work = count(jax.make_jaxpr(function)(env, own, inputs, state))
        return work.product_bytes > CACHED

    def _spread_config(self, config: Any) -> Any:
        """The configuration as float32 leaves: [] of one member, [H] of many, [M] where sharded."""

        def leaf(value: Any) -> Array:
            value = jnp.asarray(value, jnp.float32)
            if self.is_population:
                return jnp.broadcast_to(value, self.shape[:1])
            return value.reshape(())

        spread = jax.tree.map(leaf, config)
        if not self.is_flat:
            return self.everywhere(spread)
        return self.deal(
            jax.tree.map(lambda value: jnp.broadcast_to(value[:, None], self.shape), spread)
        )

    def keys(self, seeds: list[int]) -> Key:
        """Root keys of the members, on the devices; a seed has the same key in whichever run."""
        # By their data: a key that is stacked or reshaped counts as used.
        data = jax.random.key_data(jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.int32)))
        if self.is_population:
            data = jnp.broadcast_to(data, (*self.shape, *data.shape[1:]))
        else:
            data = data[0]
        keys = jax.random.wrap_key_data(data)
        return self.deal(keys) if self.is_flat else self.everywhere(keys)


def _entry(tree: PyTree, number: Array | int) -> PyTree:
    """Leaves [M, ...] of one member."""
    return jax.tree.map(
        lambda leaf: jax.lax.dynamic_index_in_dim(leaf, number, keepdims=False), tree
    )


def _with_entry(tree: PyTree, number: Array, entry: PyTree) -> PyTree:
    """Leaves [M, ...] with those of one member in their place."""
    return jax.tree.map(
        lambda leaf, new: jax.lax.dynamic_update_index_in_dim(leaf, new, number, 0), tree, entry
    )
