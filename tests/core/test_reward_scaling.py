"""Reward scaling against a slow loop over every environment and step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core import reward_scaling

GAMMA = 0.9
NUM_STEPS, NUM_ENVS = 6, 3

scale = jax.jit(reward_scaling.scale)


def rollouts(count):
    rng = np.random.default_rng(0)
    for _ in range(count):
        yield (
            rng.normal(2.0, 3.0, (NUM_STEPS, NUM_ENVS)).astype(np.float32),
            rng.random((NUM_STEPS, NUM_ENVS)) < 0.3,
        )


def test_agrees_with_a_loop_that_keeps_every_return():
    scaler = reward_scaling.init(NUM_ENVS)
    running, seen, deviation = np.zeros(NUM_ENVS), [], 1.0
    for reward, ended in rollouts(4):
        scaler, scaled = scale(scaler, reward, ended, GAMMA)
        np.testing.assert_allclose(scaled, reward / deviation, rtol=1e-5)
        for t in range(NUM_STEPS):
            running = GAMMA * running + reward[t]
            seen.extend(running)
            running = np.where(ended[t], 0.0, running)
        deviation = np.std(seen)
    np.testing.assert_allclose(scaler.discounted_return, running, rtol=1e-5)
    np.testing.assert_allclose(scaler.moments.variance, deviation**2, rtol=1e-5)
    np.testing.assert_allclose(scaler.moments.mean, np.mean(seen), rtol=1e-5)
    assert float(scaler.moments.count) == 4 * NUM_STEPS * NUM_ENVS


def test_the_first_rollout_is_not_scaled():
    reward, ended = next(rollouts(1))
    _, scaled = scale(reward_scaling.init(NUM_ENVS), reward, ended, GAMMA)
    np.testing.assert_allclose(scaled, reward, rtol=1e-6)


def test_one_deviation_scales_a_whole_rollout():
    (first, first_ended), (reward, ended) = rollouts(2)
    before, _ = scale(reward_scaling.init(NUM_ENVS), first, first_ended, GAMMA)
    after, scaled = scale(before, reward, ended, GAMMA)
    np.testing.assert_allclose(reward / scaled, np.sqrt(before.moments.variance), rtol=1e-5)
    assert float(after.moments.variance) != float(before.moments.variance)


def test_rewards_keep_their_sign_and_ratios():
    reward, ended = jnp.array([[1.0, -2.0, 0.0]]), jnp.zeros((1, 3), bool)
    scaler, _ = scale(reward_scaling.init(3), 10.0 * reward, ended, GAMMA)
    _, scaled = scale(scaler, reward, ended, GAMMA)
    assert float(scaled[0, 1] / scaled[0, 0]) == pytest.approx(-2.0)
    assert float(scaled[0, 2]) == 0.0


def test_constant_rewards_stay_finite():
    scaler, scaled = reward_scaling.init(2), None
    for _ in range(2):
        scaler, scaled = scale(scaler, jnp.zeros((4, 2)), jnp.zeros((4, 2), bool), GAMMA)
    np.testing.assert_array_equal(scaled, 0.0)


def test_the_first_rewards_of_a_sparse_task_are_not_blown_up():
    """They were multiplied by 1e4: the deviation of returns that are all zero."""
    nothing, going_on = jnp.zeros((4, 2)), jnp.zeros((4, 2), bool)
    scaler, _ = scale(reward_scaling.init(2), nothing, going_on, GAMMA)
    sparse = nothing.at[2, 1].set(1.0).at[3, 0].set(-250.0)
    _, scaled = scale(scaler, sparse, going_on, GAMMA)
    np.testing.assert_array_equal(scaled, sparse.at[3, 0].set(-10.0))


def test_a_rare_reward_is_clipped_and_all_others_are_the_same_bits():
    (first, ended), (reward, _) = rollouts(2)
    scaler, _ = scale(reward_scaling.init(NUM_ENVS), first, ended, GAMMA)
    plain = jax.jit(lambda reward, variance: reward * jax.lax.rsqrt(variance + 1e-8))
    expected = np.array(plain(reward, scaler.moments.variance))
    assert np.abs(expected).max() < 10.0
    _, scaled = scale(scaler, reward, ended, GAMMA)
    np.testing.assert_array_equal(scaled, expected)
    reward[0, 0], expected[0, 0] = -1e3, -10.0
    np.testing.assert_allclose(scale(scaler, reward, ended, GAMMA)[1], expected, rtol=1e-6)


def test_the_first_rollout_is_not_clipped():
    reward, ended = next(rollouts(1))
    _, scaled = scale(reward_scaling.init(NUM_ENVS), 100.0 * reward, ended, GAMMA)
    np.testing.assert_array_equal(scaled, 100.0 * reward)
