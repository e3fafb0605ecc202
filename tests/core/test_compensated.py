"""Compensated sums against float64 and exact sums, in the loops that float32 alone loses."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core import compensated

EPS = 2.0**-24  # the greatest relative error of one rounding
MANY = 2**24 + 1000


def in_one_loop(terms):
    """The sums of terms [T, ...], by a scan."""
    first = compensated.zeros(terms.shape[1:])
    return jax.lax.scan(lambda total, term: (compensated.add(total, term), ()), first, terms)[0]


def counted(term, count):
    """The plain and the compensated sum of `count` equal terms [N], by one loop."""

    def one_step(_, carry):
        plain, total = carry
        return plain + term, compensated.add(total, term)

    begun = (jnp.zeros_like(term), compensated.zeros(term.shape))
    return jax.lax.fori_loop(0, count, one_step, begun)


def exact(terms):
    return np.array([math.fsum(column) for column in np.asarray(terms, np.float64).T])


def bound(terms):
    """The error that the docstring of `add` allows."""
    so_far = np.cumsum(np.asarray(terms, np.float64), axis=0)
    return EPS * np.abs(so_far[-1]) + 2 * len(terms) * EPS**2 * np.abs(so_far).max(0)


def random_terms(kind, count=20_000, rows=3):
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((count, rows))
    terms = {
        "normal": drawn,
        "one sign": np.abs(drawn) + 0.1,
        "of all sizes": drawn * 10.0 ** rng.integers(-8, 8, drawn.shape),
        "cancelling": np.concatenate([drawn, -drawn[::-1]]),
    }[kind]
    return terms.astype(np.float32)


@pytest.mark.parametrize("kind", ["normal", "one sign", "of all sizes", "cancelling"])
def test_agrees_with_exact_and_float64_sums(kind):
    terms = random_terms(kind)
    total = jax.device_get(jax.jit(in_one_loop)(terms))
    assert (np.abs(total.value - exact(terms)) <= bound(terms)).all()
    naive = np.zeros(terms.shape[1])
    for term in terms.astype(np.float64):
        naive = naive + term
    largest = np.abs(np.cumsum(terms, axis=0, dtype=np.float64)).max(0)
    np.testing.assert_allclose(total.value, naive, rtol=EPS, atol=1e-12 * largest.max())


def test_the_value_is_the_sum_rounded_and_the_remainder_what_is_missing():
    terms = random_terms("one sign")
    value, remainder = jax.device_get(jax.jit(in_one_loop)(terms))
    assert value.dtype == remainder.dtype == np.float32
    assert (np.abs(remainder) <= np.spacing(value) / 2).all() and remainder.any()
    np.testing.assert_array_equal(value, exact(terms).astype(np.float32))
    both = value.astype(np.float64) + remainder
    np.testing.assert_allclose(both, exact(terms), rtol=2 * len(terms) * EPS**2)


@pytest.mark.parametrize(
    "terms",
    [[2.0**24, *[1.0] * 1000], [*[1.0] * 3, 1e20, *[1.0] * 4, -1e20], [1e20, 1.0, -1e20], []],
)
def test_a_term_much_larger_or_smaller_than_the_sum_loses_nothing(terms):
    total = jax.jit(in_one_loop)(jnp.array(terms, jnp.float32))
    assert float(total.value) == np.float32(math.fsum(terms))


def test_more_steps_than_float32_can_count():
    """The compiler must not simplify (a + b) − a:
    every program below would then be the plain sum."""
    terms = jnp.array([1.0, 0.1, -0.3], jnp.float32)
    plain, total = jax.device_get(jax.jit(counted)(terms, MANY))
    true = MANY * np.asarray(terms, np.float64)
    np.testing.assert_array_equal(total.value, true.astype(np.float32))
    assert plain[0] == 2**24 and (np.abs(plain / true - 1) > [5e-5, 1e-2, 1e-2]).all()


def test_a_plain_sum_fails_where_the_report_says():
    plain, total = jax.device_get(jax.jit(counted)(jnp.full(1, 0.1, jnp.float32), 1_000_000))
    assert plain[0] == pytest.approx(100_958, abs=1) and total.value[0] == 100_000


def test_the_same_bits_with_and_without_jit_vmap_and_scan():
    terms = random_terms("of all sizes", count=200)
    compiled = jax.jit(in_one_loop)(terms)
    mapped = jax.jit(jax.vmap(in_one_loop, in_axes=1))(terms)
    one_by_one = compensated.zeros(terms.shape[1])
    with jax.disable_jit():
        for term in terms:
            one_by_one = compensated.add(one_by_one, jnp.asarray(term))
    for other in (mapped, one_by_one):
        jax.tree.map(np.testing.assert_array_equal, other, compiled)


def test_terms_that_are_products_of_the_same_program():
    """A product may enter the sum unrounded, as a fused multiply-add:
    no more than its own rounding."""
    left, right = random_terms("one sign"), random_terms("normal")
    fused = jax.jit(lambda left, right: in_one_loop(left * right))(left, right)
    within = jax.jit(
        lambda left, right: jax.lax.scan(
            lambda total, pair: (compensated.add(total, pair[0] * pair[1]), ()),
            compensated.zeros(left.shape[1:]),
            (left, right),
        )[0]
    )(left, right)
    products = left.astype(np.float64) * right
    for total in (fused, within):
        assert (
            np.abs(total.value - exact(products)) <= bound(products) + EPS * np.abs(products).sum(0)
        ).all()


@pytest.mark.parametrize("terms", [[1, np.inf, 2], [3e38, 3e38, 1], [-np.inf], [1, np.nan, 2]])
def test_what_is_not_finite_never_becomes_finite_again(terms):
    assert np.isnan(jax.jit(in_one_loop)(jnp.array(terms, jnp.float32)).value)
