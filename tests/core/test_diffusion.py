"""A diffusion of few steps against hand numbers and a NumPy loop in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.diffusion import generate, make_schedule, noised, variance_preserving_betas

BETA = variance_preserving_betas(5)
SCHEDULE = make_schedule(BETA)


def numpy_loop(model, noise, beta):
    """Diffusion-QL's sampling, written as its formulas are, with a clipped guess of the data."""
    alpha = 1.0 - beta
    kept = np.cumprod(alpha)
    point = noise[0]
    for n in reversed(range(len(beta))):
        before = kept[n - 1] if n else 1.0
        guess = model(point, n)
        clean = np.clip(np.sqrt(1 / kept[n]) * point - np.sqrt(1 / kept[n] - 1) * guess, -1, 1)
        mean = (
            beta[n] * np.sqrt(before) / (1 - kept[n]) * clean
            + (1 - before) * np.sqrt(alpha[n]) / (1 - kept[n]) * point
        )
        variance = max(beta[n] * (1 - before) / (1 - kept[n]), 1e-20)
        extra = noise[len(beta) - n] if n else 0.0
        point = mean + np.exp(0.5 * np.log(variance)) * extra
    return np.clip(point, -1, 1)


def test_the_schedule_of_five_steps():
    np.testing.assert_allclose(BETA, [0.1959, 0.4588, 0.6358, 0.7549, 0.8350], atol=5e-5)
    assert float(SCHEDULE.signal[4]) ** 2 == pytest.approx(0.0064, abs=5e-5)
    np.testing.assert_allclose(
        np.square(SCHEDULE.signal) + np.square(SCHEDULE.noise), 1.0, rtol=1e-6
    )
    assert float(SCHEDULE.deviation[0]) == 0.0
    assert (float(SCHEDULE.from_clean[0]), float(SCHEDULE.from_noisy[0])) == (1.0, 0.0)


def test_each_row_is_noised_by_its_own_step():
    clean, noise = jnp.array([[0.5, -1.0], [0.2, 0.4]]), jnp.array([[1.0, 2.0], [-1.0, 0.0]])
    found = noised(clean, noise, jnp.array([0, 4]), SCHEDULE)
    kept = np.cumprod(1.0 - BETA)[[0, 4]][:, None]
    expected = np.sqrt(kept) * np.asarray(clean) + np.sqrt(1.0 - kept) * np.asarray(noise)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_steps_back_against_a_loop(steps):
    beta = variance_preserving_betas(steps)
    noise = np.random.default_rng(0).normal(size=(steps, 40, 3))
    found = generate(
        lambda x, n: jnp.sin(2.0 * x + n), jnp.asarray(noise, jnp.float32), make_schedule(beta)
    )
    expected = numpy_loop(lambda x, n: np.sin(2.0 * x + n), noise, beta)
    np.testing.assert_allclose(found, expected, atol=2e-5)
    # Some guesses were clipped, and some were not.
    assert np.abs(expected).max() > 0.9999 and np.abs(expected).min() < 0.9


def test_who_knows_the_noise_finds_the_data():
    data = np.random.default_rng(1).uniform(-1.0, 1.0, size=(8, 2)).astype(np.float32)

    def noise_in(point, step):
        at = step.astype(int)
        return (point - SCHEDULE.signal[at] * data) / SCHEDULE.noise[at]

    noise = jax.random.normal(jax.random.key(0), (5, 8, 2))
    np.testing.assert_allclose(generate(noise_in, noise, SCHEDULE), data, atol=1e-5)


def test_the_gradient_goes_through_all_steps():
    with jax.enable_x64(True):
        noise = 0.3 * jax.random.normal(jax.random.key(2), (5, 6, 2), jnp.float64)
        schedule = jax.tree.map(lambda column: column.astype(jnp.float64), SCHEDULE)

        def made(theta):
            return generate(lambda x, n: theta * x * (1.0 + n), noise, schedule).sum()

        theta, step = 0.15, 1e-6
        slope = (made(theta + step) - made(theta - step)) / (2 * step)
        found = jax.grad(made)(theta)
        assert float(found) == pytest.approx(float(slope), rel=1e-6)

        def last_step_alone(theta):
            held = generate(
                lambda x, n: jnp.where(n == 0, theta, 0.15) * x * (1.0 + n), noise, schedule
            )
            return held.sum()

        assert float(jax.grad(last_step_alone)(theta)) != pytest.approx(float(slope), rel=1e-2)
