"""The public face: `import jaxrl` and what its users write,
from training to acting in an environment of their own."""

import inspect
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxrl
from jaxrl.analysis.runs import load_run
from jaxrl.train import members
from jaxrl.train.acting import LoadedAgent
from jaxrl.train.files.folder import read_description
from jaxrl.train.files.logs import read_metrics

SMALL = {
    "total_steps": 8 * 16 * 8,
    "num_envs": 8,
    "num_steps": 16,
    "minibatch_size": 32,
    "hidden_sizes": (8,),
}
RUN = jaxrl.RunSettings(num_evaluations=2, evaluation_episodes=4, devices=1)


def train(folder, **more):
    with jax.debug_key_reuse(
        False
    ):  # the checker takes two seeds' axes, moved to the front of a key, for two uses
        return jaxrl.train(
            "ppo", "CartPole-v1", **SMALL | {"run": RUN, "folder": folder, "progress": False} | more
        )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("face") / "run", seeds=2)


def test_importing_jaxrl_imports_nothing_else():
    code = (
        "import sys, jaxrl; dir(jaxrl); from jaxrl import cli; "
        "print({'jax', 'numpy', 'flax', 'tyro'} & set(sys.modules))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_every_public_name_is_there():
    assert set(jaxrl.__all__) == set(jaxrl._PUBLIC)
    for name in jaxrl.__all__:
        assert getattr(jaxrl, name) is not None and name in dir(jaxrl)
    assert jaxrl.ppo.__name__ == "ppo"
    assert jaxrl.PPOConfig.__name__ == "PPOConfig"
    assert "ppo" in jaxrl.algorithms() and "CartPole-v1" in sum(jaxrl.environments().values(), [])
    with pytest.raises(AttributeError, match="no attribute 'PPPOConfig'"):
        _ = jaxrl.PPPOConfig


def test_train_is_the_function_whether_or_not_the_package_was_imported_before():
    code = (
        "import jaxrl; assert callable(jaxrl.train); import jaxrl.train.loop; assert "
        "callable(jaxrl.train)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_it_trains_into_a_folder(trained):
    assert trained.iteration == trained.num_iterations == 8
    assert trained.returns["deterministic"].shape == (1, 2, 4)
    assert read_description(trained.folder)["config"]["num_envs"] == 8
    assert load_run(trained.folder).evaluations["iteration"].tolist() == [0, 4, 8]


def test_settings_are_swept_one_by_one(tmp_path):
    settings = [{"gamma": 0.9, "learning_rate": 1e-3}, {"learning_rate": 1e-2, "gamma": 0.8}]
    result = train(tmp_path / "run", sweep=settings)
    assert result.experiment.settings() == settings
    assert result.returns["deterministic"].shape == (2, 1, 4)
    assert load_run(tmp_path / "run").settings == settings
    train(tmp_path / "alone", **settings[1])
    metrics = [read_metrics(tmp_path / name)[0]["loss"] for name in ("run", "alone")]
    np.testing.assert_allclose(metrics[0][1][0], metrics[1], rtol=1e-4)
    with pytest.raises(jaxrl.JaxrlError, match="given one by one"):
        members.command_of(result.experiment)


def test_a_made_environment_is_trained_by_its_name_and_options(tmp_path):
    env = jaxrl.make("CartPole-v1", max_steps_in_episode=20)
    result = jaxrl.train("ppo", env, **SMALL, run=RUN, folder=tmp_path / "run", progress=False)
    assert read_description(result.folder)["environment_options"] == {"max_steps_in_episode": 20}
    assert result.returns["deterministic"].max() <= 20


@pytest.mark.parametrize(
    ("arguments", "settings", "message"),
    [
        (
            ("ppo", jaxrl.make("CartPole-v1").replace()),
            {},
            "no run folder could say how to make it again",
        ),
        (("ppo", "CartPole-v1"), {"config": 3}, "config is a int, but ppo takes a PPOConfig"),
        (("ppo", "CartPole-v1"), {"total_stepps": 3}, "total_steps"),
        (("popo", "CartPole-v1"), {}, "ppo"),
        (
            ("ppo", "CartPole-v1"),
            {"callbacks": ["log"]},
            "a callback is 'log', but must be a function",
        ),
        (("ppo", "CartPole-v1"), {"sweep": {"gama": [0.9]}}, "gamma"),
        (("ppo", "CartPole-v1"), {"sweep": [{"gamma": 0.9}, {"gama": 0.9}]}, "same numbers"),
        (("ppo", "CartPole-v1"), {"sweep": [{}]}, "same numbers"),
        (("ppo", "CartPole-v1"), {"sweep": [{"gamma": 0.9}] * 2}, "are the same"),
        (("ppo", "CartPole-v1"), {"sweep": [{"gamma": 0.9}], "gamma": 0.8}, "given twice"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, arguments, settings, message):
    with pytest.raises(jaxrl.JaxrlError, match=message):
        jaxrl.train(*arguments, folder=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_a_loaded_agent_acts_as_the_evaluation_did(trained):
    agent = jaxrl.load(trained.folder, member=("seed=1",))
    observation = np.array([0.01, -0.02, 0.03, 0.04])
    action = agent.act(observation)
    assert isinstance(action, int)
    view = agent.agent.modes["deterministic"].act
    shown = jnp.asarray(observation, jnp.float32)
    expected, _ = view(
        agent.policy,
        (),
        jaxrl.types.View.at_start(shown, agent.env.action_space),
        jax.random.key(0),
    )
    assert action == int(expected)


def test_a_loaded_agent_plays_in_gymnasium(trained):
    gymnasium = pytest.importorskip("gymnasium")
    env = gymnasium.make("CartPole-v1")
    agent = jaxrl.load(trained.folder, member=("seed=0",), mode="stochastic", seed=3)
    returns = []
    for episode in range(2):
        observation, _ = env.reset(seed=episode)
        agent.reset()
        total, over = 0.0, False
        while not over:
            observation, reward, terminated, truncated, _ = env.step(agent.act(observation))
            total, over = total + reward, terminated or truncated
        returns.append(total)
    assert min(returns) >= 8


def test_stochastic_actions_hang_on_the_seed_alone(trained):
    def actions(seed):
        agent = jaxrl.load(
            trained.folder, member=("seed=0",), mode="stochastic", seed=seed, num_envs=64
        )
        return np.stack([agent.act(np.zeros((64, 4))) for _ in range(3)])

    first = actions(1)
    assert np.array_equal(first, actions(1))
    assert not np.array_equal(first, actions(2))
    assert not np.array_equal(first[0], first[1])  # each step has a key of its own
    assert len(np.unique(first[0])) == 2  # and so has each environment


@pytest.mark.parametrize("num_envs", [None, 2])
def test_at_the_first_step_of_an_episode_no_reward_is_shown(num_envs):
    """Whatever the loop around it still holds from the episode before."""

    def act(policy, memory, view, key):
        return view.reward[None], memory

    shows = jaxrl.types.Agent(lambda key: (), {"shows": jaxrl.types.Mode(act)}, lambda policy: ())
    env = jaxrl.make("Pendulum-v1")
    agent = LoadedAgent(env, shows, (), "shows", num_envs)
    batch = () if num_envs is None else (num_envs,)
    observation = np.zeros((*batch, 3))
    assert not agent.act(observation, 3.0).any()
    assert (agent.act(observation, np.full(batch, 3.0)) == 3.0).all()
    agent.reset() if num_envs is None else agent.reset([True, False])
    shown = agent.act(observation, 3.0).reshape(-1)
    np.testing.assert_array_equal(shown, [0.0, 3.0][: len(shown)])


def test_observations_of_another_shape_are_refused(trained):
    agent = jaxrl.load(trained.folder, member=("seed=0",), num_envs=2)
    with pytest.raises(
        jaxrl.JaxrlError, match=r"of shape \(4,\), but must be of \(2, 4\), of 2 environments"
    ):
        agent.act(np.zeros(4))
    with pytest.raises(jaxrl.JaxrlError, match="must mark each environment"):
        agent.reset([True])


def test_a_callback_stops_a_run_that_can_be_resumed(tmp_path):
    seen = []

    def stop_at_four(pause):
        seen.append(
            (pause.iteration, pause.transitions, sorted(pause.returns), "loss" in pause.metrics)
        )
        if pause.iteration == 0:
            pause.set(learning_rate=0.0)
        if pause.iteration == 4:
            pause.stop()

    result = train(tmp_path / "run", callbacks=[stop_at_four])
    assert result.iteration == 4 and result.signal is None
    assert seen[0] == (0, 0, ["deterministic", "stochastic"], False)
    assert seen[-1] == (4, 4 * 128, ["deterministic", "stochastic"], True)
    with pytest.raises(
        jaxrl.JaxrlError, match="with the callbacks .*stop_at_four, and would go on with no"
    ):
        jaxrl.resume(tmp_path / "run", progress=False)
    assert jaxrl.resume(tmp_path / "run", progress=False, force=True).iteration == 8
    rates = {row["learning_rate"] for row in read_metrics(tmp_path / "run")}
    assert rates == {0.0}  # what was set stays set, without the callback too


def test_a_curriculum_is_exact_across_an_interruption(tmp_path):
    def curriculum(stopping):
        def curriculum(pause):
            if pause.iteration >= 3:
                pause.set(learning_rate=pause.config.learning_rate * 0.5)
            if pause.iteration == 4 and stopping:
                pause.stop()
            pause.set_env(
                pause.env.replace(
                    parameters=pause.env.parameters.replace(gravity=9.8 + pause.iteration)
                )
            )

        return curriculum

    whole = train(tmp_path / "whole", callbacks=[curriculum(False)])
    train(tmp_path / "parts", callbacks=[curriculum(True)])
    jaxrl.resume(tmp_path / "parts", callbacks=[curriculum(False)], progress=False)
    rows = [
        [row | {"seconds": 0} for row in read_metrics(tmp_path / name)]
        for name in ("whole", "parts")
    ]
    assert rows[0] == rows[1]
    plain = train(tmp_path / "plain")
    same = [np.array_equal(plain.returns[mode], whole.returns[mode]) for mode in plain.returns]
    assert not all(same)  # and it did steer


def test_what_a_callback_cannot_set_is_refused(tmp_path):
    def wrong(pause):
        pause.set(num_envs=3)

    with pytest.raises(jaxrl.JaxrlError, match="num_envs"):
        train(tmp_path / "run", callbacks=[wrong])


def test_a_whole_run_is_a_pure_function():
    env = jaxrl.make("CartPole-v1")
    algorithm = jaxrl.ppo(env, jaxrl.PPOConfig(**SMALL | {"total_steps": 256}))

    def run(key):
        return jax.lax.scan(
            lambda state, _: algorithm.step(state),
            algorithm.init(key),
            length=algorithm.budget.steps,
        )

    with jax.debug_key_reuse(
        False
    ):  # under vmap both branches of a cond are computed, with one key
        state, metrics = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 2))
    assert metrics["loss"].sum.shape == (2, 2)
    assert jax.tree.leaves(algorithm.policy(state))[0].shape[0] == 2


def test_signatures_are_typed():
    for name in ("train", "resume"):
        function = getattr(__import__("jaxrl.train.api", fromlist=[name]), name)
        assert all(
            each.annotation is not each.empty
            for each in inspect.signature(function).parameters.values()
        )
