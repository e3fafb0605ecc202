"""Minibatches: shuffling, gathering, and the sizes that fit."""

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
    first, second = (minibatch.shuffled_indices(key, 64, 16) for key in jax.random.split(jax.random.key(1)))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first.ravel(), np.arange(64))


def test_a_row_is_equally_likely_in_every_minibatch():
    shuffle = jax.vmap(lambda key: minibatch.shuffled_indices(key, 8, 2))
    indices = shuffle(jax.random.split(jax.random.key(2), 4000))
    share = (indices == 0).any(-1).mean(0)
    np.testing.assert_allclose(share, 0.25, atol=0.03)


def test_take_gathers_the_same_rows_of_every_leaf():
    batch = {"a": jnp.arange(6), "b": jnp.arange(12.0).reshape(6, 2)}
    taken = minibatch.take(batch, jnp.array([4, 1]))
    np.testing.assert_array_equal(taken["a"], [4, 1])
    np.testing.assert_array_equal(taken["b"], [[8, 9], [2, 3]])


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
def test_a_minibatch_that_does_not_divide_is_refused_with_the_nearest_that_do(minibatch_size, nearest):
    with pytest.raises(JaxrlError) as error:
        minibatch.check_sizes(1000, 12, 10, minibatch_size)
    given = f"minibatch_size is {minibatch_size}, but must divide num_envs * num_steps = 12 * 10 = 120."
    assert str(error.value) == f"{given} Nearest that do: {nearest}."


def test_a_budget_smaller_than_one_iteration_is_refused():
    with pytest.raises(JaxrlError) as error:
        minibatch.check_sizes(119, 12, 10, 12)
    assert str(error.value) == "total_steps is 119, but one iteration alone takes num_envs * num_steps = 12 * 10 = 120."
