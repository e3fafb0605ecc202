"""Runs that go on with the policies of another one: member by member or from a single one,
whatever shares the run."""

import dataclasses
import shutil
import warnings

import numpy as np
import pytest

from jaxrl.algos.registry import AlgorithmSpec
from jaxrl.errors import JaxrlError, RunWarning
from jaxrl.train import build as building
from jaxrl.train import loop
from jaxrl.train.build import build
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.folder import read_description
from jaxrl.train.saved import last_policies
from tests.train.test_loop import Stopping
from tests.train.tiny import arrays, experiment, newest_state, same_bits, shared_compilations


@pytest.fixture(scope="module", autouse=True)
def shared():
    with shared_compilations():
        yield


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """A run of one member, and one of two seeds, both finished."""
    folder = tmp_path_factory.mktemp("earlier")
    loop.train(experiment(), folder / "one")
    loop.train(experiment(num_seeds=2), folder / "two")
    return folder


def beginning(made, folder, **run):
    return dataclasses.replace(
        made, run=dataclasses.replace(made.run, init_from=str(folder), **run)
    )


@pytest.mark.parametrize(
    ("name", "seeds", "mesh"),
    [
        ("one", 1, ()),
        ("one", 2, ()),
        pytest.param("one", 1, ("env=4",), marks=pytest.mark.slow),
        pytest.param("two", 2, ("env=4",), marks=pytest.mark.slow),
        ("two", 2, ("seed=2",)),
    ],
)
def test_the_first_policies_are_the_last_ones_of_the_other_run(earlier, name, seeds, mesh):
    made = build(
        beginning(
            experiment(num_seeds=seeds), earlier / name, devices=None if mesh else 1, mesh=mesh
        )
    )
    state = made.init()
    theirs = arrays(last_policies(earlier / name).policies)
    for ours, leaf in zip(arrays(made.whole(made.policies(state))), theirs, strict=True):
        np.testing.assert_array_equal(ours, np.broadcast_to(leaf, ours.shape))
    fresh = build(experiment(num_seeds=seeds)).init()
    assert all(
        np.all(np.equal(*pair)) for pair in zip(arrays(state.key), arrays(fresh.key), strict=True)
    )
    state, _ = made.chunk(state, 1)  # whose shapes are those of any other state


def test_a_run_that_began_so_is_described_and_resumed(earlier, tmp_path, monkeypatch):
    made = beginning(experiment(seed=3), earlier / "one")
    loop.train(made, tmp_path / "whole")
    description = read_description(tmp_path / "whole")
    assert (
        description["run"]["init_from"] == str(earlier / "one")
        and description["inputs"]["init_from"]
    )
    with (
        monkeypatch.context() as patch,
        pytest.raises(KeyboardInterrupt),
    ):  # before there is a checkpoint
        patch.setattr(loop.Runner, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        loop.train(made, tmp_path / "killed")
    assert not Checkpoints(tmp_path / "killed").iterations()
    loop.resume(tmp_path / "killed")
    assert same_bits(newest_state(tmp_path / "whole"), newest_state(tmp_path / "killed"))
    assert not same_bits(newest_state(tmp_path / "whole"), newest_state(earlier / "one"))


def test_a_run_that_has_begun_needs_the_other_one_no_more(earlier, tmp_path):
    """That may have been trained further since, or be gone; what came of it is in a checkpoint."""
    shutil.copytree(earlier / "one", tmp_path / "source")
    made = beginning(experiment(seed=3), tmp_path / "source")
    loop.train(made, tmp_path / "whole")
    loop.train(made, tmp_path / "run", console=Stopping(9))
    description = read_description(tmp_path / "run")
    shutil.rmtree(tmp_path / "source")
    loop.resume(tmp_path / "run")
    assert same_bits(newest_state(tmp_path / "whole"), newest_state(tmp_path / "run"))
    assert read_description(tmp_path / "run") == description


def test_before_that_it_begins_with_the_same_policies_alone(earlier, tmp_path, monkeypatch):
    shutil.copytree(earlier / "one", tmp_path / "source")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop.Runner, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        loop.train(beginning(experiment(seed=3), tmp_path / "source"), tmp_path / "run")
    shutil.rmtree(tmp_path / "source")
    with pytest.raises(JaxrlError, match="is not a run folder.* --set init_from=PATH"):
        loop.resume(tmp_path / "run")
    loop.train(experiment(seed=4), tmp_path / "source")
    with pytest.raises(
        JaxrlError, match=f"init_from is not what the run in .* was begun with: {tmp_path}"
    ):
        loop.resume(tmp_path / "run", force=True)


def test_policies_that_act_otherwise_with_the_same_parameters_are_named(earlier):
    made = beginning(experiment(activation="relu", gamma=0.5), earlier / "one")
    with pytest.warns(RunWarning, match="act otherwise here, .*: activation: tanh there, relu her"):
        build(made)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RunWarning)
        build(beginning(experiment(gamma=0.5, num_epochs=2), earlier / "one"))


def test_what_it_began_from_may_have_moved(earlier, tmp_path, monkeypatch):
    shutil.copytree(earlier / "one", tmp_path / "source")
    monkeypatch.chdir(tmp_path)
    loop.train(beginning(experiment(seed=3), "source"), tmp_path / "run")
    monkeypatch.chdir("/")
    loop.resume(tmp_path / "run")
    loop.resume(tmp_path / "run", changes={"init_from": str(earlier / "one")})
    assert read_description(tmp_path / "run")["run"]["init_from"] == str(earlier / "one")
    with pytest.raises(JaxrlError, match="init_from is not what the run in .* was begun with"):
        loop.resume(tmp_path / "run", changes={"init_from": str(tmp_path / "run")}, force=True)
    with pytest.raises(JaxrlError, match="unknown option of PPOConfig 'init_from'"):
        loop.resume(earlier / "one", changes={"init_from": str(tmp_path / "run")}, force=True)


def test_what_cannot_be_begun_from_is_refused_before_there_is_a_folder(
    earlier, tmp_path, monkeypatch
):
    cases = {
        "is not a run folder": beginning(experiment(), tmp_path),
        "a run of probe/two-lengths, but the environment is probe/two-step": beginning(
            experiment("probe/two-step"), earlier / "one"
        ),
        "of 1 settings and 2 seeds, but this run has 1 settings and 3 seeds": beginning(
            experiment(num_seeds=3), earlier / "two"
        ),
        "whose policies have other shapes": beginning(
            experiment(hidden_sizes=(8,)), earlier / "one"
        ),
    }
    for words, made in cases.items():
        with pytest.raises(JaxrlError, match=words):
            loop.train(made, tmp_path / "run")

    def without(name):
        spec = load(name)
        return AlgorithmSpec(
            name,
            lambda *a: spec.factory(*a)._replace(begin_from=None),
            spec.config_class,
            spec.agent,
        )

    load = building.load
    monkeypatch.setattr(building, "load", without)
    monkeypatch.setattr(building, "read_inputs", lambda *_: {})
    with pytest.raises(JaxrlError, match="ppo cannot begin from another run's policy"):
        loop.train(beginning(experiment(), earlier / "one"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
