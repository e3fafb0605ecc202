"""Modes as they are asked for: written and read back, checked against what an agent has,
in an order that is kept."""

import dataclasses

import pytest

from jaxrl.analysis.records import is_mode
from jaxrl.errors import JaxrlError
from jaxrl.train.build import build
from jaxrl.train.modes import Asked, choose, parse
from jaxrl.types import Mode
from tests.train.tiny import experiment, shared_compilations

UNSTEERED = Mode(lambda policy, memory, view, key: (policy, memory))
STEERED = UNSTEERED._replace(steer=lambda policy, number: number)
MODES = {"target": STEERED, "best": UNSTEERED}


@pytest.mark.parametrize(
    ("text", "asked", "written"),
    [
        ("deterministic", Asked("deterministic"), "deterministic"),
        ("target=3600", Asked("target", 3600.0), "target=3600"),
        ("target=3600.0", Asked("target", 3600.0), "target=3600"),
        ("target=-0.5", Asked("target", -0.5), "target=-0.5"),
        ("target=1e-7", Asked("target", 1e-7), "target=1e-07"),
        ("target=1e30", Asked("target", 1e30), "target=1e+30"),
        ("target=-0", Asked("target", 0.0), "target=0"),
        ("long-range=1", Asked("long_range", 1.0), "long_range=1"),
    ],
)
def test_a_mode_is_read_and_written_again(text, asked, written):
    assert parse(text) == asked and str(asked) == written
    assert parse(written) == asked and is_mode(written)


@pytest.mark.parametrize(
    "text", ["", "=3", "target=", "target=far", "target=nan", "target=inf", "target=1e39"]
)
def test_what_is_no_mode(text):
    with pytest.raises(JaxrlError, match="should be written NAME|is no number|must be finite"):
        parse(text)


def test_all_modes_unless_some_are_asked_for():
    assert choose((), MODES, "dt") == (Asked("target"), Asked("best"))
    assert choose(["best", "target=2", "target"], MODES, "dt") == (
        Asked("best"),
        Asked("target", 2.0),
        Asked("target"),
    )


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["targe=3"], "unknown mode of dt 'targe'. Did you mean target"),
        (["greedy"], "unknown mode of dt 'greedy'. Choose one of: best, target"),
        (["best=1"], "the mode best of dt takes no number: write best, not best=1"),
        (["target=1", "target=1.0"], "the mode target=1 is given twice"),
    ],
)
def test_what_cannot_be_chosen(asked, words):
    with pytest.raises(JaxrlError, match=words):
        choose(asked, MODES, "dt")


@pytest.mark.parametrize("name", ["Best", "a=1", "measure_x", "measure", "a b"])
def test_an_agents_names_must_be_such_as_files_can_hold(name):
    with pytest.raises(JaxrlError, match="its name must be"):
        choose((), {name: UNSTEERED}, "dt")


def test_the_order_of_the_modes_is_that_in_which_they_were_asked_for():
    """A dict that goes through a function of JAX comes back sorted, and the first mode ranks."""
    described = experiment()
    for names in (
        ("stochastic", "deterministic"),
        ("deterministic", "stochastic"),
        ("stochastic",),
    ):
        with shared_compilations():
            program = build(
                dataclasses.replace(described, run=dataclasses.replace(described.run, modes=names))
            )
            played = program.evaluate(program.policies(program.init()), 0)
        assert tuple(played) == names
