"""Help in two tiers: a page of what everybody needs, and all of it where that is asked for."""

import dataclasses
import re
from typing import Any

import pytest

from jaxrl.algos.registry import algorithm_names, load
from jaxrl.cli import forms, helping
from jaxrl.config import budget, configuration, nested, number, option, part, settings, size
from jaxrl.envs.starts.api import StartsConfig
from jaxrl.envs.starts.family import STARTS
from tests.train.tiny import PROBE

# What is basic in one algorithm is basic in all that have it.
COMMON = {"num_envs", "learning_rate", "gamma", "hidden_sizes", "dataset", "batch_size"}
COMMON |= {"total_steps", "total_updates", "minibatch_size"}


@pytest.fixture
def page(run, monkeypatch):
    """The help of a command as it is printed, on a terminal of some columns."""

    def printed(*words, columns=80):
        monkeypatch.setenv("COLUMNS", str(columns))
        output, errors = run(*words)
        assert errors == ""
        return output

    return printed


def offered(text):
    """The options on a page."""
    names = re.findall(r"^│ (?:-h, )?--([a-z0-9-]+)", text, re.MULTILINE)
    assert len(names) == len(set(names))
    return [name.replace("-", "_") for name in names]


def groups(text):
    """The titles of its boxes."""
    return re.findall(r"╭─+ (.*?) ─", text)


def test_help_shows_what_everybody_needs_and_says_where_the_rest_is(page):
    basic, full = page("train", "ppo", "--help"), page("train", "ppo", "--help-all")
    few, all_of_them = offered(basic), offered(full)
    assert 18 <= len(few) <= 28 and len(all_of_them) > 55 and set(few) < set(all_of_them)
    needed = "env config folder overwrite quiet seed num_seeds total_steps num_envs learning_rate"
    needed += " gamma hidden_sizes num_evaluations evaluation_episodes"
    assert set(needed.split()) <= set(few)
    assert not {"outer_step_size", "mesh", "trust", "coordinator", "compute_dtype"} & set(few)
    assert f"show {len(all_of_them) - len(few)} more options" in basic
    assert "show every option" in full
    assert "One iteration" in full and "One iteration" not in basic
    assert "Proximal policy optimisation" in basic


def test_every_option_is_on_the_full_page(page):
    words = ("sweep", "ppo", "--help-all")
    config = load("ppo").config_class()
    own = {each.name for each in settings(config)}
    assert own <= set(offered(page(*words)))
    assert {"over", "samples", "scale_from", "trust", "processes", "env"} <= set(
        offered(page(*words))
    )


def test_run_and_output_come_first_under_titles_that_people_read(page):
    full = page("train", "ppo", "--help-all", "--memory", "gru")
    assert groups(full) == [
        *("options", "run options", "output options", "PPO options", "network options"),
        *("memory options", "scaling options", "trust options"),
        "processes options",
    ]
    assert groups(page("train", "td3_bc", "--help"))[3:] == ["TD3BC options", "network options"]


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_no_line_is_longer_than_the_terminal(page, columns):
    for flag in ("--help", "--help-all"):
        lines = page("train", "ppo", flag, columns=columns).splitlines()
        assert max(map(len, lines)) <= columns
        text = " ".join(" ".join(lines).replace("│", " ").split())
        assert "evaluation_episodes" not in text and "(default: None)" not in text


def test_an_option_that_was_typed_is_shown_and_so_are_those_of_a_part(page):
    assert "target_kl" not in offered(page("train", "ppo", "--help"))
    assert "target_kl" in offered(page("train", "ppo", "--target-kl=0.1", "--help"))
    pooled = offered(page("train", "ppo", "--starts", "pool", "--help"))
    assert {"starts", "pool_size"} <= set(pooled)


def test_a_hidden_option_is_taken_and_its_name_corrected(ask, nothing_compiles):
    words = ("train", "ppo", "--env", PROBE, "--folder", "unused")
    status, _, errors = ask(*words, "--outer-step-siz", "0.5")
    assert status == 2 and "--outer-step-size" in errors
    status, _, errors = ask(*words, "--outer-step-size", "-1")
    assert status == 2 and "outer_step_size is -1" in errors


def test_a_sweep_has_two_tiers_too(page):
    basic = page("sweep", "sac", "--help")
    assert {"over", "samples", "learning_rate"} <= set(offered(basic))
    assert "learning_rate, critic_learning_rate, tau" in " ".join(basic.split())
    assert len(offered(basic)) < 30


def test_the_other_commands_have_one_help(page):
    for command in ("resume", "eval", "plot"):
        assert page(command, "--help-all") == page(command, "--help")
    assert page("train", "--help-all") == page("train", "--help")


@pytest.mark.parametrize("name", algorithm_names())
def test_what_is_basic_in_one_algorithm_is_so_in_all(name):
    for each in settings(load(name).config_class()):
        if each.name in COMMON:
            assert each.field.metadata["basic"], f"{name}: {each.name}"


@configuration
class PlainConfig:
    """Settings of an algorithm of one's own, which says nothing of what is basic."""

    total_steps: int = budget(100, unit="transitions")
    """How long."""
    boldness: float = number(0.5, 0, 1)
    """How bold."""
    style: str = option("plain")
    """How."""


@configuration
class DeclaredConfig(PlainConfig):
    """And of one that does."""

    width: int = size(3, basic=True)
    """How wide."""
    depth: int = size(3)
    """How deep."""


@configuration
class NestingConfig:
    """And of one that holds the second."""

    inner: DeclaredConfig = nested(DeclaredConfig(), prefix="inner_")
    starts: StartsConfig = part(STARTS, "pool")
    """Where episodes begin."""


@dataclasses.dataclass
class Command:
    """A command with no options but an algorithm's."""

    settings: Any


def test_where_an_algorithm_declares_nothing_basic_all_of_its_own_are(capsys):
    def shown(config):
        command = Command(forms.form_of(config))
        helping.show(command, "jaxrl x", ["--help"], (), ["About."])
        return offered(capsys.readouterr().out)

    assert shown(PlainConfig()) == ["help", "help_all", "total_steps", "boldness", "style"]
    own = ["total_steps", "boldness", "style", "width"]
    assert shown(DeclaredConfig()) == ["help", "help_all", *own]
    assert shown(NestingConfig()) == [
        *("help", "help_all", "starts"),
        *(f"inner_{name}" for name in own),
    ]
