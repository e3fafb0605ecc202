"""The command line on what an outsider adds: files to learn from, runs that are stopped,
programs that are shared."""

import numpy as np
import pytest

from jaxrl import cli
from jaxrl.cli import options
from tests.cli.conftest import ask, nothing_compiles, run, shared  # noqa: F401
from tests.train.test_loop import Stopping

OUTSIDE = "tests.extension.outside"
LEVERS = ["--env", f"{OUTSIDE}.levers:Levers"]
LENGTH = 5
CLONING = f"{OUTSIDE}.cloning:cloning"
CLONE = ["train", CLONING, *LEVERS, "--env-options", "shown=True", "--num-evaluations", "2"]
CLONE += ["--evaluation-episodes", "8", "--modes", "target=5", "target=0", "--quiet"]
PPO = [
    "train",
    "ppo",
    *LEVERS,
    "--num-envs",
    "4",
    "--num-steps",
    "10",
    "--minibatch-size",
    "20",
    "--num-epochs",
    "1",
]
PPO += ["--hidden-sizes", "4", "--num-evaluations", "1", "--evaluation-episodes", "8", "--quiet"]
PPO += ["--modes", "deterministic"]
FAILURES = ["--starts", f"{OUTSIDE}.failures:FailuresConfig"]


def recorded() -> dict[str, np.ndarray]:
    """Episodes that pull the good lever every time, and ones that never do."""
    good, matched, step = np.meshgrid([0, 1], [0, 1], np.arange(LENGTH), indexing="ij")
    observation = np.stack([step / LENGTH, good], axis=-1).reshape(-1, 2)
    action = np.where(matched == 1, good, 1 - good)
    return {
        "observation": observation.astype(np.float32),
        "action": action.ravel(),
        "earned": (LENGTH * matched).ravel().astype(np.float32),
    }


@pytest.fixture
def dataset(tmp_path):
    """A file that `cloning` learns from."""
    np.savez(tmp_path / "recorded.npz", **recorded())
    return tmp_path / "recorded.npz"


@pytest.fixture
def bank(tmp_path):
    """Starts with each lever the good one, and one after which nothing pays."""
    np.savez(tmp_path / "bank.npz", good=np.arange(3))
    return tmp_path / "bank.npz"


@pytest.fixture
def stopped(monkeypatch):
    """Run a command to which a signal comes at an iteration: its exit status."""

    def command(iteration, *words):
        with monkeypatch.context() as patch:
            patch.setattr(options, "console_of", lambda **_: Stopping(iteration))
            return cli.main([str(word) for word in words])

    return command
