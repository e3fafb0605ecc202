"""Banks: read from recordings, made from demonstrations, described; and what is refused."""

import functools
import importlib.metadata
import json

import jax
import numpy as np
import pytest

from jaxrl.cli import main
from jaxrl.data.recording import Recording
from jaxrl.data.snapshots import bank_of, demonstrated, read_bank, values_of
from jaxrl.envs import registry
from jaxrl.errors import JaxrlError
from tests.train.tiny import same_bits

ENVIRONMENT = "CartPole-v1"
WORDS = (
    "train ppo --env CartPole-v1 --total-steps 64 --num-envs 4 --num-steps 8 --minibatch-size 16 "
    "--hidden-sizes 4 --num-evaluations 1 --evaluation-episodes 2 --devices 1 --quiet --folder"
)


@pytest.fixture(scope="module")
def bank(tmp_path_factory):
    """The file that `jaxrl snapshot` writes: five episodes of a policy that has learned nothing."""
    folder = tmp_path_factory.mktemp("snapshots") / "run"
    assert main([*WORDS.split(), str(folder)]) == 0
    words = ["snapshot", str(folder), "--episodes", "5", "--mode", "stochastic", "--quiet"]
    assert main(words) == 0
    return folder / "bank.npz"


def test_a_bank_has_every_tenth_step_and_the_critics_values(bank):
    env = registry.make(ENVIRONMENT)
    found, recording = read_bank(bank, env), Recording.read(bank, env)
    assert found.rows == len(recording) >= 5 and np.all(found.step % 10 == 0)
    np.testing.assert_array_equal(found.value, recording.value)
    lengths = np.array(recording.header["episode_lengths"])
    # Of 1 a step.
    np.testing.assert_array_equal(found.return_to_go, lengths[found.episode] - found.step)
    assert recording.header["played_by"]["mode"] == "stochastic"
    assert same_bits(found.state, recording.state)


def changed(recording, **changes):
    fields = {name: changes.get(name, value) for name, value in vars(recording).items()}
    return Recording(**fields)


def test_without_a_critic_values_are_returns_to_go_and_the_cut_rows_are_counted(bank):
    recording = Recording.read(bank, registry.make(ENVIRONMENT))
    about = recording.header | {"episode_truncated": [False, True, False, True, False]}
    unknown = changed(recording, header=about, value=np.full(len(recording), np.nan, np.float32))
    found = values_of(unknown.header, vars(unknown))
    assert not found.from_critic
    np.testing.assert_array_equal(found.value, found.return_to_go)
    assert found.cut == np.sum(recording.episode % 2 == 1)


def test_of_an_older_bank_episodes_of_full_length_are_taken_for_cut(bank):
    recording = Recording.read(bank, registry.make(ENVIRONMENT))
    older = recording.header | {"episode_lengths": [500, 3, 3, 3, 3]}
    del older["episode_truncated"]
    assert values_of(older, vars(recording)).cut == np.sum(recording.episode == 0)


def test_an_episode_that_terminates_on_its_last_step_is_not_cut():
    env = registry.make("tabular/deep-sea", depth=5)
    found = demonstrated(env, "tabular/deep-sea", {"depth": 5}, np.ones(5), jax.random.key(0))
    assert found.header["episode_lengths"] == [env.horizon]
    assert values_of(found.header, vars(found)).cut == 0


def test_an_episode_that_goes_on_at_its_last_step_is_cut():
    env = registry.make("probe/continuous-never-ending")
    actions = np.zeros((env.horizon + 2, 1))
    found = demonstrated(env, "probe/continuous-never-ending", {}, actions, jax.random.key(0))
    assert found.truncated.tolist() == [False] * (env.horizon - 1) + [True]
    assert values_of(found.header, vars(found)).cut == len(found) == env.horizon


def test_a_demonstration_is_a_recording_to_its_end():
    env = registry.make("tabular/deep-sea", depth=5)
    actions = np.array([1, 1, 0, 1, 1, 1, 1])  # two more than there are steps
    found = demonstrated(env, "tabular/deep-sea", {"depth": 5}, actions, jax.random.key(0))
    assert len(found) == 5 and found.terminated.tolist() == [False] * 4 + [True]
    assert found.state.state.tolist() == [0, 1, 2, 1, 2] and not found.truncated.any()
    np.testing.assert_allclose(found.return_so_far, [0, 0, 0, 0.002, 0.002])
    bank = bank_of(found)
    np.testing.assert_allclose(bank.return_to_go, [0.002, 0.002, 0.002, 0, 0], atol=1e-9)
    np.testing.assert_array_equal(bank.value, bank.return_to_go)


