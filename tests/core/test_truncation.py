"""The slot buffer of final observations against a dense array that keeps every one of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core import truncation

NUM_ENVS = 5


def truncations(rng, num_steps, shortest, longest):
    """bool [T, N]: episodes of random limits in [shortest, longest],
    begun at random times before the rollout."""
    truncated = np.zeros((num_steps, NUM_ENVS), bool)
    for n in range(NUM_ENVS):
        limit = rng.integers(shortest, longest + 1)
        clock = rng.integers(0, limit)
        for t in range(num_steps):
            clock += 1
            ended_early = rng.random() < 0.05
            truncated[t, n] = clock == limit and not ended_early
            if clock == limit or ended_early:
                clock, limit = 0, rng.integers(shortest, longest + 1)
    return truncated


@jax.jit
def through_slots(empty, finals, truncated):
    """Every step's observation offered to the buffer: (buffer, count)."""

    def step(carry, seen):
        return truncation.store(carry, *seen), None

    return jax.lax.scan(step, empty, (finals, truncated))[0]


@pytest.mark.parametrize(
    ("num_steps", "shortest", "longest"),
    [(12, 30, 40), (12, 12, 12), (12, 5, 5), (12, 3, 9), (12, 1, 4), (1, 7, 7)],
    ids=[
        "horizon beyond rollout",
        "equal",
        "several",
        "random limits",
        "every step can end",
        "one step",
    ],
)
def test_slots_give_what_a_dense_array_gives(num_steps, shortest, longest):
    rng = np.random.default_rng(num_steps + shortest)
    truncated = truncations(rng, num_steps, shortest, longest)
    finals = rng.normal(size=(num_steps, NUM_ENVS, 3)).astype(np.float32)
    empty = truncation.init(jnp.zeros((NUM_ENVS, 3)), truncation.num_slots(num_steps, shortest))
    buffer, count = through_slots(empty, finals, truncated)
    values = truncation.scatter(buffer.sum(-1), jnp.asarray(truncated))

    dense = np.zeros((num_steps, NUM_ENVS), np.float32)
    for t, n in np.argwhere(truncated):
        dense[t, n] = np.float32(finals[t, n].sum())
    np.testing.assert_allclose(values, dense, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(count, truncated.sum(0))


def test_a_truncation_in_every_second_step_fills_the_slots_in_order():
    truncated = np.array([[True], [False], [True], [False], [True]])
    finals = np.arange(5, dtype=np.float32)[:, None]
    empty = truncation.init(jnp.zeros(1), truncation.num_slots(5, 2))
    buffer, count = through_slots(empty, finals, truncated)
    np.testing.assert_array_equal(buffer[:, 0], [0.0, 2.0, 4.0])
    assert int(count[0]) == 3
    np.testing.assert_array_equal(
        truncation.scatter(buffer + 10.0, jnp.asarray(truncated))[:, 0], [10, 0, 12, 0, 14]
    )


def test_observations_are_kept_with_their_structure_and_types():
    observation = {"grid": jnp.zeros((2, 3, 3), bool), "speed": jnp.zeros(2)}
    buffer, count = truncation.init(observation, 4)
    final = {"grid": jnp.ones((2, 3, 3), bool), "speed": jnp.array([5.0, 6.0])}
    buffer, count = truncation.store((buffer, count), final, jnp.array([False, True]))
    assert buffer["grid"].shape == (4, 2, 3, 3) and buffer["grid"].dtype == bool
    np.testing.assert_array_equal(buffer["speed"], [[0, 6], [0, 0], [0, 0], [0, 0]])
    assert bool(buffer["grid"][0, 1].all()) and not bool(buffer["grid"][0, 0].any())
    assert count.dtype == jnp.int32


def test_no_rollout_has_more_truncations_than_slots():
    rng = np.random.default_rng(0)
    for _ in range(300):
        num_steps, shortest = rng.integers(1, 40), rng.integers(1, 15)
        truncated = truncations(rng, num_steps, shortest, shortest + rng.integers(0, 4))
        assert truncated.sum(0).max() <= truncation.num_slots(int(num_steps), int(shortest))


@pytest.mark.parametrize(("num_steps", "shortest"), [(12, 5), (12, 4), (1, 9), (7, 1), (13, 6)])
def test_the_bound_is_reached_by_an_episode_that_ends_on_the_first_step(num_steps, shortest):
    ends = range(0, num_steps, shortest)
    assert len(ends) == truncation.num_slots(num_steps, shortest)
