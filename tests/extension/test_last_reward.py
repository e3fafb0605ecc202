"""A task that needs the last reward: a policy that is shown it solves it,
one that sees observations alone cannot."""

import functools

import jax
import numpy as np
import pytest

from jaxrl.envs.collect import collect
from jaxrl.envs.play import play_and_keep, play_begin
from jaxrl.envs.starts.fresh import Fresh
from jaxrl.envs.vector import VectorEnv
from jaxrl.train.files.logs import load_evaluations, read_metrics
from jaxrl.types import View
from tests.extension.conftest import LENGTH, LEVERS, OUTSIDE
from tests.extension.outside.levers import Levers
from tests.extension.outside.recalling import RecallingConfig, recalling_agent

WORDS = [
    "train",
    f"{OUTSIDE}.recalling:recalling",
    *LEVERS,
    "--num-evaluations",
    1,
    "--evaluation-episodes",
    400,
]
WORDS += ["--modes", "deterministic"]
BEST, BLIND = LENGTH - 0.5, LENGTH / 2


@pytest.mark.parametrize("recalls", [True, False])
def test_what_the_last_action_earned_is_seen_in_training_and_in_evaluation(run, tmp_path, recalls):
    run(*WORDS, "--recalls" if recalls else "--no-recalls", "--folder", tmp_path / "run", "--quiet")
    rows = [row for row in read_metrics(tmp_path / "run") if row["iteration"] > 12]
    trained = np.mean([row["episode_return"] for row in rows])
    evaluated = load_evaluations(tmp_path / "run")["deterministic_returns"][-1].mean()
    if recalls:
        assert trained > 0.85 * BEST and abs(evaluated - BEST) < 0.15
    else:
        assert abs(trained - BLIND) < 0.3 and abs(evaluated - BLIND) < 0.5


def test_the_view_is_of_the_step_before_in_training_and_in_evaluation():
    env, agent = Levers(), recalling_agent(Levers(), RecallingConfig())
    policy = agent.init(jax.random.key(0))  # of all cases alike: it acts by chance
    act_of_one = functools.partial(agent.modes["stochastic"].act, policy)

    def act(memory, view, key):
        action, _ = jax.vmap(act_of_one, (None, 0, 0))((), view, jax.random.split(key, 4))
        return action, memory, view

    @jax.jit
    def run():
        vector = VectorEnv(env, Fresh(env), 4, stagger=True)
        rollout = collect(
            vector, vector.init(jax.random.key(1)), (), act, 4 * LENGTH, jax.random.key(2)
        )[2]
        begun = play_begin(env, agent, policy, jax.random.key(3), 4)
        kept = play_and_keep(
            env, begun, act_of_one, LENGTH, lambda before, after, step: (before.view, step.reward)
        )[1]
        return rollout.extras, rollout.transition, *kept

    trained, seen, played, earned = jax.device_get(run())
    ended = seen.terminated | seen.truncated
    assert ended.any() and not ended.all() and set(np.unique(seen.reward)) == {0.0, 1.0}
    np.testing.assert_array_equal(trained.first[1:], ended[:-1])
    np.testing.assert_array_equal(trained.reward[1:], np.where(ended, 0.0, seen.reward)[:-1])
    np.testing.assert_array_equal(trained.action[1:], np.where(ended, 0, seen.action)[:-1])
    np.testing.assert_array_equal(
        played.first, (np.arange(LENGTH) == 0)[:, None] & np.ones(4, bool)
    )
    np.testing.assert_array_equal(played.reward[1:], earned[:-1])
    assert not played.reward[0].any() and played.action[1:].any()
    for field in View.__dataclass_fields__:
        one, other = getattr(trained, field), getattr(played, field)
        assert (one.dtype, one.shape[1:]) == (other.dtype, other.shape[1:]), field
