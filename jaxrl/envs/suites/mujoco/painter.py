"""Pictures of MuJoCo states without a display, by MuJoCo's own renderer on EGL or OSMesa.

The environment variable MUJOCO_GL chooses between the two, as it does for MuJoCo itself; unless it
is set, the first that is installed is used.
"""

from __future__ import annotations

import ctypes.util
import importlib
import os
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from jaxrl.envs.suites.mujoco.model import MujocoModel, load
from jaxrl.errors import JaxrlError
from jaxrl.types import PyTree

WIDTH, HEIGHT = 400, 300  # pixels
OFFSCREEN = {"egl": "EGL", "osmesa": "OSMesa"}  # values of MUJOCO_GL, and the libraries
INSTALL = (
    "On Debian and Ubuntu: apt-get install libegl1 libgl1-mesa-dri, or libosmesa6 and "
    "MUJOCO_GL=osmesa."
)


@contextmanager
def painter(spec: MujocoModel) -> Iterator[Callable[[PyTree], np.ndarray]]:
    """A function that draws a state of either back end, uint8 [HEIGHT, WIDTH, 3].

    The camera is where Gymnasium's is.
    """
    import mujoco

    model = load(spec.path)
    data = mujoco.MjData(model)
    context, renderer = _renderer(model)
    scene = mujoco.MjvScene(model, 1000)
    # On a CPU shadows take twice the time of all the rest.
    scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = False
    mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, renderer)
    options = mujoco.MjvOption()
    nothing = mujoco.MjvPerturb()
    frame = mujoco.MjrRect(0, 0, WIDTH, HEIGHT)
    eye: Any = None

    def paint(state: PyTree) -> np.ndarray:
        nonlocal eye
        pixels = np.empty((HEIGHT, WIDTH, 3), np.uint8)
        row = np.ascontiguousarray(state)
        if row.dtype == np.uint32:  # a state of host.py, words of float64
            row = row.view(np.float64)[:, 0]
        # In the states of both back ends the time comes first, then qpos.
        data.qpos = row[1 : 1 + model.nq]
        mujoco.mj_fwdPosition(model, data)
        eye = eye or _camera(spec.name, model, data)  # one that tracks nothing stays where it was
        mujoco.mjv_updateScene(
            model, data, options, nothing, eye, mujoco.mjtCatBit.mjCAT_ALL, scene
        )
        mujoco.mjr_render(frame, scene, renderer)
        mujoco.mjr_readPixels(pixels, None, frame, renderer)
        return pixels[::-1]  # OpenGL counts rows from the bottom

    try:
        yield paint
    finally:
        renderer.free()
        context.free()


def _camera(environment_id: str, model: Any, data: Any) -> Any:
    """The model's own camera that tracks the body, else one where Gymnasium puts it."""
    import gymnasium
    import mujoco

    camera = mujoco.MjvCamera()
    camera.fixedcamid = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
    if camera.fixedcamid >= 0:
        camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        return camera
    camera.lookat = np.median(data.geom_xpos, axis=0)
    camera.distance = model.stat.extent
    module = str(gymnasium.spec(environment_id).entry_point).partition(":")[0]
    for name, value in importlib.import_module(module).DEFAULT_CAMERA_CONFIG.items():
        setattr(camera, name, value)
    return camera


def _renderer(model: Any) -> tuple[Any, Any]:
    """An OpenGL context that needs no display, and MuJoCo's renderer in it."""
    import mujoco

    name = os.environ.get("MUJOCO_GL", "").lower().strip()
    if not name and platform.system() == "Linux":
        # Looked up first: after a failed import of one, Python's OpenGL can no longer be told to
        # use the other.
        name = next(
            (each for each, library in OFFSCREEN.items() if ctypes.util.find_library(library)), ""
        )
        if not name:
            raise JaxrlError(
                f"MuJoCo cannot draw: there is neither {' nor '.join(OFFSCREEN.values())}. "
                f"{INSTALL}"
            )
    # Others are contexts of a display, or of a system that has them built in.
    module = f"mujoco.{name}" if name in OFFSCREEN else "mujoco.gl_context"
    try:
        context = importlib.import_module(module).GLContext(WIDTH, HEIGHT)
        context.make_current()
        return context, mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
    except (ImportError, AttributeError, RuntimeError, OSError, mujoco.FatalError) as error:
        library = OFFSCREEN.get(name, name or "OpenGL")
        raise JaxrlError(
            f"MuJoCo cannot draw: {library} does not work here ({error}). {INSTALL}"
        ) from error
