"""Algorithms by name, their settings by flat name, and the round trip through JSON."""

import ast
import inspect
import json
import math
import pkgutil
import sys
import types
from dataclasses import dataclass

import pytest

import jaxrl.algos
from jaxrl.algos import registry
from jaxrl.algos.ppo import PPOConfig, ppo, ppo_agent
from jaxrl.config import check, field_names, flatten, override
from jaxrl.errors import JaxrlError
from jaxrl.types import Algorithm

CHANGES = {
    "total_steps": 12_345,
    "learning_rate": 0.01,
    "value_clip_epsilon": 0.2,
    "max_grad_norm": math.inf,
    "target_kl": 0.02,
    "normalize_advantages": "batch",
    "scale_rewards": True,
    "hidden_sizes": (16, 8, 4),
    "activation": "relu",
    "initial_log_std": -0.5,
}


def test_every_module_but_the_registry_is_an_algorithm_and_no_package_is():
    found = list(pkgutil.iter_modules(jaxrl.algos.__path__))
    modules = {module.name for module in found if not module.ispkg}
    assert registry.algorithm_names() == sorted(modules - {"registry"})
    assert "parts" in {module.name for module in found} - modules
    assert "ppo" in registry.algorithm_names()


@pytest.mark.parametrize("name", registry.algorithm_names())
def test_every_algorithm_loads_with_a_configuration_that_passes_its_own_check(name):
    spec = registry.load(name)
    assert spec.name == name and spec.factory.__name__ == name
    check(spec.config_class())


@pytest.mark.parametrize("name", registry.algorithm_names())
def test_every_field_of_a_configuration_is_documented(name):
    statements = ast.parse(inspect.getsource(registry.load(name).config_class)).body[0].body
    for field, following in zip(statements, [*statements[1:], None], strict=True):
        if isinstance(field, ast.AnnAssign) and field.target.id != "network":
            assert isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant), (
                field.target.id
            )


def test_ppo_loads_by_name():
    spec = registry.load("ppo")
    assert spec.factory is ppo and spec.config_class is PPOConfig and spec.agent is ppo_agent


def test_an_unknown_algorithm_is_refused_with_the_nearest():
    with pytest.raises(JaxrlError, match="unknown algorithm 'pppo'. Did you mean ppo"):
        registry.load("pppo")


@dataclass(frozen=True)
class Settings:
    rate: float = 0.1


@dataclass(frozen=True)
class Demanding:
    rate: float


def mine(env, config: Settings) -> Algorithm:
    raise AssertionError("called before it was checked")


def demanding(env, config: Demanding) -> Algorithm: ...


def without_config(env) -> Algorithm: ...


def with_a_dict(env, config: dict) -> Algorithm: ...


def untold(env, config: Settings): ...


@pytest.fixture
def somebodys(monkeypatch):
    """A module of somebody's, `somebodys`, to import from."""
    module = types.ModuleType("somebodys")
    for made in (mine, demanding, without_config, with_a_dict, untold, Settings):
        setattr(module, made.__name__, made)
    monkeypatch.setitem(sys.modules, "somebodys", module)


def test_an_algorithm_of_ones_own_is_loaded(somebodys, monkeypatch):
    name, factory, config_class, agent = registry.load("somebodys:mine")
    assert (name, factory, config_class) == ("somebodys:mine", mine, Settings)
    with pytest.raises(AssertionError, match="called before it was checked"):
        agent(None, Settings())  # there is none beside it: it is that of the algorithm
    monkeypatch.setattr(
        sys.modules[__name__], "mine_agent", lambda env, config: (env, config), raising=False
    )
    assert registry.load("somebodys:mine").agent("env", "config") == ("env", "config")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "somebodys:without_config",
            "is the function without_config -> Algorithm, but must be a function",
        ),
        (
            "somebodys:with_a_dict",
            "is the function with_a_dict -> Algorithm, but must be a function",
        ),
        (
            "somebodys:untold",
            "is the function untold without a return annotation, but must be a function",
        ),
        ("somebodys:Settings", "is the class Settings, but must be a function"),
        ("somebodys:demanding", "Demanding.rate needs a default"),
        ("somebodys:mime", "unknown algorithm in somebodys 'mime'. Did you mean mine"),
        ("os:system", "algorithm 'os:system' is of type builtin_function_or_method"),
        ("os:systems", "os has no 'systems', nor any other algorithm"),
    ],
)
def test_what_is_no_algorithm_is_refused_before_it_is_called(somebodys, name, text):
    with pytest.raises(JaxrlError) as error:
        registry.load(name)
    assert text in str(error.value)


