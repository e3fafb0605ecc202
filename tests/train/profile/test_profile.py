"""The profile of a run: its arithmetic by hand, its measurements against a clock of our own,
and one real one."""

import dataclasses
import gzip
import io
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxrl.core.tree import copy
from jaxrl.train.build import build
from jaxrl.train.output.console import Console
from jaxrl.train.profile import profile as profiling
from jaxrl.train.profile.flops import Work
from jaxrl.train.profile.memory_traffic import Traffic
from jaxrl.train.profile.profile import Peak, Profile, percent, product_rate, si, triad_rate
from tests.train.tiny import experiment, same_bits, shared_compilations

ROOT = Path(__file__).resolve().parents[3]


def made(work=None, traffic=None, **changes):
    """8 MFLOP (6 of them products) and 3 MB in 2 ms, on a device of 10 GFLOP/s and 5 GB/s."""
    settings = {"seconds": 2e-3, "peak": Peak(1e10, 5e9), "memory": {}, "by_xla": {}} | changes
    return Profile(work or Work({"float32": 6e6}, 2e6, 1), traffic or Traffic(3e6, 1), **settings)


@pytest.mark.parametrize(
    ("amount", "unit", "expected"),
    [
        (0.0, "B", "0 B"),
        (950.0, "B", "950 B"),
        (999.6, "B", "1 kB"),
        (61.23e6, "FLOP", "61.2 MFLOP"),
        (3.35e12, "B/s", "3.35 TB/s"),
        (2.5e15, "FLOP/s", "2.5e+03 TFLOP/s"),
        (1.5, "s", "1.5 s"),
        (4.28e-3, "s", "4.28 ms"),
        (9.5e-5, "s", "95 µs"),
        (1234.0, "", "1.23 k"),
    ],
)
def test_amounts_have_three_digits_and_a_prefix(amount, unit, expected):
    assert si(amount, unit) == expected


@pytest.mark.parametrize(
    ("share", "expected"), [(0.004, "0.4 %"), (0.0994, "9.9 %"), (0.27, "27 %"), (1.31, "131 %")]
)
def test_shares_have_two_digits(share, expected):
    assert percent(share) == expected


def test_the_table_shows_amounts_rates_and_shares():
    rows = made().rows()
    assert [list(row.values()) for row in rows] == [
        ["matrix products (float32)", "6 MFLOP", "3 GFLOP/s", "10 GFLOP/s", "30 %"],
        ["all arithmetic", "8 MFLOP", "4 GFLOP/s", "10 GFLOP/s", "40 %"],
        ["memory traffic", "3 MB", "1.5 GB/s", "5 GB/s", "30 %"],
        ["time (roofline: arithmetic)", "2 ms", "800 µs", "40 %"],
    ]
    assert list(rows[0]) == ["an iteration", "amount", "rate", "device's peak", "share"]


def test_the_roofline_is_the_slower_of_arithmetic_and_memory():
    bound = made(traffic=Traffic(9e6, 1))
    assert bound.bounds == {"arithmetic": pytest.approx(8e-4), "memory": pytest.approx(1.8e-3)}
    assert bound.rows()[-1] == {
        "an iteration": "time (roofline: memory)",
        "amount": "2 ms",
        "device's peak": "1.8 ms",
        "share": "90 %",
    }


def test_the_type_of_most_products_is_named_first():
    assert (
        made(Work({"float32": 1.0, "bfloat16": 2.0}, 0.0, 1))
        .rows()[0]["an iteration"]
        .endswith("(bfloat16, float32)")
    )
    assert made(Work({}, 5.0, 1)).rows()[0]["an iteration"] == "matrix products (none)"


def test_notes_say_what_was_counted_and_what_xla_counts():
    lines = made(
        memory={"arguments": 2e6, "temporaries": 3e3}, by_xla={"operations": 7e5, "bytes": 1e3}
    ).notes()
    assert lines[0] == profiling.NOTE and "traced" in lines[0] and "compiled" in lines[0]
    assert (
        lines[1]
        == "XLA's own count, which takes the body of each loop once: operations 700 k, bytes 1 k"
    )
    assert lines[2] == "memory: arguments 2 MB, temporaries 3 kB"
    assert made().notes()[1].endswith(": none") and len(made().notes()) == 2


@pytest.mark.parametrize(("in_jaxpr", "compiled", "expected"), [(1, 1, None), (3, 1, 2), (1, 2, 1)])
def test_loops_of_unknown_length_are_mentioned_but_for_the_one_over_iterations(
    in_jaxpr, compiled, expected
):
    lines = made(Work({}, 1.0, in_jaxpr), Traffic(1.0, compiled)).notes()
    found = [line for line in lines if "unknown length" in line]
    assert found == (
        [f"loops of unknown length inside an iteration, counted as if they ran once: {expected}"]
        * bool(expected)
    )


