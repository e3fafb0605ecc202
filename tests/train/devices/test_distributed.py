"""How processes join, agree and end, as far as one process can tell; two of them:
tests/devices/test_processes.py."""

import socket
import subprocess
import sys
import warnings

import jax
import numpy as np
import pytest

from jaxrl import cli
from jaxrl.errors import JaxrlError
from jaxrl.train import loop, resuming
from jaxrl.train.devices import distributed
from jaxrl.train.devices.distributed import Processes, joined
from tests.train.tiny import ARGUMENTS, experiment, shared_compilations


class Exit(BaseException):
    """What stands in for the end of the process."""


@pytest.fixture
def lonely(monkeypatch):
    """A process that joins nobody: (how it was initialised, how it ended)."""
    called, ended = [], []

    def end(status):
        ended.append(status)
        raise Exit

    monkeypatch.setattr(
        jax.distributed, "initialize", lambda *arguments, **_: called.append(arguments)
    )
    monkeypatch.setattr(distributed.os, "_exit", end)
    monkeypatch.setattr(distributed.time, "sleep", ended.append)
    service = jax.config.jax_enable_preemption_service
    yield called, ended
    jax.config.update("jax_enable_preemption_service", service)


PAIR = Processes("somewhere:1234", 2, 1)
PAIR0 = Processes("somewhere:23456", 2, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ["--coordinator", "here:1"],
            "need --coordinator, --processes, --process-id: --processes is missing",
        ),
        (["--processes", "2", "--process-id", "0"], "--coordinator is missing"),
        (
            ["--coordinator", "here", "--processes", "2", "--process-id", "0"],
            "coordinator is 'here', but must be like",
        ),
        (
            ["--coordinator", "h:1", "--processes", "2", "--process-id", "2"],
            "process_id is 2, but must lie in [0, 2)",
        ),
        (["--distributed", "--processes", "2"], "--distributed finds the processes by itself"),
    ],
)
@pytest.mark.parametrize("command", [["train", "ppo", *ARGUMENTS, "--folder"], ["resume"]])
def test_what_is_incomplete_is_refused(command, options, words, tmp_path, capsys):
    assert cli.main([*command, str(tmp_path / "run"), *options]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert not (tmp_path / "run").exists()


def test_without_options_nothing_is_joined(lonely):
    with joined(Processes()):
        assert distributed.is_first() and not distributed.are_several()
    with pytest.raises(KeyError), joined(Processes()):  # and nothing is made of an error
        raise KeyError
    assert lonely == ([], [])


def test_processes_are_joined_as_told(lonely):
    with joined(PAIR):
        pass
    with joined(Processes(distributed=True)):
        pass
    assert lonely == ([("somewhere:1234", 2, 1), (None, None, None)], [])


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (JaxrlError("no such setting"), 2, ["error: no such setting"]),
        (KeyboardInterrupt(), 130, ["interrupted"]),
        (
            ValueError("UNKNOWN: Gloo AllReduce failed: Connection closed by peer"),
            1,
            ["another process", "resume RUN"],
        ),
        (ZeroDivisionError("nothing"), 1, ["Traceback", "ZeroDivisionError: nothing"]),
    ],
)
def test_an_error_ends_the_process_at_once(lonely, error, status, words, capsys):
    with pytest.raises(Exit), joined(PAIR):
        raise error
    assert lonely[1] == [distributed.GRACE_SECONDS, status]
    printed = capsys.readouterr().err
    assert all(word in printed for word in words)
    assert ("Traceback" in printed) == ("Traceback" in words)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            Processes(distributed=True),
            "could not join a job of SLURM, Open MPI or Kubernetes (deadline). Elsewhere: --coord",
        ),
        (PAIR, "did not come together at somewhere:1234: deadline"),
    ],
)
def test_processes_that_do_not_find_each_other_are_told_why(
    lonely, monkeypatch, options, words, capsys
):
    def fail(*_, **__):
        raise ValueError("deadline")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(Exit), joined(options):
        raise AssertionError("nothing was joined")
    assert words in capsys.readouterr().err
    assert lonely[1] == [0.0, 2]


