"""The outer loop of PPO: averages of parameters, the outer step, the noise scale, the metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core import outer_loop


@pytest.mark.parametrize("center_of_mass", [0.0, 0.5, 3.0])
def test_the_average_weighs_each_update_by_its_age(center_of_mass):
    values = np.array([2.0, -1.0, 4.0, 0.5])
    ewma = outer_loop.ewma_init(jnp.float32(values[0]))
    for value in values[1:]:
        ewma = outer_loop.ewma_update(ewma, jnp.float32(value), center_of_mass)
    weights = (center_of_mass / (1 + center_of_mass)) ** np.arange(len(values))[::-1]
    np.testing.assert_allclose(ewma.mean, (weights * values).sum() / weights.sum(), rtol=1e-6)
    np.testing.assert_allclose(ewma.weight, weights.sum(), rtol=1e-6)


def test_the_age_of_an_old_average_is_its_center_of_mass():
    ewma = outer_loop.ewma_init(jnp.float32(0.0))
    for age in range(1, 400):
        ewma = outer_loop.ewma_update(ewma, jnp.float32(age), 7.0)
    np.testing.assert_allclose(399 - ewma.mean, 7.0, rtol=1e-4)


def test_an_outer_step_of_one_is_the_optimised_policy_to_the_last_bit():
    old, new = jnp.float32([1.0, 1e8, -3.3]), jnp.float32([1e-9, 0.1, 7.7])
    np.testing.assert_array_equal(outer_loop.outer_step(old, new, jnp.float32(1.0)), new)
    np.testing.assert_allclose(outer_loop.outer_step(old, new, 0.0), old, rtol=1e-6)
    half, double = (
        outer_loop.outer_step(old[2], new[2], 0.5),
        outer_loop.outer_step(old[2], new[2], 2.0),
    )
    np.testing.assert_allclose([half, double], [2.2, 18.7], rtol=1e-6)


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
    scale = outer_loop.gradient_noise_scale(
        jnp.float32(norms[small][0]), jnp.float32(norms[large][0]), small, large
    )
    np.testing.assert_allclose(scale.sum, dimension * deviation**2, rtol=0.05)
    np.testing.assert_allclose(scale.count, np.square(mean).sum(), rtol=0.05)


def test_one_minibatch_a_batch_tells_nothing_of_the_noise():
    scale = outer_loop.gradient_noise_scale(jnp.float32(2.0), jnp.float32(2.0), 64, 64)
    assert float(scale.sum) == float(scale.count) == 0.0


def test_metrics_of_an_update():
    seen = {
        "gradient_norm": jnp.float32([[3.0, 1.0], [9.0, 9.0]]),
        "batch_gradient_norm": jnp.float32([2.0, 9.0]),
        "ratio_error": jnp.float32([[1e-8, 0.5], [0.5, 0.5]]),
        "taken": jnp.array([[True, True], [True, False]]),
    }
    metrics = outer_loop.update_metrics(seen, jnp.float32(0.01), batch_size=200, minibatch_size=100)
    means = {name: float(pair.sum / pair.count) for name, pair in metrics.items()}
    assert (
        means["gradient_steps"] == 3.0 and means["taken"] == 0.75 and means["gradient_norm"] == 5.5
    )
    np.testing.assert_allclose(means["first_ratio_error"], 1e-8)
    np.testing.assert_allclose(
        [means["kl_to_previous"], means["data_to_divergence"]], [0.01, 20_000], rtol=1e-6
    )
    # Of the first epoch alone: |G_b|² = 5, |G_B|² = 4, tr Σ = 1 / (1/100 − 1/200), |G|² = 3.
    np.testing.assert_allclose(means["gradient_noise_scale"], 200.0 / 3.0, rtol=1e-5)
    assert jax.tree.structure(metrics) == jax.tree.structure(
        outer_loop.update_metrics(seen, jnp.float32(1.0), batch_size=200, minibatch_size=100)
    )
