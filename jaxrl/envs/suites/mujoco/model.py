"""What both MuJoCo back ends share: which model is simulated, and what is seen of a simulation."""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from jaxrl.errors import JaxrlError
from jaxrl.types import Array, PyTree

TORSO = 1  # the first body after the world


class MujocoModel(NamedTuple):
    """Which simulation, and what a task reads of it; equal ones compile once."""

    name: str  # of the environment, for errors
    path: str  # of the XML file
    frame_skip: int  # physics steps of one environment step
    reads: tuple[str, ...] = ()  # arrays of mjData beyond qpos and qvel
    track: str = "position"  # what `Readings.moved` follows: position (qpos), torso or mass_center

    def identity(self) -> str:
        """All of it, by what the file holds and not by where it is.

        Gymnasium's include no other files.
        """
        digest = hashlib.sha256(Path(self.path).read_bytes()).hexdigest()
        return str(self._replace(path=f"sha256 {digest}"))


class Readings(NamedTuple):
    """What the physics shows of a state, float32."""

    qpos: Array
    qvel: Array
    moved: (
        Array  # [2]: metres along x and y that the tracked point moved in this step; 0 at a reset
    )
    data: dict[str, Array]  # arrays of mjData, as MuJoCo leaves them after its last physics step


class Physics(Protocol):
    """A back end: the batched or unbatched physics of one model, as pure functions."""

    @property
    def model(self) -> MujocoModel:
        """What is simulated."""
        ...

    def identity(self) -> str:
        """What is simulated by which back end, the same wherever the model's file is."""
        ...

    def begin(self, qpos: Array, qvel: Array) -> tuple[PyTree, Readings]:
        """Place the simulation, float32 [nq] and [nv]."""
        ...

    def step(self, state: PyTree, action: Array) -> tuple[PyTree, Readings]:
        """`frame_skip` physics steps under one control, float32 [nu], clamped to its range."""
        ...


@functools.cache
def load(path: str) -> Any:
    """The mujoco.MjModel of an XML file."""
    try:
        import mujoco
    except (AttributeError, ImportError) as error:  # it loads what MUJOCO_GL names at once
        chosen = os.environ.get("MUJOCO_GL", "unset")
        raise JaxrlError(
            f"MuJoCo does not import ({error}). MUJOCO_GL is {chosen}: unset it, or install the "
            "library that it names, on Debian and Ubuntu libegl1 (egl) or libosmesa6 (osmesa)."
        ) from error

    # Some of the models use attributes that will go one day; MuJoCo would say so on the terminal
    # and in a log file.
    earlier = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        return mujoco.MjModel.from_xml_path(path)
    finally:
        mujoco.set_mju_user_warning(earlier)
