"""Tabular MDPs: the problems are those of their sources, the environment follows its arrays,
bad arrays are refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core import tabular
from jaxrl.core.tabular import TabularEpisodes
from jaxrl.envs.registry import make
from jaxrl.envs.suites.tabular import Place, check_episodes, check_policy, tabular_mdp
from jaxrl.errors import JaxrlError


def returns(env):
    """(V*, V of Boltzmann 5, of Boltzmann 10, of action 0)."""
    best = tabular.optimal(env.transitions, env.rewards)
    policies = [
        tabular.greedy(best.action),
        *(tabular.boltzmann(best.action, eta) for eta in (5.0, 10.0)),
    ]
    policies.append(tabular.constant(0, env.rewards))
    return [
        float(tabular.expected_return(env.transitions, env.rewards, env.initial, each))
        for each in policies
    ]


def test_the_papers_mdp_is_that_of_seed_0():
    env = make("tabular/paper")
    assert env.rewards.shape == (3, 5, 5)
    np.testing.assert_allclose(returns(env)[:3], [2.510, 2.205, 2.405], atol=1e-3)


def test_the_hub_pays_less_than_what_lies_behind_a_door():
    best, *_, stay = returns(make("tabular/hub"))
    assert (best, stay) == (pytest.approx(3.655, abs=1e-4), 2.5)


def test_reference_scores_are_those_of_random_and_of_optimal_actions():
    random, best = make("tabular/deep-sea", depth=3).reference_scores
    # Going right three times has chance 1/8; each step goes left with 1/2, for 0.01 / 3.
    assert random == pytest.approx(1 / 8 + 3 * 0.5 * 0.01 / 3) and best == pytest.approx(1.0)
    assert make("tabular/paper").reference_scores[1] == pytest.approx(2.510, abs=1e-3)
    assert (
        tabular_mdp(np.ones((4, 1, 2, 1)), np.full((4, 1, 2), 0.3)).reference_scores is None
    )  # nothing to learn


def test_sizes_and_seeds_are_options():
    env = make("tabular/random", states=3, actions=2, horizon=4, seed=1)
    assert env.rewards.shape == (4, 3, 2) and env.horizon == 4 and env.action_space.n == 2
    other = make("tabular/random", states=3, actions=2, horizon=4, seed=2)
    assert not np.array_equal(env.rewards, other.rewards)


@pytest.mark.slow
def test_the_lake_without_slipping_is_crossed_and_deep_sea_is_dived():
    assert returns(make("tabular/frozen-lake", slippery=False, horizon=6))[0] == 1.0
    assert returns(make("tabular/frozen-lake", slippery=False, horizon=5))[0] == 0.0
    assert 0.1 < returns(make("tabular/frozen-lake"))[0] < 0.3
    best, *_, left = returns(make("tabular/deep-sea", depth=6))
    assert best == 1.0 and left == pytest.approx(0.01)


def test_the_environment_walks_through_its_arrays_and_ends_with_them():
    env = make("tabular/deep-sea", depth=3)
    place, observation = env.reset(jax.random.key(0))
    np.testing.assert_array_equal(observation, [1, 0, 0, 1, 0, 0])
    assert env.locate(observation) == Place(0, 0)
    for step, (action, column, reward, ended) in enumerate(
        [(1, 1, 0, False), (1, 2, 0, False), (1, 2, 1, True)]
    ):
        place, seen = env.step(jax.random.key(step + 1), place, jnp.int32(action))
        assert (int(place.state), float(seen.reward), bool(seen.terminated)) == (
            column,
            reward,
            ended,
        )
    np.testing.assert_array_equal(seen.observation, [0, 0, 1, 0, 0, 0])


def test_starts_and_successors_follow_their_distributions():
    rows = np.broadcast_to([0.2, 0.8], (1, 2, 1, 2))
    env = tabular_mdp(rows, np.zeros((1, 2, 1)), initial=[0.7, 0.3])
    keys, others = jax.random.split(jax.random.key(0), (2, 4000))
    places, _ = jax.vmap(env.reset)(keys)
    assert float(places.state.mean()) == pytest.approx(0.3, abs=0.03)
    following, _ = jax.vmap(env.step, in_axes=(0, 0, None))(others, places, jnp.int32(0))
    assert float(following.state.mean()) == pytest.approx(0.8, abs=0.03)


def arrays(horizon=2, states=2, actions=1):
    return np.full((horizon, states, actions, states), 1 / states), np.full(
        (horizon, states, actions), 0.5
    )


def test_bad_arrays_are_refused_by_name():
    rows, rewards = arrays()
    short = rows.copy()
    short[1, 0, 0, 1] = 0.2
    cases = [
        ((short, rewards), r"transitions\[1, 0, 0\] sums to 0.7, but holds probabilities"),
        ((rows - 1.0, rewards), r"transitions is -0.5, but must lie in \[0, "),
        ((rows, rewards + 1.0), r"rewards is 1.5, but must lie in \[0, 1\]"),
        ((rows, rewards * np.nan), "rewards is nan"),
        (
            (rows[:0], rewards[:0]),
            r"rewards have the shape \[0, 2, 1\], but must have the axes \[horizon, states",
        ),
        (
            (rows[..., :1], rewards),
            r"transitions have the shape \[2, 2, 1, 1\], but .* ask for \[2, 2, 1, 2\]",
        ),
        ((rows, rewards, [0.5, 0.4]), "initial sums to 0.9"),
    ]
    for given, message in cases:
        with pytest.raises(JaxrlError, match=message):
            tabular_mdp(*given)
    with pytest.raises(JaxrlError, match="horizon is 0, but must be a whole number of at least 1"):
        make("tabular/hub", horizon=0)
    with pytest.raises(JaxrlError, match="depth is 0"):
        make("tabular/deep-sea", depth=0)


def test_bad_policies_and_datasets_are_refused_by_name():
    env = tabular_mdp(*arrays())
    with pytest.raises(
        JaxrlError, match=r"baseline has the shape \[2, 2, 2\], but .* asks for \[2, 2, 1\]"
    ):
        check_policy(np.full((2, 2, 2), 0.5), env)
    with pytest.raises(JaxrlError, match=r"baseline\[0, 0\] sums to 0.5"):
        check_policy(np.full((2, 2, 1), 0.5), env)

    def episodes(states, actions):
        return TabularEpisodes(np.asarray(states), np.asarray(actions))

    zeros = np.zeros((3, 4), int)
    for given, message in [
        (episodes(zeros[:, :0], zeros[:2, :0]), "holds no episodes"),
        (episodes(zeros[:2], zeros[:1]), "episodes have 1 steps, but the environment's have 2"),
        (episodes(zeros, zeros), "states and actions have the shapes"),
        (episodes(zeros + 2, zeros[:2]), "has state 2, but the environment's are 0 … 1"),
        (episodes(zeros, zeros[:2] - 1), "has action -1, but the environment's are 0 … 0"),
    ]:
        with pytest.raises(JaxrlError, match=message):
            check_episodes(given, env)
    check_episodes(episodes(zeros, zeros[:2]), env)
