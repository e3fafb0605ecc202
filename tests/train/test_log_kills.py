"""Twenty kills of a run whose state holds a log: it ends in the same bits as one that was left alone."""

import hashlib
import random
import signal
import subprocess
import sys
import time

import pytest

from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.saved import experiment_of
from jaxrl.train.trust import Trust
from tests.train.tiny import arrays, records

KILLS, LONGEST_SECONDS = 20, 600.0
ALGORITHM = "benchmarks.log_checkpoints:logger"
# 60 iterations of 50 rows turn the log twice, and save it 31 times.
TRAIN = [
    "train",
    ALGORITHM,
    "--env",
    "probe/two-lengths",
    "--capacity",
    "1490",
    "--width",
    "3",
    "--rows-per-step",
    "50",
]
TRAIN += ["--total-steps", "3000", "--batch-size", "8", "--num-evaluations", "30", "--evaluation-episodes", "4"]


def attempt(folder, patience):
    """Train or go on for at most `patience` seconds, then kill: whether the run has ended by itself."""
    begun = (folder / "config.json").exists()
    words = ["resume", str(folder), "--imports", ALGORITHM] if begun else [*TRAIN, "--folder", str(folder)]
    command = [sys.executable, "-m", "jaxrl.cli", *words]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
        errors = process.stderr.read()
    assert process.returncode in (0, -signal.SIGKILL) and "Traceback" not in errors and "damaged" not in errors, errors
    return process.returncode == 0


def fingerprint(folder):
    """(iteration, SHA-256 of the newest state, log and all)."""
    program = experiment_of(folder, Trust(imports=(ALGORITHM,))).program()
    restored = Checkpoints(folder).restore_latest(program.abstract_state())
    assert not restored.problems
    assert restored.state.log.written.tolist() == [[3000, 0]]
    return restored.iteration, hashlib.sha256(b"".join(leaf.tobytes() for leaf in arrays(restored.state))).hexdigest()


@pytest.mark.slow
def test_twenty_kills_of_a_run_with_a_log(tmp_path):
    assert attempt(tmp_path / "cold", LONGEST_SECONDS)  # compiles
    began = time.monotonic()
    assert attempt(tmp_path / "warm", LONGEST_SECONDS)
    usual, generator, kills, runs = time.monotonic() - began, random.Random(0), 0, 0
    expected = fingerprint(tmp_path / "warm")
    assert expected[0] == 60 and fingerprint(tmp_path / "cold") == expected
    while kills < KILLS:
        runs += 1
        folder = tmp_path / str(runs)
        while not attempt(folder, usual * generator.uniform(0.4, 0.95)):
            kills += 1
        assert fingerprint(folder) == expected
        assert records(folder) == records(tmp_path / "warm")
        named = Checkpoints(folder).newest.joinpath("manifest.json").read_text()
        assert any(path.name in named for path in (folder / "checkpoints" / "rows").iterdir())
    print(f"{kills} kills in {runs} runs")
