"""gymnax 1.x under the jaxrl contract: `step_env` and `reset_env`, never the auto-resetting `step`.

What the adapter changes, and nothing else:

- types: every leaf of parameters, state, observation and reward is strongly typed, and a step keeps
  the types of its reset (gymnax mixes weak types, int32 rewards and int32 observations);
- observations are float32; a whole number (FrozenLake) becomes one-hot; 0/1 image planes [H, W, C]
  (MinAtar, Pong) become bool, a quarter of the memory;
- MountainCarContinuous: a car that hits the left wall stops, as in Gymnasium; gymnax 1.0.1 tests
  the goal in place of the wall, and the car goes on pushing with the speed that it had;
- bounds: the largest float32 means unbounded, and bounds that an environment's own observations
  leave are declared infinite.

gymnax is imported on the first `make`, not with this module: it takes seconds.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax.typing import ArrayLike

from jaxrl import errors
from jaxrl.envs import registry
from jaxrl.envs.api import Environment
from jaxrl.envs.options import Needs, as_meant, check_numbers, check_read
from jaxrl.envs.suites.physics_engines import frozen
from jaxrl.types import Array, Bound, Box, Discrete, Key, PyTree, Space, Timestep

SUITE = "gymnax"
REQUIRES = "gymnax"
SIMULATORS = ("gymnax",)
# What the list of environments shows without an import of gymnax, which takes seconds: the shape of
# observations (planes of a grid are bool), how many actions or the shape of one, the time limit.
_SIZES: dict[str, tuple[tuple[int, ...], int | tuple[int, ...], int]] = {
    "CartPole-v1": ((4,), 2, 500),
    "Pendulum-v1": ((3,), (1,), 200),
    "Acrobot-v1": ((6,), 3, 500),
    "MountainCar-v0": ((2,), 3, 200),
    "MountainCarContinuous-v0": ((2,), (1,), 999),
    "Asterix-MinAtar": ((10, 10, 4), 5, 1000),
    "Breakout-MinAtar": ((10, 10, 4), 3, 1000),
    "Freeway-MinAtar": ((10, 10, 7), 3, 2500),
    "Seaquest-MinAtar": ((10, 10, 10), 6, 1000),
    "SpaceInvaders-MinAtar": ((10, 10, 6), 4, 1000),
    "Catch-bsuite": ((10, 5), 3, 1000),
    "DeepSea-bsuite": ((8, 8), 2, 8),
    "MemoryChain-bsuite": ((3,), 2, 1000),
    "UmbrellaChain-bsuite": ((3,), 2, 100),
    "DiscountingChain-bsuite": ((2,), 5, 100),
    "SimpleBandit-bsuite": ((1, 1), 11, 100),
    "FourRooms-misc": ((4,), 4, 500),
    "MetaMaze-misc": ((15,), 4, 200),
    "PointRobot-misc": ((6,), (2,), 100),
    "BernoulliBandit-misc": ((4,), 2, 100),
    "GaussianBandit-misc": ((4,), 2, 100),
    "Reacher-misc": ((8,), (2,), 100),
    "Swimmer-misc": ((16,), (2,), 500),
    "Pong-misc": ((30, 40, 3), 3, 1000),
    "FrozenLake-misc": ((16,), 4, 100),
}
IDS = tuple(_SIZES)


def _spec(
    observed: tuple[int, ...], actions: int | tuple[int, ...], horizon: int
) -> registry.EnvironmentSpec:
    """Spaces without their bounds, and the time limit."""
    grid = len(observed) == 3
    return registry.EnvironmentSpec(
        Box(0, 1, observed, np.bool_) if grid else Box(-np.inf, np.inf, observed),
        Discrete(actions) if isinstance(actions, int) else Box(-np.inf, np.inf, actions),
        horizon,
    )


SPECS = {name: _spec(*sizes) for name, sizes in _SIZES.items()}
REFUSED = {
    "MNISTBandit-bsuite": (
        "it downloads the MNIST images when it is made, and jaxrl fetches no data unasked"
    )
}

_DRAWN_ANEW = "cannot be learnt without a memory: what earns is drawn anew in each episode, unseen"
NOTES = dict.fromkeys(
    (
        "SimpleBandit-bsuite",
        "BernoulliBandit-misc",
        "GaussianBandit-misc",
        "MetaMaze-misc",
        "PointRobot-misc",
    ),
    _DRAWN_ANEW,
) | {
    "MemoryChain-bsuite": (
        "cannot be learnt without a memory: what the last action is asked for is shown at the start"
    )
}

# Options that gymnax 1.0.1 has and reads nowhere, or only with others.
NEEDS: dict[str, Needs] = {
    "CartPole-v1": {"masscart": {}},  # total_mass and polemass_length are read
    "Acrobot-v1": {"link_length_2": {}},
    "Asterix-MinAtar": {"shot_cool_down": {}, "ramp_interval": {"ramping": True}},
    "Seaquest-MinAtar": {"ramp_interval": {}, "enemy_move_interval": {}},
    "SimpleBandit-bsuite": {"optimal_return": {}},  # it goes into a count that nobody is shown
    "DeepSea-bsuite": {"randomize_actions": {"sample_action_map": False}},
    "BernoulliBandit-misc": dict.fromkeys(
        ("min_lim", "max_lim", "t_max"), {"normalize_time": True}
    ),
    "FourRooms-misc": {
        "goal_fixed": {"resample_goal_pos": False},
        "pos_fixed": {"resample_init_pos": False},
    },
    "FrozenLake-misc": {"success_rate": {"is_slippery": True}, "map_name": {"desc": None}},
}

# Their observations leave the bounds that gymnax declares: negative contexts and times, rewards
# among them.
_WRONG_BOUNDS = ("MemoryChain-bsuite", "MetaMaze-misc", "GaussianBandit-misc")


class GymnaxSpec(NamedTuple):
    """What is fixed when an environment is made; hashable, so that equal ones compile once."""

    environment_id: str
    options: tuple[tuple[str, Any], ...]  # of gymnax's constructor
    observation_space: Space
    action_space: Space
    horizon: int


class GymnaxEnvironment(Environment):
    """One gymnax environment; `parameters` is gymnax's own dataclass with array leaves.

    Randomised dynamics are a batch of parameters, under `vmap`:
    `environment.replace(parameters=environment.parameters.replace(length=x))`.
    Spaces and horizon stay those of the parameters that `make` was given.
    """

    parameters: PyTree
    spec: GymnaxSpec = struct.field(pytree_node=False)

    @property
    def observation_space(self) -> Space:
        """A Box: float32, or bool for 0/1 image planes."""
        return self.spec.observation_space

    @property
    def action_space(self) -> Space:
        """The action space that gymnax declares."""
        return self.spec.action_space

    @property
    def horizon(self) -> int:
        """`max_steps_in_episode`."""
        return self.spec.horizon

    def reset(self, key: Key) -> tuple[PyTree, Array]:
        """Call `reset_env`: (state, observation [*observation_space.shape])."""
        with jax.numpy_rank_promotion("allow"):
            observation, state = self._gymnax().reset_env(key, self.parameters)
        return jax.tree.map(_strong, state), self._observe(observation)

    def step(self, key: Key, state: PyTree, action: Array) -> tuple[PyTree, Timestep]:
        """Call `step_env`. Its `terminated` knows no time limit; Box actions go in unclipped."""
        action = jnp.asarray(action, self.action_space.dtype)
        with jax.numpy_rank_promotion("allow"):  # Swimmer broadcasts [2] against [5, 2]
            observation, successor, reward, terminated, _ = self._gymnax().step_env(
                key, state, action, self.parameters
            )
        if self.spec.environment_id == "MountainCarContinuous-v0":
            successor = _stopped_at_the_wall(successor, self.parameters)
            observation = self._gymnax().get_obs(successor)
        successor = jax.tree.map(lambda new, old: jnp.asarray(new, old.dtype), successor, state)
        timestep = Timestep(
            observation=self._observe(observation),
            reward=jnp.asarray(reward, jnp.float32),
            terminated=jnp.asarray(terminated, bool),
        )
        return successor, timestep

    def _gymnax(self) -> Any:
        """The gymnax object, whose methods are used as functions."""
        return _build(self.spec.environment_id, self.spec.options)[0]

    def _observe(self, observation: Array) -> Array:
        """An observation of the declared shape and type."""
        space = self.observation_space
        if jnp.ndim(observation) == 0:
            return jax.nn.one_hot(observation, space.shape[0], dtype=space.dtype)
        return jnp.asarray(observation, space.dtype)


def make(environment_id: str, **kwargs: Any) -> GymnaxEnvironment:
    """Build by id; `kwargs` override gymnax's constructor options and its parameters, by name.

    A parameter is overridden alone: gymnax does not recompute what it derives from it (CartPole's
    `polemass_length` stays 0.05 when `length` changes).
    """
    environment, _ = _build(environment_id, ())
    constructor = inspect.signature(type(environment)).parameters
    options = tuple((name, frozen(name, kwargs[name])) for name in constructor if name in kwargs)
    environment, defaults = _build(environment_id, options)
    defaults = vars(defaults)
    for name in kwargs:
        if name not in defaults and name not in constructor:
            raise errors.unknown(f"option of {environment_id}", name, (*defaults, *constructor))
    check_numbers({name: kwargs[name] for name in kwargs if name in defaults}, defaults)
    kwargs = as_meant(kwargs, defaults)
    usual = {name: each.default for name, each in constructor.items()} | defaults
    check_read(kwargs, usual, NEEDS.get(environment_id, {}))
    horizon = kwargs.get("max_steps_in_episode", int(defaults["max_steps_in_episode"]))
    errors.check_positive_int("max_steps_in_episode", horizon)
    given = {
        name: _parameter(name, kwargs.get(name, default), default)
        for name, default in defaults.items()
    }
    parameters = environment.default_params.replace(**given)
    spec = GymnaxSpec(
        environment_id=environment_id,
        options=options,
        observation_space=_observation_space(
            environment_id, environment.observation_space(parameters)
        ),
        action_space=_action_space(environment.action_space(parameters)),
        horizon=int(horizon),
    )
    return GymnaxEnvironment(parameters=parameters, spec=spec)


@functools.cache
def _build(environment_id: str, options: tuple[tuple[str, Any], ...]) -> tuple[Any, PyTree]:
    """The (environment, default parameters) of gymnax, one object per id and options.

    The constructors make arrays, which stay concrete even if the first use is inside a trace.
    """
    import gymnax

    with jax.ensure_compile_time_eval():
        try:
            return gymnax.make(environment_id, **dict(options))
        except (AssertionError, TypeError, ValueError) as error:
            raise errors.JaxrlError(
                f"gymnax cannot make {environment_id} with {dict(options)}: {error}"
            ) from error


def _stopped_at_the_wall(state: Any, parameters: Any) -> Any:
    """A car in a valley, which stands still where it has run into the left wall."""
    hit = (state.position <= parameters.min_position) & (state.velocity < 0)
    return state.replace(velocity=jnp.where(hit, 0.0, state.velocity))


def _strong(value: Any) -> Array:
    """The value as an array without a weak type."""
    return jnp.asarray(value, jnp.result_type(value))


def _parameter(name: str, value: Any, default: Any) -> Array:
    """A parameter with the shape and strong type of gymnax's default."""
    default = _strong(default)
    given = value if isinstance(value, jax.core.Tracer) else np.asarray(value)
    if default.dtype == bool:
        kind, allowed = "bool", "b"
    elif jnp.issubdtype(default.dtype, jnp.integer):
        kind, allowed = "whole number", "iu"
    else:
        kind, allowed = "number", "iuf"
    if given.dtype.kind not in allowed or given.shape != default.shape:
        shape = f"an array {list(default.shape)} of type {kind}" if default.shape else f"one {kind}"
        raise errors.JaxrlError(f"{name} is {value!r}, but must be {shape}.")
    return jnp.asarray(given, default.dtype)


