"""Real processes: killed, interrupted and resumed,
a run ends in the same bits as one that was left alone."""

import hashlib
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxrl import cli
from jaxrl.train.build import build
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.saved import experiment_of
from tests.train.tiny import ARGUMENTS, arrays, records, shared_compilations

# There are 16 evaluations, each with a checkpoint: long enough to be caught in the middle three
# times.
ITERATIONS = 64
LONGER = ["--total-steps", str(ITERATIONS * 32), "--num-evaluations", "16", "--folder"]
TRAIN = ["train", "ppo", *ARGUMENTS, *LONGER]
PATIENCE = 120.0


def start(*arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "jaxrl.cli", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> tuple[int, str, str]:
    """(exit status, what it printed, its errors)."""
    output, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, output, errors


def interrupt(process: subprocess.Popen, folder: Path, number: int) -> tuple[int, str, str]:
    """Send a signal once the process has saved two more checkpoints."""
    saved = set(Checkpoints(folder).iterations())
    deadline = time.monotonic() + PATIENCE
    while len(set(Checkpoints(folder).iterations()) - saved) < 2:
        assert process.poll() is None, finish(process)
        assert time.monotonic() < deadline, "it never saved a checkpoint"
        time.sleep(0.005)
    process.send_signal(number)
    return finish(process)


def fingerprint(folder: Path) -> tuple[int, str]:
    """(iteration, SHA-256 of the newest state)."""
    program = build(experiment_of(folder))
    restored = Checkpoints(folder).restore_latest(program.abstract_state())
    assert not restored.problems
    return restored.iteration, hashlib.sha256(
        b"".join(leaf.tobytes() for leaf in arrays(restored.state))
    ).hexdigest()


@pytest.fixture(scope="module")
def alone(tmp_path_factory) -> Path:
    """A run that nobody disturbs, in a process of its own."""
    folder = tmp_path_factory.mktemp("kill") / "alone"
    status, output, errors = finish(start(*TRAIN, str(folder)))
    assert (status, errors) == (0, ""), errors
    assert f"run folder    {folder}" in output
    return folder


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory) -> tuple[Path, dict[str, tuple[int, str, str]]]:
    """The same run killed, interrupted, terminated and at last left alone;
    and how each process ended."""
    folder = tmp_path_factory.mktemp("kill") / "disturbed"
    ends = {"killed": interrupt(start(*TRAIN, str(folder)), folder, signal.SIGKILL)}
    ends["interrupted"] = interrupt(start("resume", str(folder)), folder, signal.SIGINT)
    ends["terminated"] = interrupt(start("resume", str(folder)), folder, signal.SIGTERM)
    ends["finished"] = finish(start("resume", str(folder)))
    return folder, ends


@pytest.mark.parametrize(
    ("end", "status"),
    [("killed", -signal.SIGKILL), ("interrupted", 130), ("terminated", 143), ("finished", 0)],
)
def test_the_exit_status_tells_how_a_run_ended(disturbed, end, status):
    assert disturbed[1][end][0] == status, disturbed[1][end]


@pytest.mark.parametrize(("end", "name"), [("interrupted", "SIGINT"), ("terminated", "SIGTERM")])
def test_a_stopped_run_says_how_to_go_on(disturbed, end, name):
    folder, ends = disturbed
    _, output, errors = ends[end]
    assert re.search(
        rf"stopped by {name} after iteration \d+; go on: jaxrl resume {folder}", output
    )
    assert "stopping once the iterations under way are done and saved" in errors
    assert "Traceback" not in errors


def test_each_process_went_on_where_the_one_before_had_saved(disturbed):
    begun = [
        int(re.search(rf"iteration (\d+) of {ITERATIONS}", end[1])[1])
        for end in list(disturbed[1].values())[1:]
    ]
    assert 0 < begun[0] < begun[1] < begun[2] < ITERATIONS
    for earlier, later in (("interrupted", 1), ("terminated", 2)):
        stopped = int(re.search(r"after iteration (\d+)", disturbed[1][earlier][1])[1])
        assert begun[later] == stopped  # not an iteration was lost


def test_the_disturbed_run_ends_in_the_same_bits(alone, disturbed):
    assert fingerprint(alone)[0] == ITERATIONS
    assert fingerprint(disturbed[0]) == fingerprint(alone)
    assert records(disturbed[0]) == records(alone)


@pytest.mark.slow
def test_the_same_command_in_two_processes_gives_the_same_bits(alone, tmp_path):
    with shared_compilations():
        assert cli.main([*TRAIN, str(tmp_path / "again"), "--quiet"]) == 0
    assert fingerprint(tmp_path / "again") == fingerprint(alone)
    assert records(tmp_path / "again") == records(alone)
