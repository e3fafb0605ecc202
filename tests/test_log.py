"""The append-only log: a ring against a Python list, its 64-bit counter, in place, under vmap."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.errors import JaxrlError
from jaxrl.types import Log

append = jax.jit(Log.append)
EXAMPLE = {"x": jnp.zeros(2), "y": jnp.zeros((), jnp.int32)}


def rows(first, number):
    index = jnp.arange(first, first + number)
    return {"x": jnp.stack([index, -index], 1).astype(jnp.float32), "y": index.astype(jnp.int32)}


def at(log, written):
    """The log with another counter."""
    return Log(log.rows, jnp.array([[written % 2**32, written >> 32]], jnp.uint32))


def written(log):
    low, high = np.asarray(log.written)[0].tolist()
    return low + (high << 32)


@pytest.mark.parametrize("numbers", [[1] * 12, [3, 3, 3], [5, 2, 5, 1], [4, 4], [2, 1, 5]])
def test_a_log_is_a_ring_of_the_newest_rows(numbers):
    log, expected, total = Log.empty(5, EXAMPLE), [0] * 5, 0
    for number in numbers:
        log = append(log, rows(total, number))
        for row in range(total, total + number):
            expected[row % 5] = row
        total += number
        assert log.rows["y"].tolist() == expected
        np.testing.assert_array_equal(log.rows["x"][:, 1], -np.array(expected, np.float32))
        assert (int(log.count), written(log)) == (min(total, 5), total)


@pytest.mark.parametrize(
    "start", [2**32 - 2, 2**31, 2**32, 3 * 2**32 + 5, 2**64 - 9, 123456789 * 2**32 + 4294967295]
)
@pytest.mark.parametrize("capacity", [1, 5, 8, 1000, 4093])
def test_counting_goes_past_32_bits(start, capacity):
    number = min(4, capacity)
    log = append(at(Log.empty(capacity, EXAMPLE), start), rows(1, number))
    assert written(log) == start + number
    assert int(log.count) == capacity
    places = [(start + index) % capacity for index in range(number)]
    assert log.rows["y"][jnp.array(places)].tolist() == list(range(1, number + 1))


def test_the_largest_ring_has_no_overflow():
    capacity = 2**31 - 1
    log = Log(jax.ShapeDtypeStruct((capacity,), jnp.float32), jnp.array([[5, 2**31]], jnp.uint32))
    assert int(log._place(*log._words())) == (5 + 2**63) % capacity
    assert int(log.count) == capacity


def test_donated_it_is_written_in_place():
    log, new = Log.empty(1000, EXAMPLE), rows(0, 3)
    compiled = jax.jit(Log.append, donate_argnums=0).lower(log, new).compile()
    analysis = compiled.memory_analysis()
    assert analysis.alias_size_in_bytes >= 1000 * 12
    assert analysis.temp_size_in_bytes < 1000
    assert not [
        line for line in compiled.as_text().splitlines() if " copy(" in line and "[1000" in line
    ]


def test_members_have_counters_of_their_own():
    logs = jax.vmap(lambda _: Log.empty(3, EXAMPLE))(jnp.arange(2))
    logs = Log(logs.rows, jnp.array([[[1, 0]], [[2, 1]]], jnp.uint32))
    logs = jax.vmap(lambda log: append(log, rows(7, 1)))(logs)
    assert logs.written.tolist() == [[[2, 0]], [[3, 1]]]
    assert logs.rows["y"].tolist() == [[0, 7, 0], [7, 0, 0]]  # (2 + 2^32) mod 3 = 0


def test_what_does_not_fit_is_refused():
    with pytest.raises(JaxrlError, match="a log of 2 rows cannot take 3 at once"):
        Log.empty(2, EXAMPLE).append(rows(0, 3))
    with pytest.raises(JaxrlError, match="capacity"):
        Log.empty(0, EXAMPLE)
    two = Log({"y": jnp.zeros(4)}, jnp.zeros((2, 2), jnp.uint32))
    with pytest.raises(JaxrlError, match="on the device that holds its block"):
        two.append({"y": jnp.zeros(1)})
