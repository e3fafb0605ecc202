from types import SimpleNamespace

import numpy as np

from jaxrl.train.scores import finite_mean, improved, mean_of_pair


def test_a_mean_of_nothing_is_nan_and_not_zero():
    pair = SimpleNamespace(sum=np.array([6.0, 0.0]), count=np.array([3.0, 0.0]))
    np.testing.assert_array_equal(mean_of_pair(pair), [2.0, np.nan])


def test_finite_mean_leaves_out_members_without_a_value():
    assert finite_mean(np.array([[1.0, np.nan], [3.0, np.inf]])) == 2.0
    assert finite_mean(np.array([np.nan])) is None
    assert finite_mean(None) is None


def test_each_member_is_compared_with_itself_and_a_tie_goes_to_the_later():
    scores = np.array([[3.0, 7.0, np.nan, 1.0]])
    best = np.array([[4.0, 7.0, 2.0, -np.inf]])
    np.testing.assert_array_equal(improved(scores, best), [[False, True, False, True]])
