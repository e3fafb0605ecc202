"""Options that are read only with another one: given while that is off, they are refused."""

import dataclasses
from typing import Literal

import jax
import numpy as np
import pytest

from jaxrl.algos.registry import algorithm_names, load
from jaxrl.config import (
    ON,
    SEVERAL,
    check,
    configuration,
    nested,
    number,
    option,
    override,
    possible,
    settled,
    size,
)
from jaxrl.errors import JaxrlError


@configuration
class Inner:
    kind: Literal["soft", "hard"] = option("soft", needs={"file": ""})
    heat: float = number(1.0, 0, needs={"kind": "soft"})
    file: str = option("")


@configuration
class Settings:
    trained: bool = option(True)
    rate: float = number(0.1, 0, needs={"trained": True})
    noise: float = number(0.2, 0)
    clip: float = number(0.5, 0, needs={"noise": ON})
    copies: int = size(3)
    spread: float = number(0.0, 0, needs={"copies": SEVERAL})
    widths: tuple[int, ...] = size((4, 4))
    torso: Literal["mlp", "cnn"] = option("mlp")
    activation: Literal["tanh", "relu"] = option("tanh", needs={"widths": ON, "torso": "cnn"})
    inner: Inner = nested(Inner(), prefix="inner_")


READ = [
    {},
    {"rate": 0.3},
    {"trained": False},
    {"trained": False, "rate": 0.1},
    {"noise": np.array([0.0, 0.2]), "clip": 0.1},
    {"copies": 2, "spread": 0.5},
    {"widths": (), "torso": "cnn", "activation": "relu"},
    {"inner_heat": 2.0},
]
UNREAD = [
    (
        {"trained": False, "rate": 0.3},
        "rate is 0.3, which has no effect: it is read only with trained=True, "
        "and trained is False.",
    ),
    ({"trained": False, "rate": np.array([0.1, 0.3])}, "rate is 0.1, 0.3, which has no effect"),
    ({"noise": 0.0, "clip": 0.1}, "clip is 0.1, .*only with noise, and noise is 0"),
    ({"copies": 1, "spread": 0.5}, "spread is 0.5, .*only with several copies, and copies is 1."),
    ({"widths": (), "activation": "relu"}, "only with widths or with torso=cnn, and widths is "),
    ({"inner_kind": "hard", "inner_heat": 2.0}, "only with inner_kind=soft, and inner_kind is 'h"),
    # What it needs is at its default, but is itself not read.
    ({"inner_file": "x.npz", "inner_heat": 2.0}, "heat is 2.* only without inner_file, .*'x.npz'"),
]


@pytest.mark.parametrize("given", READ, ids=str)
def test_what_is_read_passes(given):
    check(Settings(**given))


@pytest.mark.parametrize(("given", "text"), UNREAD, ids=lambda value: str(value)[:40])
def test_what_nothing_reads_is_refused(given, text):
    with pytest.raises(JaxrlError, match=text):
        check(Settings(**given))


def test_traced_numbers_pass():
    config = Settings(trained=False)
    jax.jit(lambda rate: check(dataclasses.replace(config, rate=rate)))(0.3)


def test_settings_that_were_not_given_go_back_to_their_defaults():
    config = Settings(trained=False, rate=0.3, noise=0.0, clip=0.1)
    assert settled(config, given={"clip"}) == Settings(trained=False, noise=0.0, clip=0.1)
    assert settled(Settings(rate=0.3), given=()) == Settings(rate=0.3)


def test_a_need_that_is_no_field_is_refused_where_it_is_declared():
    with pytest.raises(JaxrlError, match="Wrong.rate needs 'trainned', which is no field beside"):

        @configuration
        class Wrong:
            rate: float = number(0.1, needs={"trainned": True})


