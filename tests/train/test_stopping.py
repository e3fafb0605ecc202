"""A signal stops a run between two pieces of an evaluation, which is then done again."""

import os
import signal
import subprocess
import sys
import time

import pytest

from jaxrl import cli
from jaxrl.train import loop, player
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.output import report
from jaxrl.train.output.console import Console, Progress
from tests.train.tiny import (
    ARGUMENTS,
    ITERATIONS,
    POINTS,
    experiment,
    newest_state,
    records,
    same_bits,
    shared_compilations,
)


@pytest.fixture(scope="module", autouse=True)
def shared():
    with shared_compilations():
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody stops."""
    folder = tmp_path_factory.mktemp("stopping") / "whole"
    loop.train(experiment(), folder)
    return folder


def interrupted_evaluation(patch, point):
    """Send a signal after the first piece of the evaluation at a point."""
    evaluate, evaluating = loop.Runner.evaluate_and_save, Progress.evaluating
    under_way = []

    def evaluate_and_save(self, state, iteration, bar):
        under_way[:] = [iteration]
        return evaluate(self, state, iteration, bar)

    def signalled(self, played):
        if under_way == [point]:
            under_way.clear()
            signal.raise_signal(signal.SIGTERM)
        evaluating(self, played)

    patch.setattr(player, "FIRST_PIECE", 1)
    patch.setattr(loop.Runner, "evaluate_and_save", evaluate_and_save)
    patch.setattr(Progress, "evaluating", signalled)


@pytest.mark.parametrize("point", [0, POINTS[2], ITERATIONS])
def test_an_evaluation_is_stopped_and_done_again(whole, tmp_path, monkeypatch, point, capsys):
    folder = tmp_path / "run"
    calls = []

    def seen(pause):
        calls.append(pause.iteration)

    with monkeypatch.context() as patch:
        interrupted_evaluation(patch, point)
        result = loop.train(experiment(), folder, callbacks=[seen])
    earlier = [-1, *(each for each in POINTS if each < point)][-1]
    assert (result.signal, result.iteration) == (signal.SIGTERM, point)
    assert result.evaluated_iteration == earlier
    assert max(Checkpoints(folder).iterations()) == point
    assert point not in calls  # a pause comes after its evaluation
    assert report.finish(result, result.experiment, Console()) == 143
    output, _ = capsys.readouterr()
    assert f"stopped by SIGTERM after iteration {point}; go on: jaxrl resume {folder}" in output
    assert ("evaluation at iteration" in output) == (earlier >= 0)

    loop.resume(folder, callbacks=[seen])
    assert records(folder) == records(whole)
    assert same_bits(newest_state(folder), newest_state(whole))
    assert calls.count(point) == 1


def test_the_command_ends_with_the_status_of_the_signal(tmp_path, monkeypatch, capfd):
    interrupted_evaluation(monkeypatch, 0)
    folder = tmp_path / "run"
    assert cli.main(["train", "ppo", *ARGUMENTS, "--folder", str(folder), "--quiet"]) == 143
    _, errors = capfd.readouterr()
    assert "stopping once the iterations under way are done and saved" in errors
    assert "warning" not in errors
    assert Checkpoints(folder).iterations() == [0]


# Its steps take for ever, until there is a file "quick".
ENDLESS = """
import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp

from jaxrl.envs.suites.probe import TwoLengths

QUICK = Path(__file__).with_name("quick").exists()


class Endless(TwoLengths):
    def step(self, key, state, action):
        state, timestep = super().step(key, state, action)
        if QUICK:
            return state, timestep
        # 3, 6, 5, 3, 6, 5, …
        one = jax.lax.while_loop(lambda n: n != 1, lambda n: 2 * n % 7, jnp.int32(3) + 0 * action)
        return state, dataclasses.replace(timestep, reward=timestep.reward + one)
"""


def interrupted_twice(process) -> tuple[int, str]:
    """How it ends, and what it says to that."""
    line = process.stdout.readline()
    assert "compiling comes first" in line, process.stderr.read()
    time.sleep(6.0)  # it compiles, and plays its first step
    process.send_signal(signal.SIGINT)
    assert process.stderr.readline() == "\n"
    assert "again: stop at once" in process.stderr.readline()
    time.sleep(0.5)
    assert process.poll() is None  # the first signal waits for the step
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=10)
    return process.returncode, errors


@pytest.mark.slow
def test_the_second_signal_ends_a_call_of_xla(tmp_path, monkeypatch):
    """The watcher does; and the folder resumes."""
    (tmp_path / "endless.py").write_text(ENDLESS)
    folder = tmp_path / "run"
    sizes = [*ARGUMENTS[2:], "--env", "endless:Endless", "--folder", str(folder)]
    with subprocess.Popen(
        [sys.executable, "-m", "jaxrl", "train", "ppo", *sizes],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    ) as process:
        try:
            ended = interrupted_twice(process)
        finally:
            process.kill()
    assert ended == (130, "\nstopped at once\n")

    (tmp_path / "quick").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert cli.main(["resume", str(folder), "--trust", "--quiet"]) == 0
    assert max(Checkpoints(folder).iterations()) == ITERATIONS
