"""Pictures of MuJoCo states: they show the state, of either back end;
without OpenGL the error says what to install."""

import ctypes.util
import platform
import sys

import jax
import numpy as np
import pytest

from jaxrl.envs.api import Drawable
from jaxrl.envs.registry import make
from jaxrl.envs.suites.mujoco import IDS, painter
from jaxrl.envs.suites.mujoco.model import load
from jaxrl.errors import JaxrlError


@pytest.fixture(scope="module", autouse=True)
def opengl():
    """Skips where MuJoCo cannot draw."""
    try:
        with make("HalfCheetah-v5").painter():
            pass
    except JaxrlError as error:
        pytest.skip(str(error))


def first(env):
    return jax.device_get(jax.jit(env.reset)(jax.random.key(0))[0])


def moved(state, coordinate, change):
    """The state with one position changed."""
    row = state.copy()
    numbers = row.view(np.float64)[:, 0] if row.dtype == np.uint32 else row
    numbers[1 + coordinate] += change
    return row


@pytest.mark.parametrize("name", IDS)
def test_every_task_is_drawn(name):
    env = make(name)
    assert isinstance(env, Drawable)
    state = first(env)
    with env.painter() as paint:
        image, other = paint(state), paint(moved(state, env.SIZES[0] - 1, 1.0))
        np.testing.assert_array_equal(paint(state), image)
    assert image.shape == (painter.HEIGHT, painter.WIDTH, 3) and image.dtype == np.uint8
    assert len(np.unique(image.reshape(-1, 3), axis=0)) > 20
    assert (image != other).any()


def test_both_back_ends_draw_the_same_picture():
    images = []
    for backend in ("mujoco", "mjx"):
        env = make("InvertedPendulum-v5", backend=backend)
        state = np.asarray(first(make("InvertedPendulum-v5")))
        if backend == "mjx":
            state = state.view(np.float64)[:, 0].astype(np.float32)
        with env.painter() as paint:
            images.append(paint(state).astype(float))
    assert np.abs(images[0] - images[1]).max() <= 32  # float32 moves an edge by less than a pixel
    assert np.abs(images[0] - images[1]).mean() < 0.1


def test_the_camera_follows_a_runner_and_waits_for_a_cart():
    def where(name, change):
        """A picture after the body has been put elsewhere along the track."""
        env = make(name)
        state = first(env)
        with env.painter() as paint:
            paint(state)
            return paint(moved(state, 0, change))

    cart = [where("InvertedPendulum-v5", change) for change in (-0.5, 0.5)]
    columns = [
        np.nonzero((image[..., 0] > 100) & (image[..., 2] < 50))[1].mean() for image in cart
    ]  # yellow
    assert columns[1] - columns[0] > 50
    skin = [
        np.nonzero(image[..., 0] > image[..., 2].astype(int) + 40)[1].mean()
        for image in (where("HalfCheetah-v5", change) for change in (0.0, 8.0))
    ]
    assert abs(skin[1] - skin[0]) < 5


def test_without_opengl_the_error_names_the_packages(monkeypatch):
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    named = (
        "neither EGL nor OSMesa.*apt-get install libegl1 libgl1-mesa-dri, or libosmesa6 and "
        "MUJOCO_GL=osmesa"
    )
    with pytest.raises(JaxrlError, match=named), make("Hopper-v5").painter():
        pass


def test_opengl_that_does_not_work_says_why(monkeypatch):
    def refuse(name):
        raise ImportError("no device")

    monkeypatch.setattr(painter.importlib, "import_module", refuse)
    monkeypatch.setenv("MUJOCO_GL", "egl")
    with (
        pytest.raises(JaxrlError, match=r"EGL does not work here \(no device\)\. On Debian"),
        make("Hopper-v5").painter(),
    ):
        pass


def test_a_library_that_mujoco_itself_cannot_load_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco", None)  # importing it raises ImportError
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    with pytest.raises(JaxrlError, match="MUJOCO_GL is osmesa: unset it, or install .*libosmesa6"):
        load.__wrapped__("unread.xml")
