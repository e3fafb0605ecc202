"""AdamW and clipping against float64 loops."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core import adam


def test_adamw_decays_the_weights_that_it_is_told_to():
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(4, 3))
    first = np.array([1.0, -2.0, 3.0])
    params = {"kernel": jnp.asarray(first, jnp.float32), "bias": jnp.asarray(first, jnp.float32)}
    state = adam.init(params)
    for gradient in gradients:
        leaf = jnp.asarray(gradient, jnp.float32)
        params, state = adam.descend_with_decay(
            params,
            {"kernel": leaf, "bias": leaf},
            state,
            0.1,
            0.2,
            {"kernel": True, "bias": False},
        )
    for name, decay in (("kernel", 0.2), ("bias", 0.0)):
        theta, m, v = first.copy(), np.zeros(3), np.zeros(3)
        for t, g in enumerate(gradients, start=1):
            m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
            direction = (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            theta = theta - 0.1 * (direction + decay * theta)
        np.testing.assert_allclose(params[name], theta, rtol=1e-5)


def test_a_gradient_is_scaled_to_the_norm_that_it_may_have():
    gradient = {"a": jnp.array([3.0, 0.0]), "b": jnp.array([4.0])}
    clipped, norm = adam.clip_by_norm(gradient, 2.5)
    assert float(norm) == 5.0 and clipped["a"].tolist() == [1.5, 0.0]
    same, _ = adam.clip_by_norm(gradient, jnp.inf)
    assert same["b"].tolist() == [4.0]
    nothing, norm = adam.clip_by_norm(jax.tree.map(jnp.zeros_like, gradient), 2.5)
    assert float(norm) == 0.0 and not nothing["a"].any()
