"""Datasets of the teachers: rows that are played, and rows of a training, at hand or made again."""

import functools
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxrl.config import override
from jaxrl.envs.registry import make
from jaxrl.errors import JaxrlError, RunWarning
from jaxrl.train import datasets, pretrained
from jaxrl.train.datasets.parts import taught
from jaxrl.train.datasets.parts.playing import mean_return, random_action
from jaxrl.train.experiment import Experiment, RunSettings, default_config
from jaxrl.train.loop import train
from jaxrl.train.recorder import replay_rows
from jaxrl.train.saved import open_policy
from jaxrl.types import View

pytest.importorskip("mujoco")
pytest.importorskip("gymnasium")

# They were trained with all optimisations, which tests do without.
pytestmark = pytest.mark.filterwarnings("ignore:.*was trained under other settings of JAX")

PLAYED = {
    "hopper-medium": 10_000,
    "hopper-medium-expert": 20_000,
    "halfcheetah-medium-expert": 20_000,
    "walker2d-expert-narrow": 1_000,
}
REPLAYED = ("hopper-medium-replay", "halfcheetah-medium-replay", "walker2d-medium-replay")
QUICK = ("hopper-medium", "hopper-medium-expert", "walker2d-expert-narrow")
SCORES = json.loads((Path(__file__).parents[3] / "experiments/results/teachers.json").read_text())

built = functools.cache(lambda name: datasets.build(name, small=True))


def slow_unless(names):
    """Those of PLAYED, the others marked as slow."""
    return [
        each if each in names else pytest.param(each, marks=pytest.mark.slow) for each in PLAYED
    ]


# ---- What they do


