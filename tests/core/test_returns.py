"""Advantages and targets against numbers worked by hand and slow float64 loops."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from jaxrl.core.returns import gae, lambda_returns, n_step_returns, successor_values


@pytest.fixture(autouse=True)
def strict_arithmetic():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def gae_loop(reward, value, next_value, terminated, truncated, *, gamma, gae_lambda):
    advantage, after = np.zeros_like(reward, np.float64), np.zeros(reward.shape[1:])
    for t in reversed(range(len(reward))):
        delta = reward[t] + gamma * np.where(terminated[t], 0.0, next_value[t]) - value[t]
        advantage[t] = after = delta + gamma * gae_lambda * ~(terminated[t] | truncated[t]) * after
    return advantage


def n_step_loop(reward, next_value, terminated, truncated, gamma, n):
    target = np.zeros_like(reward, np.float64)
    for t in range(len(reward)):
        discount = 1.0
        for k in range(t, min(t + n, len(reward))):
            target[t] += discount * reward[k]
            discount *= gamma
            if terminated[k] or truncated[k]:
                break
        target[t] += discount * (not terminated[k]) * next_value[k]
    return target


def lambda_loop(reward, next_value, terminated, truncated, gamma, lambda_):
    """The definition: Σ (1 − λ) λ^{n−1} G^{(n)},
    with all the weight left over on the longest return."""
    arguments, length = (reward, next_value, terminated, truncated, gamma), len(reward)
    target = lambda_ ** (length - 1) * n_step_loop(*arguments, length)
    for n in range(1, length):
        target += (1 - lambda_) * lambda_ ** (n - 1) * n_step_loop(*arguments, n)
    return target


def rollout(seed, shape=(40,), ends=0.15):
    """A random rollout with both kinds of ends (some on one row),
    and the values of the states it met."""
    rng = np.random.default_rng(seed)
    reward, value, final_value = rng.normal(size=(3, *shape)).astype(np.float32)
    last_value = rng.normal(size=shape[1:]).astype(np.float32)
    terminated, truncated = rng.random((2, *shape)) < ends
    return tuple(map(jnp.asarray, (reward, value, last_value, final_value, terminated, truncated)))


@pytest.fixture
def eight_steps():
    """Three episodes: terminated at t = 2, truncated at t = 5 (V(final) = 100),
    still running at the end."""
    reward = jnp.array([1, 2, 3, 4, 5, 6, 7, 8], jnp.float32)
    value = jnp.array([10, 20, 30, 40, 50, 60, 70, 80], jnp.float32)
    terminated, truncated = jnp.arange(8) == 2, jnp.arange(8) == 5
    final_value = jnp.where(truncated, jnp.float32(100), jnp.float32(jnp.nan))
    next_value = successor_values(value, jnp.float32(90), truncated, final_value)
    return reward, value, next_value, terminated, truncated


def test_successor_values_are_of_the_state_before_the_reset(eight_steps):
    np.testing.assert_array_equal(eight_steps[2], [20, 30, 40, 50, 60, 100, 80, 90])


def test_gae_by_hand(eight_steps):
    # γ = λ = ½: δ = r + V'/2 − V is 1, −3, −27 (terminated) | −11, −15, −4 (½ · 100) | −23, −27.
    advantage = jax.jit(gae)(*eight_steps, gamma=0.5, gae_lambda=0.5)
    by_hand = [1 - 9.75 / 4, -3 - 27 / 4, -27, -11 - 16 / 4, -15 - 4 / 4, -4, -23 - 27 / 4, -27]
    np.testing.assert_allclose(advantage, by_hand, rtol=1e-6)


def test_n_step_returns_by_hand(eight_steps):
    reward, _, next_value, terminated, truncated = eight_steps
    target = n_step_returns(reward, next_value, terminated, truncated, 0.5, 2)
    # Two rewards and a quarter of V(two steps on), except at t = 2, 5, 7, which have one step left.
    by_hand = [
        2 + 30 / 4,
        2 + 1.5,
        3,
        4 + 2.5 + 60 / 4,
        5 + 3 + 100 / 4,
        6 + 50,
        7 + 4 + 90 / 4,
        8 + 45,
    ]
    np.testing.assert_allclose(target, by_hand, rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("gae_lambda", [0.0, 0.9, 1.0])
def test_gae_matches_the_loop_wherever_the_ends_fall(seed, gae_lambda):
    reward, value, last_value, final_value, terminated, truncated = rollout(seed, (40, 3))
    next_value = successor_values(value, last_value, truncated, final_value)
    arguments = reward, value, next_value, terminated, truncated
    advantage = gae(*arguments, gamma=0.97, gae_lambda=gae_lambda)
    by_loop = gae_loop(*map(np.asarray, arguments), gamma=0.97, gae_lambda=gae_lambda)
    np.testing.assert_allclose(advantage, by_loop, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lambda_", [0.0, 0.7, 1.0])
def test_lambda_returns_are_gae_plus_value_and_the_mean_of_n_step_returns(lambda_):
    reward, value, last_value, final_value, terminated, truncated = rollout(4)
    next_value = successor_values(value, last_value, truncated, final_value)
    target = lambda_returns(reward, next_value, terminated, truncated, 0.9, lambda_)
    advantage = gae(reward, value, next_value, terminated, truncated, gamma=0.9, gae_lambda=lambda_)
    np.testing.assert_allclose(target, advantage + value, rtol=1e-4, atol=1e-5)
    arguments = map(np.asarray, (reward, next_value, terminated, truncated))
    by_definition = lambda_loop(*arguments, 0.9, lambda_)
    np.testing.assert_allclose(target, by_definition, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n", [1, 3, 40, 50])
def test_n_step_returns_match_the_loop(n):
    reward, value, last_value, final_value, terminated, truncated = rollout(5)
    next_value = successor_values(value, last_value, truncated, final_value)
    arguments = reward, next_value, terminated, truncated
    target = n_step_returns(*arguments, 0.9, n)
    by_loop = n_step_loop(*map(np.asarray, arguments), 0.9, n)
    np.testing.assert_allclose(target, by_loop, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["terminated", "truncated"])
def test_nothing_leaks_into_an_episode_from_the_next(kind):
    reward, value, last_value, final_value, _, _ = rollout(6)
    no_end, end = jnp.zeros(40, bool), jnp.arange(40) == 19

    def targets(scale):
        later = jnp.where(jnp.arange(40) > 19, scale, 1.0)
        terminated, truncated = (end, no_end) if kind == "terminated" else (no_end, end)
        following = successor_values(value * later, last_value, truncated, final_value)
        masks = terminated, truncated
        return (
            gae(reward * later, value * later, following, *masks, gamma=0.99, gae_lambda=0.95)[:20],
            lambda_returns(reward * later, following, *masks, 0.99, 0.95)[:20],
            n_step_returns(reward * later, following, *masks, 0.99, 5)[:20],
        )

    for once, louder in zip(targets(1), targets(1e6), strict=True):
        np.testing.assert_array_equal(once, louder)


def test_a_time_limit_leaves_the_value_of_a_constant_reward_alone():
    """V = r / (1 − γ) is the fixed point of every target under truncation,
    and of none under termination."""
    gamma, reward = 0.9, jnp.ones(12)
    value = jnp.full(12, 1 / (1 - gamma))
    limit, never = jnp.arange(12) % 5 == 4, jnp.zeros(12, bool)
    following = successor_values(value, value[0], limit, value)
    for target in (
        lambda_returns(reward, following, never, limit, gamma, 0.95),
        n_step_returns(reward, following, never, limit, gamma, 3),
        value + gae(reward, value, following, never, limit, gamma=gamma, gae_lambda=0.95),
    ):
        np.testing.assert_allclose(target, value, rtol=1e-5)
    assert lambda_returns(reward, following, limit, never, gamma, 0.95)[4] == 1.0


def test_values_that_must_not_be_read_may_be_nan():
    """A simulation that blew up ends with a worthless successor: it may cost an episode,
    not the run."""
    reward = value = jnp.ones(3)
    next_value = jnp.array([1, jnp.nan, 1])
    terminated, truncated = jnp.arange(3) == 1, jnp.zeros(3, bool)
    assert np.all(
        np.isfinite(
            gae(reward, value, next_value, terminated, truncated, gamma=0.99, gae_lambda=0.95)
        )
    )


def test_gamma_and_lambda_may_be_traced():
    reward, value, last_value, final_value, terminated, truncated = rollout(7, (12, 2))
    next_value = successor_values(value, last_value, truncated, final_value)
    arguments = reward, value, next_value, terminated, truncated
    gammas, lambdas = jnp.array([0.9, 0.99]), jnp.array([0.8, 0.95])
    swept = jax.vmap(lambda gamma, lambda_: gae(*arguments, gamma=gamma, gae_lambda=lambda_))(
        gammas, lambdas
    )
    for i, (gamma, lambda_) in enumerate([(0.9, 0.8), (0.99, 0.95)]):
        np.testing.assert_allclose(
            swept[i], gae(*arguments, gamma=gamma, gae_lambda=lambda_), rtol=1e-5, atol=1e-6
        )


def test_a_trailing_axis_of_one_is_refused():
    column, row = jnp.ones((4, 1)), jnp.ones(4)
    never = jnp.zeros(4, bool)
    for refuses, error in ((gae, TypeCheckError), (inspect.unwrap(gae), AssertionError)):
        with pytest.raises(error):
            refuses(column, row, row, never, never, gamma=0.99, gae_lambda=0.95)
