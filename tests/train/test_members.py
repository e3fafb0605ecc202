"""Populations: the best checkpoint of each member, one number that ranks them,
and members by name."""

import re
import shlex
import shutil

import numpy as np
import pytest

from jaxrl import cli
from jaxrl.analysis import ranking
from jaxrl.config import override
from jaxrl.errors import JaxrlError, RunWarning
from jaxrl.train import loop, members, saved
from jaxrl.train.acting import load
from jaxrl.train.experiment import Experiment, RunSettings, default_config
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.members import Members
from jaxrl.train.output import report
from jaxrl.train.output.console import Console
from jaxrl.train.program import Program
from tests.train.test_loop import Stopping
from tests.train.tiny import (
    EPISODES,
    POINTS,
    arrays,
    experiment,
    newest_state,
    same_bits,
    shared_compilations,
)

SWEEP = {"learning_rate": [1e-3, 3e-3], "gamma": [0.9, 0.99]}
# What each member earns in each evaluation, [6, 4, 2]: setting 2 is best in the end, by its seed 1;
# setting 0 was.
EARNED = np.zeros((len(POINTS), 4, 2))
EARNED[:, 0] = np.array([1, 2, 90, 3, 2, 1])[:, None]
EARNED[:, 1] = 5.0
EARNED[:, 2, 0], EARNED[:, 2, 1] = [0, 8, 3, 4, 5, 6], [0, 1, 2, 3, 40, 30]
EARNED[:, 3, 0], EARNED[:, 3, 1] = [0, 0, 0, 0, 0, 99], [0, 0, 0, 0, 0, -70]


@pytest.fixture(scope="module", autouse=True)
def shared():
    with shared_compilations():
        yield


def described():
    return experiment(sweep=SWEEP, num_seeds=2, seed=3)


class Earning:
    """Evaluations that find what EARNED says, and the policies that they were asked about."""

    def __init__(self, patch):
        self.policies, evaluate = {}, Program.evaluate

        def earning(program, policies, iteration, each_piece):
            played = evaluate(program, policies, iteration, each_piece)
            if program.shape != (4, 2):
                return played
            self.policies[iteration] = arrays(program.whole(policies))
            returns = np.broadcast_to(
                EARNED[POINTS.index(iteration)][..., None], (4, 2, EPISODES)
            ).astype(np.float32)
            return {mode: episodes._replace(returns=returns) for mode, episodes in played.items()}

        patch.setattr(Program, "evaluate", earning)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """(folder of a sweep in which each member is best in another evaluation,
    policies of every evaluation)."""
    folder = tmp_path_factory.mktemp("members") / "run"
    with pytest.MonkeyPatch.context() as patch:
        earning = Earning(patch)
        loop.train(described(), folder, console=Stopping(POINTS[3]))
        loop.resume(folder)  # what was best before is still known
    return folder, earning.policies


def test_the_best_checkpoint_is_each_members_own(swept):
    folder, policies = swept
    metadata, (_, found) = Checkpoints(folder).best()
    last_of_the_best = len(POINTS) - 1 - np.argmax(EARNED[::-1], axis=0)  # a tie goes to the later
    np.testing.assert_array_equal(metadata["iterations"], np.asarray(POINTS)[last_of_the_best])
    np.testing.assert_array_equal(metadata["scores"], EARNED.max(0))
    for (setting, seed), iteration in np.ndenumerate(np.asarray(metadata["iterations"])):
        own = [leaf[setting, seed] for leaf in policies[int(iteration)]]
        assert same_bits([leaf[setting, seed] for leaf in found], own)


def test_ranks_are_by_the_interquartile_mean_over_seeds_of_the_last_evaluation():
    assert ranking.order(EARNED[-1]) == [2, 3, 1, 0]
    assert ranking.best_member(EARNED[-1]) == (2, 1)
    outlier = np.array([[1.0, 1, 1, 1, 100], [2.0, 2, 2, 2, 2]])
    assert ranking.order(outlier) == [1, 0]  # the mean would say otherwise
    lost = np.array([[np.nan, 900.0], [1.0, 2.0], [np.nan, np.nan]])
    assert ranking.order(lost) == [1, 0, 2]
    assert ranking.best_member(lost[:1]) == (0, 1)
    assert np.isnan(ranking.setting_score(lost[0]))
    assert ranking.member_scores(np.full((1, 100), 16_778_216, np.float32)) == 16_778_216