def _observation_space(environment_id: str, space: Any) -> Box:
    """The space of what `_observe` returns."""
    if hasattr(space, "n"):
        return Box(0.0, 1.0, (space.n,))
    shape = tuple(space.shape)
    if len(shape) == 3:
        return Box(0, 1, shape, np.bool_)
    if environment_id in _WRONG_BOUNDS:
        return Box(-np.inf, np.inf, shape)
    return Box(_bound(space.low), _bound(space.high), shape)


def _action_space(space: Any) -> Space:
    """A Discrete or Box of gymnax as ours."""
    if hasattr(space, "n"):
        return Discrete(int(space.n))
    return Box(_bound(space.low), _bound(space.high), tuple(space.shape))


def _bound(bound: ArrayLike) -> Bound:
    """A bound as a float, or as nested tuples if coordinates differ; the largest float32 is ∞."""
    array = np.asarray(bound, np.float32)
    array = np.where(np.abs(array) >= np.finfo(np.float32).max, np.copysign(np.inf, array), array)
    return float(array.flat[0]) if np.all(array == array.flat[0]) else _nested(array.tolist())


def _nested(values: float | list) -> Bound:
    """Lists as tuples, which hash."""
    if isinstance(values, list):
        return tuple(_nested(value) for value in values)
    return values
