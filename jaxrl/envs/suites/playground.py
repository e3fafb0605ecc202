"""MuJoCo Playground under the jaxrl contract: its bare environments, on MJX.

What the adapter changes, and nothing else:

- the physics is MJX in JAX wherever it runs (`impl="jax"`; Playground chooses Warp even on a CPU,
  which cannot run it);
- no wrapper is used: none that resets to a cached first state, none that counts or repeats steps;
- the state is the physics alone: metrics and `info` are dropped, which no step of these
  environments reads;
- types: every leaf is strongly typed, and a step keeps the types of its reset;
- a simulation that blows up ends its episode (`blow_up`); nothing else does, as in the DeepMind
  Control Suite.

Playground is imported on the first `make`, not with this module: it takes seconds.
"""

from __future__ import annotations

import copy
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from jaxrl import errors
from jaxrl.core.tree import strip_weak_types
from jaxrl.envs import blow_up
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

SUITE = "playground"
REQUIRES = "mujoco_playground"
EXTRA = "playground"
SIMULATORS = ("playground", "mujoco", "mujoco-mjx")  # states are data of MJX
EVALUATION_EPISODES = 10  # of a thousand steps, each some hundred times that of CartPole
SLOW = True
HORIZON = 1000  # their `episode_length`

# Sizes of observation and action.
_SIZES = {
    "playground/AcrobotSwingup": (6, 1),
    "playground/AcrobotSwingupSparse": (6, 1),
    "playground/BallInCup": (8, 2),
    "playground/CartpoleBalance": (5, 1),
    "playground/CartpoleBalanceSparse": (5, 1),
    "playground/CartpoleSwingup": (5, 1),
    "playground/CartpoleSwingupSparse": (5, 1),
    "playground/CheetahRun": (17, 6),
    "playground/FingerSpin": (9, 2),
    "playground/FingerTurnEasy": (12, 2),
    "playground/FingerTurnHard": (12, 2),
    "playground/FishSwim": (24, 5),
    "playground/HopperHop": (15, 4),
    "playground/HopperStand": (15, 4),
    "playground/HumanoidStand": (67, 21),
    "playground/HumanoidWalk": (67, 21),
    "playground/HumanoidRun": (67, 21),
    "playground/PendulumSwingup": (3, 1),
    "playground/PointMass": (4, 2),
    "playground/ReacherEasy": (6, 2),
    "playground/ReacherHard": (6, 2),
    "playground/SwimmerSwimmer6": (25, 5),
    "playground/WalkerRun": (24, 6),
    "playground/WalkerStand": (24, 6),
    "playground/WalkerWalk": (24, 6),
}
IDS = tuple(_SIZES)
SPECS = specs(_SIZES, HORIZON, ("mjx",))
_NOT_IN_THE_WHEEL = (
    "its robot is not part of the package: Playground would clone all of MuJoCo Menagerie from "
    "GitHub, and jaxrl fetches nothing unasked"
)
_ROBOTS = (
    "playground/AeroCubeRotateZAxis",
    "playground/AlohaHandOver",
    "playground/AlohaSinglePegInsertion",
    "playground/ApolloJoystickFlatTerrain",
    "playground/BarkourJoystick",
    "playground/BerkeleyHumanoidJoystickFlatTerrain",
    "playground/BerkeleyHumanoidJoystickRoughTerrain",
    "playground/G1JoystickFlatTerrain",
    "playground/G1JoystickRoughTerrain",
    "playground/Go1Footstand",
    "playground/Go1Getup",
    "playground/Go1Handstand",
    "playground/Go1JoystickFlatTerrain",
    "playground/Go1JoystickRoughTerrain",
    "playground/H1InplaceGaitTracking",
    "playground/H1JoystickGaitTracking",
    "playground/LeapCubeReorient",
    "playground/LeapCubeRotateZAxis",
    "playground/Op3Joystick",
    "playground/PandaOpenCabinet",
    "playground/PandaPickCube",
    "playground/PandaPickCubeCartesian",
    "playground/PandaPickCubeOrientation",
    "playground/PandaRobotiqPushCube",
    "playground/SpotFlatTerrainJoystick",
    "playground/SpotGetup",
    "playground/SpotJoystickGaitTracking",
    "playground/T1JoystickFlatTerrain",
    "playground/T1JoystickRoughTerrain",
)
REFUSED = dict.fromkeys(_ROBOTS, _NOT_IN_THE_WHEEL)


