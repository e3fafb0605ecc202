"""What `jaxrl new` writes, used from outside of jaxrl: it learns, and every command takes it."""

import gymnasium
import jax
import numpy as np
import pytest
from PIL import Image

from jaxrl import cli
from jaxrl.algos import registry as algorithms
from jaxrl.config import override
from jaxrl.envs import registry as environments
from jaxrl.train.acting import load
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.logs import load_evaluations
from jaxrl.train.saved import experiment_of
from jaxrl.train.trust import Trust
from jaxrl.types import View
from tests.extension.templates import outside  # noqa: F401
from tests.train.tiny import newest_state, records, same_bits

SIZES = {"num_envs": 16, "num_steps": 8, "hidden_sizes": [16], "learning_rate": 0.01}


def trained(spec, env, settings, iterations):
    """What acts after so many iterations, and its policy."""
    algorithm = spec.factory(env, override(spec.config_class(), settings))

    @jax.jit
    def train(key):
        state = algorithm.init(key)
        return algorithm.policy(
            jax.lax.fori_loop(0, iterations, lambda _, state: algorithm.step(state)[0], state)
        )

    return algorithm.agent, train(jax.random.key(0))


@pytest.mark.parametrize(
    "environment_id",
    ["probe/observation-action", "probe/continuous-action", "probe/multi-discrete-action"],
)
def test_a2c_learns_what_each_kind_of_action_asks_for(environment_id):
    spec, env = algorithms.load("jaxrl.templates.a2c:a2c"), environments.make(environment_id)
    agent, policy = trained(spec, env, SIZES, 200)
    observations = jax.vmap(env.reset)(jax.random.split(jax.random.key(1), 16))[1]

    def act(observation):
        view = View.at_start(observation, env.action_space)
        return agent.modes["deterministic"].act(policy, (), view, jax.random.key(0))[0]

    found, best = jax.vmap(act)(observations), jax.vmap(env.optimal_action)(observations)
    np.testing.assert_allclose(found.reshape(best.shape), best, atol=0.15)


@pytest.mark.usefixtures("shared")
def test_a_copy_is_trained_and_checked_from_outside(run, outside, tmp_path):  # noqa: F811
    run("new", "algorithm", "little.py", "--template", "ars")
    name = outside("ars")
    assert (tmp_path / "little.py").read_text() == (tmp_path / f"{name}.py").read_text()
    words = ["--env", "probe/observation-action", "--total-steps", "12800", "--folder", "run"]
    run("train", f"{name}:ars", *words, "--num-evaluations", "2", "--quiet")
    assert load_evaluations("run")["deterministic_returns"][-1].mean() > 0.9


def words_of(name):
    """A tiny run of A2C on CartPole."""
    words = [f"{name}:a2c", "--env", "CartPole-v1", "--total-steps", 16 * 8 * 24]
    words += ["--num-envs", 16, "--num-steps", 8, "--hidden-sizes", 8]
    return [*words, "--num-evaluations", 2, "--evaluation-episodes", 8, "--quiet"]


@pytest.mark.slow
def test_every_command_takes_a_copy_of_a2c(run, stopped, outside, tmp_path):  # noqa: F811
    """Checked, trained, stopped and resumed, swept, evaluated, filmed, and let act in Gymnasium."""
    name = outside("a2c")
    allow, trust = ["--imports", f"{name}:a2c"], Trust(True)
    output, _ = run("check", f"{name}:a2c")
    assert output.endswith("every promise is kept\n") and "BROKEN" not in output

    run("train", *words_of(name), "--folder", "whole")
    assert stopped(7, "train", *words_of(name), "--folder", "halves") == 128 + 15
    assert Checkpoints(tmp_path / "halves").iterations()[-1] == 7
    run("resume", "halves", *allow, "--quiet")
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    experiment = experiment_of(whole, trust)
    assert same_bits(newest_state(whole, experiment), newest_state(halves, experiment))
    assert records(whole) == records(halves)

    over = ["--over", "learning_rate=0,1e-3", "--num-seeds", 2, "--folder", "swept"]
    run("sweep", *words_of(name), *over)
    assert load_evaluations(tmp_path / "swept")["deterministic_returns"].shape == (3, 2, 2, 8)
    run("train", *words_of(name), "--memory", "gru", "--folder", "recurrent")
    run("plot", "whole", "recurrent")
    run("plot", "swept")
    assert "deterministic" in run("eval", "whole", "--episodes", 8, *allow)[0]
    run("render", "whole", *allow)
    with Image.open(whole / "plots" / "episode.gif") as film:
        assert film.n_frames > 5

    agent, env = load(whole, trust=trust), gymnasium.make("CartPole-v1")
    observation, _ = env.reset(seed=0)
    agent.reset()
    steps, over = 0, False
    while not over:
        observation, _, terminated, truncated, _ = env.step(agent.act(observation))
        steps, over = steps + 1, terminated or truncated
    assert 5 < steps <= 500
    assert cli.main(["eval", "whole"]) == 2, "a folder's code is imported only if one says so"


@pytest.mark.slow
def test_a2c_learns_cartpole(run, outside, tmp_path):  # noqa: F811
    words = ["--env", "CartPole-v1", "--total-steps", 200_000, "--num-evaluations", 2]
    run("train", f"{outside('a2c')}:a2c", *words, "--folder", "run", "--quiet")
    returns = load_evaluations(tmp_path / "run")["deterministic_returns"].mean(axis=(1, 2, 3))
    assert returns[0] < 60 and returns[-1] > 300, returns