def test_override_replaces_fields_by_flat_name():
    config = override(PPOConfig(), CHANGES)
    assert (
        config.learning_rate == 0.01 and config.target_kl == 0.02 and config.scale_rewards is True
    )
    assert config.network.hidden_sizes == (16, 8, 4) and config.network.activation == "relu"
    assert config.gamma == PPOConfig().gamma and config.network.torso == "mlp"
    assert PPOConfig().network.hidden_sizes == (64, 64)


def test_override_takes_what_json_can_hold():
    config = override(
        PPOConfig(), {"hidden_sizes": [3, 2], "max_grad_norm": "inf", "learning_rate": 1}
    )
    assert config.network.hidden_sizes == (3, 2) and config.max_grad_norm == math.inf
    assert type(config.learning_rate) is float


@pytest.mark.parametrize(
    "config", [PPOConfig(), override(PPOConfig(), CHANGES)], ids=["defaults", "changed"]
)
def test_a_configuration_survives_json(config):
    text = json.dumps(flatten(config), allow_nan=False)
    again = override(PPOConfig(), json.loads(text))
    assert again == config and hash(again) == hash(config)


def test_flatten_names_every_field():
    flat = flatten(PPOConfig())
    assert list(flat) == list(field_names(PPOConfig())) and flat["network"] == "actor-critic"
    assert (
        flat["value_clip_epsilon"] == "inf"
        and flat["hidden_sizes"] == [64, 64]
        and flat["target_kl"] is None
    )


@pytest.mark.parametrize(
    ("name", "nearest"), [("learning_rates", "learning_rate"), ("hidden_size", "hidden_sizes")]
)
def test_an_unknown_option_is_refused_with_the_nearest(name, nearest):
    with pytest.raises(
        JaxrlError, match=f"unknown option of PPOConfig '{name}'. Did you mean {nearest}"
    ):
        override(PPOConfig(), {name: 1})


@pytest.mark.parametrize("value", ["fast", None, [1]])
def test_a_number_that_is_no_number_is_refused(value):
    with pytest.raises(JaxrlError) as error:
        override(PPOConfig(), {"learning_rate": value})
    assert str(error.value) == f"learning_rate is {value!r}, but must be a number."


@pytest.mark.parametrize("value", [True, False])
def test_a_truth_value_is_no_number(value):
    with pytest.raises(JaxrlError):
        check(override(PPOConfig(), {"learning_rate": value}))


@pytest.mark.parametrize("value", [8, "64", None, 2.5])
def test_hidden_sizes_that_are_no_list_are_refused(value):
    with pytest.raises(JaxrlError, match="hidden_sizes"):
        check(override(PPOConfig(), {"hidden_sizes": value}))


@pytest.mark.parametrize("value", [-0.1, 0.0, float("nan"), "small"])
def test_a_target_kl_that_is_no_positive_number_is_refused(value):
    with pytest.raises(JaxrlError, match="target_kl"):
        check(override(PPOConfig(), {"target_kl": value}))


@pytest.mark.parametrize("value", [float("nan"), "small", None])
def test_an_initial_log_std_that_is_no_number_is_refused(value):
    with pytest.raises(JaxrlError, match="initial_log_std"):
        check(override(PPOConfig(), {"initial_log_std": value}))


def test_tuned_settings_are_looked_up_by_environment(monkeypatch):
    table = {"CartPole-v1": {"num_envs": 8, "hidden_sizes": [32]}}
    monkeypatch.setattr(registry, "_tuned_table", lambda name: table if name == "ppo" else {})
    settings = registry.tuned("ppo", "CartPole-v1")
    config = override(PPOConfig(), settings)
    assert config.num_envs == 8 and config.network.hidden_sizes == (32,)
    assert registry.tuned("ppo", "Acrobot-v1") == {}
    settings["num_envs"] = 99
    assert table["CartPole-v1"]["num_envs"] == 8


@pytest.mark.parametrize("name", registry.algorithm_names())
def test_tuned_settings_name_fields_and_pass_the_check(name):
    spec = registry.load(name)
    for settings in registry._tuned_table(name).values():
        check(override(spec.config_class(), settings))
