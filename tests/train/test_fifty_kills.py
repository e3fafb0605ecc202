"""Fifty kills at random moments, from the first import to the last checkpoint: every run ends in the same bits."""

import random
import signal
import subprocess
import time

import pytest

from tests.train.test_kill import ITERATIONS, TRAIN, fingerprint, finish, records, start

KILLS = 50
LONGEST_SECONDS = 600.0  # of one process


def attempt(folder, patience):
    """Train or go on for at most `patience` seconds, then kill: whether the run has ended by itself."""
    begun = (folder / "config.json").exists()
    process = start("resume", str(folder)) if begun else start(*TRAIN, str(folder))
    try:
        process.wait(timeout=patience)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    status, _, errors = finish(process)
    assert status in (0, -signal.SIGKILL) and "Traceback" not in errors and "damaged" not in errors, errors
    return status == 0


@pytest.mark.slow
def test_fifty_kills(tmp_path):
    generator = random.Random(0)
    began = time.monotonic()
    assert attempt(tmp_path / "alone", LONGEST_SECONDS)
    usual = time.monotonic() - began
    expected, kills, runs = fingerprint(tmp_path / "alone"), 0, 0
    assert expected[0] == ITERATIONS
    while kills < KILLS:
        runs += 1
        folder = tmp_path / str(runs)
        # Most kills while it trains; some while it starts, and some while it finishes.
        while not attempt(folder, usual * generator.uniform(0.2, 1.1)):
            kills += 1
        assert fingerprint(folder) == expected
        assert records(folder) == records(tmp_path / "alone")
    print(f"{kills} kills in {runs} runs")
