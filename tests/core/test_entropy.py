"""The temperature's loss: its sign, its two forms, and what it leaves alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.entropy import temperature_loss

LOG_PROBABILITY = jnp.array([1.0, 2.0, 6.0])  # an entropy of -3


@pytest.mark.parametrize(("target", "gradient"), [(-2.0, -1.0), (-3.0, 0.0), (-4.5, 1.5)])
@pytest.mark.parametrize("of_logarithm", [True, False])
def test_it_rises_while_the_entropy_is_below_its_target(target, gradient, of_logarithm):
    log_alpha = jnp.log(jnp.float32(0.25))
    found = jax.grad(temperature_loss)(log_alpha, LOG_PROBABILITY, target, of_logarithm)
    assert float(found) == pytest.approx(gradient * (1.0 if of_logarithm else 0.25))


def test_nothing_of_it_reaches_the_policy():
    found = jax.grad(temperature_loss, argnums=1)(jnp.float32(0.3), LOG_PROBABILITY, -1.0, True)
    np.testing.assert_array_equal(found, 0.0)
