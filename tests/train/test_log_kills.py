"""Runs whose state holds a log, killed at random moments:
they end in the same bits as one that was left alone."""

import hashlib
import math
import random
import signal
import subprocess
import sys
import time

import jax
import pytest

from jaxrl.train.build import build
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.saved import experiment_of
from jaxrl.train.trust import Trust
from jaxrl.types import Log
from tests.train.tiny import arrays, records

KILLS = {"logger": 20, "td3, one device": 10, "td3, two devices": 10}
ALGORITHM = "benchmarks.log_checkpoints:logger"
OFTEN = "--num-evaluations 30 --evaluation-episodes 4"
# 60 iterations of 50 rows turn the log twice, and save it 31 times.
LOGGER = (
    f"train {ALGORITHM} --env probe/two-lengths --capacity 1490 --width 3 --rows-per-step 50 "
    f"--total-steps 3000 --batch-size 8 {OFTEN} --devices 1"
)
# The same with 40 rows an iteration, and a replay buffer that is turned six times.
TD3 = (
    "train td3 --env probe/continuous-action --num-envs 4 --num-steps 10 --replay-capacity 400 "
    "--total-steps 2400 --warm-up 80 --updates-per-transition 0.05 --batch-size 8 "
    f"--hidden-sizes 4 {OFTEN} --devices"
)
TRAIN = {"logger": LOGGER, "td3, one device": f"{TD3} 1", "td3, two devices": f"{TD3} 2"}


def attempt(learner, folder, saves=None, delay=0.0):
    """Train or go on, and kill `delay` seconds after so many more checkpoints:
    whether the run has ended by itself."""
    begun = (folder / "config.json").exists()
    words = (
        ["resume", str(folder), "--imports", ALGORITHM]
        if begun
        else [*TRAIN[learner].split(), "--folder", str(folder)]
    )
    command = [sys.executable, "-m", "jaxrl.cli", *words]
    seen = set(Checkpoints(folder).iterations())
    wanted = len(seen) + saves if saves is not None else math.inf
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        while len(seen) < wanted and process.poll() is None:
            seen.update(Checkpoints(folder).iterations())
            time.sleep(0.005)
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        errors = process.stderr.read()
    assert (
        process.returncode in (0, -signal.SIGKILL)
        and "Traceback" not in errors
        and "damaged" not in errors
    ), errors
    return process.returncode == 0


def is_log(node):
    return isinstance(node, Log)


def fingerprint(folder):
    """(iteration, SHA-256 of the newest state, log and all)."""
    program = build(experiment_of(folder, Trust(imports=(ALGORITHM,))))
    restored = Checkpoints(folder).restore_latest(program.abstract_state())
    assert not restored.problems
    [log] = [leaf for leaf in jax.tree.leaves(restored.state, is_leaf=is_log) if is_log(leaf)]
    blocks, capacity = len(log.written), len(jax.tree.leaves(log.rows)[0])
    assert all(int(low) > 2 * capacity // blocks for low, _ in log.written)  # turned over
    return restored.iteration, hashlib.sha256(
        b"".join(leaf.tobytes() for leaf in arrays(restored.state))
    ).hexdigest()


@pytest.mark.slow
@pytest.mark.parametrize("learner", TRAIN)
def test_a_run_with_a_log_that_is_killed_again_and_again(learner, tmp_path):
    alone = tmp_path / "alone"
    assert attempt(learner, alone)
    expected = fingerprint(alone)
    assert expected[0] == 60
    generator, kills, runs = random.Random(0), 0, 0
    while kills < KILLS[learner]:
        runs += 1
        folder, ended = tmp_path / str(runs), False
        while not ended:
            saves = generator.randrange(9)
            ended = attempt(learner, folder, saves, generator.uniform(0.0, 0.1 if saves else 8.0))
            kills += not ended
        assert fingerprint(folder) == expected
        assert records(folder) == records(alone)
        rows = folder / "checkpoints" / "rows"
        named = "".join(path.read_text() for path in rows.parent.glob("*/manifest.json"))
        assert all(path.name in named for path in rows.iterdir())
    print(f"{kills} kills in {runs} runs")
