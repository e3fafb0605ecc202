"""What an outsider may get wrong: one message that names it,
before anything is compiled or written."""

import shutil

import numpy as np
import pytest

from tests.extension.conftest import CLONE, CLONING, FAILURES, LEVERS, OUTSIDE, PPO, recorded
from tests.train.tiny import PROBE

ALLOW = ["--imports", CLONING, "--imports", LEVERS[1]]

# What is in the file instead of the records, and what the message names.
DATASETS = {
    "of another shape": (
        {"observation": np.zeros((20, 3), np.float32)},
        ["observations of shape (3,), but the environment's are (2,)"],
    ),
    "of another type": (
        {"action": np.zeros(20)},
        ["actions are float64, but must be whole numbers"],
    ),
    "of another environment": (
        {"action": np.full(20, 4)},
        ["the action 4, but the environment's are Discrete(2)"],
    ),
    "without an array": (
        {"earned": None},
        ["reading it failed: KeyError", "earned is not a file in the archive"],
    ),
    "no archive": (b"text", ["reading it failed: "]),
    "missing": (None, ["there is no such file"]),
    "a folder": ({}, ["it cannot be read: Is a directory"]),
    "of unequal lengths": (
        {"earned": np.zeros(7, np.float32)},
        ["it has 20 observations, 20 actions and 7 returns"],
    ),
    "not finite": ({"earned": np.full(20, np.nan, np.float32)}, ["its earned are not finite"]),
}


def write(path, change):
    """The records with a change; a file of some bytes; a folder, for no change; or none."""
    if change == {}:
        path.mkdir()
    elif isinstance(change, bytes):
        path.write_bytes(change)
    elif change is not None:
        arrays = recorded() | change
        np.savez(path, **{name: values for name, values in arrays.items() if values is not None})
    return path


@pytest.mark.usefixtures("nothing_compiles")
@pytest.mark.parametrize(("change", "named"), DATASETS.values(), ids=list(DATASETS))
def test_an_input_that_does_not_fit(ask, tmp_path, change, named):
    path = write(tmp_path / "data.npz", change)
    status, output, errors = ask(*CLONE, "--dataset", path, "--folder", tmp_path / "run")
    assert (status, output) == (2, "") and not (tmp_path / "run").exists()
    assert [word for word in [f"dataset is {path}: ", *named] if word not in errors] == [], errors


# The words after `jaxrl`, with DATA and BANK for the files, and what the message names.
REQUESTS = {
    "an algorithm without its input": ([*CLONE], ["cloning needs dataset", "--dataset PATH"]),
    "starts without their input": ([*PPO, *FAILURES], ["FailuresConfig needs bank", "--bank PATH"]),
    "starts of another environment": (
        [*PPO, *FAILURES, "--bank", "BANK", "--env", PROBE],
        ["bank is BANK: it is a bank for Levers, but the environment is TwoLengths"],
    ),
    "an input of starts that are not chosen": (
        [*PPO, "--bank", "BANK"],
        ["bank is an option of starts=snapshots, but starts is fresh."],
    ),
    "a mode that the agent has not": (
        [*CLONE, "--dataset", "DATA", "--modes", "tarket=3"],
        [f"unknown mode of {CLONING} 'tarket'. Did you mean target"],
    ),
    "a number for a mode that none steers": (
        [*CLONE, "--dataset", "DATA", "--modes", "deterministic=3"],
        ["the mode deterministic of", "takes no number"],
    ),
    "two options of one name": (
        ["train", f"{OUTSIDE}.twice:twice", *LEVERS],
        [
            "TwiceConfig.actor.width and TwiceConfig.critic.width are both called width",
            'prefix="critic_"',
        ],
    ),
    "a policy that holds a log": (
        ["train", f"{OUTSIDE}.hoarding:hoarding", *LEVERS],
        ["the policy holds a log (log.rows)", "belongs into the training state alone"],
    ),
    "a log that is not declared": (
        ["train", f"{OUTSIDE}.hoarding:splitting", *LEVERS],
        ["`sharded` is no prefix of its state", "of logs too (log.rows)"],
    ),
    "a log of keys": (["train", f"{OUTSIDE}.hoarding:locking", *LEVERS], ["log.rows holds keys"]),
    "an option of starts that the algorithm has too": (
        [*PPO, "--starts", f"{OUTSIDE}.failures:ClashingConfig", "--bank", "BANK"],
        ["PPOConfig.gamma and PPOConfig.starts.gamma are both called gamma"],
    ),
    "a policy that is not the agent's": (
        ["train", f"{OUTSIDE}.hoarding:withholding", *LEVERS],
        [
            "not what its agent's init makes: policy['weight'] float32[] where that has "
            "policy['weight'] float32[2]"
        ],
    ),
    "an input without an agent beside the algorithm": (
        ["train", f"{OUTSIDE}.hoarding:deserting", *LEVERS, "--dataset", "DATA"],
        [
            "deserting needs deserting_agent(env: Environment, config: CloningConfig) -> Agent "
            "beside it",
            "'dataset'",
        ],
    ),
    "an agent that needs an input": (
        ["train", f"{OUTSIDE}.hoarding:clinging", *LEVERS, "--dataset", "DATA"],
        [
            "clinging needs clinging_agent(env: Environment, config: CloningConfig) -> Agent "
            "beside it",
            "'dataset'",
        ],
    ),
    "an input of starts without an agent beside the algorithm": (
        ["train", f"{OUTSIDE}.hoarding:leaning", *LEVERS, *FAILURES, "--bank", "BANK"],
        [
            "leaning needs leaning_agent(env: Environment, config: LeaningConfig) -> Agent",
            "this run reads bank",
        ],
    ),
    "a sweep over a size of a network": (
        ["sweep", *CLONE[1:], "--dataset", "DATA", "--over", "actor_width=4,0"],
        ["actor_width=0: actor_width is 0", "at least 1"],
    ),
}


