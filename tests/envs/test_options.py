"""Options of environments: numbers that mean nothing, and options that nothing reads."""

import dataclasses
import operator

import jax
import numpy as np
import pytest
from jax.interpreters import partial_eval

from jaxrl.envs.options import check_numbers, check_read
from jaxrl.envs.registry import make
from jaxrl.envs.suites import gymnax
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


WITHOUT_EFFECT = [
    ("CartPole-v1", {"masscart": 2.0}, "masscart is 2.0, which has no effect: nothing reads it"),
    ("Seaquest-MinAtar", {"ramp_interval": 50}, "ramp_interval is 50, .*nothing reads it"),
    (
        "Asterix-MinAtar",
        {"ramp_interval": 50, "ramping": False},
        "ramp_interval is 50, .*only with ramping=True, and ramping is False",
    ),
    (
        "FrozenLake-misc",
        {"success_rate": 0.5, "is_slippery": False},
        "success_rate is 0.5, .*is_slippery=True, and is_slippery is False",
    ),
    (
        "FourRooms-misc",
        {"pos_fixed": [1, 1], "resample_init_pos": True},
        "pos_fixed is .*no effect",
    ),
]
OF_ROBOTS = [
    ("Hopper-v5", {"impl": "warp"}, "impl is warp, .*only with backend=mjx, and backend is mujoco"),
    (
        "Walker2d-v5",
        {"healthy_z_range": [0.5, 1], "terminate_when_unhealthy": False, "healthy_reward": 0},
        "healthy_z_range .*terminate_when_unhealthy=True or healthy_reward, and .*False.* is 0",
    ),
    (
        "Ant-v5",
        {
            "contact_force_range": [-2, 2],
            "contact_cost_weight": 0.0,
            "include_cfrc_ext_in_observation": False,
        },
        "contact_force_range is .*no effect",
    ),
]


@pytest.mark.parametrize(("name", "options", "text"), WITHOUT_EFFECT)
def test_options_without_effect_are_refused(name, options, text):
    with pytest.raises(JaxrlError, match=text):
        make(name, **options)


@pytest.mark.parametrize(("name", "options", "text"), OF_ROBOTS)
def test_options_of_robots_without_effect_are_refused(name, options, text):
    pytest.importorskip("mujoco")
    with pytest.raises(JaxrlError, match=text):
        make(name, **options)


def test_options_with_an_effect_or_at_their_defaults_pass():
    make("CartPole-v1", masscart=1.0, total_mass=2.0)
    make("Asterix-MinAtar", ramp_interval=50)
    make("FrozenLake-misc", success_rate=0.5)
    needs = {"interval": {"ramping": True}}
    check_read({"interval": 3, "ramping": True}, {"interval": 1, "ramping": False}, needs)
    check_read({"interval": 1}, {"interval": 1, "ramping": False}, needs)
    jax.jit(lambda on: check_read({"interval": 3, "ramping": on}, {"interval": 1}, needs))(True)
    jax.jit(lambda x: check_read({"interval": x}, {"interval": 1, "ramping": False}, needs))(2)


def read_by(environment):
    """The names of the parameters on which what is seen and earned depends, now or later."""
    leaves, structure = jax.tree.flatten(environment.parameters)
    state, _ = jax.eval_shape(environment.reset, jax.random.key(0))
    state_leaves, state_structure = jax.tree.flatten(state)
    action = environment.action_space.sample(jax.random.key(0))

    def reset(*given):
        made = environment.replace(parameters=structure.unflatten(given[: len(leaves)]))
        begun, seen = made.reset(jax.random.key(0))
        return [seen, *jax.tree.leaves(begun)]

    def step(*given):
        made = environment.replace(parameters=structure.unflatten(given[: len(leaves)]))
        before = state_structure.unflatten(given[len(leaves) :])
        after, timestep = made.step(jax.random.key(0), before, action)
        shown = [timestep.observation, timestep.reward, timestep.terminated]
        return [*shown, *jax.tree.leaves(after)]

    programs = {
        1: jax.make_jaxpr(reset)(*leaves).jaxpr,
        3: jax.make_jaxpr(step)(*leaves, *state_leaves).jaxpr,
    }
    matters, read = [False] * len(state_leaves), [False] * len(leaves)
    while True:
        before = list(matters)
        for shown, program in programs.items():
            _, used = partial_eval.dce_jaxpr(program, [True] * shown + matters, instantiate=False)
            read = list(map(operator.or_, read, used[: len(leaves)]))
            later = used[len(leaves) :] or matters
            matters = list(map(operator.or_, matters, later))
        if matters == before:
            break
    names = [field.name for field in dataclasses.fields(environment.parameters)]
    assert len(names) == len(leaves)
    return {name for name, is_read in zip(names, read, strict=True) if is_read}


@pytest.mark.parametrize("name", gymnax.IDS)
def test_what_no_program_reads_is_declared(name):
    """Of gymnax's parameters; `max_steps_in_episode` is read by the time limit."""
    environment = make(name)
    known = {field.name for field in dataclasses.fields(environment.parameters)}
    unread = known - read_by(environment) - {"max_steps_in_episode"}
    declared = {option for option, wanted in gymnax.NEEDS.get(name, {}).items() if not wanted}
    assert unread == declared
