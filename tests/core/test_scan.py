"""Every scan against a float64 loop: outputs, last states and all seven gradients;
what is cut, packed or mapped."""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from jaxrl.core import scan
from jaxrl.core.scan import chunk_length, fastest, selective_scan, ssd_scan
from jaxrl.errors import JaxrlError

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "results"
LENGTH, CHANNELS, STATES, HEADS = 23, 6, 3, 2  # no chunk divides the length
DIFFERENTIATED = ("u", "delta", "A", "B", "C", "D", "initial")
each_method = pytest.mark.parametrize("method", scan.METHODS)


@pytest.fixture(autouse=True)
def strict_arithmetic():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def arguments(seed=0, length=LENGTH):
    """float64 arguments of one sequence, with resets and a state to begin with."""
    rng = np.random.default_rng(seed)
    return {
        "u": rng.normal(size=(length, CHANNELS)),
        "delta": rng.uniform(0.01, 1.0, (length, CHANNELS)),
        "A": -rng.uniform(0.1, 3.0, (STATES, CHANNELS)),
        "B": rng.normal(size=(length, STATES)),
        "C": rng.normal(size=(length, STATES)),
        "D": rng.normal(size=CHANNELS),
        "initial": rng.normal(size=(STATES, CHANNELS)),
        "reset": rng.random(length) < 0.15,
    }


def headed(seed=0):
    """Arguments of an SSD, and the same as S6 reads them."""
    given = arguments(seed)
    rng = np.random.default_rng(seed + 100)
    width = CHANNELS // HEADS
    of_heads = {
        "u": given["u"].reshape(LENGTH, HEADS, width),
        "delta": rng.uniform(0.01, 1.0, (LENGTH, HEADS)),
        "A": -rng.uniform(0.1, 3.0, HEADS),
        "D": rng.normal(size=HEADS),
        "initial": given["initial"].reshape(STATES, HEADS, width),
    }
    return given | of_heads


def tied(given):
    """An SSD's arguments as those of S6: every channel of a head has its decay."""
    width = CHANNELS // HEADS
    return given | {
        "u": given["u"].reshape(LENGTH, CHANNELS),
        "delta": np.repeat(given["delta"], width, axis=1),
        "A": np.broadcast_to(np.repeat(given["A"], width), (STATES, CHANNELS)),
        "D": np.repeat(given["D"], width),
        "initial": given["initial"].reshape(STATES, CHANNELS),
    }


def loop(*, u, delta, A, B, C, D, initial, reset, length):
    """The recurrence as it is defined, in float64."""
    state, y = initial.copy(), np.zeros_like(u)
    for t in range(length):
        if reset[t]:
            state = np.zeros_like(state)
        state = np.exp(delta[t] * A) * state + np.outer(B[t], delta[t] * u[t])
        y[t] = C[t] @ state + D * u[t]
    return y, state


def single(tree):
    """As the float32 that a scan is given."""
    return jax.tree.map(
        lambda leaf: jnp.asarray(leaf, bool if leaf.dtype == bool else jnp.float32), tree
    )


