"""An algorithm of one's own through every command: two networks of one kind, an input,
a mode that is steered."""

import json

import jax
import numpy as np
import pytest
from PIL import Image

from jaxrl.train.acting import load
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.folder import read_description
from jaxrl.train.files.logs import load_evaluations, read_metrics
from jaxrl.train.population import Population
from jaxrl.train.saved import experiment_of
from jaxrl.train.trust import Trust
from jaxrl.types import View
from tests.extension.conftest import CLONE, CLONING, LENGTH, LEVERS, OUTSIDE
from tests.extension.outside.levers import Levers
from tests.train.tiny import newest_state, records, same_bits

ALLOW = ["--imports", CLONING, "--imports", f"{OUTSIDE}.levers:Levers"]
STOP = 7  # of 24 iterations; evaluations are at 0, 12 and 24
TRUST = Trust(True)


@pytest.fixture
def whole(run, dataset, tmp_path):
    """A run from its beginning to its end."""
    run(*CLONE, "--dataset", dataset, "--folder", tmp_path / "whole")
    return tmp_path / "whole"


@pytest.fixture
def compiled(monkeypatch):
    """The names of all programs that are compiled from now on."""
    names, call = [], Population.call

    def count(self, name, *arguments, **options):
        if name not in self.compiled:
            names.append(name)
        return call(self, name, *arguments, **options)

    monkeypatch.setattr(Population, "call", count)
    return names


def returns_of(output):
    """The modes and returns of a printed table."""
    rows = [line.replace("|", " ").split() for line in output.splitlines() if "target=" in line]
    return {row[0]: float(row[1]) for row in rows}


def test_it_is_trained_and_its_policy_used_elsewhere_without_its_input(
    run, whole, dataset, tmp_path, monkeypatch, compiled
):
    losses = [row["actor_loss"] for row in read_metrics(whole)]
    assert losses[-1] < 0.1 * losses[0]
    described = read_description(whole)
    assert (described["unit"], described["num_iterations"]) == ("gradient steps", 24)
    assert list(described["inputs"]) == ["dataset"]
    evaluated = load_evaluations(whole)
    assert np.all(evaluated["target=5_returns"][-1] == LENGTH) and np.all(
        evaluated["target=0_returns"][-1] == 0
    )

    dataset.rename(tmp_path / "away.npz")
    monkeypatch.chdir("/")
    modes = ["--mode", "target=0", "--mode", "target=5"]
    found = returns_of(run("eval", whole, "--episodes", 8, *modes, *ALLOW)[0])
    assert found == {"target=0": 0.0, "target=5": LENGTH}
    assert sorted(compiled) == ["begin target=", "keys target", "play target="], (
        "one for both numbers"
    )

    run("render", whole, *ALLOW, "--mode", "target=0")
    with Image.open(whole / "plots" / "episode.gif") as film:
        assert film.n_frames == LENGTH and film.size[0] >= 80
    run("plot", whole)
    assert (whole / "plots" / "learning_curve.png").stat().st_size > 1000

    loaded = load(whole, trust=TRUST)
    env, agent, policy = loaded.env, loaded.agent, loaded.policy
    first = View.at_start(env.reset(jax.random.key(0))[1], env.action_space)
    assert (
        isinstance(env, Levers)
        and abs(agent.value(policy, (), first, jax.random.key(1)) - LENGTH / 2) < 0.5
    )
    assert float(policy.aim) == LENGTH, "the best that was recorded"


def test_it_goes_on_where_it_was_stopped(run, whole, stopped, dataset, tmp_path):
    halves = tmp_path / "halves"
    assert stopped(STOP, *CLONE, "--dataset", dataset, "--folder", halves) == 128 + 15
    assert Checkpoints(halves).iterations()[-1] == STOP
    moved = dataset.rename(tmp_path / "moved.npz")
    run("resume", halves, *ALLOW, "--set", f"dataset={moved}", "--quiet")
    moved.rename(dataset)
    experiment = experiment_of(whole, TRUST)
    assert same_bits(newest_state(whole, experiment), newest_state(halves, experiment))
    assert records(whole) == records(halves)
    (step,) = read_description(halves)["history"]
    assert step["changes"] == [
        f"config.dataset: {json.dumps(str(dataset))} -> {json.dumps(str(moved))}"
    ]


def test_numbers_of_one_of_its_networks_are_swept(run, dataset, tmp_path):
    words = [
        "sweep",
        *CLONE[1:],
        "--dataset",
        dataset,
        "--num-seeds",
        2,
        "--devices",
        1,
        "--modes",
        "target=5",
    ]
    folder = tmp_path / "swept"
    run(*words, "--over", "actor_learning_rate=0,0.05", "--total-steps", 240, "--folder", folder)
    assert load_evaluations(folder)["target=5_returns"].shape == (3, 2, 2, 8)
    last = read_metrics(folder)[-1]
    actor, critic = np.asarray(last["actor_loss"]), np.asarray(last["critic_loss"])
    assert actor.shape == (2, 2) and np.all(actor[1] < 0.5 * actor[0])
    np.testing.assert_allclose(
        critic[0], critic[1], rtol=1e-5, err_msg="the other network's number is its own"
    )
    run("plot", folder)
    assert (folder / "plots" / "sweep.png").exists()


def test_its_help_shows_both_networks(run):
    text = " ".join(run("train", CLONING, "--help")[0].replace("│", " ").split())
    for words in (
        "Cloning of recorded actions",
        "--actor-width INT",
        "--critic-learning-rate FLOAT",
        "--dataset STR",
    ):
        assert words in text
    swept = " ".join(run("sweep", CLONING, *LEVERS, "--help")[0].replace("│", " ").split())
    assert "side by side: actor_learning_rate, critic_learning_rate; and others, in turn." in swept
