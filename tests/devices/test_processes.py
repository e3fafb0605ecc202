"""Two processes train one run: if one is killed, the other ends,
and the run goes on to the bits of a single one."""

import contextlib
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxrl import cli
from jaxrl.train import loop
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.folder import read_description
from jaxrl.train.files.logs import load_evaluations, read_metrics
from jaxrl.train.saved import experiment_of
from tests.train.tiny import ARGUMENTS, newest_state, records, same_bits, shared_compilations

ITERATIONS = 48
TRAIN = [
    "train",
    "ppo",
    *ARGUMENTS,
    "--total-steps",
    str(ITERATIONS * 32),
    "--num-evaluations",
    "12",
]
FIRST_SLURM_PORT = 65536 - 4096  # of those that JAX derives from the number of a job
PATIENCE = 240.0  # a busy machine compiles for a minute
WELL_UNDER_A_MINUTE = 45.0


def free_port() -> int:
    """One of the ports that a job of SLURM would use."""
    while True:
        port = random.randrange(FIRST_SLURM_PORT, 65536)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Pair:
    """Two processes of the same command, but for what the `second` adds;
    both are killed at the end of the block."""

    def __init__(
        self,
        arguments: list[str],
        devices: int = 1,
        slurm: bool = False,
        second: tuple[str, ...] = (),
    ) -> None:
        port = free_port()
        self.processes = []
        for index in (0, 1):
            settings = os.environ | {"JAX_NUM_CPU_DEVICES": str(devices)}
            options = [
                "--coordinator",
                f"127.0.0.1:{port}",
                "--processes",
                "2",
                "--process-id",
                str(index),
            ]
            if slurm:
                options = ["--distributed"]
                job = {"JOB_ID": port - FIRST_SLURM_PORT, "STEP_NODELIST": "127.0.0.1", "NTASKS": 2}
                task = {"PROCID": index, "LOCALID": index}
                settings |= {f"SLURM_{name}": str(value) for name, value in (job | task).items()}
            options += second if index == 1 else []
            command = [sys.executable, "-m", "jaxrl.cli", *arguments, *options]
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            self.processes.append(subprocess.Popen(command, env=settings, **pipes))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.kill()
            process.wait()
            process.stdout.close()
            process.stderr.close()

    def wait_for_checkpoints(self, folder: Path) -> None:
        """Wait until two more have been saved than there are."""
        saved = set(Checkpoints(folder).iterations())
        deadline = time.monotonic() + PATIENCE
        while len(set(Checkpoints(folder).iterations()) - saved) < 2:
            assert all(process.poll() is None for process in self.processes), self.ends()
            assert time.monotonic() < deadline, "it never saved a checkpoint"
            time.sleep(0.01)

    def end(self, index: int, patience: float = PATIENCE) -> tuple[int, str, str]:
        """(exit status, what it printed, its errors) of one of them."""
        output, errors = self.processes[index].communicate(timeout=patience)
        return self.processes[index].returncode, output, errors

    def ends(self) -> list[tuple[int, str, str]]:
        return [self.end(0), self.end(1)]


def lost_one(pair: Pair, folder: Path, index: int) -> tuple[int, str, str, float]:
    """Kill one of a pair in the middle of its run: how the other one ended,
    and after how many seconds."""
    pair.wait_for_checkpoints(folder)
    pair.processes[index].kill()
    killed = time.monotonic()
    return *pair.end(1 - index), time.monotonic() - killed


@pytest.fixture(scope="module")
def disturbed(tmp_path_factory):
    """(folder, what was left of it after a kill, how the survivor ended,
    how those ended that went on)."""
    folder = tmp_path_factory.mktemp("processes") / "run"
    with Pair([*TRAIN, "--folder", str(folder)]) as pair:
        survivor = lost_one(pair, folder, 1)
    shutil.copytree(folder, left := folder.with_name("left"))
    with Pair(["resume", str(folder)], slurm=True) as pair:
        return folder, left, survivor, pair.ends()


@pytest.mark.slow
def test_a_process_that_loses_the_other_ends_soon_and_says_so(disturbed):
    status, _, errors, seconds = disturbed[2]
    assert status not in (0, -signal.SIGKILL)
    assert re.search("another process of this run has ended|another task died", errors), errors
    assert seconds < WELL_UNDER_A_MINUTE


