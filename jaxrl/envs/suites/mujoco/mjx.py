"""MuJoCo in JAX (MJX) as a back end: the same models and tasks on GPUs and TPUs, in float32.

The state is a row of float32 numbers: time, qpos, qvel, act, qacc_warmstart, and for some tasks the
tracked point (see host.py). All else that MJX keeps is made anew from them. Its solver, collisions
and precision differ from the C library's, so do trajectories after some steps; docs/environments.md
has a table of one-step errors.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.config import install_command, installed
from jaxrl.envs.suites.mujoco.model import TORSO, MujocoModel, Readings, load
from jaxrl.errors import JaxrlError
from jaxrl.types import Array

IMPLEMENTATIONS = {"jax": "mujoco.mjx", "warp": "warp"}  # and the package that each needs


@dataclass(frozen=True)
class MjxPhysics:
    """The physics of one model, unbatched: `vmap` makes batches."""

    model: MujocoModel
    implementation: str = "jax"

    def identity(self) -> str:
        """What is simulated by which back end, the same wherever the model's file is."""
        return f"MjxPhysics({self.model.identity()}, {self.implementation})"

    def begin(self, qpos: Array, qvel: Array) -> tuple[Array, Readings]:
        """Place the simulation, float32 [nq] and [nv]: (state float32 [S], Readings)."""
        from mujoco import mjx

        with jax.numpy_rank_promotion("allow"):
            device, data = put(self.model.path, self.implementation)
            data = mjx.forward(device, data.replace(qpos=qpos, qvel=qvel))
            # Quaternions as they were given: only MJX brings them to length 1 here.
            data = data.replace(qpos=qpos)
        return self._shown(data, None)

    def step(self, state: Array, action: Array) -> tuple[Array, Readings]:
        """`frame_skip` physics steps under one control, float32 [nu], clamped to its range."""
        from mujoco import mjx

        with jax.numpy_rank_promotion("allow"):
            device, data = put(self.model.path, self.implementation)
            kept = self._kept(state)
            point = kept.pop("point")
            data = data.replace(**kept, ctrl=action)
            data = jax.lax.fori_loop(
                0, self.model.frame_skip, lambda _, data: mjx.step(device, data), data
            )
            if "cfrc_ext" in self.model.reads:
                from mujoco.mjx._src.smooth import rne_postconstraint

                data = rne_postconstraint(device, data)
        if self.model.track == "position":
            point = kept["qpos"][:2]
        return self._shown(data, point)

    def _kept(self, state: Array) -> dict[str, Array]:
        """A row of the state by name."""
        sizes = load(self.model.path)
        cuts = np.cumsum([1, sizes.nq, sizes.nv, sizes.na, sizes.nv]).tolist()
        time, qpos, qvel, act, warmstart, point = jnp.split(state, cuts)
        return {
            "time": time[0],
            "qpos": qpos,
            "qvel": qvel,
            "act": act,
            "qacc_warmstart": warmstart,
            "point": point,
        }

    def _shown(self, data: Any, earlier: Array | None) -> tuple[Array, Readings]:
        """The state as a row, and what is seen of it."""
        read = {name: _field(data, name) for name in self.model.reads}
        parts = [data.time[None], data.qpos, data.qvel, data.act, data.qacc_warmstart]
        point = data.qpos[:2]
        if self.model.track == "torso":
            point = read["xpos"][TORSO, :2]
        elif self.model.track == "mass_center":
            mass = jnp.asarray(load(self.model.path).body_mass, jnp.float32)
            point = mass @ read["xipos"][:, :2] / mass.sum()
        if self.model.track != "position":
            parts.append(point)
        if earlier is None:
            earlier = point
            read = {
                name: 0.0 * value if name == "cfrc_ext" else value for name, value in read.items()
            }
        return jnp.concatenate(parts), Readings(data.qpos, data.qvel, point - earlier, read)


@functools.cache
def put(path: str, implementation: str) -> tuple[Any, Any]:
    """(mjx model, mjx data at rest) of an XML file; concrete even if first used inside a trace."""
    import mujoco
    from mujoco import mjx

    model = copy.copy(load(path))
    if model.opt.solver == mujoco.mjtSolver.mjSOL_PGS:  # of the humanoids; MJX has no such solver
        model.opt.solver = mujoco.mjtSolver.mjSOL_NEWTON
    with jax.ensure_compile_time_eval():
        device = mjx.put_model(model, impl=implementation)
        return device, mjx.make_data(model, impl=implementation)


def check_implementation(implementation: str) -> None:
    """Refuse an implementation that is unknown or not installed."""
    if implementation not in IMPLEMENTATIONS:
        raise JaxrlError(
            f"impl is {implementation!r}, but must be one of: {', '.join(IMPLEMENTATIONS)}."
        )
    for package in ("mujoco.mjx", IMPLEMENTATIONS[implementation]):
        if not installed(package):
            what = "jaxrl[mujoco]" if package == "mujoco.mjx" else "mujoco-mjx[warp]"
            raise JaxrlError(
                f"backend mjx with impl={implementation} needs {package}: {install_command(what)}"
            )


def _field(data: Any, name: str) -> Array:
    """An array of mjx.Data, or of what only its implementation keeps."""
    shared = {field.name for field in dataclasses.fields(data)}
    return getattr(data if name in shared else data._impl, name)
