"""Optimal values of deterministic problems, and how much actions matter, against hand numbers."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.deterministic import normalized_action_gap, optimal_action_values

# A corridor of three cells; action 0 goes left, 1 right; to leave on the right ends the episode.
SUCCESSOR = jnp.array([[0, 1], [0, 2], [1, 2]], jnp.int32)
REWARD = jnp.array([[-1.0, -1.0], [-1.0, -1.0], [-1.0, 0.0]])
TERMINATED = jnp.array([[False, False], [False, False], [False, True]])


def test_the_values_of_a_corridor_are_those_by_hand():
    found = optimal_action_values(SUCCESSOR, REWARD, TERMINATED, 0.5)
    # V = (−1.5, −1, 0): right and right again; from the last cell the episode ends with 0.
    expected = [[-1 - 0.75, -1 - 0.5], [-1 - 0.75, -1.0], [-1 - 0.5, 0.0]]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_values_without_an_end_are_found_as_well():
    found = optimal_action_values(SUCCESSOR, REWARD * 0 + 1.0, TERMINATED & False, 0.9)
    np.testing.assert_allclose(found, np.full((3, 2), 10.0), rtol=1e-5)


def test_the_gap_is_the_mean_spread_over_the_mean_size():
    values = jnp.array([[-3.0, -1.0], [-2.0, -2.0], [4.0, 0.0]])
    assert float(normalized_action_gap(values)) == pytest.approx((2 + 0 + 4) / 3 / 2)
