"""Sizes that are too large: said before anything is compiled, or else in words."""

import warnings

import jax
import numpy as np
import pytest

from jaxrl import cli
from jaxrl.algos.ppo import PPOConfig, ppo
from jaxrl.envs.registry import make
from jaxrl.errors import JaxrlError, RunWarning
from jaxrl.train import capacity
from jaxrl.train.build import build
from jaxrl.train.output.record import record_episode
from jaxrl.train.population import Population
from jaxrl.train.recorder import Gathered
from jaxrl.train.saved import open_policy
from tests.train.tiny import ARGUMENTS, arrays, experiment

BILLION = 10**9
TOO_LARGE = {
    "train ppo PPO --total-steps 1e13": [
        "total_steps is 10000000000000",
        "312500000000 iterations",
    ],
    "train ppo PPO --num-envs 1e10": ["num_envs is 10000000000", "2^31 - 1"],
    "train ppo PPO --num-envs 1e9 --num-steps 8": ["1000000000 * 8 = 8000000000", "2147483647"],
    "train ppo PPO --num-envs 1e9 --num-steps 1 --minibatch-size 1e9 --total-steps 1e12": [
        "num_envs=1000000000",
        "GB of memory",
    ],
    "train ppo PPO --num-envs 1e7 --num-steps 200 --minibatch-size 1e9 --total-steps 1e12": [
        "num_envs=10000000, num_steps=200",
        "GB of memory",
    ],
    "train ppo PPO --num-seeds 2000000000": ["2000000000 members", "GB of memory"],
    "train ppo PPO --evaluation-episodes 1e9": ["1000000000 episodes at once", "GB of memory"],
    "train ppo PPO --evaluation-episodes 1e10": [
        "evaluation_episodes",
        "10000000000",
        "2147483647",
    ],
    "train sac --env Pendulum-v1 --replay-capacity 2e9": ["replay_capacity=2000000000", "GB of"],
    "train sac --env Pendulum-v1 --total-steps 1e10": ["total_steps is 10000000000", "2147483647"],
}
EPISODES = {
    "eval RUN --episodes 1000000000": ["1000000000 episodes at once", "GB of memory"],
    "collect RUN --episodes 1000000000": ["1000000000 episodes at once", "GB of memory"],
    "collect RUN --episodes 3000000": ["64 steps of 3000000 episodes", "GB of memory"],
    "eval RUN --episodes 1e12": ["--episodes", "1000000000000", "2147483647"],
}


