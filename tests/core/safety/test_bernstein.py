"""Empirical Bernstein sequences against a slow loop, hand numbers and simulation."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.safety import bernstein


def slow(samples, count, log_term):
    """(weight, weighted, penalty) of one round of samples, by the definition;
    `count` of all rounds."""
    guess_sum, square_sum, sums = 0.5, 0.25, np.zeros(3)
    for index, x in enumerate(samples, start=1):
        guess, variance = guess_sum / index, square_sum / index
        weight = min(math.sqrt(2 * log_term / (count * variance)), 0.5)
        square = (x - guess) ** 2
        sums += weight, weight * x, square * (-math.log(1 - weight) - weight)
        guess_sum, square_sum = guess_sum + x, square_sum + square
    return sums


def gather(samples, log_term=3.0, old=None):
    samples = jnp.asarray(samples, jnp.float32)
    old = bernstein.nothing(samples.shape[1:]) if old is None else old
    return bernstein.gather(old, samples, jnp.ones(samples.shape, bool), log_term)


def test_evidence_is_what_a_slow_loop_finds_of_the_rows_that_count():
    samples = np.random.default_rng(0).beta(2.0, 5.0, (200, 3)).astype(np.float32)
    where = np.random.default_rng(1).random((200, 3)) < np.array([0.9, 0.1, 0.0])
    found = bernstein.gather(bernstein.nothing((3,)), jnp.asarray(samples), jnp.asarray(where), 3.0)
    np.testing.assert_array_equal(found.count, where.sum(0))
    for column in range(3):
        rows = samples[where[:, column], column].astype(np.float64)
        np.testing.assert_allclose(
            [each[column] for each in found[1:]], slow(rows, len(rows), 3.0), rtol=1e-4
        )


def test_rounds_and_devices_add_up():
    samples = np.random.default_rng(0).random((2, 4, 30))
    first = gather(samples[0, 0])
    expected = [slow(samples[0, 0], 30, 3.0), slow(samples[1, 0], 60, 3.0)]
    np.testing.assert_allclose(gather(samples[1, 0], old=first)[1:], sum(expected), rtol=1e-4)

    def share(x):
        return bernstein.gather(bernstein.nothing(()), x, x >= 0, 3.0, "devices")

    shared = jax.vmap(share, axis_name="devices")(jnp.asarray(samples[0], jnp.float32))
    expected = sum(slow(each, 120, 3.0) for each in samples[0])
    np.testing.assert_array_equal(shared.count, 120)
    np.testing.assert_allclose(np.stack(shared[1:])[:, 0], expected, rtol=1e-4)


def test_hand_number():
    # One observation of 1: guess ½, variance ¼, λ = min(√(2·3/¼), ½) = ½; ψ(½) = log 2 − ½.
    evidence = gather(np.ones(1))
    np.testing.assert_allclose(evidence, [1, 0.5, 0.5, 0.25 * (math.log(2) - 0.5)], rtol=1e-6)
    assert [float(each) for each in bernstein.bounds(evidence, 3.0)] == [0.0, 1.0]
    # Of a thousand: centre 1, margin (L + penalty) / Σ λ.
    many = gather(np.ones(1000))
    lower, upper = bernstein.bounds(many, 3.0)
    np.testing.assert_allclose(lower, 1 - (3 + many.penalty) / many.weight, rtol=1e-6)
    assert upper == 1.0 and 0.97 < lower < 1.0


def test_nothing_is_known_of_nothing():
    lower, upper = bernstein.bounds(bernstein.nothing((2,)), 3.0)
    np.testing.assert_array_equal(lower, 0.0)
    np.testing.assert_array_equal(upper, 1.0)


@pytest.mark.parametrize("mean", [0.02, 0.5])
def test_no_bound_of_a_sequence_is_wrong_more_often_than_it_may(mean):
    rounds, log_term = 8, math.log(10)
    samples = jnp.asarray(np.random.default_rng(0).random((2000, rounds, 50)) < mean, jnp.float32)

    def sequence(rows):
        def body(evidence, x):
            evidence = bernstein.gather(evidence, x, jnp.ones(50, bool), log_term)
            return evidence, bernstein.bounds(evidence, log_term)

        return jax.lax.scan(body, bernstein.nothing(()), rows)[1]

    lower, upper = map(np.asarray, jax.jit(jax.vmap(sequence))(samples))
    assert (
        np.mean(np.any(lower > mean, axis=1)) < 0.1 and np.mean(np.any(upper < mean, axis=1)) < 0.1
    )
    # And they say something: after 400 observations little more than twice Bernstein's width with
    # the true variance.
    width = 2 * math.sqrt(2 * mean * (1 - mean) * log_term / 400) + 2 * log_term / 400
    assert np.median(upper[:, -1] - lower[:, -1]) < 2.2 * width