def weights(seed=9):
    """Of the outputs and of the last state in a loss."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(LENGTH, CHANNELS)), rng.normal(size=(STATES, CHANNELS))


def slopes(function, given, step=1e-6):
    """The derivatives of `function(**given)` by each number, as central differences."""
    found = {}
    for name in DIFFERENTIATED:
        slope = np.zeros_like(given[name])
        for place in np.ndindex(*slope.shape):
            moved = [given[name].copy(), given[name].copy()]
            moved[0][place] += step
            moved[1][place] -= step
            above, below = (function(**given | {name: each}) for each in moved)
            slope[place] = (above - below) / (2 * step)
        found[name] = slope
    return found


def gradients(function, given):
    """(outputs, gradients of the weighted outputs) of a scan of these arguments, compiled."""
    y_weight, last_weight = single(weights())

    def loss(moved):
        y, last = function(**given | moved)
        total = jnp.sum(y_weight * y.reshape(LENGTH, CHANNELS))
        return total + jnp.sum(last_weight * last.reshape(STATES, CHANNELS)), (y, last)

    moved = {name: given[name] for name in DIFFERENTIATED}
    slope, outputs = jax.jit(jax.grad(loss, has_aux=True))(moved)
    return outputs, slope


def loop_loss(length, **given):
    y_weight, last_weight = weights()
    y, last = loop(**given, length=length)
    return np.sum(y_weight[:length] * y[:length]) + np.sum(last_weight * last)


def close(found, expected, tolerance=1e-5):
    expected = np.asarray(expected)
    scale = max(1.0, np.abs(expected).max())
    np.testing.assert_allclose(np.asarray(found) / scale, expected / scale, atol=tolerance)


@each_method
@pytest.mark.parametrize("length", [LENGTH, 14])
def test_outputs_last_state_and_seven_gradients_are_those_of_a_float64_loop(method, length):
    given = arguments()
    y, last = loop(**given, length=length)
    expected = slopes(functools.partial(loop_loss, length), given)

    def of_the_length(u, **others):
        y, last = selective_scan(u, **others, length=length, method=method)
        return jnp.where((jnp.arange(LENGTH) < length)[:, None], y, 0.0), last

    (found_y, found_last), slope = gradients(of_the_length, single(given))
    close(found_y, y)
    close(found_last, last)
    for name in DIFFERENTIATED:
        close(slope[name], expected[name])


@pytest.mark.parametrize("chunk", [None, 5])
def test_an_ssd_is_s6_with_tied_decays(chunk):
    given = headed()
    y, last = loop(**tied(given), length=LENGTH)

    def tied_loss(**moved):
        return loop_loss(LENGTH, **tied(moved))

    expected = slopes(tied_loss, given)
    (found_y, found_last), slope = gradients(
        functools.partial(ssd_scan, chunk=chunk), single(given)
    )
    close(found_y.reshape(LENGTH, CHANNELS), y)
    close(found_last.reshape(STATES, CHANNELS), last)
    for name in DIFFERENTIATED:
        close(slope[name], expected[name])


# Every scan, compiled, with arguments of its own.
SCANS = {
    method: jax.jit(functools.partial(selective_scan, method=method)) for method in scan.METHODS
} | {"ssd": jax.jit(ssd_scan)}
each_scan = pytest.mark.parametrize("name", SCANS)


def scan_of(name):
    """(a scan, its arguments in float32)."""
    return SCANS[name], single(headed() if name == "ssd" else arguments())


def part(given, begin, end):
    """Some tokens of the arguments."""
    of_tokens = ("u", "delta", "B", "C", "reset")
    return {name: leaf[begin:end] if name in of_tokens else leaf for name, leaf in given.items()}


@each_scan
def test_three_parts_with_the_states_between_them_are_the_whole(name):
    function, given = scan_of(name)
    y, last = function(**given)
    parts, state = [], given["initial"]
    for begin, end in ((0, 1), (1, 13), (13, LENGTH)):
        of_part, state = function(**part(given, begin, end) | {"initial": state})
        parts.append(of_part)
    tolerance = 0.0 if name in ("sequential", "chunked") else 1e-5
    np.testing.assert_allclose(jnp.concatenate(parts), y, atol=tolerance, rtol=0)
    np.testing.assert_allclose(state, last, atol=tolerance, rtol=0)


@each_scan
def test_two_packed_sequences_are_each_alone(name):
    function, given = scan_of(name)
    middle = 11
    given["reset"] = jnp.arange(LENGTH) == middle
    y, last = function(**given)
    alone = part(given, middle, LENGTH)
    del alone["initial"], alone["reset"]
    expected_y, expected = function(**alone)
    np.testing.assert_allclose(y[middle:], expected_y, atol=1e-5)
    np.testing.assert_allclose(last, expected, atol=1e-5)


@each_scan
def test_what_lies_beyond_the_length_moves_nothing(name):
    function, given = scan_of(name)
    length = 9
    reset = given["reset"].at[length + 2].set(True)  # which would forget the state
    short = part(given, 0, length)
    expected_y, expected = function(**short)
    y, last = function(**given | {"reset": reset}, length=length)
    np.testing.assert_allclose(y[:length], expected_y, atol=1e-6)
    np.testing.assert_allclose(last, expected, atol=1e-6)


@each_scan
def test_what_is_no_number_beyond_the_length_moves_nothing(name):
    """Not even derivatives."""
    function, given = scan_of(name)
    length = 9
    spoilt = {name: given[name].at[length:].set(jnp.nan) for name in ("u", "delta", "B", "C")} | {
        name: given[name] for name in ("A", "D", "initial")
    }

    def loss(moved):
        y, last = function(**moved, reset=given["reset"], length=length)
        return jnp.sum(y[:length]) + jnp.sum(last), (y[:length], last)

    both = jax.jit(jax.grad(loss, has_aux=True))
    sound = {name: given[name] for name in spoilt}
    expected, found = both(sound), both(spoilt)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@each_scan
def test_no_token_leaves_the_state_as_it_was(name):
    function, given = scan_of(name)
    nothing = part(given, 0, 0)
    reset = nothing.pop("reset")

    def loss(moved):
        y, last = function(**moved, reset=reset, length=0)
        return jnp.sum(y) + jnp.sum(last), (y, last)

    slope, (y, last) = jax.grad(loss, has_aux=True)(nothing)
    assert y.shape == given["u"][:0].shape
    np.testing.assert_array_equal(last, given["initial"])
    for name, leaf in slope.items():
        np.testing.assert_array_equal(leaf, float(name == "initial"))


@each_scan
def test_sequences_side_by_side_are_each_alone(name):
    function, given = scan_of(name)
    shared = {name: given.pop(name) for name in ("A", "D")}
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1]]), given)
    lengths = jnp.array([LENGTH, 14])

    def one(of_rows, length):
        return function(**of_rows, **shared, length=length)

    y, last = jax.jit(jax.vmap(one))(stacked, lengths)
    for row, length in enumerate((LENGTH, 14)):
        expected_y, expected = one(jax.tree.map(lambda leaf, row=row: leaf[row], stacked), length)
        np.testing.assert_allclose(y[row, :length], expected_y[:length], atol=1e-5)
        np.testing.assert_allclose(last[row], expected, atol=1e-5)


def test_the_gradient_that_is_written_out_is_mapped_like_that_of_the_loop():
    """Of sequences with decays of their own, with resets: rows of one differ from the other's."""
    given = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(single, map(arguments, range(3))))
    reset = given.pop("reset")

    def loss(method):
        def one(moved, reset):
            y, last = selective_scan(**moved, reset=reset, method=method)
            return jnp.sum(jnp.sin(y)) + jnp.sum(jnp.sin(last))

        return jax.jit(lambda moved: jnp.sum(jax.vmap(one)(moved, reset)))

    found, expected = (jax.grad(loss(method))(given) for method in ("chunked", "sequential"))
    for name in DIFFERENTIATED:
        close(found[name], expected[name])


