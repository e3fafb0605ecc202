"""Options of environments that are numbers, and cannot be the ones that were given."""

import jax
import numpy as np
import pytest

from jaxrl.envs.options import check_numbers
from jaxrl.envs.registry import make
from jaxrl.errors import JaxrlError

MEANINGLESS = [
    ("CartPole-v1", {"gravity": float("nan")}, "gravity is nan, but must be finite"),
    ("CartPole-v1", {"gravity": float("inf")}, "gravity is inf, but must be finite"),
    ("CartPole-v1", {"masspole": -0.1}, "masspole is -0.1, but must not be negative"),
    ("Acrobot-v1", {"torque_noise_max": -1.0}, "torque_noise_max is -1.0, .*negative"),
    ("FourRooms-misc", {"fail_prob": 1.5}, r"fail_prob is 1.5, but must lie in \[0, 1\]"),
    ("MountainCar-v0", {"min_position": 1.0}, "min_position is 1.0, .*exceed max_position"),
    ("bandit/contextual", {"noise": -1.0}, "noise is -1.0, but must not be negative"),
    ("bandit/contextual", {"scale": float("nan")}, "scale is nan, but must be finite"),
    ("bandit/contextual", {"noise": float("inf")}, "noise is inf, but must be finite"),
    ("tests.envs.paying:Paying", {"first": float("nan")}, "first is nan, but must be finite"),
]
MUJOCO = [
    ({"reset_noise_scale": -1}, "reset_noise_scale is -1, but must not be negative"),
    ({"reset_noise_scale": float("inf")}, "reset_noise_scale is inf, but must be finite"),
    ({"healthy_z_range": [2, 1]}, r"healthy_z_range is \[2, 1\], but the lowest must come first"),
    ({"healthy_z_range": [1, 1]}, r"healthy_z_range is \[1, 1\], but the lowest must come first"),
    ({"healthy_angle_range": [float("nan"), 1]}, "healthy_angle_range is .*must be finite"),
    ({"ctrl_cost_weight": float("-inf")}, "ctrl_cost_weight is -inf, but must be finite"),
]


@pytest.mark.parametrize(("name", "options", "text"), MEANINGLESS)
def test_numbers_that_mean_nothing_are_refused(name, options, text):
    with pytest.raises(JaxrlError, match=text):
        make(name, **options)


@pytest.mark.parametrize(("options", "text"), MUJOCO)
def test_numbers_that_mean_nothing_to_a_robot_are_refused(options, text):
    pytest.importorskip("mujoco")
    with pytest.raises(JaxrlError, match=text):
        make("Hopper-v5", **options)


def test_what_means_something_passes():
    make("CartPole-v1", gravity=-9.8, x_threshold=float("inf"))
    check_numbers({"healthy_z_range": [0.5, float("inf")]}, {"healthy_z_range": (0.7, 2.0)})
    check_numbers({"contact_force_range": [0, 0], "name": "x", "on": True}, {})
    check_numbers({"patience": float("inf")}, {"patience": 3.0}, infinite=True)
    check_numbers({"masspole": np.array([0.1, 0.2])}, {"masspole": 0.1})
    jax.jit(lambda mass: check_numbers({"mass": mass}, {"mass": 1.0}))(-1.0)
