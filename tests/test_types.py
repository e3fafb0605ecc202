"""Spaces: what a draw from a Box can be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.types import Box


def drawn(space, number=2000):
    """Draws [number, ...]."""
    keys = jax.random.split(jax.random.key(0), number)
    return np.asarray(jax.jit(jax.vmap(space.sample))(keys))


@pytest.mark.parametrize(
    ("space", "numbers"),
    [
        (Box(-2, 2, (1,), np.int32), [-2, -1, 0, 1, 2]),
        (Box(0, 1, (1,), np.bool_), [False, True]),
        (Box(252, 255, (1,), np.uint8), [252, 253, 254, 255]),
        (Box(2**31 - 3, 2**31 - 1, (1,), np.uint32), [2**31 - 3, 2**31 - 2, 2**31 - 1]),
        (Box(0.5, 3.5, (1,), np.int32), [1, 2, 3]),
    ],
    ids=lambda value: str(value.dtype) if isinstance(value, Box) else "",
)
def test_every_whole_number_between_the_bounds_is_as_likely(space, numbers):
    found, counts = np.unique(drawn(space), return_counts=True)
    assert found.dtype == space.dtype and found.tolist() == numbers
    np.testing.assert_allclose(counts, 2000 / len(numbers), rtol=0.15)


def test_each_coordinate_is_drawn_between_the_bounds_that_it_has():
    space = Box((5.0, -np.inf, 0.0, -np.inf), (6.0, np.inf, np.inf, -1.0), (4,))
    uniform, normal, above, below = drawn(space).T
    assert 5.0 <= uniform.min() < 5.01 and 5.99 < uniform.max() <= 6.0
    assert normal.min() < -2.0 and normal.max() > 2.0 and abs(normal.std() - 1.0) < 0.1
    assert above.min() == 0.0 and above.max() > 2.0
    assert below.max() == -1.0 and below.min() < -2.0


def test_whole_numbers_without_bounds_are_rounded():
    found = np.unique(drawn(Box(-1, np.inf, (1,), np.int32)))
    assert found.min() == -1 and found.max() >= 3


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_draws_of_real_numbers_are_these(dtype):
    """Bounded in every coordinate, or in none: the bits of demonstrations depend on them."""
    key = jax.random.key(3)
    low, high = jnp.float32([-0.3, 2.0]), jnp.float32([0.7, 9.0])
    expected = (low + (high - low) * jax.random.uniform(jax.random.clone(key), (2,))).astype(dtype)
    bounded = Box((-0.3, 2.0), (0.7, 9.0), (2,), dtype).sample(jax.random.clone(key))
    np.testing.assert_array_equal(bounded, expected)
    normal = jax.random.normal(jax.random.clone(key), (2,)).astype(dtype)
    free = Box(-np.inf, np.inf, (2,), dtype).sample(jax.random.clone(key))
    np.testing.assert_array_equal(free, normal)
