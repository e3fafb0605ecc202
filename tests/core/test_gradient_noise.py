"""The gradient's noise scale, and the norms that it is estimated from."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from jaxrl.core.flat_optimizer import FlatOptimizer
from jaxrl.core.gradient_noise import gradient_noise_scale, scan_minibatches


def test_the_noise_scale_is_the_noise_over_the_signal():
    """Gradients of mean g and covariance s² I per sample: tr Σ = d s²,
    whatever the sizes of the batches."""
    rng = np.random.default_rng(0)
    dimension, deviation, small, large = 50, 3.0, 8, 64
    mean = rng.normal(size=dimension)
    norms = {size: [] for size in (small, large)}
    for size, found in norms.items():
        noise = rng.normal(size=(20_000, dimension)) * deviation / np.sqrt(size)
        found.append(np.square(mean + noise).sum(-1).mean())
    scale = gradient_noise_scale(
        jnp.float32(norms[small][0]), jnp.float32(norms[large][0]), small, large
    )
    np.testing.assert_allclose(scale.sum, dimension * deviation**2, rtol=0.05)
    np.testing.assert_allclose(scale.count, np.square(mean).sum(), rtol=0.05)


def test_one_minibatch_a_batch_tells_nothing_of_the_noise():
    scale = gradient_noise_scale(jnp.float32(2.0), jnp.float32(2.0), 64, 64)
    assert float(scale.sum) == float(scale.count) == 0.0


def test_norms_are_of_each_minibatch_and_of_their_mean():
    gradients = jnp.float32([[3.0, 4.0], [-3.0, 4.0]])

    def step(learner, gradient):
        seen = {"before": learner.params[0]}
        return replace(learner, params=learner.params + gradient), gradient, seen

    learner = FlatOptimizer(np.inf).init(jnp.zeros(2))
    after, seen = scan_minibatches(step, learner, gradients)
    np.testing.assert_array_equal(after.params, [0.0, 8.0])
    np.testing.assert_array_equal(seen["before"], [0.0, 3.0])
    np.testing.assert_array_equal(seen["gradient_norm"], [5.0, 5.0])
    assert float(seen["batch_gradient_norm"]) == 4.0
