"""The benchmark of scans: its table and its goals, and that contenders compute alike."""

import jax
import numpy as np
import pytest

from benchmarks import scan
from benchmarks.report import spread
from benchmarks.scan import Size, fastest, headed, numbers, text
from tests.tables import unpadded


def row(length, **contenders):
    """What is measured at a length, of {contender: (seconds, state tensors)}."""
    size = Size(2, length, 4, 2)
    return {
        "size": list(size),
        "state_bytes": size.state_bytes,
        "contenders": {
            name: {
                "seconds": spread([seconds]),
                "temporary_bytes": tensors * size.state_bytes,
                "compile_seconds": 1.0,
            }
            for name, (seconds, tensors) in contenders.items()
        },
    }


ROWS = [
    row(256, sequential=(3.0, 3.5), associative=(8.0, 14.0), chunked=(1.0, 0.7), ssd=(0.25, 0.5)),
    row(16, sequential=(1.0, 3.5), associative=(4.0, 14.0), chunked=(2.0, 1.0), ssd=(0.1, 0.5)),
    row(60, sequential=(1.0, 3.5), associative=(4.0, 14.0), chunked=(1.05, 1.0), ssd=(0.1, 0.5)),
]


def test_the_table_holds_the_fastest_and_of_equals_the_smallest():
    assert fastest(ROWS) == [(1, "sequential"), (60, "chunked")]
    assert fastest(ROWS[:1]) == [(1, "chunked")]


def test_goals_are_said_to_be_met_or_missed():
    record = {
        "repeats": 1,
        "clock": "wall",
        "machine": {"processor": "a processor", "cores": 2},
        "versions": {"jax": "1.2.3"},
        "rows": ROWS,
        "fastest": {"cpu": fastest(ROWS)},
    }
    lines = unpadded(text(record)).splitlines()
    size = "(2, 256, 4, 2)"
    assert f"| {size} | chunked, state tensors ≤ 0.6 | 0.70 | no |" in lines
    assert f"| {size} | chunked / associative ≥ 3 | 8.00 | yes |" in lines
    assert f"| {size} | ssd / chunked ≥ 2 | 4.00 | yes |" in lines
    assert not [line for line in lines if "(2, 16, 4, 2) | chunked, state" in line]
    assert f"| {size} | chunked | 1000.0 [1000.0, 1000.0] | 0.70 | 8.0× | 3.0× | 1.0 |" in lines


def test_the_arguments_of_an_ssd_are_those_of_s6_in_heads():
    given = numbers(Size(2, 5, 2 * scan.HEAD, 3))
    found = headed({name: jax.numpy.asarray(each) for name, each in given.items()})
    assert found["u"].shape == (2, 5, 2, scan.HEAD) and found["delta"].shape == (2, 5, 2)
    np.testing.assert_array_equal(found["initial"].reshape(2, 3, -1), given["initial"])


@pytest.mark.parametrize("name", ["chunked", "ssd"])
def test_a_contender_computes_seven_gradients_and_says_its_memory(name):
    contender = scan.of_jax(name, Size(1, 4, scan.HEAD, 2))
    assert set(contender.call()) == {"u", "delta", "A", "B", "C", "D", "initial"}
    assert contender.temporary_bytes > 0
