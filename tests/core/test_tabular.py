"""Exact values of finite-horizon MDPs against sums over all trajectories,
and what drawing and counting must keep."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core import tabular
from jaxrl.core.tabular import Mixture, TabularEpisodes

H, S, A = 3, 3, 2


@functools.cache
def problem(seed=0):
    """(transitions, rewards, initial, policy), float64, random."""
    generator = np.random.default_rng(seed)
    rows = generator.dirichlet(np.ones(S), (H, S, A))
    return (
        rows,
        generator.random((H, S, A)),
        generator.dirichlet(np.ones(S)),
        generator.dirichlet(np.ones(A), (H, S)),
    )


def by_enumeration(transitions, rewards, initial, policy):
    """The expected return as a sum over every trajectory."""
    total = 0.0
    for states in itertools.product(range(S), repeat=H):
        for actions in itertools.product(range(A), repeat=H):
            chance, earned = initial[states[0]], 0.0
            for h in range(H):
                chance *= policy[h, states[h], actions[h]]
                earned += rewards[h, states[h], actions[h]]
                chance *= transitions[h, states[h], actions[h], states[h + 1]] if h + 1 < H else 1.0
            total += chance * earned
    return total


def test_the_expected_return_is_the_sum_over_trajectories():
    expected = by_enumeration(*problem())
    with jax.enable_x64(True):
        assert float(tabular.expected_return(*map(jnp.asarray, problem()))) == pytest.approx(
            expected, abs=1e-12
        )
    in_float32 = tabular.expected_return(*(jnp.asarray(each, jnp.float32) for each in problem()))
    assert in_float32.dtype == jnp.float32 and float(in_float32) == pytest.approx(
        expected, abs=1e-6
    )


def test_optimal_values_are_those_of_the_best_deterministic_policy():
    transitions, rewards, initial, _ = problem()
    best = max(
        by_enumeration(transitions, rewards, initial, np.eye(A)[np.reshape(choice, (H, S))])
        for choice in itertools.product(range(A), repeat=H * S)
    )
    values = tabular.optimal(jnp.asarray(transitions), jnp.asarray(rewards))
    assert float(initial @ values.state[0]) == pytest.approx(best, abs=1e-6)
    greedy = tabular.greedy(values.action)
    assert float(
        tabular.expected_return(*map(jnp.asarray, problem()[:3]), greedy)
    ) == pytest.approx(best, abs=1e-6)


def test_a_mixture_earns_the_mixture():
    transitions, rewards, initial, policy = map(jnp.asarray, problem())
    other = jnp.flip(policy, -1)
    one, two = (
        tabular.expected_return(transitions, rewards, initial, each) for each in (policy, other)
    )
    both = tabular.expected_return(
        transitions, rewards, initial, Mixture(policy, other, jnp.float32(0.3))
    )
    np.testing.assert_allclose(both, 0.3 * one + 0.7 * two, rtol=1e-6)


def test_policies_by_hand():
    q = jnp.array([[1.0, 1.0, 0.0]])
    np.testing.assert_allclose(tabular.greedy(q), [[0.5, 0.5, 0.0]])
    np.testing.assert_allclose(
        tabular.break_ties(q, jnp.array([[0.1, 0.3, 0.9]])), [[0.0, 1.0, 0.0]]
    )
    np.testing.assert_allclose(tabular.epsilon_soft(q, 0.3), [[0.45, 0.45, 0.1]])
    odds = np.array([np.e, np.e, 1.0])
    np.testing.assert_allclose(tabular.boltzmann(q, 1.0)[0], odds / odds.sum(), rtol=1e-6)
    np.testing.assert_allclose(tabular.constant(2, q), [[0.0, 0.0, 1.0]])


def test_draws_never_fall_on_what_is_impossible():
    probabilities = jnp.array([0.0, 0.25, 0.75, 0.0])
    uniform = jnp.array([0.0, 0.2499, 0.25, 0.999999, 1.0 - 2.0**-24])
    drawn = tabular.draw_index(jnp.broadcast_to(probabilities, (5, 4)), uniform)
    np.testing.assert_array_equal(drawn, [1, 1, 2, 2, 2])
    short = jnp.array([0.5, 0.49999, 0.0])  # sums that fall short of 1 are scaled
    assert int(tabular.draw_index(short, jnp.float32(0.999999))) == 1


def test_episodes_follow_the_law_of_the_process_and_are_counted():
    transitions, rewards, initial, policy = (jnp.asarray(each, jnp.float32) for each in problem())
    mixture = Mixture(policy, jnp.flip(policy, -1), jnp.float32(0.7))
    n = 20_000
    play = jax.jit(functools.partial(tabular.play, num_episodes=n))
    episodes = play(transitions, initial, mixture, jax.random.key(0))
    assert episodes.states.shape == (H + 1, n) and episodes.actions.shape == (H, n)
    counts = np.asarray(tabular.count(episodes, S, A))
    assert counts.dtype == np.int32 and counts.sum() == n * H and (counts.sum((1, 2, 3)) == n).all()
    np.testing.assert_allclose(
        np.bincount(episodes.states[0], minlength=S) / n, initial, atol=0.015
    )
    seen = counts / counts.sum(-1, keepdims=True)
    np.testing.assert_allclose(seen, transitions, atol=0.05)
    earned = (counts.sum(-1) * np.asarray(rewards)).sum() / n
    expected = tabular.expected_return(transitions, rewards, initial, mixture)
    assert abs(earned - float(expected)) < 4 * H / 2 / np.sqrt(n)


def test_a_mixture_is_one_policy_for_the_whole_episode():
    always = [jnp.zeros((H, S, A)).at[..., action].set(1.0) for action in range(2)]
    rows, _, initial, _ = (jnp.asarray(each, jnp.float32) for each in problem())
    episodes = tabular.play(
        rows, initial, Mixture(*always, jnp.float32(0.25)), jax.random.key(1), 4000
    )
    assert np.ptp(np.asarray(episodes.actions), axis=0).max() == 0
    assert float((episodes.actions[0] == 0).mean()) == pytest.approx(
        0.25, abs=4 * np.sqrt(0.25 * 0.75 / 4000)
    )


def test_counting_by_hand():
    episodes = TabularEpisodes(jnp.array([[0, 0], [2, 2], [1, 0]]), jnp.array([[1, 1], [0, 1]]))
    counts = tabular.count(episodes, 3, 2)
    expected = np.zeros((2, 3, 2, 3))
    expected[0, 0, 1, 2], expected[1, 2, 0, 1], expected[1, 2, 1, 0] = 2, 1, 1
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize("num_episodes", [1, 17])
def test_counting_is_that_of_a_loop(num_episodes):
    rng = np.random.default_rng(0)
    states, actions = rng.integers(0, 3, (5, num_episodes)), rng.integers(0, 2, (4, num_episodes))
    expected = np.zeros((4, 3, 2, 3), int)
    for h, n in np.ndindex(4, num_episodes):
        expected[h, states[h, n], actions[h, n], states[h + 1, n]] += 1
    episodes = tabular.TabularEpisodes(
        jnp.asarray(states, jnp.int32), jnp.asarray(actions, jnp.int32)
    )
    np.testing.assert_array_equal(tabular.count(episodes, 3, 2), expected)