# Every option of an algorithm that is read only with another one: what turns that off, and a value.
DECLARED = {
    "ppo": {
        ("value_clip_epsilon", 0.2, "value_coefficient", 0.0),
        ("activation", "relu", "hidden_sizes", ()),
        ("shared_torso", True, "hidden_sizes", ()),
        ("state_dependent_std", True, "train_std", False),
        ("head_size", 16, "mixer", "s6"),
    },
    "stepmix": {
        ("baseline", "constant", "dataset", "episodes.npz"),
        ("inverse_temperature", 3.0, "baseline", "constant"),
        ("inverse_temperature", 3.0, "dataset", "episodes.npz"),
        ("baseline_epsilon", 0.3, "baseline", "boltzmann"),
        ("baseline_action", 1, "baseline", "boltzmann"),
    },
    "td3": {
        ("warm_up_hold", 4, "warm_up", 0),
        ("target_noise_clip", 0.2, "target_noise", 0.0),
        ("activation", "tanh", "hidden_sizes", ()),
        ("layer_norm", True, "hidden_sizes", ()),
    },
    "sac": {
        ("warm_up_hold", 4, "warm_up", 0),
        ("temperature_learning_rate", 1e-3, "train_temperature", False),
        ("temperature_loss", "linear", "train_temperature", False),
        ("target_entropy", -1.0, "train_temperature", False),
        ("activation", "tanh", "hidden_sizes", ()),
        ("layer_norm", True, "hidden_sizes", ()),
    },
    "rebrac": {
        ("target_noise_clip", 0.2, "target_noise", 0.0),
        ("activation", "tanh", "hidden_sizes", ()),
        ("layer_norm", False, "hidden_sizes", ()),
    },
    "iql": {
        ("maximum_weight", 10.0, "inverse_temperature", 0.0),
        ("activation", "tanh", "hidden_sizes", ()),
        ("layer_norm", True, "hidden_sizes", ()),
    },
}
DECLARED["deep_stepmix"] = DECLARED["ppo"]
DECLARED["td3_bc"] = DECLARED["td3"] - {("warm_up_hold", 4, "warm_up", 0)}
DECLARED["bc"] = {("activation", "tanh", "hidden_sizes", ())}
DECLARED["fql"] = {
    ("activation", "tanh", "hidden_sizes", ()),
    ("layer_norm", False, "hidden_sizes", ()),
    ("candidate_temperature", 0.5, "candidates", 1),
}
DECLARED["dql"] = {
    ("layer_norm", True, "hidden_sizes", ()),
    ("guidance_temperature", 0.1, "behavior_weight", "none"),
    ("candidate_temperature", 0.5, "candidates", 1),
}
DECLARED["ofql"] = DECLARED["dql"] | {
    ("time_mean", 0.0, "time_distribution", "uniform"),
    ("time_std", 2.0, "time_distribution", "uniform"),
    ("shared_time", True, "time_width", 0),
}
DECLARED["decision_transformer"] = {
    ("self_evolution_weight", 0.5, "self_evolution", False),
    ("self_evolution_cap", 0.2, "self_evolution", False),
    ("stages", 8, "self_evolution", False),
}
DECLARED["decision_mamba"] = DECLARED["decision_transformer"] | {("head_size", 16, "mixer", "s6")}
for online in ("td3_bc", "rebrac", "iql", "fql", "dql", "ofql"):
    DECLARED[online] = DECLARED[online] | {("exploration_noise", 0.2, "online", False)}
CASES = [
    (algorithm, *case) for algorithm, cases in DECLARED.items() for case in sorted(cases, key=str)
]


# Parts that have to be chosen before their options are there.
CHOSEN = dict.fromkeys(["ppo", "deep_stepmix"], {"head_size": {"memory": "mamba"}})


@pytest.mark.parametrize(("algorithm", "name", "value", "other", "off"), CASES)
def test_each_option_without_effect_is_refused_by_both_names(algorithm, name, value, other, off):
    chosen = CHOSEN.get(algorithm, {}).get(name, {})
    config = override(load(algorithm).config_class(), chosen | {other: off})
    check(config)
    with pytest.raises(JaxrlError, match=f"{name} is .*no effect.*{other} is "):
        check(override(config, {name: value}))


@pytest.mark.parametrize("algorithm", ["ofql", "dql"])
def test_the_layers_of_a_time_read_the_activation_where_there_are_no_others(algorithm):
    check(override(load(algorithm).config_class(), {"hidden_sizes": (), "activation": "relu"}))


@pytest.mark.parametrize("algorithm", algorithm_names())
def test_every_need_that_is_declared_is_tested(algorithm):
    tested = {name for name, *_ in DECLARED[algorithm]}
    of_adam = {"learning_rate", "anneal_learning_rate", "max_grad_norm"}  # tests/algos/test_ppo.py
    of_starts = {"guide_stages", "guide_tolerance", "snapshot_success"}  # tests/envs
    for each in possible(load(algorithm).config_class()):
        if each.setting.field.metadata.get("needs"):
            assert each.setting.name in tested | of_adam | of_starts