@pytest.mark.usefixtures("nothing_compiles")
@pytest.mark.parametrize(("words", "named"), REQUESTS.values(), ids=list(REQUESTS))
def test_a_request_that_cannot_be_served(ask, dataset, bank, tmp_path, words, named):
    paths = {"DATA": str(dataset), "BANK": str(bank)}
    status, output, errors = ask(
        *(paths.get(word, word) for word in words), "--folder", tmp_path / "run"
    )
    assert (status, output) == (2, "") and not (tmp_path / "run").exists()
    expected = [text.replace("BANK", str(bank)) for text in named]
    assert [text for text in expected if text not in errors] == [], errors


@pytest.fixture
def begun(stopped, dataset, tmp_path):
    """A run that was stopped, and its input."""
    folder = tmp_path / "run"
    assert stopped(7, *CLONE, "--dataset", dataset, "--folder", folder) == 128 + 15
    return folder


def test_an_input_that_has_changed_since_the_run_began(begun, ask, dataset, nothing_compiles):
    before = {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}
    kept = shutil.copy(dataset, dataset.with_name("kept.npz"))
    write(dataset, {"earned": np.ones(20, np.float32)})
    for more in ([], ["--force"], ["--set", f"dataset={dataset}", "--force"]):
        status, _, errors = ask("resume", begun, *ALLOW, *more)
        assert status == 2 and f"dataset is not what the run in {begun} was begun with" in errors
    dataset.unlink()
    status, _, errors = ask("resume", begun, *ALLOW)
    assert status == 2 and f"dataset is {dataset}: there is no such file" in errors
    assert f"If it has moved, say where to: jaxrl resume {begun} --set dataset=PATH" in errors
    moved = ["--set", f"dataset={kept}", "actor_width=4"]
    status, _, errors = ask("resume", begun, *ALLOW, *moved)
    assert status == 2 and "config.actor_width: 8 -> 4" in errors and "config.dataset" not in errors
    assert before == {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}


def test_a_mode_that_the_agent_of_a_run_has_not(begun, ask, nothing_compiles):
    for command in ("eval", "render"):
        status, _, errors = ask(command, begun, *ALLOW, "--mode", "stochastic")
        assert (
            status == 2
            and f"unknown mode of {CLONING} 'stochastic'. Choose one of: deterministic, target"
            in errors
        )
    status, _, errors = ask("eval", begun)
    assert (
        status == 2 and "names its environment as" in errors and f"--imports {LEVERS[1]}" in errors
    )


@pytest.mark.usefixtures("nothing_compiles")
def test_a_relative_path_says_from_where(ask, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, errors = ask(*CLONE, "--dataset", "data.npz", "--folder", "run")
    assert status == 2 and f"dataset is data.npz: there is no such file in {tmp_path}." in errors
    assert not list(tmp_path.iterdir())
