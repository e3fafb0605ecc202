"""The policies of every evaluation, kept where a run is asked to keep them."""

import shutil

import jax
import numpy as np
import pytest

from jaxrl.cli import main
from jaxrl.errors import JaxrlError
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.saved import open_policy

WORDS = (
    "train ppo --env CartPole-v1 --total-steps 256 --num-envs 4 --num-steps 8 --minibatch-size 16 "
    "--hidden-sizes 4 --num-evaluations 4 --evaluation-episodes 2 --devices 1 --quiet"
)


def train(folder, *more):
    assert main([*WORDS.split(), *more, "--folder", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tmp_path_factory.mktemp("kept") / "run", "--keep-policies")


def bits(folder, checkpoint):
    policy = open_policy(folder, checkpoint).policies
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(policy)]


def test_those_of_every_evaluation_are_kept_and_are_what_they_were(run):
    assert Checkpoints(run).kept() == [0, 2, 4, 6, 8]
    assert bits(run, "8") == bits(run, "last") != bits(run, "6")


def test_they_are_evaluated_by_their_iteration(run, capsys):
    assert main(["eval", str(run), "--checkpoint", "4", "--episodes", "3", "--quiet"]) == 0
    assert main(["eval", str(run), "--checkpoint", "5", "--episodes", "3"]) == 2
    assert "keeps no policies of iteration 5. Kept: 0, 2, 4, 6, 8." in capsys.readouterr().err
    assert main(["eval", str(run), "--checkpoint", "lats"]) == 2
    said = capsys.readouterr().err
    assert "'lats'" in said and "'best', 'last'" in said


def test_a_run_that_was_not_asked_to_keeps_none(tmp_path):
    folder = train(tmp_path / "run")
    assert Checkpoints(folder).kept() == []
    with pytest.raises(JaxrlError, match="none .train with --keep-policies"):
        open_policy(folder, "4")


def test_a_run_that_goes_on_from_an_earlier_checkpoint_keeps_them_anew(run, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    before = bits(folder, "8")
    shutil.rmtree(folder / "checkpoints" / "000000008")
    assert main(["resume", str(folder), "--quiet"]) == 0
    assert Checkpoints(folder).kept() == [0, 2, 4, 6, 8]
    assert bits(folder, "8") == before
