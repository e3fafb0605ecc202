"""What a sweep varies, as it is typed: values, ranges that are drawn from, sizes and choices."""

import math

import numpy as np
import pytest

from jaxrl.cli import over
from jaxrl.train.experiment import default_config
from tests.train.tiny import PROBE

CONFIG, _ = default_config("ppo", PROBE, use_tuned=False)
RATE, GAMMA = "learning_rate=log:1e-5..1e-2", "gamma=0.9..0.999"


def read(*texts, samples=None, seed=0):
    return over.read([list(texts)], samples, seed, CONFIG)


def test_numbers_side_by_side_and_others_in_turn():
    found = read("learning-rate=1e-4,.7", "num_envs=8,1e1", "activation=tanh,relu")
    assert found.numbers == {"learning_rate": [1e-4, 0.7]} and found.sampled == {}
    assert found.turns == {"num_envs": [8, 10], "activation": ["tanh", "relu"]}
    assert found.names() == {"learning_rate", "num_envs", "activation"}
    layers = read("hidden_sizes=[64,64],[],32", "stagger=true,false").turns
    assert layers == {"hidden_sizes": [[64, 64], [], [32]], "stagger": [True, False]}
    assert read("hidden_sizes=64,256").turns == {"hidden_sizes": [[64], [256]]}


def test_draws_fill_their_ranges_evenly_and_in_the_logarithm():
    found = read(RATE, GAMMA, "clip_epsilon=0.1,0.2,0.3", samples=4000).numbers
    rates, gammas = np.asarray(found["learning_rate"]), np.asarray(found["gamma"])
    assert rates.min() >= 1e-5 and rates.max() <= 1e-2
    assert gammas.min() >= 0.9 and gammas.max() <= 0.999
    assert np.mean(np.log10(rates)) == pytest.approx(-3.5, abs=0.06)
    assert np.mean(rates < 1e-4) == pytest.approx(1 / 3, abs=0.03)
    assert gammas.mean() == pytest.approx(0.9495, abs=0.002)
    assert abs(np.corrcoef(rates, gammas)[0, 1]) < 0.06, "each is drawn by itself"
    values, counts = np.unique(found["clip_epsilon"], return_counts=True)
    assert values.tolist() == [0.1, 0.2, 0.3] and counts.min() > 1200


def test_the_same_seed_draws_the_same_and_more_samples_go_on():
    few, many = read(RATE, GAMMA, samples=4).numbers, read(RATE, GAMMA, samples=9).numbers
    assert {name: values[:4] for name, values in many.items()} == few
    assert read(RATE, GAMMA, samples=4) == read(RATE, GAMMA, samples=4)
    assert read(RATE, GAMMA, samples=4, seed=1).numbers != few
    assert read(RATE, GAMMA, samples=4).sampled == {
        "learning_rate": "log:1e-5..1e-2",
        "gamma": "0.9..0.999",
    }


def test_what_is_drawn_can_be_typed():
    for values in read(RATE, GAMMA, "entropy_coefficient=0..3000", samples=50).numbers.values():
        assert all(len(repr(value)) <= 9 for value in values)
        assert len(set(values)) == 50
    narrow = read("gamma=0.99..0.991", samples=50).numbers["gamma"]
    assert len(set(narrow)) > 45 and all(math.isfinite(value) for value in narrow)


def test_folders_have_names_that_a_file_system_takes():
    assert over.folder_name({"num_envs": 8, "hidden_sizes": [64, 64]}) == (
        "num_envs=8,hidden_sizes=64x64"
    )
    assert over.folder_name({"starts": "../a:B"}) == "starts=..-a-B"
    long = over.folder_name({"hidden_sizes": [64] * 200})
    assert len(long) == 200
    assert over.folder_name({"hidden_sizes": [64] * 201}, {long}) == f"{long}-2"
