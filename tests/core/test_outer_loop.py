"""The outer loop of PPO: the outer step and the metrics."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core import outer_loop


def test_an_outer_step_of_one_is_the_optimised_policy_to_the_last_bit():
    old, new = jnp.float32([1.0, 1e8, -3.3]), jnp.float32([1e-9, 0.1, 7.7])
    np.testing.assert_array_equal(outer_loop.outer_step(old, new, jnp.float32(1.0)), new)
    np.testing.assert_allclose(outer_loop.outer_step(old, new, 0.0), old, rtol=1e-6)
    half, double = (
        outer_loop.outer_step(old[2], new[2], 0.5),
        outer_loop.outer_step(old[2], new[2], 2.0),
    )
    np.testing.assert_allclose([half, double], [2.2, 18.7], rtol=1e-6)


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
