"""Gymnasium's MuJoCo tasks (v5) as pure functions: `make("HalfCheetah-v5", backend="mujoco")`.

    host.py     back end `mujoco`: the C library, whole batches on threads of the host
    mjx.py      back end `mjx`: MuJoCo in JAX, for GPUs and TPUs
    task.py     what all tasks share; runners.py and arms.py hold the eleven
    model.py    what both back ends share

The models are those that the installed Gymnasium ships.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxrl import errors
from jaxrl.config import ON, install_command, installed
from jaxrl.envs import registry
from jaxrl.envs.options import HEALTHY, Needs, check_numbers, check_read
from jaxrl.envs.suites.mujoco import arms, runners
from jaxrl.envs.suites.mujoco.model import MujocoModel, Physics, load
from jaxrl.envs.suites.mujoco.task import MujocoTask

SUITE = "mujoco"
REQUIRES = "mujoco"
EXTRA = "mujoco"
SIMULATORS = ("mujoco", "mujoco-mjx")  # of the latter with backend=mjx
MODELS = ("gymnasium",)
EVALUATION_EPISODES = 10  # of a thousand steps, each some hundred times that of CartPole
BACKENDS = ("mujoco", "mjx")
# Options that are read only with another one, of the tasks that have them.
NEEDS: Needs = {
    **HEALTHY,
    "impl": {"backend": "mjx"},
    "contact_force_range": {"contact_cost_weight": ON, "include_cfrc_ext_in_observation": True},
}
TASKS: dict[str, type[MujocoTask]] = {
    f"{kind.__name__}-v5": kind
    for kind in (
        runners.HalfCheetah,
        runners.Hopper,
        runners.Walker2d,
        runners.Ant,
        runners.Humanoid,
        runners.HumanoidStandup,
        runners.Swimmer,
        arms.Reacher,
        arms.Pusher,
        arms.InvertedPendulum,
        arms.InvertedDoublePendulum,
    )
}
IDS = tuple(TASKS)


def _refused() -> dict[str, str]:
    """The earlier versions of each task, with what is wrong with them."""
    found: dict[str, str] = {}
    for name in IDS:
        for version in ("v2", "v3", "v4"):
            reason = f"its rewards and observations have known faults, which {name} mends"
            found[name.replace("v5", version)] = reason
    return found


def _spec(kind: type[MujocoTask]) -> registry.EnvironmentSpec:
    """What is known of a task without its model."""
    shape = kind(physics=None)
    return registry.EnvironmentSpec(
        shape.observation_space, shape.action_space, shape.horizon, BACKENDS
    )


SPECS = {name: _spec(kind) for name, kind in TASKS.items()}
REFUSED = _refused()


def make(
    environment_id: str, backend: str = "mujoco", impl: str = "jax", **kwargs: Any
) -> MujocoTask:
    """Build by id; `kwargs` are Gymnasium's options of the task.

    `impl` is MJX's implementation: jax, or warp if it is installed.
    """
    errors.check_choice("backend", backend, BACKENDS)
    kind = TASKS[environment_id]
    defaults = {
        field.name: field.default for field in dataclasses.fields(kind) if field.name != "physics"
    }
    for name in kwargs:
        if name not in defaults:
            raise errors.unknown(
                f"option of {environment_id}", name, (*defaults, "backend", "impl")
            )
    check_numbers(kwargs, defaults)
    chosen = {"backend": backend, "impl": impl}
    check_read(kwargs | chosen, defaults | {"backend": "mujoco", "impl": "jax"}, NEEDS)
    model = _model(environment_id, kind)
    _check_model(environment_id, kind, model)
    numbers = {
        name: _option(name, kwargs.get(name, default), default)
        for name, default in defaults.items()
    }
    return kind(physics=_physics(model, backend, impl), **numbers)


def _model(environment_id: str, kind: type[MujocoTask]) -> MujocoModel:
    """Where Gymnasium keeps the model, and what the task reads of it."""
    command = install_command("jaxrl[mujoco]")
    found = importlib.util.find_spec("gymnasium") if installed("gymnasium") else None
    if found is None or found.origin is None:
        raise errors.JaxrlError(f"{environment_id} uses the models that Gymnasium ships: {command}")
    path = Path(found.origin).parent / "envs" / "mujoco" / "assets" / kind.XML
    if not path.exists():
        raise errors.JaxrlError(
            f"{environment_id} needs {kind.XML}, which the installed Gymnasium lacks: {command}"
        )
    return MujocoModel(environment_id, str(path), kind.FRAME_SKIP, kind.READS, kind.TRACK)


def _check_model(environment_id: str, kind: type[MujocoTask], model: MujocoModel) -> None:
    """Refuse a model that is not the one the task was written for."""
    loaded = load(model.path)
    sizes = (loaded.nq, loaded.nv, loaded.nu)
    bounds = np.asarray([-kind.BOUND, kind.BOUND], np.float32)
    if sizes != kind.SIZES or not np.all(loaded.actuator_ctrlrange.astype(np.float32) == bounds):
        import mujoco

        raise errors.JaxrlError(
            f"{environment_id}: {kind.XML} has sizes (nq, nv, nu) = {sizes} and controls in "
            f"{loaded.actuator_ctrlrange.tolist()}, but the task was written for {kind.SIZES} and "
            f"±{kind.BOUND}: MuJoCo {mujoco.__version__} or the installed Gymnasium differs. "
            f"{install_command('jaxrl[mujoco]')}"
        )


def _physics(model: MujocoModel, backend: str, impl: str) -> Physics:
    """The back end of a task."""
    if backend == "mjx":
        from jaxrl.envs.suites.mujoco.mjx import MjxPhysics, check_implementation

        check_implementation(impl)
        return MjxPhysics(model, impl)
    from jaxrl.envs.suites.mujoco.host import HostPhysics

    return HostPhysics(model)


def _option(name: str, value: Any, default: Any) -> Any:
    """A switch as it is; a number, or a range of two, as float32."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise errors.JaxrlError(f"{name} is {value!r}, but must be true or false.")
        return value
    given = np.asarray(value)
    if given.dtype.kind not in "iuf" or given.shape != np.shape(default) or np.any(np.isnan(given)):
        shape = "two numbers, the lowest and the highest" if np.shape(default) else "one number"
        raise errors.JaxrlError(f"{name} is {value!r}, but must be {shape}.")
    return jnp.asarray(given, jnp.float32)