@pytest.mark.parametrize("name", slow_unless(QUICK))
def test_a_set_is_of_whole_episodes_and_says_whose(name):
    recorded = built(name)
    env, about = make(recorded.about["environment"]), recorded.about
    assert len(recorded) == PLAYED[name]
    assert (about["name"], about["seed"], about["small"]) == (name, 0, True)
    assert recorded.observation.shape[1:] == env.observation_space.shape
    assert recorded.action.shape[1:] == env.action_space.shape
    assert np.abs(recorded.action).max() <= 1.0
    assert about["reference_scores"] == list(taught.REFERENCE_SCORES[about["environment"]])
    levels = [level for level in taught.LEVELS if level in name]
    assert all(f"teacher:{about['environment']}/{level}" in about["source"] for level in levels)
    # Each ends at the horizon or where it falls, but for the last one of each level.
    cut = np.cumsum(recorded.length) % (len(recorded) // len(levels)) == 0
    ends = recorded.terminated[recorded.ends] | (recorded.length == env.horizon)
    assert np.all(ends | cut) and cut.sum() == len(levels)
    assert recorded.terminated.sum() == recorded.terminated[recorded.ends].sum()
    np.testing.assert_array_equal(
        recorded.truncated[recorded.ends], ~recorded.terminated[recorded.ends]
    )


def test_half_is_the_medium_set_and_half_the_experts():
    both, medium = built("hopper-medium-expert"), built("hopper-medium")
    for name in ("observation", "action", "reward", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(both, name)[: len(medium)], getattr(medium, name))
    returns = both.episode_returns[: len(medium.length)], both.episode_returns[len(medium.length) :]
    assert returns[0].mean() < 2400 < returns[1].mean()


def test_the_same_seed_gives_the_same_bits_and_another_one_others():
    name = "walker2d-expert-narrow"
    again, other = (datasets.build(name, small=True, seed=seed) for seed in (0, 1))
    assert again.sha256 == built(name).sha256 != other.sha256
    assert again.about == built(name).about


def test_the_narrow_one_is_of_the_deterministic_expert():
    recorded = built("walker2d-expert-narrow")
    assert "deterministic" in recorded.about["source"]
    policy = open_policy(pretrained.located("teacher:Walker2d-v5/expert"), "best")
    act = jax.vmap(policy.agent.modes["deterministic"].act, (None, None, 0, None))
    begin = functools.partial(View.at_start, action_space=policy.env.action_space)
    view = jax.vmap(begin)(recorded.observation[:50])
    action, _ = act(policy.policies, (), view, jax.random.key(0))
    np.testing.assert_allclose(action, recorded.action[:50], atol=1e-4)


# ---- What they did while they learned


@pytest.mark.parametrize("task", list(taught.REFERENCE_SCORES))
def test_the_training_is_the_one_that_made_the_teachers(task):
    training, transitions = taught.training_of(task)
    levels = SCORES["cells"][task]["levels"]
    assert transitions == levels["medium"]["transitions"]
    assert (training.algorithm, training.environment, training.run.seed) == ("sac", task, 100)
    assert training.config.replay_capacity == training.config.total_steps == 500_000
    assert taught.REFERENCE_SCORES[task][1] == pytest.approx(levels["expert"]["deterministic"])


@pytest.mark.slow
@pytest.mark.parametrize("task", list(taught.REFERENCE_SCORES))
def test_the_reference_score_of_chance_is_measured(task):
    env = make(task)
    found = mean_return(env, lambda seen, key: random_action(env, seen, key), seed=0)
    assert found == pytest.approx(taught.REFERENCE_SCORES[task][0], abs=2.0)


TASK, WANTED = "Pendulum-v1", 500
TINY = {
    "total_steps": 800,
    "num_steps": 100,
    "warm_up": 200,
    "replay_capacity": 800,
    "batch_size": 8,
    "hidden_sizes": (4,),
}


def tiny(task=TASK, seed=100, **settings):
    """A training as the teachers' was, but of a small network."""
    run = RunSettings(seed, num_evaluations=4, evaluation_episodes=1, devices=1)
    config = override(default_config("sac", task)[0], TINY | settings)
    return Experiment("sac", task, config, run)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the run of the training is that the tests take for a teacher's."""
    place = tmp_path_factory.mktemp("teachers")
    train(tiny(), place / TASK)
    return place


@pytest.fixture
def of_pendulum(monkeypatch):
    """A teacher whose medium policy was there after `WANTED` transitions."""
    monkeypatch.setattr(taught, "training_of", lambda task: (tiny(task), WANTED))
    monkeypatch.setitem(taught.REFERENCE_SCORES, TASK, (-1229.0, -162.0))
    return functools.partial(taught.learned, "pendulum", TASK, small=False)


def test_rows_of_a_run_at_hand_are_those_of_training_again(folder, of_pendulum, monkeypatch):
    monkeypatch.delenv(pretrained.TRAININGS, raising=False)
    with pytest.warns(RunWarning, match=r"SAC for 500 transitions.*JAXRL_TEACHERS=FOLDER takes"):
        trained = of_pendulum(seed=0)
    monkeypatch.setenv(pretrained.TRAININGS, str(folder))
    taken = of_pendulum(seed=0)
    assert taken.sha256 == trained.sha256 and taken.about == trained.about
    # All from the first: the random ones, and the rest.
    rows = replay_rows(folder / TASK)
    np.testing.assert_array_equal(taken.observation, rows.observation[:WANTED])
    np.testing.assert_array_equal(taken.reward, rows.reward[:WANTED])
    assert taken.length.tolist() == [200, 200, 100]
    about = taken.about
    assert "seed 100: 200 random ones" in about["source"] and about["trained_with"]["jax"]
    assert "training again" in about["cannot_be_remade"]


@pytest.mark.parametrize(
    ("wanted", "seed", "words"),
    [
        (tiny(), 1, "differs in:\n  seed: 101 -> 100"),
        (tiny("MountainCarContinuous-v0"), 0, "environment: .*Mountain.* -> .*Pendulum"),
        (tiny(hidden_sizes=(5,)), 0, r"hidden_sizes: \[5\] -> \[4\]"),
        (tiny(gamma=0.9), 0, "gamma: 0.9 -> 0.99"),
    ],
)
def test_another_run_than_the_teachers_is_refused(
    folder, of_pendulum, monkeypatch, wanted, seed, words
):
    monkeypatch.setenv(pretrained.TRAININGS, str(folder))
    monkeypatch.setattr(taught, "training_of", lambda task: (wanted, WANTED))
    with pytest.raises(JaxrlError, match=words):
        of_pendulum(seed=seed)


def test_a_run_that_is_too_short_or_not_there_is_refused(
    folder, of_pendulum, monkeypatch, tmp_path
):
    monkeypatch.setenv(pretrained.TRAININGS, str(folder))
    monkeypatch.setattr(taught, "training_of", lambda task: (tiny(), 900))
    with pytest.raises(JaxrlError, match="has 800 transitions, but 900 are wanted"):
        of_pendulum(seed=0)
    with pytest.raises(JaxrlError, match="no Hopper-v5 in it, only Pendulum-v1"):
        datasets.build("hopper-medium-replay")
    monkeypatch.setenv(pretrained.TRAININGS, str(tmp_path))
    with pytest.raises(JaxrlError, match="there is no run in it"):
        of_pendulum(seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", REPLAYED)
def test_a_small_replay_set_trains_a_small_network(name, monkeypatch):
    monkeypatch.setenv(pretrained.TRAININGS, "nowhere")  # which it does not look into
    recorded = built(name)
    assert len(recorded) == taught.SMALL_ROWS and recorded.about["small"]
    assert recorded.truncated[-1] or recorded.terminated[-1]
    assert "an early end" in recorded.about["source"]
    random, later = recorded.action[:500], recorded.action[500:]
    # Uniform in [-1, 1]: deviation 1 / sqrt(3).
    assert random.std() == pytest.approx(3**-0.5, abs=0.02) and np.abs(later).max() <= 1.0
    if name == REPLAYED[0]:
        assert datasets.build(name, small=True).sha256 == recorded.sha256
        other = datasets.build(name, small=True, seed=1)
        assert other.sha256 != recorded.sha256 and "seed 101" in other.about["source"]
