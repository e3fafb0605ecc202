import functools
import subprocess
import sys
import types

import numpy as np
import pytest

from jaxrl.envs import registry
from jaxrl.envs.suites.probe import ConstantReward, TwoStep
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
        "assert 'gymnax' not in sys.modules and 'brax' not in sys.modules and 'mujoco' not in "
        "sys.modules\n"
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
    with pytest.raises(
        JaxrlError, match=r"unknown environment 'cartpole-v0'. Did you mean CartPole-v1"
    ):
        registry.make("cartpole-v0")
    with pytest.raises(JaxrlError, match="Did you mean mine"):
        registry.register("mine", TwoStep)
        registry.make("mines")
    with pytest.raises(JaxrlError, match="must be a non-empty string"):
        registry.make(None)


def test_makes_from_an_import_path():
    assert isinstance(registry.make("jaxrl.envs.suites.probe:TwoStep"), TwoStep)
    with pytest.raises(JaxrlError, match="Did you mean TwoStep"):
        registry.make("jaxrl.envs.suites.probe:TwoSteps")
    with pytest.raises(JaxrlError, match="Write 'package.module:Factory'"):
        registry.make("no_such_package:Thing")


def annotated(steps: int = 2) -> TwoStep:
    return TwoStep()


def wrong(steps: int = 2) -> int:
    return steps


def unresolved(steps: int = 2) -> "NoSuchThing":  # noqa: F821
    raise AssertionError("called before it was checked")


def untold(steps=2):
    raise AssertionError("called before it was checked")


@pytest.fixture
def somebodys(monkeypatch):
    """A module of somebody's, `somebodys`, to import from."""
    module = types.ModuleType("somebodys")
    vars(module).update(
        annotated=annotated, wrong=wrong, unresolved=unresolved, untold=untold, Mine=TwoStep
    )
    module.partial, module.partial_of_untold = (
        functools.partial(annotated, steps=3),
        functools.partial(untold),
    )
    module.partial_of_class, module.instance, module.text = (
        functools.partial(TwoStep),
        TwoStep(),
        "text",
    )
    module.Other = type("Other", (), {})
    monkeypatch.setitem(sys.modules, "somebodys", module)


@pytest.mark.parametrize("name", ["annotated", "partial", "partial_of_class", "Mine"])
def test_what_says_that_it_makes_an_environment_is_imported(somebodys, name):
    assert isinstance(registry.make(f"somebodys:{name}"), TwoStep)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("wrong", "the function wrong -> int"),
        ("unresolved", "the function unresolved -> NoSuchThing"),
        ("untold", "the function untold without a return annotation"),
        ("partial_of_untold", "the function untold without a return annotation"),
        ("instance", "of type TwoStep"),
        ("text", "of type str"),
        ("Other", "the class Other"),
    ],
)
def test_anything_else_is_refused_before_it_is_called(somebodys, name, found):
    with pytest.raises(JaxrlError) as error:
        registry.make(f"somebodys:{name}")
    assert f"environment 'somebodys:{name}' is {found}, but must be" in str(error.value)
    assert "def make(...) -> Environment" in str(error.value)