@pytest.mark.slow
def test_both_go_on_to_the_end_under_slurm(disturbed):
    folder, _, _, ends = disturbed
    assert [end[0] for end in ends] == [0, 0], ends
    assert re.search(rf"iteration [1-9]\d* of {ITERATIONS}", ends[0][1])
    assert f"run folder    {folder}" in ends[0][1]
    assert "run folder" not in ends[1][1]  # the first one speaks for both
    assert [end[2] for end in ends] == ["", ""]


@pytest.mark.slow
def test_the_run_ends_in_the_bits_of_one_process_with_two_devices(disturbed, tmp_path):
    folder = disturbed[0]
    described = experiment_of(folder)
    assert read_description(folder)["layout"] == "env=2,seed=1"
    with shared_compilations():
        alone = [*TRAIN, "--mesh", "env=2", "--quiet", "--folder", str(tmp_path / "alone")]
        assert cli.main(alone) == 0
        described = experiment_of(tmp_path / "alone")
        iteration, state = newest_state(folder, described)
        assert (iteration, same_bits(state, newest_state(tmp_path / "alone", described)[1])) == (
            ITERATIONS,
            True,
        )
    assert records(folder) == records(tmp_path / "alone")
    assert (folder / "plots" / "learning_curve.png").exists()


@pytest.mark.slow
def test_a_single_process_goes_on_with_what_was_left(disturbed):
    left = disturbed[1]
    begun = max(Checkpoints(left).iterations())
    assert 0 < begun < ITERATIONS
    with shared_compilations():
        result = loop.resume(left, sharing={"devices": 1, "mesh": ()})
    assert (result.iteration, result.trained_iterations) == (ITERATIONS, ITERATIONS - begun)
    assert [row["iteration"] for row in read_metrics(left)] == list(range(1, ITERATIONS + 1))
    assert load_evaluations(left)["iteration"].tolist() == [4 * k for k in range(13)]


def test_processes_with_other_settings_are_refused_and_the_difference_is_named(tmp_path):
    folder = tmp_path / "run"
    with Pair([*TRAIN, "--folder", str(folder)], second=("--learning-rate", "0.1")) as pair:
        (first, _, said), (second, _, named) = pair.ends()
    assert (first, second) == (2, 2), (said, named)
    assert "config.learning_rate: 0.00025 -> 0.1" in named and "process 1" in named
    assert "process 1" in said
    assert not folder.exists()


@pytest.mark.slow
def test_a_population_over_processes_is_stopped_by_a_signal_to_either_and_outlives_the_first(
    tmp_path,
):
    folder = tmp_path / "run"
    with Pair(
        [*TRAIN, "--num-seeds", "2", "--mesh", "env=2,seed=2", "--folder", str(folder)], devices=2
    ) as pair:
        pair.wait_for_checkpoints(folder)
        pair.processes[1].send_signal(signal.SIGTERM)
        ends = pair.ends()
    assert [end[0] for end in ends] == [128 + signal.SIGTERM] * 2, ends
    stopped = int(re.search(r"stopped by SIGTERM after iteration (\d+)", ends[0][1])[1])
    assert stopped == max(Checkpoints(folder).iterations()) < ITERATIONS
    with Pair(["resume", str(folder)], devices=2) as pair:
        status, _, errors, seconds = lost_one(pair, folder, 0)
    assert status not in (0, -signal.SIGKILL)
    assert re.search("another process of this run has ended|another task died", errors), errors
    assert seconds < WELL_UNDER_A_MINUTE
    assert max(Checkpoints(folder).iterations()) > stopped
    with shared_compilations():
        assert loop.resume(folder).iteration == ITERATIONS
    assert read_description(folder)["layout"] == "env=2,seed=2"
    assert load_evaluations(folder)["deterministic_returns"].shape == (13, 1, 2, 4)


@pytest.mark.slow
def test_an_error_is_said_by_all_and_keeps_nobody_waiting(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with Pair([*TRAIN, "--folder", str(tmp_path / "run")]) as pair:
        ends = pair.ends()
    assert [end[0] for end in ends] == [2, 2], ends
    assert "already holds a run" in ends[0][2] and "the first process could not go on" in ends[1][2]
