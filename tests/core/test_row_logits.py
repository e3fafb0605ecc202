"""How rows of a bank are weighed and drawn, and clusters of numbers, against slow NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core import row_logits
from jaxrl.core.kmeans import kmeans


def lloyd(values, clusters):
    """The same by loops in float64."""
    values = values.astype(np.float64)
    centres = np.quantile(values, (np.arange(clusters) + 0.5) / clusters)
    labels = None
    while True:
        new = np.array([np.argmin([abs(value - centre) for centre in centres]) for value in values])
        if labels is not None and (new == labels).all():
            return labels
        labels = new
        for k in range(clusters):
            if (labels == k).any():
                centres[k] = values[labels == k].mean()


@pytest.mark.parametrize("clusters", [1, 2, 3, 6])
def test_clusters_are_those_of_a_loop(clusters):
    generator = np.random.default_rng(clusters)
    values = np.concatenate([generator.normal(mean, 0.3, 25) for mean in (-4.0, 0.0, 1.5, 20.0)])
    values = values.astype(np.float32)
    found = np.asarray(kmeans(jnp.asarray(values), clusters))
    np.testing.assert_array_equal(found, lloyd(values, clusters))
    order = [values[found == k].mean() for k in np.unique(found)]
    assert order == sorted(order)


def test_fewer_numbers_than_clusters_leave_some_empty():
    found = np.asarray(kmeans(jnp.float32([3.0, 3.0, 7.0, 3.0]), 4))
    assert len(set(found[[0, 1, 3]])) == 1 and found[2] != found[0]


def probabilities(logits):
    return np.asarray(jax.nn.softmax(logits), np.float64)


def test_a_cluster_and_then_a_row_are_drawn_uniformly():
    """Three rows in cluster 0, one in cluster 2, none in cluster 1."""
    found = probabilities(row_logits.balanced(jnp.int32([0, 0, 2, 0]), 3))
    np.testing.assert_allclose(found, [1 / 6, 1 / 6, 1 / 2, 1 / 6], rtol=1e-6)


@pytest.mark.parametrize(
    ("progress", "inside"), [(0.0, [0, 1, 2]), (0.5, [3, 4, 5]), (1.0, [6, 7, 8]), (7.0, [6, 7, 8])]
)
def test_a_window_slides_over_the_places(progress, inside):
    found = probabilities(row_logits.window(jnp.arange(9) / 8, jnp.float32(progress), 0.25))
    np.testing.assert_allclose(found[inside], 1 / 3, rtol=1e-6)
    assert found[[row for row in range(9) if row not in inside]].sum() == 0


def test_where_no_row_lies_in_the_window_the_nearest_one_stands_for_it():
    found = probabilities(row_logits.window(jnp.float32([0.0, 0.3, 1.0]), jnp.float32(0.5), 0.1))
    np.testing.assert_allclose(found, [0.0, 1.0, 0.0])


def test_places_by_rank():
    np.testing.assert_allclose(row_logits.rank(jnp.float32([5.0, -1.0, 2.0])), [1.0, 0.0, 0.5])


def test_rows_that_few_episodes_began_at_come_more_often():
    found = probabilities(row_logits.rarely_begun(jnp.float32([0.0, 3.0, 15.0])))
    np.testing.assert_allclose(found / found[0], [1.0, 1 / 2, 1 / 4], rtol=1e-6)


def test_the_band_of_success_and_nothing_in_it():
    ended, won = jnp.float32([8.0, 8.0, 8.0, 2.0]), jnp.float32([0.0, 4.0, 8.0, 0.0])
    # Shares: 0, 0.5, 1, and of two episodes none is told.
    settings = {"least": 2.5, "share": 0.8}
    found = probabilities(row_logits.in_band(ended, won, 0.1, 0.9, **settings))
    np.testing.assert_allclose(found, [0.05, 0.45, 0.05, 0.45], rtol=1e-6)
    found = probabilities(row_logits.in_band(ended + 1.0, won, 0.6, 0.8, **settings))
    np.testing.assert_allclose(found, 0.25, rtol=1e-6)


def test_the_frontier_and_what_follows():
    found = probabilities(row_logits.at_frontier(jnp.int32([-1, 0, 1, 2, -1]), 0.7))
    np.testing.assert_allclose(found, [0.0, 0.8, 0.1, 0.1, 0.0], rtol=1e-6)


def test_draws_have_their_probabilities():
    """Chi-square of 60,000 draws on 7 rows that can be drawn: below its 99.9 % point, 22.5."""
    logits = np.random.default_rng(0).normal(size=9).astype(np.float32)
    logits[[0, 8]] = -np.inf
    cumulative = row_logits.cumulated(jnp.asarray(logits))
    uniform = jax.random.uniform(jax.random.key(1), (60_000,))
    counts = np.bincount(row_logits.draw(cumulative, uniform), minlength=9)
    expected = probabilities(jnp.asarray(logits)) * counts.sum()
    assert counts[0] == counts[8] == 0
    assert (((counts - expected)[1:8]) ** 2 / expected[1:8]).sum() < 22.5


def test_the_ends_of_the_unit_interval_draw_rows_that_can_be():
    cumulative = row_logits.cumulated(jnp.float32([-np.inf, 0.0, 0.0, -np.inf]))
    largest = np.nextafter(np.float32(1), np.float32(0))
    found = row_logits.draw(cumulative, jnp.float32([0.0, 0.25, 0.5, largest]))
    np.testing.assert_array_equal(found, [1, 1, 2, 2])
