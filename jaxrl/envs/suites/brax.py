"""brax under the jaxrl contract: its bare environments, on any of its four physics back ends.

What the adapter changes, and nothing else:

- no wrapper of brax is used: none that resets to a cached first state, none that counts steps;
- the state is the physics alone (brax's `pipeline_state`): metrics and `info` are dropped, which no
  step reads;
- types: every leaf is strongly typed, and a step keeps the types of its reset (brax compiles
  everything twice);
- a simulation that blows up ends its episode (`blow_up`).

brax is imported on the first `make`, not with this module: it takes seconds.
"""

from __future__ import annotations

import copy
import functools
import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl import errors
from jaxrl.core.tree import strip_weak_types
from jaxrl.envs import blow_up
from jaxrl.envs.options import HEALTHY, Needs, check_numbers, check_read
from jaxrl.envs.suites.physics_engines import (
    EngineEnvironment,
    Options,
    detached,
    engine_conventions,
    frozen,
    like,
    specs,
)
from jaxrl.types import Array, Key, PyTree, Timestep

SUITE = "brax"
REQUIRES = "brax"
EXTRA = "brax"
SIMULATORS = ("brax", "mujoco-mjx")  # of the latter with backend=mjx
EVALUATION_EPISODES = 10  # of a thousand steps, each some hundred times that of CartPole
SLOW = True
BACKENDS = ("generalized", "positional", "spring", "mjx")
HORIZON = 1000  # what `brax.envs.create` cuts episodes at

# Sizes of observation and action.
_SIZES = {
    "brax/ant": (27, 8),
    "brax/halfcheetah": (17, 6),
    "brax/hopper": (11, 3),
    "brax/humanoid": (244, 17),
    "brax/humanoidstandup": (244, 17),
    "brax/inverted_double_pendulum": (8, 1),
    "brax/inverted_pendulum": (4, 1),
    "brax/pusher": (23, 7),
    "brax/reacher": (11, 2),
    "brax/walker2d": (17, 6),
}
IDS = tuple(_SIZES)
SPECS = specs(_SIZES, HORIZON, BACKENDS)
REFUSED = {
    "brax/fast": "it simulates nothing: brax tests its own wrappers with it",
    "brax/swimmer": (
        "brax 0.14 simulates fluids with jax.numpy.clip(a_min=…), which JAX no longer has"
    ),
}
# Options that brax 0.14 has and reads nowhere, or only with others.
NEEDS: Needs = {**HEALTHY, "contact_cost_weight": {}, "contact_force_range": {}}


class BraxSpec(NamedTuple):
    """What is fixed when an environment is made; hashable, so that equal ones compile once."""

    environment_id: str
    options: Options  # of brax's constructor
    observation_size: int
    action_size: int


class BraxEnvironment(EngineEnvironment):
    """One brax environment; `system` describes masses, joints and actuators, as array leaves.

    Randomised dynamics are a batch of systems, under `vmap`:
    `environment.replace(system=environment.system.replace(gravity=x))`.
    """

    system: PyTree
    spec: BraxSpec = struct.field(pytree_node=False)

    @property
    def horizon(self) -> int:
        """1000, as in `brax.envs.create`."""
        return HORIZON

    def reset(self, key: Key) -> tuple[PyTree, Array]:
        """Call brax's `reset`: (physics, observation [observation_size])."""
        with engine_conventions():
            state = self._brax().reset(jax.random.key_data(key))
        return strip_weak_types(state.pipeline_state), jnp.asarray(state.obs, jnp.float32)

    def step(self, key: Key, state: PyTree, action: Array) -> tuple[PyTree, Timestep]:
        """Call brax's `step`, which is deterministic; its `done` knows no time limit."""
        from brax.envs import State

        zero = jnp.zeros((), jnp.float32)
        with engine_conventions():
            before = State(pipeline_state=state, obs=None, reward=zero, done=zero)
            after = self._brax().step(before, jnp.asarray(action, jnp.float32))
        return blow_up.guard(
            state,
            like(after.pipeline_state, state),
            jnp.asarray(after.obs, jnp.float32),
            jnp.asarray(after.reward, jnp.float32),
            jnp.asarray(after.done, bool),
        )

    def _brax(self) -> Any:
        """The brax object, whose methods are used as functions of this environment's system."""
        environment = copy.copy(_build(self.spec.environment_id, self.spec.options)[0])
        environment.sys = self.system
        return environment


def make(environment_id: str, **kwargs: Any) -> BraxEnvironment:
    """Build by id; `kwargs` are `backend`, `n_frames` and the keywords of brax's constructor."""
    allowed = _options(environment_id)
    for name, value in kwargs.items():
        if name not in allowed:
            raise errors.unknown(f"option of {environment_id}", name, allowed)
        if name == "backend":
            errors.check_choice(f"backend of {environment_id}", value, BACKENDS)
        if name == "n_frames":
            errors.check_positive_int(name, value)
    parameters = inspect.signature(_class(environment_id)).parameters
    usual = {name: each.default for name, each in parameters.items()}
    check_numbers({name: value for name, value in kwargs.items() if name in usual}, usual)
    check_read(kwargs, usual, NEEDS)
    options = tuple((name, frozen(name, kwargs[name])) for name in allowed if name in kwargs)
    environment, observation_size = _build(environment_id, options)
    return BraxEnvironment(
        system=detached(environment.sys),
        spec=BraxSpec(environment_id, options, observation_size, int(environment.action_size)),
    )


def _class(environment_id: str) -> Any:
    """The class that brax keeps under this name."""
    with engine_conventions():
        from brax import envs

        return envs._envs[environment_id.removeprefix("brax/")]


def _options(environment_id: str) -> tuple[str, ...]:
    """The keywords that a constructor of brax names, and `n_frames`, which all of them hand on."""
    names = [
        name
        for name, parameter in inspect.signature(_class(environment_id)).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    return (*names, "n_frames")


@functools.cache
def _build(environment_id: str, options: Options) -> tuple[Any, int]:
    """The brax object and the size of its observations, one per id and options.

    The constructors make arrays, which stay concrete even if the first use is inside a trace.
    """
    with engine_conventions(), jax.ensure_compile_time_eval():
        try:
            environment = _class(environment_id)(**dict(options))
        except Exception as error:
            raise errors.JaxrlError(
                f"brax cannot make {environment_id} with {dict(options)}: {error}"
            ) from error
    with engine_conventions():
        state = jax.eval_shape(environment.reset, jax.random.key(0))
    return environment, state.obs.shape[-1]
