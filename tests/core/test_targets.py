"""Targets of Q-learning, by hand numbers."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core import adam
from jaxrl.core.targets import clipped_double_q, polyak, smoothed_action


def test_the_least_of_the_critics_sets_the_target():
    reward, discount = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.9, 0.81, 0.0])
    values = jnp.array([[10.0, -4.0, 100.0], [20.0, -5.0, 50.0]])
    found = clipped_double_q(reward, discount, values)
    np.testing.assert_allclose(found, [1 + 9.0, 2 - 4.05, 3.0], rtol=1e-6)


def test_no_gradient_goes_through_the_target():
    def total(values):
        return clipped_double_q(jnp.ones(2), jnp.ones(2), values).sum()

    np.testing.assert_array_equal(jax.grad(total)(jnp.ones((2, 2))), 0.0)


def test_noise_is_clipped_before_it_is_added_and_the_action_after():
    action = jnp.array([0.0, 0.0, 0.9, -0.9])
    noise = jnp.array([1.0, 10.0, 1.0, -10.0])
    found = smoothed_action(action, noise, 0.2, 0.5)
    np.testing.assert_allclose(found, [0.2, 0.5, 1.0, -1.0], rtol=1e-6)


def test_a_target_network_goes_a_share_of_the_way():
    old, new = {"w": jnp.array([0.0, 8.0])}, {"w": jnp.array([4.0, 8.0])}
    assert polyak(old, new, 0.25)["w"].tolist() == [1.0, 8.0]
    assert polyak(old, new, 1.0)["w"].tolist() == [4.0, 8.0]
    assert polyak(old, new, 0.0)["w"].tolist() == [0.0, 8.0]


def test_adam_against_its_recursion_in_float64():
    rng = np.random.default_rng(0)
    params, state = {"w": jnp.asarray(rng.normal(size=3), jnp.float32)}, None
    state = adam.init(params)
    expected, mean, square = np.asarray(params["w"], np.float64), np.zeros(3), np.zeros(3)
    for step in range(1, 6):
        gradient = rng.normal(size=3)
        rate = 0.01 * step
        params, state = adam.descend(params, {"w": jnp.asarray(gradient, jnp.float32)}, state, rate)
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        direction = mean / (1 - 0.9**step) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        expected = expected - rate * direction
        np.testing.assert_allclose(params["w"], expected, rtol=1e-5)
