"""Running moments against float64 NumPy, on data and counts where float32 is easily lost."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core import moments
from jaxrl.core.moments import Moments


@pytest.fixture(autouse=True)
def strict_arithmetic():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


update = jax.jit(moments.update, static_argnames="axis_name")


def normal(seed, shape, mean=0.0, std=1.0):
    return np.random.default_rng(seed).normal(mean, std, shape).astype(np.float32)


def test_no_samples_yet_is_the_identity():
    x = normal(0, (5, 3))
    np.testing.assert_allclose(moments.normalize(moments.init((3,)), jnp.asarray(x)), x, rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_batches_merge_into_the_moments_of_all(shape):
    running, batches = moments.init(shape), []
    for seed in range(5):
        batches.append(normal(seed, (8, 4, *shape), mean=seed, std=1 + seed))
        running = update(running, batches[-1])
    union = np.concatenate(batches).astype(np.float64)
    np.testing.assert_allclose(running.mean, union.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(running.variance, union.var((0, 1)), rtol=1e-5)
    assert running.count == 5 * 32


def test_by_hand():
    running = update(moments.init(()), np.array([1.0, 3.0], np.float32))  # mean 2, variance 1
    running = update(
        running, np.array([8.0, 8.0], np.float32)
    )  # 1, 3, 8, 8: mean 5, squares 16 + 4 + 9 + 9
    np.testing.assert_allclose(running, (5.0, 38 / 4, 4.0), rtol=1e-6)
    np.testing.assert_allclose(
        moments.normalize(running, jnp.float32(8.0)), 3 / np.sqrt(9.5), rtol=1e-6
    )


def test_variance_survives_a_large_offset():
    running, batches = moments.init((2,)), []
    for seed in range(20):
        batches.append(
            1e6 + np.random.default_rng(seed).uniform(-1, 1, (16, 64, 2)).astype(np.float32)
        )
        running = update(running, batches[-1])
    union = np.concatenate(batches).astype(np.float64)
    np.testing.assert_allclose(running.mean, union.mean((0, 1)), rtol=1e-7)
    np.testing.assert_allclose(running.variance, union.var((0, 1)), rtol=0.01)


def test_the_first_batch_counts_alone_however_far_it_lies():
    batch = normal(1, (1024,), mean=1e6)
    running = update(moments.init(()), batch)
    np.testing.assert_allclose(running.variance, batch.astype(np.float64).var(), rtol=1e-3)


@pytest.mark.parametrize("count", [2.0**23, 2.0**24, 2.0**31])
def test_a_full_count_still_learns(count):
    running = Moments(jnp.zeros(()), jnp.ones(()), jnp.float32(count))
    batch, weight = normal(2, (2**16,), mean=5.0, std=2.0), 2**16 / (2**23 + 2**16)
    running = update(running, batch)
    np.testing.assert_allclose(running.mean, 5 * weight, rtol=0.01)
    for _ in range(299):
        running = update(running, batch)
    assert running.count == 2**23
    left = (1 - weight) ** 300
    mean, square = (1 - left) * 5, left * 1 + (1 - left) * (4 + 25)
    np.testing.assert_allclose(running.mean, mean, rtol=0.01)
    np.testing.assert_allclose(running.variance, square - mean**2, rtol=0.01)


def test_the_memory_is_as_long_as_asked():
    running = Moments(jnp.zeros(()), jnp.ones(()), jnp.float32(30.0))
    running = update(running, np.ones(10, np.float32), maximum_count=30.0)
    np.testing.assert_allclose(running, (0.25, 0.75 + 0.25 * 0.75, 30.0), rtol=1e-6)


def test_devices_agree_with_one_device_that_saw_everything():
    before = update(moments.init((3,)), normal(3, (50, 3)))
    batch = normal(4, (4, 16, 3), std=2.0) + 100 * np.arange(4, dtype=np.float32)[:, None, None]
    each = jax.vmap(lambda b: moments.update(before, b, "devices"), axis_name="devices")(batch)
    union = update(before, batch)
    for sharded, single in zip(each, union, strict=True):
        np.testing.assert_array_equal(sharded, np.broadcast_to(sharded[0], sharded.shape))
        np.testing.assert_allclose(sharded[0], single, rtol=1e-5)


def test_normalize_clips_and_survives_constants():
    running = update(moments.init((2,)), np.array([[3.0, 0.0], [3.0, 2.0]], np.float32))
    x = jnp.array([[3.0, 1.0], [4.0, 100.0]])
    np.testing.assert_allclose(moments.normalize(running, x, clip=5.0), [[0, 0], [5, 5]], atol=1e-6)


def test_whole_numbers_are_samples_too():
    running = update(moments.init(()), np.array([0, 255, 255, 0], np.uint8))
    np.testing.assert_allclose(running, (127.5, 127.5**2, 4.0))
    np.testing.assert_allclose(moments.normalize(running, jnp.uint8([255])), [1.0], rtol=1e-6)


def test_discounted_returns_by_hand():
    reward = jnp.array([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]])
    done = jnp.array([[False, False], [True, False], [False, False]])
    running, returns = moments.discounted_returns(jnp.array([2.0, 0.0]), reward, done, 0.5)
    np.testing.assert_array_equal(returns, [[2, 1], [3, 2.5], [4, 5.25]])
    np.testing.assert_array_equal(running, [4, 5.25])


def test_discounted_returns_go_on_where_they_stopped():
    reward = jnp.asarray(normal(5, (12, 3)))
    done = jnp.asarray(np.random.default_rng(6).random((12, 3)) < 0.2)
    running, whole = moments.discounted_returns(jnp.zeros(3), reward, done, 0.9)
    middle, first = moments.discounted_returns(jnp.zeros(3), reward[:5], done[:5], 0.9)
    end, second = moments.discounted_returns(middle, reward[5:], done[5:], 0.9)
    np.testing.assert_allclose(whole, np.concatenate([first, second]), rtol=1e-6)
    np.testing.assert_allclose(running, end, rtol=1e-6)
