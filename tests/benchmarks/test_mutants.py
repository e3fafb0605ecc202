"""Options that are dropped: each has a mutant, and the tests that mention it are found."""

import json
import re
import subprocess

import pytest

from benchmarks import mutants
from benchmarks.mutants import (
    KILLED,
    MUTANTS,
    OF_UNTRIED,
    ONE_OF_A_KIND,
    READ_ELSEWHERE,
    SIZES,
    SMALL,
    SURVIVES,
    mentions_in,
    try_mutant,
)
from benchmarks.mutated import with_config
from jaxrl.algos.registry import load
from jaxrl.config import possible
from jaxrl.errors import JaxrlError


def test_every_option_has_a_mutant_whose_value_is_another():
    for algorithm in SMALL:
        names = {each.setting.name for each in possible(load(algorithm).config_class())}
        options = {f"{algorithm}.{name}" for name in names - SIZES}
        assert options - READ_ELSEWHERE - ONE_OF_A_KIND - OF_UNTRIED == {
            name for name in MUTANTS if name.startswith(f"{algorithm}.")
        }
    assert all(mutant.value != mutant.dropped for mutant in MUTANTS.values())


def test_an_option_is_dropped_however_the_configuration_is_given():
    def factory(env, config, shards=None):
        return env, config, shards

    changed = with_config(factory, lambda config: config | {"gamma": 1.0})
    asked = {"gamma": 0.5, "rate": 3}
    assert (
        changed("env", asked)
        == changed("env", config=asked)
        == ("env", {"gamma": 1.0, "rate": 3}, None)
    )
    assert changed("env", asked, shards=2)[2] == 2 and changed.__name__ == "factory"


def test_what_is_refused_stays_refused():
    def factory(env, config):
        if config["gamma"] > 1:
            raise JaxrlError("gamma is 2")

    with pytest.raises(JaxrlError, match="gamma is 2"):
        with_config(factory, lambda config: config | {"gamma": 1.0})("env", {"gamma": 2.0})


def test_tests_are_found_by_the_word(tmp_path, monkeypatch):
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    path = tmp_path / "test_it.py"
    path.write_text(
        "def test_a():\n"
        "    f(gamma=1)\n\n"
        "@case('gamma')\n"
        "def test_b():\n"
        "    pass\n\n"
        "def test_c(gammas):\n"
        "    1\n"
    )
    assert mentions_in(path, re.compile(r"\bgamma\b")) == [
        "test_it.py::test_a",
        "test_it.py::test_b",
    ]
    path.write_text("CONFIG = {'gamma': 1}\n\ndef test_a():\n    f(CONFIG)\n")
    assert mentions_in(path, re.compile(r"\bgamma\b")) == ["test_it.py"]


@pytest.mark.parametrize(
    ("anyhow", "verdict"), [([], KILLED), (["a", "b"], SURVIVES), (["a"], KILLED)]
)
def test_only_a_test_that_passes_without_the_mutation_kills(monkeypatch, anyhow, verdict):
    """Tests a and b fail under the mutation; those in `anyhow` fail without it too."""

    def pretend(command, env, **_):
        mutated = "option" in json.loads(env["JAXRL_MUTANT"])
        left_out = [word.partition("=")[2] for word in command if word.startswith("--deselect")]
        failing = [name for name in ("a", "b") if mutated or name in anyhow]
        for name in failing:
            test = f"tests/test_it.py::test_{name}[x y]"
            if test not in left_out and (mutated or test in command):
                return subprocess.CompletedProcess(command, 1, stdout=f"FAILED {test} - assert 1\n")
        return subprocess.CompletedProcess(command, 0, stdout="2 passed")

    monkeypatch.setattr(mutants, "changes_parameters", lambda name: True)
    monkeypatch.setattr(mutants.subprocess, "run", pretend)
    result = try_mutant("ppo.gamma", 1.0)
    assert result["verdict"] == verdict
    if verdict == KILLED:
        assert result["test"] == f"tests/test_it.py::test_{'b' if anyhow else 'a'}[x y]"


def test_tests_that_are_all_slow_are_told_from_tests_that_pass(monkeypatch):
    monkeypatch.setattr(mutants, "changes_parameters", lambda name: True)
    monkeypatch.setattr(
        mutants.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 5, "")
    )
    assert try_mutant("stepmix.replan", 1.0)["verdict"] == "ONLY SLOW TESTS"
