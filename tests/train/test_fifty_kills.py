"""Fifty kills at random moments, from the first import to the last checkpoint:
every run ends in the same bits."""

import random
import signal
import subprocess
import time

import pytest

from tests.train.test_kill import ITERATIONS, TRAIN, fingerprint, finish, records, start

KILLS = 50
LONGEST_SECONDS = 600.0  # of one process


def attempt(folder, patience):
    """Train or go on for at most `patience` seconds, then kill:
    whether the run has ended by itself."""
    begun = (folder / "config.json").exists()
    process = start("resume", str(folder)) if begun else start(*TRAIN, str(folder))
    try:
        process.wait(timeout=patience)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    status, _, errors = finish(process)
    assert (
        status in (0, -signal.SIGKILL) and "Traceback" not in errors and "damaged" not in errors
    ), errors
    return status == 0


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """(folder of a run that nobody disturbs, how long one takes)."""
    place = tmp_path_factory.mktemp("alone")
    assert attempt(place / "cold", LONGEST_SECONDS)  # compiles
    began = time.monotonic()
    assert attempt(place / "warm", LONGEST_SECONDS)
    return place / "warm", time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_fifty_kills(alone, tmp_path, seed):
    generator, (undisturbed, usual) = random.Random(seed), alone
    expected, kills, runs = fingerprint(undisturbed), 0, 0
    assert expected[0] == ITERATIONS
    while kills < KILLS // 5:
        runs += 1
        folder = tmp_path / str(runs)
        while not attempt(folder, usual * generator.uniform(0.4, 0.95)):
            kills += 1
        assert fingerprint(folder) == expected
        assert records(folder) == records(undisturbed)
    print(f"{kills} kills in {runs} runs")