class PlaygroundSpec(NamedTuple):
    """What is fixed when an environment is made; hashable, so that equal ones compile once."""

    environment_id: str
    options: Options  # of Playground's configuration
    observation_size: int
    action_size: int
    horizon: int


class PlaygroundEnvironment(EngineEnvironment):
    """One environment of Playground; `model` is the MJX model, as array leaves.

    Randomised dynamics are a batch of models, under `vmap`:
    `environment.replace(model=environment.model.replace(body_mass=x))`.
    """

    model: PyTree
    spec: PlaygroundSpec = struct.field(pytree_node=False)

    @property
    def horizon(self) -> int:
        """`episode_length`."""
        return self.spec.horizon

    def reset(self, key: Key) -> tuple[PyTree, Array]:
        """Call Playground's `reset`: (physics, observation [observation_size])."""
        with engine_conventions():
            # Its data and not the key: some of their resets draw from one key twice, which JAX can
            # be told to refuse.
            state = self._playground().reset(jax.random.key_data(key))
        return strip_weak_types(state.data), jnp.asarray(state.obs, jnp.float32)

    def step(self, key: Key, state: PyTree, action: Array) -> tuple[PyTree, Timestep]:
        """Call Playground's `step`, which is deterministic."""
        from mujoco_playground import State

        zero = jnp.zeros((), jnp.float32)
        with engine_conventions():
            before = State(data=state, obs=None, reward=zero, done=zero, metrics={}, info={})
            after = self._playground().step(before, jnp.asarray(action, jnp.float32))
        return blow_up.guard(
            state,
            like(after.data, state),
            jnp.asarray(after.obs, jnp.float32),
            jnp.asarray(after.reward, jnp.float32),
            jnp.asarray(after.done, bool),
        )

    def _playground(self) -> Any:
        """Playground's object, whose methods are used as functions of this environment's model."""
        environment = copy.copy(_build(self.spec.environment_id, self.spec.options)[0])
        environment._mjx_model = self.model
        return environment


def make(environment_id: str, **kwargs: Any) -> PlaygroundEnvironment:
    """Build by id; `kwargs` override its configuration's `ctrl_dt`, `sim_dt`, `episode_length`."""
    allowed = ("ctrl_dt", "sim_dt", "episode_length")
    for name, value in kwargs.items():
        if name not in allowed:
            raise errors.unknown(f"option of {environment_id}", name, allowed)
        if name == "episode_length":
            errors.check_positive_int(name, value)
        else:
            errors.check_range(name, value, 0.0, open_low=True)
    options = tuple((name, frozen(name, kwargs[name])) for name in allowed if name in kwargs)
    environment, observation_size = _build(environment_id, options)
    return PlaygroundEnvironment(
        model=detached(environment.mjx_model),
        spec=PlaygroundSpec(
            environment_id=environment_id,
            options=options,
            observation_size=observation_size,
            action_size=int(environment.action_size),
            horizon=kwargs.get("episode_length", HORIZON),
        ),
    )


@functools.cache
def _build(environment_id: str, options: Options) -> tuple[Any, int]:
    """Playground's object and the size of its observations, one per id and options.

    The constructors make arrays, which stay concrete even if the first use is inside a trace.
    """
    with engine_conventions():
        from mujoco_playground import dm_control_suite

        name = environment_id.removeprefix("playground/")
        with jax.ensure_compile_time_eval():
            environment = dm_control_suite.load(
                name, config_overrides={"impl": "jax", **dict(options)}
            )
        state = jax.eval_shape(environment.reset, jax.random.PRNGKey(0))
    return environment, state.obs.shape[-1]