@pytest.fixture(scope="module")
def probe(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("capacity") / "run"
    assert cli.main(["train", "ppo", *ARGUMENTS, "--folder", str(folder), "--quiet"]) == 0
    return folder


@pytest.fixture(autouse=True)
def memory(monkeypatch):
    """A machine with 5 GB left."""
    monkeypatch.setattr(capacity, "_host_memory", lambda: 5 * BILLION)


def test_what_fits_passes():
    build(experiment())


@pytest.mark.usefixtures("nothing_compiles")
@pytest.mark.parametrize(("text", "named"), TOO_LARGE.items(), ids=list(TOO_LARGE))
def test_what_cannot_be_held_or_counted_is_refused(ask, tmp_path, text, named):
    small = ["--env", "probe/two-lengths", "--num-envs", "4", "--num-steps", "8"]
    words = []
    for word in text.split():
        words += [*small, "--minibatch-size", "8"] if word == "PPO" else [word]
    status, _, errors = ask(*words, "--folder", tmp_path / "run")
    assert status == 2
    assert [word for word in named if word not in errors] == [], errors
    assert not (tmp_path / "run").exists()


def test_more_episodes_than_fit_are_refused(ask, probe, monkeypatch):
    monkeypatch.setattr(Population, "call", None)
    for text, named in EPISODES.items():
        status, _, errors = ask(*text.replace("RUN", str(probe)).split())
        assert status == 2
        assert [word for word in named if word not in errors] == [], errors


def test_rows_that_may_become_too_many_are_warned_of():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        capacity.check_rows(piece=6400, steps=64, episodes=10, kept=1000)
    said = "if all 10 episodes last .* their 10,000,000,000 rows need 2,000.0 GB .* 5.0 GB are"
    with pytest.warns(RunWarning, match=said):
        capacity.check_rows(piece=64000, steps=64, episodes=10, kept=BILLION)


def test_gathering_ends_where_memory_does(monkeypatch):
    """What was gathered, put together, and another piece: 10 + 10 rows of 18 bytes and 19."""
    kept = {
        "running": np.ones((5, 2), bool),
        "reward": np.ones((5, 2), np.float64),
        "terminated": np.zeros((5, 2), bool),
        "truncated": np.zeros((5, 2), bool),
        "step": np.arange(10).reshape(5, 2) // 2,
    }
    gathered = Gathered("stochastic", 100, stride=1, num_episodes=2)
    monkeypatch.setattr(capacity, "_host_memory", lambda: 10 * (18 + 19))
    gathered.add(dict(kept))
    assert gathered.returns.tolist() == [5, 5]
    with pytest.raises(JaxrlError, match="the 20 rows of 2 episodes up to here, .* --stride"):
        gathered.add(dict(kept))


def test_filming_ends_where_memory_does(probe, monkeypatch):
    env, agent = make("probe/two-lengths"), open_policy(probe, "last").agent
    monkeypatch.setattr(capacity, "_host_memory", lambda: 1)
    policy = agent.init(jax.random.key(0))
    with pytest.raises(JaxrlError, match="frames up to here, put together, .* shorter time limit"):
        record_episode(env, agent, policy, jax.random.key(0), "deterministic")


def test_a_program_that_needs_more_than_there_is_does_not_run(monkeypatch):
    program = build(experiment())
    program.population.compiled = {}
    monkeypatch.setattr(capacity, "_host_memory", lambda: 100)
    with pytest.raises(JaxrlError, match="the program init and its results need at least 0.0 MB"):
        program.init()


@pytest.mark.parametrize(
    "error",
    [
        jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 7 bytes.\nat x"),
        jax.errors.JaxRuntimeError(
            "INTERNAL: Error dispatching: Out of memory allocating 7 bytes."
        ),
        MemoryError("Unable to allocate 7 bytes"),
    ],
)
def test_exhausted_memory_is_said_in_words(monkeypatch, error):
    program = build(experiment())
    program.population.compiled = {}

    def exhausted(*_):
        raise error

    monkeypatch.setattr("jaxrl.train.population.check_program", exhausted)
    with pytest.raises(JaxrlError, match=r"memory of the device is exhausted \(init: .*7 bytes"):
        program.init()


def test_other_errors_of_the_device_stay_what_they_are():
    bug = jax.errors.JaxRuntimeError("INTERNAL: a bug")
    with pytest.raises(type(bug), match="a bug"), capacity.exhaustion_in_words("init"):
        raise bug


def test_the_state_is_counted_as_it_is_made():
    """What is refused is no estimate: the bytes of the arrays that there would be."""
    env = make("CartPole-v1")
    config = PPOConfig(num_envs=8, num_steps=4, minibatch_size=8)
    state = jax.eval_shape(ppo(env, config).init, jax.random.key(0))
    made = jax.tree.leaves(ppo(env, config).init(jax.random.key(0)))
    assert capacity.tree_bytes(state) == sum(array.nbytes for array in arrays(made))


def test_the_keys_of_many_seeds_are_those_of_each():
    program = build(experiment(num_seeds=3, seed=7))
    for offset in range(3):
        alone = build(experiment(seed=7 + offset))
        np.testing.assert_array_equal(
            jax.random.key_data(program.whole(program._keys))[0, offset],
            jax.random.key_data(alone._keys),
        )
        np.testing.assert_array_equal(
            jax.random.key_data(alone._keys), jax.random.key_data(jax.random.key(7 + offset))
        )