@each_scan
def test_sums_are_float32_under_bfloat16(name):
    """Of rounded arguments, the state is that of float32; only outputs are rounded again."""
    function, given = scan_of(name)
    half = {name: leaf for name, leaf in given.items() if name in ("u", "B", "C")}
    half = {name: leaf.astype(jnp.bfloat16) for name, leaf in half.items()}
    y, last = function(**given | half)
    assert y.dtype == jnp.bfloat16 and last.dtype == jnp.float32
    rounded = {name: leaf.astype(jnp.float32) for name, leaf in half.items()}
    expected_y, expected = function(**given | rounded)
    np.testing.assert_array_equal(last, expected)
    np.testing.assert_array_equal(y, expected_y.astype(jnp.bfloat16))


def test_decays_that_vanish_leave_gradients_finite():
    given = single(headed() | {"delta": np.full((LENGTH, HEADS), 200.0)})
    (y, _), slope = gradients(ssd_scan, given)
    assert np.isfinite(y).all() and all(np.isfinite(leaf).all() for leaf in slope.values())


def test_chunks_are_about_the_root_of_the_length():
    assert [chunk_length(length) for length in (1, 60, 256, 4096, 65536)] == [1, 8, 16, 64, 256]


def test_auto_takes_what_the_table_says(monkeypatch):
    monkeypatch.setitem(scan.FASTEST, "cpu", ((1, "sequential"), (20, "associative")))
    assert [fastest("cpu", length) for length in (1, 19, 20, 99)] == [
        *["sequential"] * 2,
        *["associative"] * 2,
    ]
    assert fastest("abacus", 7) == scan.UNMEASURED in scan.METHODS
    given = single(arguments())
    expected = SCANS["associative"](**given)
    for leaf, same in zip(jax.jit(selective_scan)(**given), expected, strict=True):
        np.testing.assert_array_equal(leaf, same)


def test_the_table_is_that_of_the_benchmark():
    record = json.loads((RESULTS / "scan_cpu1.json").read_text())
    measured = {
        platform: tuple((length, method) for length, method in rows)
        for platform, rows in record["fastest"].items()
    }
    assert measured == scan.FASTEST


def test_what_does_not_fit_is_refused():
    given = single(arguments())
    with pytest.raises(JaxrlError, match="unknown method 'chunk'. Did you mean chunked"):
        selective_scan(**given, method="chunk")
    with pytest.raises(TypeCheckError, match="'B'"):
        selective_scan(**given | {"B": given["C"][:-1]})