def test_a_program_of_the_system_is_no_environment(monkeypatch):
    monkeypatch.setattr("os.system", lambda *_: pytest.fail("called"))
    for name in ("os:system", "subprocess:run", "shutil:rmtree", "builtins:exec"):
        with pytest.raises(JaxrlError, match=f"environment '{name}' is "):
            registry.make(name)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("1 / 0", "importing raising failed: ZeroDivisionError: division by zero"),
        (
            "import no_such_module",
            "importing raising failed: ModuleNotFoundError: No module named 'no_such_module'",
        ),
        ("raise SystemExit(3)", "importing raising failed: SystemExit: 3"),
        ("def f(:", "importing raising failed: SyntaxError"),
    ],
)
def test_a_module_that_cannot_be_imported_is_quoted(monkeypatch, tmp_path, code, text):
    (tmp_path / "raising.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(JaxrlError, match=text):
        registry.make("raising:Thing")
    assert sys.path[-1] == str(tmp_path)


@pytest.mark.parametrize("name", ["", "a b", "../a", ".a", "a..b", "-"])
def test_a_module_has_the_name_of_one(name):
    with pytest.raises(JaxrlError, match="is no name of a module. Write 'package.module:Factory'"):
        registry.make(f"{name}:Thing")


def typed(size=3, scale=1.0, on=True, kind="plain", any_of=None) -> TwoStep:
    if kind == "odd":
        raise ValueError("too odd")
    if any_of == "type":
        raise TypeError("no such type")
    return TwoStep()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"size": "large"}, "size is 'large', but must be a number."),
        ({"size": True}, "size is True, but must be a number."),
        ({"scale": None}, "scale is None, but must be a number."),
        ({"scale": [1.0]}, "scale is [1.0], but must be a number."),
        ({"on": 1}, "on is 1, but must be True or False."),
        ({"kind": 1}, "kind is 1, but must be text."),
        ({"kind": "odd", "size": 4}, "typed cannot be made with kind='odd', size=4: too odd"),
        ({"any_of": "type"}, "typed cannot be made with any_of='type': no such type"),
    ],
)
def test_options_of_another_type_are_refused_by_name(options, text):
    registry.register("typed", typed)
    with pytest.raises(JaxrlError) as error:
        registry.make("typed", **options)
    assert str(error.value) == text


@pytest.mark.parametrize(
    "options",
    [
        {"size": 2.0, "scale": 3},
        {"size": np.int32(3)},
        {"scale": np.ones(2)},
        {"any_of": [1]},
        {"on": False},
    ],
)
def test_options_that_fit_are_handed_on(options):
    registry.register("typed", typed)
    assert isinstance(registry.make("typed", **options), TwoStep)


@pytest.mark.parametrize("environment_id", ["probe/two-step", "CartPole-v1", "Hopper-v5"])
def test_the_argument_of_the_suites_is_no_option(environment_id):
    with pytest.raises(JaxrlError, match="'environment_id'"):
        registry.make(environment_id, **{"environment_id": 3})


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
    with pytest.raises(
        JaxrlError,
        match="needs the package .no_such_package.: .*python.* -m pip install no_such_package$",
    ):
        registry.make("CartPole-v1")
    monkeypatch.setattr(registry.suites()["gymnax"], "EXTRA", "games", raising=False)
    with pytest.raises(JaxrlError, match=r"pip install 'jaxrl\[games\]'$"):
        registry.make("CartPole-v1")


def test_describes_an_environment():
    row = registry.describe("probe/multi-discrete-action")
    spec = registry.EnvironmentSpec(Box(0.0, 1.0, (5,)), MultiDiscrete((2, 3)), 20)
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
    assert {"mujoco", "gymnasium"} <= set(registry.requirements("HalfCheetah-v5"))
    # Data of MJX, which Playground neither is nor pins.
    assert {"mujoco", "mujoco-mjx"} <= set(registry.requirements("playground/CheetahRun"))
    assert registry.simulators("HalfCheetah-v5") == ("mujoco", "mujoco-mjx")
    assert registry.simulators("my_package.my_module:MyEnvironment") == ()
    assert registry.requirements("my_package.my_module:MyEnvironment") == ()


@pytest.mark.parametrize("suite", ["gymnax", "memory"])
def test_what_is_listed_without_being_built_is_what_is_built(suite):
    module = registry.suites()[suite]
    assert set(module.SPECS) == set(module.IDS)
    for environment_id, spec in module.SPECS.items():
        built = registry.make(environment_id)
        spaces = (built.observation_space, built.action_space, built.horizon)
        shown = (spec.observation_space, spec.action_space, spec.horizon)
        assert list(map(str, shown)) == list(map(str, spaces)), environment_id
