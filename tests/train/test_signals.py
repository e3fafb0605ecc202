"""Signals while Python cannot run its handlers, as in a call of XLA: processes without JAX."""

import signal
import subprocess
import sys
import time

import pytest

from jaxrl.train import signals

# A mutex that is locked twice: no signal ends that call.
BLOCKED = """
import ctypes, signal, threading
from jaxrl.train.signals import StopSignals

libc = ctypes.CDLL(None)
mutex = ctypes.create_string_buffer(256)

def block():
    threading.Timer(0.1, print, ["blocked"], {"flush": True}).start()
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)

"""
OF_RUN = BLOCKED + "with StopSignals(of_command=True), StopSignals(): block()"
OF_COMMAND = BLOCKED + "with StopSignals(of_command=True): block()"
OF_SCRIPT = BLOCKED + "with StopSignals(): block()"
# Whoever starts the tests in the background of a shell has them ignore SIGINT.
AS_USUAL = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
"""
NOHUP = "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
PATIENCE = 60.0


@pytest.fixture
def start():
    """Start a process that blocks, with a pipe for what it says."""
    started = []

    def start(script: str, **options) -> subprocess.Popen:
        process = subprocess.Popen(
            [sys.executable, "-c", AS_USUAL + script],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )
        started.append(process)
        assert process.stdout.readline() == "blocked\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def says(process: subprocess.Popen) -> str:
    """The next line that it says, which it begins on a new one."""
    assert process.stderr.readline() == "\n"
    return process.stderr.readline().removesuffix("\n")


def wait_for_another_request() -> None:
    time.sleep(2 * signals.ONE_REQUEST_SECONDS)


@pytest.mark.parametrize("number", signals.STOPPING, ids=lambda number: number.name)
@pytest.mark.parametrize(
    ("script", "words"),
    [(OF_RUN, signals.RUN_STOPS), (OF_COMMAND, signals.COMMAND_STOPS)],
    ids=["run", "command"],
)
def test_the_first_says_so_and_the_second_ends_the_process(start, script, words, number):
    process = start(script)
    process.send_signal(number)
    assert says(process) == words
    assert process.poll() is None
    wait_for_another_request()
    second = signal.SIGTERM if number == signal.SIGHUP else number
    process.send_signal(second)
    assert says(process) == signals.AT_ONCE
    assert process.wait(PATIENCE) == 128 + second


def test_what_is_sent_twice_in_one_go_is_one_request(start):
    """`timeout` sends to the process and to its group; a terminal that closes hangs up twice."""
    process = start(OF_RUN)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    assert says(process) == signals.RUN_STOPS
    wait_for_another_request()
    process.send_signal(signal.SIGHUP)
    wait_for_another_request()
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 128 + signal.SIGINT


def test_what_is_ignored_at_the_start_stays_so(start):
    process = start(NOHUP + OF_RUN)
    process.send_signal(signal.SIGHUP)
    wait_for_another_request()
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert says(process) == signals.RUN_STOPS  # and nothing before


def test_a_process_of_someone_else_is_not_ended(start):
    """In a notebook the second one acts as it always does."""
    process = start(OF_SCRIPT)
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        wait_for_another_request()
    assert says(process) == signals.RUN_STOPS
    assert process.poll() is None


def test_nobody_needs_to_hear_it(start):
    process = start(OF_RUN)
    process.stderr.close()
    process.send_signal(signal.SIGINT)
    wait_for_another_request()
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 128 + signal.SIGINT


def test_a_script_gets_its_handlers_back_and_the_second_signal():
    before = [signal.getsignal(number) for number in signals.STOPPING]
    with signals.StopSignals() as stop:
        signal.raise_signal(signal.SIGINT)
        assert stop.requested() and stop.received == signal.SIGINT
        wait_for_another_request()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(number) for number in signals.STOPPING] == before
    assert signal.set_wakeup_fd(-1) == -1


def test_a_command_is_interrupted_once():
    with signals.StopSignals(of_command=True) as stop:
        with pytest.raises(signals.Interrupted):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # of the same request: what tidies up goes on
        assert stop.status == 143
