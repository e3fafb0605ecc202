"""Policies that become a part of jaxrl: chosen, written, and found by their names."""

import importlib
import tempfile

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.cli import main
from jaxrl.errors import JaxrlError
from jaxrl.train import pretrained
from jaxrl.train.saved import open_policy

WORDS = (
    "train ppo --env CartPole-v1 --total-steps 256 --num-envs 4 --num-steps 8 --minibatch-size 16 "
    "--hidden-sizes 4 --num-evaluations 4 --evaluation-episodes 2 --devices 1 --quiet "
    "--keep-policies --folder"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teachers") / "run"
    assert main([*WORDS.split(), str(folder)]) == 0
    return folder


@pytest.fixture
def exported(run, tmp_path, monkeypatch):
    """(the folder of a teacher, its row of the table) of the run's policy of iteration 6."""
    script = importlib.import_module("training")
    monkeypatch.setattr(script, "EPISODES", 3)
    monkeypatch.setattr(pretrained, "ROOT", tmp_path)
    folder = pretrained.folder_of("teacher:task/expert")
    return folder, script.export(run, "6", folder)


def policy(folder, checkpoint):
    return [np.asarray(leaf) for leaf in jax.tree.leaves(open_policy(folder, checkpoint).policies)]


def test_a_teacher_is_the_policy_of_its_iteration_and_nothing_else(run, exported):
    folder, row = exported
    for found, kept in zip(policy(folder, "best"), policy(run, "6"), strict=True):
        np.testing.assert_array_equal(found, kept)
    assert row["transitions"] == 6 * 32 and row["episodes"] == 3
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "config.json"]
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["best-000000006"]
    # Where it was saved is nobody's business.
    files = (path for path in folder.rglob("*") if path.is_file())
    assert not any(tempfile.gettempdir().encode() in path.read_bytes() for path in files)


def test_commands_and_python_find_it_by_name(exported, tmp_path, capsys):
    assert pretrained.names() == ["teacher:task/expert"]
    assert main(["eval", "teacher:task/expert", "--episodes", "3"]) == 0
    assert "teacher:task/expert: best checkpoint, iteration 6" in capsys.readouterr().out
    assert jaxrl.load("teacher:task/expert").act(np.zeros(4, np.float32)) in (0, 1)
    words = ["collect", "teacher:task/expert", "--episodes", "1"]
    assert main(words) == 2
    assert "--output" in capsys.readouterr().err
    assert main([*words, "--output", str(tmp_path / "it.npz"), "--quiet"]) == 0
    assert main(["eval", "teacher:task/experd"]) == 2
    assert "Did you mean teacher:task/expert?" in capsys.readouterr().err


def test_medium_is_the_first_evaluation_of_a_third_of_the_last(run, monkeypatch):
    script = importlib.import_module("teachers")

    class Told:
        evaluations = {"iteration": np.asarray([0, 2, 4, 6])}

        def returns(self):
            return np.asarray([10.0, 99.0, 101.0, 300.0])[:, None, None]

    monkeypatch.setattr(script, "load_run", lambda folder: Told())
    assert script.chosen(run) == {"medium": 4, "expert": 6}


def test_a_score_names_the_seeds_that_the_run_had(tmp_path, monkeypatch):
    script = importlib.import_module("training")

    class Told:
        environment = "task"
        evaluations = {"deterministic_returns": np.zeros((1, 1, 1, 3))}
        metrics = [{"seconds": 1.0}]

        def returns(self, mode):
            return np.asarray([5.0])[:, None, None]

    about = {"run": {"seed": 100}, "num_iterations": 2, "samples_per_step": 8, "versions": {}}
    monkeypatch.setattr(script, "load_run", lambda folder: Told())
    monkeypatch.setattr(script, "read_description", lambda folder: about)
    assert script.score(tmp_path)["seeds"] == [100]


def test_without_any_it_is_said_how_to_make_them(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "ROOT", tmp_path)
    with pytest.raises(JaxrlError, match=r"no teachers are there. python experiments/teachers.py"):
        pretrained.located("teacher:Hopper-v5/expert")
