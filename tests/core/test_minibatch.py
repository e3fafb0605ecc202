"""Minibatches: shuffling, gathering, and the sizes that fit."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core import minibatch
from jaxrl.errors import JaxrlError


@pytest.mark.parametrize("minibatch_size", [1, 4, 12])
def test_an_epoch_visits_every_row_once(minibatch_size):
    indices = minibatch.shuffled_indices(jax.random.key(0), 12, minibatch_size)
    assert indices.shape == (12 // minibatch_size, minibatch_size) and indices.dtype == jnp.int32
    np.testing.assert_array_equal(np.sort(indices.ravel()), np.arange(12))


def test_every_epoch_is_shuffled_anew():
    first, second = (
        minibatch.shuffled_indices(key, 64, 16) for key in jax.random.split(jax.random.key(1))
    )
    assert not np.array_equal(first, second)
    assert not np.array_equal(first.ravel(), np.arange(64))


def test_a_row_is_equally_likely_in_every_minibatch():
    shuffle = jax.vmap(lambda key: minibatch.shuffled_indices(key, 8, 2))
    indices = shuffle(jax.random.split(jax.random.key(2), 4000))
    share = (indices == 0).any(-1).mean(0)
    np.testing.assert_allclose(share, 0.25, atol=0.03)


@pytest.mark.parametrize("size", [1, 2, 7, 12, 97, 512, 4096, 6000, 65_537, 3 * 2**15])
def test_every_size_is_permuted_primes_too(size):
    found = np.asarray(jax.jit(minibatch.permutation, static_argnums=1)(jax.random.key(size), size))
    assert found.dtype == np.int32
    np.testing.assert_array_equal(np.sort(found), np.arange(size))


@pytest.mark.parametrize(("size", "trials"), [(12, 20_000), (512, 4000)])
def test_where_an_index_goes_and_where_its_neighbour_goes_are_independent(size, trials):
    """Counts of (place of 0, place of 1) by quarters of the permutation,
    against a random permutation's."""
    keys = jax.random.split(jax.random.key(5), trials)
    places = np.asarray(
        jax.jit(jax.vmap(lambda key: jnp.argsort(minibatch.permutation(key, size))[:2]))(keys)
    )
    quarter = places * 4 // size
    counts = np.zeros((4, 4))
    np.add.at(counts, (quarter[:, 0], quarter[:, 1]), 1)
    same = (size / 4 - 1) / (size - 1) / 4
    expected = trials * np.where(np.eye(4, dtype=bool), same, (1 - 4 * same) / 12)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 40.0  # 15 degrees of freedom: exceeded once in 2000 times by chance


@pytest.mark.parametrize("size", [5, 6])
def test_every_order_of_a_few_rows_is_equally_likely(size):
    """Of a prime there were as many orders as rows: rotations."""
    trials = 100 * math.factorial(size)
    keys = jax.random.split(jax.random.key(3), trials)
    orders = jax.jit(jax.vmap(lambda key: minibatch.permutation(key, size)))(keys)
    _, counts = np.unique(np.asarray(orders), axis=0, return_counts=True)
    assert len(counts) == math.factorial(size)
    assert (np.square(counts - 100.0) / 100.0).mean() < 1.5


@pytest.mark.parametrize("size", [31, 61, 2 * 31, 3 * 37])
def test_neighbours_part(size):
    keys = jax.random.split(jax.random.key(4), 4000)
    orders = jax.jit(jax.vmap(lambda key: minibatch.permutation(key, size)))(keys)
    following = np.diff(np.asarray(orders), axis=1) % size == 1
    assert following.mean() * size < 1.1


def test_a_large_permutation_leaves_no_trace_of_order():
    found = np.asarray(
        jax.jit(minibatch.permutation, static_argnums=1)(jax.random.key(0), 2**16)
    ).astype(float)
    # Correlation with the identity, and of neighbours, is of the order of 1 / 256 for a random one.
    assert abs(np.corrcoef(found, np.arange(2**16))[0, 1]) < 0.02
    assert abs(np.corrcoef(found[1:], found[:-1])[0, 1]) < 0.02
    assert abs(np.corrcoef(found[256:], found[:-256])[0, 1]) < 0.02