def test_loading_takes_the_best_member_and_says_so(swept):
    folder, _ = swept
    _, (_, leaves) = Checkpoints(folder).best()
    with pytest.warns(
        RunWarning,
        match="has 8 members to choose from: the best is taken, "
        "learning_rate=0.003,gamma=0.9,seed=4",
    ):
        policy = load(folder).policy
    assert same_bits(policy, [leaf[2, 1] for leaf in leaves])
    policy = load(folder, member=["learning_rate=1e-3,gamma=0.99", "seed=3"]).policy
    assert same_bits(policy, [leaf[1, 0] for leaf in leaves])
    with pytest.warns(RunWarning, match="has 4 members .* learning_rate=0.001,gamma=0.99,seed=3"):
        load(folder, checkpoint="last", member=["learning_rate=0.001"])
    _, state = newest_state(folder, described())
    last = load(folder, checkpoint="last", member=["gamma=0.9,learning-rate=3e-3,seed=4"]).policy
    assert same_bits(last, [leaf[2, 1] for leaf in arrays(state.policy)])


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ((), Members([0, 1, 2, 3], [0, 1])),
        (("seed=4",), Members([0, 1, 2, 3], [1])),
        (("gamma=0.99", "seed=3"), Members([1, 3], [0])),
        (("learning_rate=3e-3,gamma=.9",), Members([2], [0, 1])),
    ],
)
def test_members_by_name(texts, found):
    assert members.matching(described(), texts) == found


def test_seeds_that_float32_does_not_tell_apart():
    made = experiment(seed=20240101, num_seeds=4)
    assert members.matching(made, ["seed=20240104"]) == Members([0], [3])
    with pytest.raises(JaxrlError, match="There are: 20240101, 20240102, 20240103, 20240104"):
        members.matching(made, ["seed=20240100"])


def test_a_command_says_what_another_default_would_change():
    usual, _ = default_config("ppo", "CartPole-v1")
    resized = override(usual, {"num_envs": 1024})
    found = [
        members.command_of(Experiment("ppo", "CartPole-v1", config, RunSettings()))
        for config in (usual, override(usual, {"hidden_sizes": []}), resized)
    ]
    assert found[0] == "jaxrl train ppo --env CartPole-v1"
    assert found[1] == f"{found[0]} --hidden-sizes"
    # Without its budget, it would be raised for so many environments.
    assert found[2] == f"{found[0]} --total-steps {usual.total_steps} --num-envs 1024"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "learning_rte=1e-3",
            "unknown part of a member 'learning_rte'. Did you mean learning_rate",
        ),
        ("gamma=0.5", "no member has gamma=0.5. There are: 0.9, 0.99"),
        ("seed=0", "no member has seed=0. There are: 3, 4"),
        (
            "seed",
            "'seed' should be written name=value, as in --member "
            "learning_rate=0.001,gamma=0.9,seed=3",
        ),
        ("seed=3,seed=4", "gives seed twice"),
        ("gamma=high", "no member has gamma=high"),
    ],
)
def test_a_member_that_is_not_there(text, message):
    with pytest.raises(JaxrlError, match=re.escape(message)):
        members.matching(described(), [text])


@pytest.mark.slow
def test_evaluating_some_members_is_evaluating_them_among_all(swept):
    folder, _ = swept
    options = {"checkpoint": "last", "num_episodes": 8, "seed": 5, "trust": saved.NOBODY}

    def returns(*member):
        some = saved.open_policies(folder, member=member, **options)
        return np.asarray(some.program.evaluate(some.policies, some.iteration)[0].returns)

    everything = returns()
    np.testing.assert_array_equal(returns("gamma=0.99")[:, 1], everything[[1, 3], 1])
    np.testing.assert_array_equal(
        returns("seed=4", "gamma=0.9,learning_rate=0.003")[0, 0], everything[2, 1]
    )


def test_without_evaluations_the_best_checkpoint_ranks(swept, tmp_path):
    folder = shutil.copytree(swept[0], tmp_path / "run")
    (folder / "evaluations.npz").unlink()
    with pytest.warns(RunWarning, match="ranked by their best evaluations instead"):
        scores = saved.last_scores(folder, (4, 2))
    np.testing.assert_array_equal(scores, EARNED.max(0))


def test_the_table_is_ranked_and_names_the_winner_and_its_command(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        Earning(patch)
        result = loop.train(described(), folder)
    monkeypatch.setattr(report, "plot", lambda *_: "sweep.png")
    assert report.finish(result, result.experiment, Console()) == 0
    output = capsys.readouterr().out
    rates = re.findall(r"\| +(0\.00[13]) \| +(0\.99?) \| deterministic", output)
    assert rates == [("0.003", "0.9"), ("0.003", "0.99"), ("0.001", "0.99"), ("0.001", "0.9")]
    assert "best setting  learning_rate=0.003,gamma=0.9" in output
    assert f"jaxrl eval {folder} --member learning_rate=0.003,gamma=0.9" in output
    (command,) = re.findall(r"again +jaxrl (.*)", output)
    made = []
    monkeypatch.setattr(loop, "train", lambda experiment, *_, **__: made.append(experiment))
    monkeypatch.setattr(report, "finish", lambda *_: 0)
    assert cli.main([*shlex.split(command), "--folder", str(tmp_path / "again")]) == 0
    winner = described().changed({"learning_rate": 0.003, "gamma": 0.9})
    assert made[0].description() == (
        described().changed({"learning_rate": 0.003, "gamma": 0.9}).description() | {"sweep": {}}
    )
    assert winner.run == made[0].run
