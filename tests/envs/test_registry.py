import subprocess
import sys

import pytest

from jaxrl.envs import registry
from jaxrl.envs.probe import ConstantReward, TwoStep
from jaxrl.errors import JaxrlError
from jaxrl.types import Box, Discrete, MultiDiscrete


@pytest.fixture(autouse=True)
def no_registrations(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {})


def sized(size, scale=1.0):
    assert (size, scale) == (3, 1.0)
    return TwoStep()


def not_an_environment():
    return object()


def test_lists_ids_by_suite_without_importing_third_parties():
    program = (
        "import sys\n"
        "from jaxrl.envs import registry\n"
        "ids = registry.environment_ids()\n"
        "assert 'CartPole-v1' in ids['gymnax'] and 'probe/two-step' in ids['probe']\n"
        "registry.make('probe/two-step')\n"
        "assert 'gymnax' not in sys.modules and 'brax' not in sys.modules and 'mujoco' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_registered_environments_are_made_and_listed():
    registry.register("mine/two-step", TwoStep)
    assert isinstance(registry.make("mine/two-step"), TwoStep)
    assert registry.environment_ids()["registered"] == ["mine/two-step"]
    assert registry.describe("mine/two-step").suite == "registered"


@pytest.mark.parametrize("taken", ["probe/two-step", "CartPole-v1", "MNISTBandit-bsuite", "mine"])
def test_refuses_duplicates(taken):
    registry.register("mine", TwoStep)
    with pytest.raises(JaxrlError, match="already registered"):
        registry.register(taken, ConstantReward)


@pytest.mark.parametrize(
    ("environment_id", "factory", "message"),
    [
        (3, TwoStep, "non-empty string"),
        (" ", TwoStep, "non-empty string"),
        ("a:b", TwoStep, "import paths"),
        ("mine", TwoStep(), "must be a class or function"),
    ],
)
def test_refuses_bad_registrations(environment_id, factory, message):
    with pytest.raises(JaxrlError, match=message):
        registry.register(environment_id, factory)


def test_unknown_ids_name_the_nearest():
    with pytest.raises(JaxrlError, match=r"unknown environment 'cartpole-v0'. Did you mean CartPole-v1"):
        registry.make("cartpole-v0")
    with pytest.raises(JaxrlError, match="Did you mean mine"):
        registry.register("mine", TwoStep)
        registry.make("mines")
    with pytest.raises(JaxrlError, match="must be a non-empty string"):
        registry.make(None)


def test_makes_from_an_import_path():
    assert isinstance(registry.make("jaxrl.envs.probe:TwoStep"), TwoStep)
    with pytest.raises(JaxrlError, match="Did you mean TwoStep"):
        registry.make("jaxrl.envs.probe:TwoSteps")
    with pytest.raises(JaxrlError, match="Write 'package.module:Factory'"):
        registry.make("no_such_package:Thing")


def test_options_are_held_against_the_signature():
    registry.register("sized", sized)
    assert isinstance(registry.make("sized", size=3), TwoStep)
    with pytest.raises(JaxrlError, match="needs a value for size"):
        registry.make("sized")
    with pytest.raises(JaxrlError, match="unknown option of sized 'scle'. Did you mean scale"):
        registry.make("sized", size=3, scle=2.0)


def test_refuses_what_is_not_an_environment():
    registry.register("other", not_an_environment)
    with pytest.raises(JaxrlError, match="made a object"):
        registry.make("other")


def test_a_missing_third_party_is_named(monkeypatch):
    monkeypatch.setattr(registry.suites()["gymnax"], "REQUIRES", "no_such_package")
    with pytest.raises(JaxrlError, match="needs the package .no_such_package.: pip install no_such_package$"):
        registry.make("CartPole-v1")
    monkeypatch.setattr(registry.suites()["gymnax"], "EXTRA", "games", raising=False)
    with pytest.raises(JaxrlError, match=r"pip install 'jaxrl\[games\]'$"):
        registry.make("CartPole-v1")


def test_describes_an_environment():
    row = registry.describe("probe/multi-discrete-action")
    spec = registry.Spec(Box(0.0, 1.0, (5,)), MultiDiscrete((2, 3)), 20)
    assert row == ("probe/multi-discrete-action", "probe", spec)
    spaces = (spec.observation_space, spec.action_space, Discrete(2))
    assert [str(space) for space in spaces] == [
        "Box(5) float32",
        "MultiDiscrete(2, 3)",
        "Discrete(2)",
    ]


def test_evaluations_of_simulated_robots_are_shorter():
    assert registry.evaluation_episodes("CartPole-v1") == 100
    assert registry.evaluation_episodes("HalfCheetah-v5") == 10
    assert registry.evaluation_episodes("my_package.my_module:MyEnvironment") == 100


def test_a_physics_engine_is_part_of_what_a_run_depends_on():
    assert registry.requirements("CartPole-v1") == ("gymnax",)
    assert "mujoco" in registry.requirements("HalfCheetah-v5")
    assert registry.requirements("my_package.my_module:MyEnvironment") == ()
