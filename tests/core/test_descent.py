"""A gradient step on one vector: clipping, Adam, the average, the stop."""

import chex
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from jaxrl.core.flat_optimizer import FlatOptimizer

PARAMS, GRAD, RATE = jnp.float32([1.0, -2.0]), jnp.float32([3.0, 4.0]), jnp.float32(0.1)
NOTHING = jnp.float32(0.0)


def test_the_first_step_is_adams_along_the_clipped_gradient():
    for norm, expected in ((10.0, [3.0, 4.0]), (0.5, [0.3, 0.4])):
        descent = FlatOptimizer(max_grad_norm=norm)
        after = descent.step(descent.init(PARAMS), GRAD, NOTHING, RATE)
        scaled = np.array(expected)
        np.testing.assert_allclose(
            after.params, PARAMS - 0.1 * scaled / (np.abs(scaled) + 1e-5), rtol=1e-5
        )
        np.testing.assert_allclose(after.optimizer[1].mu, 0.1 * scaled, rtol=1e-5)


def test_the_average_is_of_the_new_parameters():
    descent = FlatOptimizer(np.inf, center_of_mass=1.0)
    after = descent.step(descent.init(PARAMS), GRAD, NOTHING, RATE)
    np.testing.assert_allclose(after.proximal.mean, (0.5 * PARAMS + after.params) / 1.5, rtol=1e-6)
    assert FlatOptimizer(np.inf).init(PARAMS).proximal is None


def test_the_tree_is_that_of_the_parameters_and_stops_with_them():
    tree = {"a": PARAMS[:1], "b": PARAMS[1:]}
    _, unravel = ravel_pytree(tree)
    descent = FlatOptimizer(np.inf, target_kl=0.5, unravel=unravel)
    moved = descent.step(descent.init(tree), GRAD, NOTHING, RATE)
    stopped = descent.step(moved, GRAD, jnp.float32(0.6), RATE)
    for after in (descent.init(tree), moved, stopped):
        chex.assert_trees_all_equal(after.tree, unravel(after.params))
    assert not np.array_equal(moved.tree["a"], PARAMS[:1])


def test_beyond_the_divergence_nothing_moves_any_more():
    descent = FlatOptimizer(np.inf, center_of_mass=1.0, target_kl=0.5)
    moved = descent.step(descent.init(PARAMS), GRAD, jnp.float32(0.4), RATE)
    assert not moved.stopped and not np.array_equal(moved.params, PARAMS)
    stopped = descent.step(moved, GRAD, jnp.float32(0.6), RATE)
    again = descent.step(stopped, GRAD, jnp.float32(0.0), RATE)
    assert stopped.stopped and again.stopped
    for after in (stopped, again):
        np.testing.assert_array_equal(after.params, moved.params)
        np.testing.assert_array_equal(after.proximal.mean, moved.proximal.mean)
        assert int(after.optimizer[1].count) == 1