def test_the_rate_of_products_is_that_of_the_first_size_that_takes_a_moment(monkeypatch):
    seen = []

    def seconds(function, matrix):
        seen.append((matrix.shape, matrix.dtype.name))
        return matrix.shape[0] ** 3 / 1e10

    monkeypatch.setattr(profiling, "_best_seconds", seconds)
    assert product_rate("bfloat16") == pytest.approx(2e10)
    assert seen == [((size, size), "bfloat16") for size in (512, 1024)]  # 13 ms, then 107 ms
    assert product_rate("float32", largest=512) == pytest.approx(2e10)


def test_the_rate_of_triads_is_three_arrays_a_round(monkeypatch):
    monkeypatch.setattr(profiling, "TRIAD_NUMBERS", 2**10)
    monkeypatch.setattr(profiling, "_best_seconds", lambda function, argument: 0.5)
    assert triad_rate(2**10) == 12 * 2**10 * 8 / 0.5
    assert triad_rate(2**8) == 12 * 2**8 * 32 / 0.5  # smaller arrays, more rounds
    monkeypatch.setattr(profiling, "MOST_ROUNDS", 20)
    assert triad_rate(2**8) == 12 * 2**8 * 20 / 0.5


def test_the_best_of_a_few_runs_counts(monkeypatch):
    ticks = itertools.chain.from_iterable((0.0, seconds) for seconds in (5.0, 3.0, 4.0, 9.0, 8.0))
    monkeypatch.setattr(profiling.time, "perf_counter", lambda: next(ticks))
    assert profiling._best_seconds(lambda x: x + 1.0, jax.numpy.zeros(3)) == 3.0


@pytest.mark.parametrize(
    ("once", "iterations", "repetitions"), [(0.1, 3, 5), (1e-4, 24, 5), (2.0, 1, 2), (60.0, 1, 2)]
)
def test_chunks_are_long_enough_to_time_and_not_longer_than_the_run(
    monkeypatch, once, iterations, repetitions
):
    lengths = []

    def seconds(_program, _state, length):
        lengths.append(length)
        return once * length

    monkeypatch.setattr(profiling, "_chunk_seconds", seconds)
    assert profiling._seconds_per_iteration(build(experiment()), None) == pytest.approx(once)
    assert lengths == [1, 1] + [iterations] * repetitions


def test_a_run_is_measured_traced_and_left_as_it_was(monkeypatch, tmp_path):
    for name, value in {"SECONDS": 0.02, "LARGEST_PRODUCT": 256, "TRIAD_NUMBERS": 2**16}.items():
        monkeypatch.setattr(profiling, name, value)
    stream = io.StringIO()
    with shared_compilations():
        program = build(experiment())
        state = program.init()
        before = copy(state)
        found = profiling.profile(program, state, tmp_path, Console(stream=stream))
        assert same_bits(before, state)
        program.chunk(state, 1)  # still there to train from
    assert found.seconds > 0.0 and found.peak.flops > 0.0 and found.peak.bytes > 0.0
    # Four environments and one layer of four units: a rollout of 8 steps, and one pass over it.
    assert 32 * 3 * 2 * 4 < found.work.products["float32"] < 1e5
    assert found.work.unbounded >= found.traffic.unbounded >= 1  # the loop over iterations
    assert found.traffic.bytes > found.by_xla["bytes"] > 0  # XLA takes the body of each loop once
    assert found.memory["arguments"] > 0

    (trace,) = tmp_path.glob("profile/plugins/profile/*/*.trace.json.gz")
    (_,) = tmp_path.glob("profile/plugins/profile/*/*.xplane.pb")
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    assert sum(event.get("name") == "iteration" for event in events) == profiling.TRACED_CHUNKS
    text = stream.getvalue()
    assert "matrix products (float32)" in text and str(trace) in text and profiling.NOTE in text


def test_a_population_takes_the_work_of_all_its_members():
    with shared_compilations():
        works = []
        for sweep, seeds in (({}, 1), ({"learning_rate": [1e-3, 1e-2]}, 3)):
            made = experiment(sweep=sweep, num_seeds=seeds)
            program = build(dataclasses.replace(made, run=dataclasses.replace(made.run, devices=1)))
            program.population.compiled = {"chunk": None}
            works.append(profiling._anatomy(program, program.abstract_state())[0])
    np.testing.assert_allclose(works[1].products["float32"], 6 * works[0].products["float32"])


@pytest.mark.slow
def test_on_several_devices_the_work_is_that_of_each():
    code = (
        "from jaxrl.train.build import build\n"
        "from jaxrl.train.profile import profile\n"
        "from tests.train.tiny import experiment\n"
        "import dataclasses\n"
        "for seeds, devices in ((1, 1), (1, 2), (2, 2)):\n"
        "    made = experiment(num_seeds=seeds)\n"
        "    program = build(dataclasses.replace(made, run=dataclasses.replace(made.run, "
        "devices=devices)))\n"
        "    program.population.compiled = {'chunk': None}\n"
        "    assert program.layout.devices == devices\n"
        "    print(sum(profile._anatomy(program, program.abstract_state())[0].products.values()))\n"
    )
    settings = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=settings,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, done.stderr
    alone, half, one_of_two_seeds = map(float, done.stdout.split())
    assert half == pytest.approx(alone / 2) and one_of_two_seeds == alone
