"""The average of parameters that PPO-EWMA holds the policy to."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core import ewma


@pytest.mark.parametrize("center_of_mass", [0.0, 0.5, 3.0])
def test_the_average_weighs_each_update_by_its_age(center_of_mass):
    values = np.array([2.0, -1.0, 4.0, 0.5])
    average = ewma.init(jnp.float32(values[0]))
    for value in values[1:]:
        average = ewma.update(average, jnp.float32(value), center_of_mass)
    weights = (center_of_mass / (1 + center_of_mass)) ** np.arange(len(values))[::-1]
    np.testing.assert_allclose(average.mean, (weights * values).sum() / weights.sum(), rtol=1e-6)
    np.testing.assert_allclose(average.weight, weights.sum(), rtol=1e-6)


def test_the_age_of_an_old_average_is_its_center_of_mass():
    average = ewma.init(jnp.float32(0.0))
    for age in range(1, 400):
        average = ewma.update(average, jnp.float32(age), 7.0)
    np.testing.assert_allclose(399 - average.mean, 7.0, rtol=1e-4)


def test_the_anchor_is_the_policy_that_acted_unless_there_is_an_average():
    behavior = jnp.float32([-1.0, -2.0])
    average = ewma.update(ewma.init(jnp.float32(1.0)), jnp.float32(4.0), 1.0)
    np.testing.assert_array_equal(ewma.anchor(None, behavior, jnp.exp), behavior)

    def log_probability(mean):
        return jnp.full(2, -mean)

    found = ewma.anchor(average, behavior, log_probability)
    np.testing.assert_allclose(found, -3.0, rtol=1e-6)
