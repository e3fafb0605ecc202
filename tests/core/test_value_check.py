"""What a critic foresaw beside what followed, by hand numbers."""

import jax.numpy as jnp
import numpy as np

from jaxrl.core import value_check


def test_the_return_that_followed_is_discounted_and_completed_at_a_time_limit():
    check = value_check.begin(jnp.array([5.0, 6.0, 7.0]))
    for reward in ([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], [4.0, 4.0, 4.0]):
        check = value_check.add(check, jnp.array(reward), 0.5)
    terminated, truncated = jnp.array([True, False, False]), jnp.array([False, True, False])
    found = value_check.metrics(check, terminated, truncated, jnp.full(3, 8.0))
    # 1 + 0.5 * 2 + 0.25 * 4 = 3; a time limit leaves 0.125 * 8 more; the third goes on.
    assert tuple(map(float, found["value_foreseen"])) == (11.0, 2.0)
    assert tuple(map(float, found["value_followed"])) == (3.0 + 4.0, 2.0)
    assert tuple(map(float, found["overestimation"])) == (2.0 + 2.0, 2.0)


def test_an_episode_that_ended_begins_again_and_others_go_on():
    check = value_check.add(value_check.begin(jnp.array([5.0, 6.0])), jnp.array([1.0, 2.0]), 0.5)
    check = value_check.begin_again(check, jnp.array([True, False]), jnp.array([9.0, 10.0]))
    np.testing.assert_array_equal(check.foreseen, [9.0, 6.0])
    np.testing.assert_array_equal(check.followed, [0.0, 2.0])
    np.testing.assert_array_equal(check.discount, [1.0, 0.5])