@pytest.mark.parametrize("number", [0, 2])
def test_a_demonstration_that_stops_early_is_refused(number):
    env = registry.make("tabular/deep-sea", depth=5)
    with pytest.raises(JaxrlError, match=f"the actions end after {number} of 5 steps, before"):
        demonstrated(env, "tabular/deep-sea", {}, np.ones(number), jax.random.key(0))


def test_a_demonstration_names_the_versions_of_its_simulator(tmp_path):
    env = registry.make(ENVIRONMENT)
    found = demonstrated(env, ENVIRONMENT, {}, np.ones(20), jax.random.key(0))
    assert found.header["versions"] == {"gymnax": importlib.metadata.version("gymnax")}
    path = tmp_path / "bank.npz"
    path.write_bytes(found.data())
    assert read_bank(path, env).rows == len(found) < 20


def test_info_says_what_a_bank_holds_and_draws_it(bank, capsys):
    assert main(["snapshot", "info", str(bank), "--clusters", "2"]) == 0
    text = capsys.readouterr().out
    assert "snapshots of CartPole-v1, from 5 episodes of ppo, stochastic" in text
    assert "values: the critic's values" in text and "50.0% of the starts" in text
    assert bank.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


TRAIN = "train ppo --env CartPole-v1 --starts snapshots --total-steps 8000 --folder"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "SnapshotsConfig needs bank"),
        (["--bank", "BANK", "--env", "Acrobot-v1"], "is of another environment"),
        (["--bank", "EMPTY"], "the bank is empty: it holds no rows"),
        (["--bank", "OLDER"], "recorded with gymnax 0.0.1"),
        (["--bank", "UNSAID"], "does not say with which version of gymnax it was recorded"),
        (["--bank", "PARTLY"], "its values are not all finite"),
        (["--bank", "BANK", "--clusters", "100000"], "clusters is 100000, but the bank has only"),
        (["--bank", "BANK", "--snapshot-steps", "9000"], "snapshot_steps is 9000"),
        (["--bank", "BANK", "--snapshot-steps", "9"], "less than one iteration"),
        (["--bank", "BANK", "--snapshot-limit", "0"], "snapshot_limit is 0"),
        (["--bank", "BANK", "--snapshot-share", "2"], "snapshot_share is 2"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_requests_are_refused_by_name_before_compilation(
    bank, tmp_path, monkeypatch, words, says, capsys
):
    def compiles(*_, **__):
        raise AssertionError("a bad request reached the compiler")

    monkeypatch.setattr("jaxrl.train.population.Population.call", compiles)
    recording = Recording.read(bank, registry.make(ENVIRONMENT))
    nothing = {
        name: jax.tree.map(lambda leaf: leaf[:0], value)
        for name, value in vars(recording).items()
        if name != "header"
    }
    older = json.loads(json.dumps(recording.header))
    older["versions"]["gymnax"] = "0.0.1"
    unsaid = {name: each for name, each in recording.header.items() if name != "versions"}
    partly = np.where(np.arange(len(recording)) == 0, np.nan, recording.value)
    files = {
        "EMPTY": changed(recording, **nothing),
        "OLDER": changed(recording, header=older),
        "UNSAID": changed(recording, header=unsaid),
        "PARTLY": changed(recording, value=partly.astype(np.float32)),
    }
    paths = {"BANK": str(bank)}
    for name, file in files.items():
        (tmp_path / name).write_bytes(file.data())
        paths[name] = str(tmp_path / name)
    given = [*TRAIN.split(), str(tmp_path / "run"), *(paths.get(word, word) for word in words)]
    assert main(given) == 2
    assert says in capsys.readouterr().err and not (tmp_path / "run").exists()


def test_another_option_of_the_environment_is_another_environment(tmp_path):
    make = functools.partial(registry.make, "tabular/deep-sea")
    shown = demonstrated(make(depth=5), "tabular/deep-sea", {}, np.ones(5), jax.random.key(0))
    path = tmp_path / "bank.npz"
    path.write_bytes(shown.data())
    assert read_bank(path, make(depth=5)).rows == 5
    with pytest.raises(JaxrlError, match="of another environment"):
        read_bank(path, make(depth=6))
