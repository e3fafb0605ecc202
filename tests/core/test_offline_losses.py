"""The terms of offline losses, by hand numbers and by what minimises them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.offline_losses import advantage_weight, expectile_loss, value_scale


@pytest.fixture(autouse=True)
def strict_arithmetic():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def test_what_was_estimated_too_low_weighs_the_expectile_and_too_high_the_rest():
    found = expectile_loss(jnp.array([2.0, -2.0, 0.0]), 0.7)
    np.testing.assert_allclose(found, [0.7 * 4, 0.3 * 4, 0.0], rtol=1e-6)


def test_the_half_is_half_a_squared_error():
    error = jnp.asarray(np.random.default_rng(0).normal(size=50), jnp.float32)
    np.testing.assert_allclose(expectile_loss(error, 0.5), 0.5 * error**2, rtol=1e-6)


@pytest.mark.parametrize(("expectile", "best"), [(0.5, 2.5), (0.75, 5.0), (0.99, 9.7058824)])
def test_the_best_estimate_is_the_expectile(expectile, best):
    """Of 0, 0, 0 and 10: τ (10 − v) = 3 (1 − τ) v."""
    goals = jnp.array([0.0, 0.0, 0.0, 10.0])

    def loss(estimate):
        return expectile_loss(goals - estimate, expectile).mean()

    np.testing.assert_allclose(jax.grad(loss)(jnp.float32(best)), 0.0, atol=1e-5)
    assert loss(jnp.float32(best)) < min(
        loss(jnp.float32(best - 0.1)), loss(jnp.float32(best + 0.1))
    )


def test_weights_are_clipped_exponentials_and_carry_no_gradient():
    advantage = jnp.array([0.0, 1.0, -1.0, 1.6, 1e6])
    found = advantage_weight(advantage, 3.0, 100.0)
    np.testing.assert_allclose(found, [1.0, np.exp(3), np.exp(-3), 100.0, 100.0], rtol=1e-6)
    np.testing.assert_array_equal(advantage_weight(advantage, 0.0, 100.0), 1.0)
    gradient = jax.grad(lambda a: advantage_weight(a, 3.0, 100.0).sum())(advantage)
    np.testing.assert_array_equal(gradient, 0.0)


def test_values_are_scaled_by_their_mean_size_which_carries_no_gradient():
    value = jnp.array([1.0, -3.0])
    assert float(value_scale(value, 2.5)) == 1.25
    np.testing.assert_array_equal(jax.grad(value_scale)(value, 2.5), 0.0)
    np.testing.assert_allclose(
        value_scale(10.0 * value, 2.5) * 10.0 * value, value_scale(value, 2.5) * value, rtol=1e-6
    )


def test_values_that_are_all_zero_have_a_finite_scale():
    assert np.isfinite(value_scale(jnp.zeros(3), 2.5))