def test_the_mean_over_tiles_is_the_mean_over_the_rows(monkeypatch):
    monkeypatch.setattr(minibatch, "TILE_ROWS", {"cpu": 16})
    rows = {"x": jax.random.normal(jax.random.key(0), (96, 3)), "y": jnp.arange(96.0)}

    def means(rows, key):
        assert rows["y"].shape == (16,)
        return {"gradient": (rows["x"] * rows["y"][:, None]).mean(0), "loss": rows["y"].mean()}

    found = minibatch.mean_over_tiles(means, rows, jax.random.key(1))
    np.testing.assert_allclose(
        found["gradient"], (rows["x"] * rows["y"][:, None]).mean(0), rtol=1e-4
    )
    np.testing.assert_allclose(found["loss"], 47.5)


def test_few_rows_are_one_tile_and_slivers_are_never_cut():
    assert minibatch.tile_rows(1000, "cpu") == 1000
    assert minibatch.tile_rows(4096, "cpu") == 1024
    assert minibatch.tile_rows(3 * 1000, "cpu") == 1000
    assert minibatch.tile_rows(2 * 4099, "cpu") == 2 * 4099  # its divisors are 2 and a prime
    assert minibatch.tile_rows(4096, "gpu") == 4096


def test_take_gathers_the_same_rows_of_every_leaf():
    batch = {"a": jnp.arange(6), "b": jnp.arange(12.0).reshape(6, 2)}
    taken = minibatch.take(batch, jnp.array([4, 1]))
    np.testing.assert_array_equal(taken["a"], [4, 1])
    np.testing.assert_array_equal(taken["b"], [[8, 9], [2, 3]])


def test_spread_keeps_rows_at_equal_distances():
    batch = {"a": jnp.arange(10), "b": jnp.arange(20).reshape(10, 2)}
    for count, expected in ((3, [0, 4, 8]), (10, range(10)), (99, range(10))):
        rows = minibatch.spread(batch, count)
        np.testing.assert_array_equal(rows["a"], list(expected))
        np.testing.assert_array_equal(rows["b"][:, 0], 2 * rows["a"])


def test_flatten_time_keeps_time_major_order():
    rollout = {"a": jnp.arange(6).reshape(3, 2), "b": jnp.arange(24).reshape(3, 2, 4)}
    flat = minibatch.flatten_time(rollout)
    np.testing.assert_array_equal(flat["a"], np.arange(6))
    np.testing.assert_array_equal(flat["b"], np.arange(24).reshape(6, 4))


def test_fitting_sizes_pass():
    minibatch.check_sizes(total_steps=100, num_envs=4, num_steps=10, minibatch_size=8)
    minibatch.check_sizes(total_steps=40, num_envs=4, num_steps=10, minibatch_size=40)


@pytest.mark.parametrize(
    ("minibatch_size", "nearest"),
    [(9, "8, 10, 12"), (50, "30, 40, 60"), (7, "5, 6, 8"), (10_000, "40, 60, 120")],
)
def test_a_minibatch_that_does_not_divide_is_refused_with_the_nearest_that_do(
    minibatch_size, nearest
):
    with pytest.raises(JaxrlError) as error:
        minibatch.check_sizes(1000, 12, 10, minibatch_size)
    given = (
        f"minibatch_size is {minibatch_size}, but must divide num_envs * num_steps = 12 * 10 = 120."
    )
    assert str(error.value) == f"{given} Nearest that do: {nearest}."


def test_a_budget_smaller_than_one_iteration_is_refused():
    with pytest.raises(JaxrlError) as error:
        minibatch.check_sizes(119, 12, 10, 12)
    assert (
        str(error.value)
        == "total_steps is 119, but one iteration alone takes num_envs * num_steps = 12 * 10 = 120."
    )
