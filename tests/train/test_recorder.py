"""Recorded episodes, each row of which steps to what was seen; refusals; replay buffers."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.cli import main
from jaxrl.data.recording import Recording
from jaxrl.envs import registry
from jaxrl.errors import JaxrlError
from jaxrl.train.player import Played
from jaxrl.train.recorder import record, replay_rows
from jaxrl.train.saved import open_policy

WORDS = (
    "train sac --env Pendulum-v1 --total-steps 240 --num-envs 2 --num-steps 60 --warm-up 60 "
    "--batch-size 8 --hidden-sizes 8 --updates-per-transition 0.1 --replay-capacity 100 "
    "--num-evaluations 1 --evaluation-episodes 2 --devices 1 --quiet --folder"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recorder") / "run"
    assert main([*WORDS.split(), str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def recorded(run, tmp_path_factory):
    """(the file, its rows): three episodes, every seventh step."""
    path = tmp_path_factory.mktemp("recordings") / "pendulum.npz"
    words = ["collect", str(run), "--episodes", "3", "--stride", "7", "--quiet"]
    assert main([*words, "--output", str(path)]) == 0
    return path, Recording.read(path, registry.make("Pendulum-v1"))


def test_every_kth_step_of_every_episode_has_a_row(recorded):
    _, rows = recorded
    steps = list(range(0, 200, 7))
    assert rows.step.tolist() == steps * 3
    assert rows.episode.tolist() == [episode for episode in range(3) for _ in steps]
    assert rows.truncated.sum() == 0 and rows.terminated.sum() == 0  # step 199 has no row
    assert rows.header["episode_lengths"] == [200, 200, 200]
    assert rows.header["episode_truncated"] == [True] * 3
    assert rows.header["played_by"]["mode"] == "deterministic"
    assert np.all(np.isfinite(rows.value)) and np.all(rows.return_so_far[rows.step == 0] == 0)


def test_one_step_from_each_row_gives_what_was_seen(recorded):
    _, rows = recorded
    env = registry.make("Pendulum-v1")
    keys = jax.random.split(jax.random.key(0), len(rows))
    _, timestep = jax.jit(jax.vmap(env.step))(keys, rows.state, jnp.asarray(rows.action))
    np.testing.assert_allclose(timestep.observation, rows.next_observation, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(timestep.reward, rows.reward, rtol=1e-5, atol=1e-5)


def test_without_a_stride_rewards_add_up_to_the_returns(run):
    saved = open_policy(run, "last")
    rows = record(saved, 2, seed=5)
    assert len(rows) == 400 and rows.truncated.tolist() == ([False] * 199 + [True]) * 2
    for episode in range(2):
        own = rows.episode == episode
        earned = np.cumsum(rows.reward[own], dtype=np.float64)
        np.testing.assert_allclose(earned[-1], rows.episode_returns[episode], rtol=1e-5)
        np.testing.assert_allclose(rows.return_so_far[own][1:], earned[:-1], rtol=1e-5)
        np.testing.assert_array_equal(rows.observation[own][1:], rows.next_observation[own][:-1])
    view_key = jax.random.key(1)  # of a critic that draws: any
    del view_key
    assert rows.episode_returns.dtype == np.float32


def test_how_far_it_has_come_is_told_as_of_an_evaluation(run):
    told = []
    record(open_policy(run, "last"), 2, each_piece=told.append)
    assert told == [Played("deterministic", steps, 200, 0, 2) for steps in (64, 128, 192)]


def test_the_same_seed_records_the_same_bits(run):
    saved = open_policy(run, "last")
    first, again, other = (record(saved, 1, stride=50, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.observation, again.observation)
    assert not np.array_equal(first.observation, other.observation)


@pytest.mark.parametrize(
    ("environment_id", "words"),
    [
        ("MountainCarContinuous-v0", "the recording of Pendulum-v1 is of another environment"),
        ("probe/continuous-action", "class: .* there, .*ContinuousAction here"),
    ],
)
def test_a_recording_of_another_environment_is_refused(recorded, environment_id, words):
    with pytest.raises(JaxrlError, match=words):
        Recording.read(recorded[0], registry.make(environment_id))


def test_other_parameters_are_another_environment(recorded):
    path, rows = recorded
    parameters = rows.header["identity"]["parameters"]
    name = next(name for name, value in parameters.items() if isinstance(value, float))
    changed = json.loads(json.dumps(rows.header))
    changed["identity"]["parameters"][name] = parameters[name] + 1.0
    other = path.with_name("other.npz")
    other.write_bytes(
        functools.partial(Recording, changed)(
            **{field: getattr(rows, field) for field in vars(rows) if field != "header"}
        ).data()
    )
    with pytest.raises(JaxrlError, match=f"{name}: .* there, .* here"):
        Recording.read(other, registry.make("Pendulum-v1"))


def test_what_is_no_recording_is_refused(recorded, tmp_path):
    env = registry.make("Pendulum-v1")
    path = tmp_path / "it.npz"
    path.write_bytes(b"nothing")
    with pytest.raises(JaxrlError, match="should be a recording, .* but it is none"):
        Recording.read(path, env)
    np.savez(path, header=np.zeros(2))
    with pytest.raises(JaxrlError, match="should be a recording"):
        Recording.read(path, env)
    with np.load(recorded[0]) as file:
        arrays = dict(file)
    np.savez(path, **{name: array for name, array in arrays.items() if name != "state.0"})
    with pytest.raises(JaxrlError, match="it has no state.0"):
        Recording.read(path, env)
    np.savez(path, **arrays | {"reward": arrays["reward"][:-1]})
    with pytest.raises(JaxrlError, match=r"must be float32\["):
        Recording.read(path, env)
    whole = recorded[0].read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(JaxrlError, match="should be a recording"):
        Recording.read(path, env)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--episodes", "0"], "episodes is 0"),
        (["--stride", "0"], "stride is 0"),
        (["--seed", "-1"], "seed is -1"),
        (["--mode", "likeliest"], "likeliest"),
        (["--output", "there.txt"], "must end in .npz"),
        (["--output", "no/where/it.npz"], "no/where/it.npz"),
    ],
)
def test_bad_requests_are_refused_before_anything_is_played(run, words, says, capsys):
    assert main(["collect", str(run), *words]) == 2
    assert says in capsys.readouterr().err
    assert not (run / "recording.npz").exists()


def test_a_file_is_replaced_only_when_asked_to(run, recorded, capsys):
    path = str(recorded[0])
    kept = recorded[0].read_bytes()
    assert main(["collect", str(run), "--output", path]) == 2
    assert "--overwrite" in capsys.readouterr().err and recorded[0].read_bytes() == kept


def test_the_replay_buffer_of_a_run_is_read_oldest_row_first(run):
    rows = replay_rows(run)
    assert len(rows.reward) == 100 and rows.environment.tolist() == [0, 1] * 50
    one = rows.environment == 0
    goes_on = ~rows.truncated[one][:-1]
    following, led_to = rows.observation[one][1:], rows.final_observation[one][:-1]
    np.testing.assert_array_equal(following[goes_on], led_to[goes_on])
    assert np.all(np.abs(rows.action) <= 1.0)


def test_a_run_without_a_buffer_says_so(tmp_path):
    folder = tmp_path / "ppo"
    words = "train ppo --env CartPole-v1 --total-steps 64 --num-envs 4 --num-steps 8"
    more = "--minibatch-size 16 --hidden-sizes 4 --num-evaluations 1 --evaluation-episodes 2"
    assert main([*words.split(), *more.split(), "--quiet", "--folder", str(folder)]) == 0
    with pytest.raises(JaxrlError, match="holds no replay buffer"):
        replay_rows(folder)
