"""An algorithm with small settings on an environment, as its contract is held against it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.algos.registry import AlgorithmSpec
from jaxrl.config import override, settings, sweepable
from jaxrl.core.tree import copy
from jaxrl.envs.api import Environment
from jaxrl.envs.contract import CHEAP
from jaxrl.types import Agent, Algorithm, Array, Metrics, PyTree, View

# Small settings by the names that jaxrl's algorithms have for them, everything that keeps a state
# switched on.
SMALL: dict[str, Any] = {
    "total_steps": 32 * 100,
    "total_updates": 32 * 100,
    "updates_per_iteration": 4,
    "num_envs": 4,
    "num_steps": 8,
    "minibatch_size": 16,
    "num_epochs": 2,
    "hidden_sizes": (8,),
    "normalize_observations": True,
    "scale_rewards": True,
    # A ring that has gone round by the second iteration.
    "replay_capacity": 50,
    "batch_size": 8,
    "warm_up": 8,
    "n_step": 2,
}
# One environment for each kind of action.
PROBES = ("probe/two-lengths", "probe/continuous-action", "probe/multi-discrete-action")


def small_config(spec: AlgorithmSpec) -> Any:
    """The algorithm's default configuration, with the settings of `SMALL` that it has."""
    config = spec.config_class()
    has = {each.name: type(each.value) for each in settings(config)}
    return override(
        config, {name: value for name, value in SMALL.items() if has.get(name) is type(value)}
    )


class Case:
    """An algorithm on one environment: a single member, and a population of 2 settings × 2 seeds.

    `inputs` are what it reads from disk, `swept` the numbers that the settings differ in, one after
    the other: all unless given.
    """

    def __init__(
        self,
        spec: AlgorithmSpec,
        env: Environment,
        config: Any,
        inputs: dict[str, PyTree] | None = None,
        swept: Sequence[str] | None = None,
    ) -> None:
        self.spec, self.env = spec, env
        self.factory: Callable[..., Algorithm] = functools.partial(spec.factory, **(inputs or {}))
        self.plain_config = config
        self.config = jax.tree.map(np.float32, config)
        self.algorithm = self.factory(env, config)
        self.swept = sweepable(config) if swept is None else list(swept)
        self.init = jax.jit(self.make_init, compiler_options=CHEAP)
        self.chunk = jax.jit(self.make_chunk, donate_argnums=1, compiler_options=CHEAP)

    @functools.cached_property
    def agent(self) -> Agent:
        """As whoever plays a saved policy makes it, without what training reads."""
        return self.spec.agent(self.env, self.plain_config)

    @functools.cached_property
    def first(self) -> PyTree:
        """A state before the first step."""
        return self.init(self.config, jax.random.key(3))

    @functools.cached_property
    def act(self) -> dict[str, Callable]:
        """Each mode for one environment, under several keys at once."""
        return {
            name: jax.jit(jax.vmap(mode.act, (None, None, None, 0)), compiler_options=CHEAP)
            for name, mode in self.agent.modes.items()
        }

    def view(self, observation: PyTree) -> View:
        """What a policy is shown at the beginning of an episode."""
        return View.at_start(observation, self.env.action_space)

    def make_init(self, config: Any, key: Array) -> PyTree:
        """The first state, of a configuration whose numbers are traced."""
        return self.factory(self.env, config).init(key)

    def make_step(self, config: Any, state: PyTree) -> tuple[PyTree, Metrics]:
        """One iteration, of a configuration whose numbers are traced."""
        return self.factory(self.env, config).step(state)

    def make_chunk(self, config: Any, state: PyTree, iterations: Array) -> tuple[PyTree, Metrics]:
        """As many iterations as a traced number says; metrics are summed over them."""
        step = self.factory(self.env, config).step

        def body(_: Array, carry: tuple) -> tuple:
            state, metrics = step(carry[0])
            return state, jax.tree.map(jnp.add, carry[1], metrics)

        shapes = jax.eval_shape(step, state)[1]
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        return jax.lax.fori_loop(0, iterations, body, (state, nothing))

    def over_members(self, function: Callable, *axes: int | None) -> Callable:
        """Map `function(config, x, …)` over settings, then seeds."""
        over_seeds = jax.vmap(function, in_axes=(None, 0, *axes))
        return jax.vmap(over_seeds, in_axes=(0, 0, *axes))

    def run(self, iterations: int, state: PyTree = None) -> tuple[PyTree, Metrics]:
        """(state, metrics) after so many iterations from `state`, or from the beginning."""
        state = copy(self.first) if state is None else state
        return self.chunk(self.config, state, jnp.int32(iterations))