@pytest.fixture
def other(monkeypatch):
    """A second process, which brings to each meeting what the test puts into this list."""
    brought = []
    monkeypatch.setattr(distributed, "are_several", lambda: True)
    gathered = distributed.multihost_utils
    monkeypatch.setattr(
        gathered, "process_allgather", lambda own: np.stack([own, np.asarray(brought.pop(0))])
    )
    return brought


def test_the_most_of_each_number_is_agreed_on(other):
    other += [[0, 1], [[True, False]]]
    np.testing.assert_array_equal(distributed.max_over_processes([15, 0]), [15, 1])
    np.testing.assert_array_equal(distributed.max_over_processes([[False, False]]), [[True, False]])


def test_what_the_first_process_cannot_do_fails_in_all(other, monkeypatch):
    other += [False, False, True]
    done = []
    distributed.on_first_process(lambda: done.append("first"))
    with pytest.raises(ZeroDivisionError):
        distributed.on_first_process(lambda: 1 / 0)
    monkeypatch.setattr(distributed, "is_first", lambda: False)
    with pytest.raises(JaxrlError, match="the first process could not go on"):
        distributed.on_first_process(lambda: done.append("second"))
    assert done == ["first"]


def test_processes_that_see_different_folders_do_not_go_on(other):
    other += [7, -7, 3, -3]
    resuming.check_seen(7, "checkpoints")
    with pytest.raises(
        JaxrlError, match="see different checkpoints: the run folder must be on a file system"
    ):
        resuming.check_seen(7, "checkpoints")


def test_a_run_of_several_processes_is_not_profiled(monkeypatch, tmp_path):
    monkeypatch.setattr(distributed, "are_several", lambda: True)
    with pytest.raises(JaxrlError, match="--profile measures a run in one process"):
        loop.train(experiment(), tmp_path / "run", profiled=True)
    assert not (tmp_path / "run").exists()


def test_only_the_first_process_speaks_and_warns(lonely, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(distributed, "is_first", lambda: False)
    with warnings.catch_warnings(record=True) as caught, joined(PAIR), shared_compilations():
        warnings.warn("something about the run", loop.RunWarning, stacklevel=1)
        loop.train(experiment(), tmp_path / "run")
    assert not caught
    assert capsys.readouterr().out == ""
    assert not (tmp_path / "run").exists()  # nor does it write


def test_a_place_is_taken_once_and_free_again_afterwards(lonely, capsys):
    with pytest.raises(Exit), joined(PAIR), joined(PAIR):  # a third process, with the second's id
        raise AssertionError("it was let in")
    assert "process 1 of the run at somewhere:1234 is there already" in capsys.readouterr().err
    assert lonely[1][:2] == [0.0, 2] and len(lonely[0]) == 1
    lonely[1].clear()
    with joined(PAIR), joined(Processes("somewhere:1235", 2, 1)), joined(PAIR0):
        pass
    assert lonely[1] == []


def test_a_port_that_something_listens_on_is_refused(lonely, capsys):
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with pytest.raises(Exit), joined(Processes(f"127.0.0.1:{port}", 2, 0)):
            raise AssertionError("it was let in")
        with joined(Processes(f"127.0.0.1:{port}", 2, 1)):  # where the first one listens
            pass
    assert f"port {port} cannot be had on this machine" in capsys.readouterr().err
    assert lonely[0] == [(f"127.0.0.1:{port}", 2, 1)]
    with pytest.raises(Exit), joined(Processes("here:123456", 2, 0)):
        raise AssertionError("it was let in")
    assert "its port must lie in [1, 65535]" in capsys.readouterr().err


WAITING = """
import time
from jaxrl.train.devices import joining
joining.FIRST_WORD, joining.EVERY = 0.2, 0.2
with joining.telling_of_the_wait("here:1", 30.0):
    time.sleep(0.3)
with joining.telling_of_the_wait("here:2", 0.9):
    time.sleep(60)
"""


def test_who_waits_says_so_and_gives_up_in_words():
    done = subprocess.run(
        [sys.executable, "-c", WAITING], capture_output=True, text=True, timeout=60, check=False
    )
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert lines[0] == "waiting for the other processes at here:1: 0 of 30 s"
    assert lines[-1].startswith("error: after 1 s not all processes have come together at here:2:")
