"""The compiled programs of a run, `init`, `chunk` and `evaluate`, for one member or many.

On several devices each function runs under `shard_map`: members and environments are sharded as the
layout says (train/devices/layout.py), all else is replicated.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxrl.config import replace_leaves
from jaxrl.envs.api import Environment
from jaxrl.envs.play import Episodes
from jaxrl.train.callbacks import Steering
from jaxrl.train.devices import distributed
from jaxrl.train.devices.layout import ENV, Layout
from jaxrl.train.files.state_arrays import refuse_undeclared
from jaxrl.train.measures import Measure, checked, stream
from jaxrl.train.modes import Asked
from jaxrl.train.player import EachPiece, Player
from jaxrl.train.population import ONE_DEVICE, P, Population
from jaxrl.train.scores import mean_of_pair
from jaxrl.types import Agent, Algorithm, Array, Key, Mean, Metrics, PyTree

# Streams of keys folded out of a member's root key; evaluation uses stream 1.
TRAINING = 0


class Program:
    """Trains and evaluates a population of `num_settings` × `len(seeds)` members.

    `factory(env, config, **inputs)` makes the algorithm, `make_agent(env, config)` what acts with
    its policies: unless given, the algorithm's own. `config` holds plain numbers, or for swept
    fields arrays [num_settings].
    """

    def __init__(
        self,
        factory: Callable[..., Algorithm],
        env: Environment,
        config: Any,
        seeds: list[int],
        *,
        inputs: dict[str, PyTree] | None = None,
        make_agent: Callable[[Environment, Any], Agent] | None = None,
        num_settings: int = 1,
        num_episodes: int = 100,
        modes: Sequence[Asked] = (),
        compiled: dict[str, Callable] | None = None,
        layout: Layout = ONE_DEVICE,
        measures: dict[str, Measure] | None = None,
    ) -> None:
        if layout.env > 1:
            factory = functools.partial(factory, shards=layout.shards)
        self.factory = factory
        self.config = config
        inputs = inputs or {}
        self.algorithm = self.factory(env, config, **inputs)  # which checks everything
        self.population = Population(
            env, config, inputs, (num_settings, len(seeds)), layout, compiled
        )
        self._keys = self.population.keys(seeds)
        agent_of = make_agent or (lambda env, config: self.factory(env, config, **inputs).agent)
        self.player = Player(self.population, agent_of, self._keys, num_episodes, modes)
        self.checksums: dict[str, str] = {}  # of the inputs as they were read
        # [H, S, ...] or [...], of another run that this one begins from.
        self.first_policies: PyTree | None = None
        self._steered: tuple[Environment, Any] | None = None
        self.measures = measures or {}
        self.measured = self._shapes_measured()  # which checks them

    @property
    def env(self) -> Environment:
        """The environment that all members share."""
        return self.population.env

    @property
    def reference_scores(self) -> tuple[float, float] | None:
        """Returns of a random and of an expert policy: the environment's, else a dataset's."""
        known = self.env.reference_scores
        for each in self.population.inputs.values():
            if known is None and (found := getattr(each, "reference_scores", None)) is not None:
                random, expert = np.asarray(jax.device_get(found), np.float64).tolist()
                known = (random, expert) if np.isfinite([random, expert]).all() else None
        return known

    @property
    def layout(self) -> Layout:
        """How the devices share the run."""
        return self.population.layout

    @property
    def shape(self) -> tuple[int, int]:
        """(H, S): hyperparameter settings and seeds."""
        return self.population.shape

    @property
    def compile_seconds(self) -> float:
        """What compilation has taken so far."""
        return self.population.compile_seconds

    def init(self) -> PyTree:
        """The first state of every member; it goes on with `first_policies`, if there are any."""
        population = self.population
        state = population.call("init", self._init, self._training_keys(), self._state_spec)
        if self.first_policies is None:
            return state
        first = self.first_policies
        policies = population.deal(first) if population.is_flat else population.everywhere(first)
        arguments = {"state": (state, self._state_spec), "policies": (policies, population.members)}
        return population.call(
            "begin_from", self._begin_from, arguments, self._state_spec, donate="state"
        )

    def abstract_policies(self) -> PyTree:
        """Shapes, types and structure of the first policies, [H, S, ...] or [...], uncomputed."""
        population = self.population

        def of_first_states(env: Environment, config: Any, inputs: PyTree, keys: Key) -> PyTree:
            state = self._init(env, config, inputs, keys)
            refuse_undeclared(state, self.algorithm.sharded)
            return self._policies(env, config, inputs, state)

        shapes = population.shapes_of(of_first_states, self._training_keys(), population.members)
        return self._unpadded(shapes) if population.is_flat else shapes

    def _unpadded(self, shapes: PyTree) -> PyTree:
        """Shapes [H, S, ...], of leaves [M, ...] whose members are sharded over devices."""

        def unpadded(leaf: Any) -> jax.ShapeDtypeStruct:
            return jax.ShapeDtypeStruct((*self.shape, *leaf.shape[1:]), leaf.dtype)

        return jax.tree.map(unpadded, shapes)

    def abstract_state(self) -> PyTree:
        """Shapes, types and structure of the state as it is saved, [H, S, ...], uncomputed.

        Its shardings too, where the devices hold it so; else `place` puts it there.
        """
        population = self.population
        shapes = population.shapes_of(self._init, self._training_keys(), self._state_spec)
        mesh = population.mesh
        if mesh is None:
            return shapes
        if population.is_flat:
            return self._unpadded(shapes)

        def placed(spec: P, shapes: PyTree) -> PyTree:
            sharding = jax.NamedSharding(mesh, spec)
            return jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes
            )

        return jax.tree.map(placed, self._state_spec, shapes)

    def place(self, state: PyTree) -> PyTree:
        """A restored state, [H, S, ...], as it lies on the devices."""
        return self.population.deal(state, self._state_spec)

    def traced_chunk(self, state: PyTree) -> Any:
        """The jaxpr of a chunk of one iteration on one of its devices: what `chunk` compiles."""
        output = (self._state_spec, self.population.members)
        chunk = self.population.spread(self._chunk, [self._state_spec, P()], output)
        population = self.population
        return jax.make_jaxpr(chunk)(
            population.env, population.config, population.inputs, state, np.int32(1)
        )

    def whole(self, state: PyTree) -> PyTree:
        """A state, or policies, as they are saved: [H, S, ...], without what fills up devices."""
        return self.population.gather(state)

    def chunk(self, state: PyTree, iterations: int) -> tuple[PyTree, Metrics]:
        """`iterations` steps; donates `state`. Metrics are sums over them: leaves [] or [H, S]."""
        arguments = {"state": (state, self._state_spec), "iterations": (np.int32(iterations), P())}
        output = (self._state_spec, self.population.members)
        steered = self._steered
        state, metrics = self.population.call(
            "chunk", self._chunk, arguments, output, donate="state", instead=steered
        )
        return state, self.population.gather(metrics)

    def steer(self, steering: Steering) -> None:
        """Train on with what callbacks have set; evaluations and measures go on as at first."""
        config = replace_leaves(self.config, steering.numbers)
        self._steered = self.population.steered(config, steering.env)

    def policies(self, state: PyTree) -> PyTree:
        """The policy of every member as the devices hold it, which is all that acting needs."""
        arguments = {"state": (state, self._state_spec)}
        return self.population.call("policies", self._policies, arguments, self.population.members)

    def evaluate(
        self,
        policies: PyTree,
        iteration: int,
        each_piece: EachPiece | None = None,
    ) -> dict[str, Episodes]:
        """Episodes of the policies per mode, on the host: leaves [H, S, E] (`Player.evaluate`)."""
        return self.player.evaluate(policies, iteration, each_piece)

    def measure(self, state: PyTree, iteration: int) -> dict[str, np.ndarray]:
        """What is measured of a state after so many iterations, float32 [H, S, ...] on the host."""
        found = {}
        for name, shape in self.measured.items():
            arguments = self._to_measure(state) | {"iteration": (np.int32(iteration), P())}
            values = self.population.call(
                f"measure {name}", self._measure(name), arguments, self.population.members
            )
            values = distributed.to_host(self.population.gather(values))
            values = mean_of_pair(values) if isinstance(values, Mean) else values
            found[name] = np.asarray(values, np.float32).reshape(*self.shape, *shape)
        return found

    def is_finite(self, state: PyTree) -> Array:
        """Whether every number of a member's policy is finite: bool [H, S], or []."""
        arguments = {"state": (state, self._state_spec)}
        finite = self.population.call(
            "is_finite", self._is_finite, arguments, self.population.members
        )
        return self.population.gather(finite)

    @functools.cached_property
    def _state_spec(self) -> PyTree:
        """The PartitionSpecs of the state: a prefix of it."""
        return self.population.rows_of(self.algorithm.sharded)

    def _training_keys(self) -> dict[str, tuple[PyTree, PyTree]]:
        return {"keys": (self._keys, self.population.members)}

    def _init(self, env: Environment, config: Any, inputs: PyTree, keys: Key) -> PyTree:
        def one(env: Environment, config: Any, inputs: PyTree, key: Key) -> PyTree:
            return self.factory(env, config, **inputs).init(jax.random.fold_in(key, TRAINING))

        return self.population.over_members(one)(env, config, inputs, keys)

    def _begin_from(
        self, env: Environment, config: Any, inputs: PyTree, state: PyTree, policies: PyTree
    ) -> PyTree:
        def one(
            env: Environment, config: Any, inputs: PyTree, member: tuple[PyTree, PyTree]
        ) -> PyTree:
            begin = self.factory(env, config, **inputs).begin_from
            assert begin is not None
            state, policy = member
            return begin(state, policy)

        return self.population.over_members(one)(env, config, inputs, (state, policies))

    def _to_measure(self, state: PyTree) -> dict[str, tuple[PyTree, PyTree]]:
        return {"state": (state, self._state_spec), "roots": (self._keys, self.population.members)}

    def _measure(self, name: str) -> Callable:
        """A measure of all members: function(env, config, inputs, state, roots, iteration)."""

        def measure(
            env: Environment,
            config: Any,
            inputs: PyTree,
            state: PyTree,
            roots: Key,
            iteration: Array,
        ) -> Array | Mean:
            def one(
                env: Environment, config: Any, inputs: PyTree, member: tuple[PyTree, Key]
            ) -> Array | Mean:
                state, root = member
                key = jax.random.fold_in(jax.random.fold_in(root, stream(name)), iteration)
                algorithm = self.factory(env, config, **inputs)
                return checked(name, self.measures[name](algorithm, state, inputs, key))

            found = self.population.over_members(one)(env, config, inputs, (state, roots))
            if isinstance(found, Mean) and self.layout.env > 1:
                found = jax.lax.psum(found, ENV)
            return found

        return measure

    def _shapes_measured(self) -> dict[str, tuple[int, ...]]:
        """The shape of each measure of one member, uncomputed; refuses what cannot be measured."""
        population = self.population
        shapes = {}
        if self.measures:
            state = population.shapes_of(self._init, self._training_keys(), self._state_spec)
        for name in self.measures:
            arguments = self._to_measure(state) | {"iteration": (np.int32(0), P())}
            found = population.shapes_of(self._measure(name), arguments, population.members)
            shape = jax.tree.leaves(found)[0].shape
            shapes[name] = shape[len(population.members) :]
        return shapes

    def _chunk(
        self, env: Environment, config: Any, inputs: PyTree, state: PyTree, iterations: Array
    ) -> tuple[PyTree, Metrics]:
        def step(
            env: Environment, config: Any, inputs: PyTree, state: PyTree
        ) -> tuple[PyTree, Metrics]:
            return self.factory(env, config, **inputs).step(state)

        def steps(
            env: Environment, config: Any, inputs: PyTree, state: PyTree
        ) -> tuple[PyTree, Metrics]:
            one = functools.partial(step, env, config, inputs)
            shapes = jax.eval_shape(one, state)[1]
            nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

            def body(_: Array, carry: tuple) -> tuple:
                state, metrics = carry
                state, more = one(state)
                return state, jax.tree.map(jnp.add, metrics, more)

            # A loop with a traced length: chunks of any length are one compilation.
            found: tuple[PyTree, Metrics] = jax.lax.fori_loop(0, iterations, body, (state, nothing))
            return found

        population = self.population
        alone = population.outgrows_cache(step, env, config, inputs, state)
        of_all = population.one_by_one(steps) if alone else population.over_members(steps)
        state, metrics = of_all(env, config, inputs, state)
        if self.layout.env > 1:  # once per chunk, as one message
            flat, unravel = ravel_pytree(metrics)
            metrics = unravel(jax.lax.psum(flat, ENV))
        return state, metrics

    def _policies(self, env: Environment, config: Any, inputs: PyTree, state: PyTree) -> PyTree:
        def one(env: Environment, config: Any, inputs: PyTree, state: PyTree) -> PyTree:
            return self.factory(env, config, **inputs).policy(state)

        return self.population.over_members(one)(env, config, inputs, state)

    def _is_finite(self, env: Environment, config: Any, inputs: PyTree, state: PyTree) -> Array:
        def one(env: Environment, config: Any, inputs: PyTree, state: PyTree) -> Array:
            leaves = jax.tree.leaves(self.factory(env, config, **inputs).policy(state))
            finite = [
                jnp.all(jnp.isfinite(leaf))
                for leaf in leaves
                if jnp.issubdtype(leaf.dtype, jnp.inexact)
            ]
            return functools.reduce(jnp.logical_and, finite, jnp.ones((), bool))

        return self.population.over_members(one)(env, config, inputs, state)
