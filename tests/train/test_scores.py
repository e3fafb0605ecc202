from types import SimpleNamespace

import numpy as np
import pytest

from jaxrl.train.scores import finite_mean, last_is_best, mean


def test_a_mean_of_nothing_is_nan_and_not_zero():
    pair = SimpleNamespace(sum=np.array([6.0, 0.0]), count=np.array([3.0, 0.0]))
    np.testing.assert_array_equal(mean(pair), [2.0, np.nan])


def test_finite_mean_leaves_out_members_without_a_value():
    assert finite_mean(np.array([[1.0, np.nan], [3.0, np.inf]])) == 2.0
    assert finite_mean(np.array([np.nan])) is None
    assert finite_mean(None) is None


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ([[3, 7]], True),
        ([[3, 7], [4, 7]], True),
        ([[3, 7], [3, 6]], False),
        ([[3, 8], [np.nan, 7]], False),  # a lost member does not raise the mean
        ([[3, 7], [np.nan, 7]], True),
        ([[5, np.nan], [4, np.nan]], False),
        ([[np.nan, np.nan]], True),
    ],
)
def test_evaluations_are_compared_over_the_members_that_are_left(scores, best):
    assert last_is_best(np.array(scores, float)[:, None, :]) is best
