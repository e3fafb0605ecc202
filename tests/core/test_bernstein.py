"""Empirical Bernstein bounds against hand numbers, NumPy, and simulation."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core import bernstein
from jaxrl.core.moments import Moments


def of(samples):
    return Moments(jnp.mean(samples), jnp.var(samples), jnp.float32(len(samples)))


def test_moments_are_of_the_rows_that_count():
    samples = np.random.default_rng(0).normal(100.0, 5.0, (50, 3)).astype(np.float32)
    where = np.random.default_rng(1).random((50, 3)) < np.array([0.5, 0.1, 0.0])
    found = bernstein.moments_of(jnp.asarray(samples), jnp.asarray(where))
    for column in range(2):
        rows = samples[where[:, column], column].astype(np.float64)
        np.testing.assert_allclose(found.mean[column], rows.mean(), rtol=1e-6)
        np.testing.assert_allclose(found.variance[column], rows.var(), rtol=1e-4)
    np.testing.assert_array_equal(found.count, where.sum(0))
    assert float(found.mean[2]) == float(found.variance[2]) == 0.0


def test_moments_of_devices_are_those_of_all_rows():
    samples = jnp.asarray(np.random.default_rng(0).random((4, 10)), jnp.float32)
    where = samples > 0.3
    shared = jax.vmap(lambda x, w: bernstein.moments_of(x, w, "devices"), axis_name="devices")(samples, where)
    whole = bernstein.moments_of(samples.reshape(-1), where.reshape(-1))
    for each, expected in zip(shared, whole, strict=True):
        np.testing.assert_allclose(each, np.full(4, expected), rtol=1e-5)


@pytest.mark.parametrize("split", [0, 1, 30, 99, 100])
def test_merged_moments_are_those_of_all_samples(split):
    samples = jnp.asarray(np.random.default_rng(0).exponential(3.0, 100), jnp.float32)
    everywhere = jnp.ones(100, bool)
    first, second = (bernstein.moments_of(each, everywhere[: len(each)]) for each in (samples[:split], samples[split:]))
    for found, expected in zip(bernstein.merge(first, second), of(samples), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_hand_number():
    # 400 samples, half of them 1: unbiased variance 100 / 399. δ = 0.5, range 10.
    width = math.sqrt(2 * 100 / 399 * math.log(4) / 400) + 7 * 10 * math.log(4) / (3 * 399)
    lower, upper = bernstein.bounds(of(jnp.tile(jnp.array([0.0, 1.0]), 200)), -5.0, 5.0, 0.5)
    np.testing.assert_allclose([lower, upper], [0.5 - width, 0.5 + width], rtol=1e-5)


def test_bounds_stay_in_the_range_and_know_nothing_of_one_sample():
    count = jnp.array([0.0, 1.0, 2.0, 1e6])
    lower, upper = bernstein.bounds(Moments(jnp.full(4, 3.0), jnp.zeros(4), count), 1.0, 4.0, 0.1)
    np.testing.assert_allclose(lower[:3], 1.0)
    np.testing.assert_allclose(upper[:3], 4.0)
    assert 2.99 < lower[3] < 3.0 < upper[3] < 3.01


@pytest.mark.parametrize("mean", [0.02, 0.5])
def test_bounds_are_wrong_no_more_often_than_they_may(mean):
    samples = jnp.asarray(np.random.default_rng(0).random((4000, 200)) < mean, jnp.float32)
    lower, upper = jax.vmap(lambda x: bernstein.bounds(of(x), 0.0, 1.0, 0.1))(samples)
    assert np.mean(np.asarray(lower) > mean) < 0.1 and np.mean(np.asarray(upper) < mean) < 0.1
    # And they say something: at most a half of what Hoeffding's bound allows plus the price of small samples.
    assert np.median(np.asarray(upper - lower)) < 2 * math.sqrt(math.log(20) / 400) + 0.2
