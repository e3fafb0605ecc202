"""Nothing in a run folder is changed before its lock is held,
and nothing is written or removed through a link."""

import os
import shutil

import pytest

from jaxrl.errors import JaxrlError
from jaxrl.train import loop
from jaxrl.train.files import lock
from jaxrl.train.files.folder import create, read_description
from tests.train.test_loop import STOP, Stopping
from tests.train.tiny import experiment, shared_compilations


@pytest.fixture(scope="module", autouse=True)
def shared():
    with shared_compilations():
        yield


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run that was stopped between two evaluations."""
    folder = tmp_path_factory.mktemp("begun") / "run"
    loop.train(experiment(), folder, console=Stopping(STOP))
    return folder


@pytest.fixture
def folder(begun, tmp_path):
    """A copy of it."""
    return shutil.copytree(begun, tmp_path / "run", symlinks=True)


def contents(folder):
    """Every file below a folder with its bytes and time of change; links as where they lead."""
    return {
        str(path.relative_to(folder)): os.readlink(path)
        if path.is_symlink()
        else (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


ON_A_LIVE_RUN = {
    "resume": loop.resume,
    "resume with changes": lambda folder: loop.resume(folder, changes={"gamma": 0.5}, force=True),
    "resume on other devices": lambda folder: loop.resume(
        folder, sharing={"devices": 2, "mesh": ()}
    ),
    "overwrite": lambda folder: loop.train(experiment(seed=3), folder, overwrite=True),
    "overwrite, with TensorBoard and a profile": lambda folder: loop.train(
        experiment(), folder, overwrite=True, sinks=("tensorboard",), profiled=True
    ),
}


@pytest.mark.parametrize("command", ON_A_LIVE_RUN.values(), ids=ON_A_LIVE_RUN)
def test_a_run_that_is_still_training_is_left_alone(folder, command):
    rows = folder / "metrics.jsonl"
    rows.write_bytes(
        rows.read_bytes() + b'{"iteration": 12, "transitions": 384, "loss": 1.0}\n'
    )  # after the checkpoint
    with lock.locked(folder):
        before = contents(folder)
        with pytest.raises(JaxrlError, match="is being trained by another process"):
            command(folder)
        assert contents(folder) == before


def test_a_refused_folder_gets_no_lock(tmp_path, begun):
    (tmp_path / "mine").mkdir()
    with pytest.raises(JaxrlError, match="is not a run folder"):
        loop.resume(tmp_path / "mine")
    assert not list((tmp_path / "mine").iterdir())
    (tmp_path / "mine" / "evaluations.npz").write_text("mine")
    with pytest.raises(JaxrlError, match="already holds a run"):
        loop.train(experiment(), tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["evaluations.npz"]


def test_a_link_for_a_lock_is_not_followed(folder, tmp_path):
    (tmp_path / "diary").write_text("dear diary")
    (folder / ".lock").unlink()
    (folder / ".lock").symlink_to(tmp_path / "diary")
    with pytest.raises(JaxrlError, match=r"cannot lock .*\.lock: it is a symbolic link"):
        loop.resume(folder)
    assert (tmp_path / "diary").read_text() == "dear diary"


@pytest.mark.parametrize("name", ["checkpoints", "plots", "tensorboard", "profile"])
def test_folders_that_lead_elsewhere_are_refused(folder, tmp_path, begun, name):
    elsewhere = shutil.copytree(begun, tmp_path / "elsewhere")
    (elsewhere / "tensorboard").mkdir()
    (elsewhere / "profile" / "plugins" / "profile").mkdir(parents=True)
    (elsewhere / "tensorboard" / "events.out.tfevents.1").write_text("mine")
    (elsewhere / "profile" / "plugins" / "profile" / "mine").write_text("mine")
    before = contents(elsewhere)
    if (folder / name).exists():
        shutil.rmtree(folder / name)
    (folder / name).symlink_to(elsewhere / name)
    for command in (ON_A_LIVE_RUN["resume"], ON_A_LIVE_RUN["overwrite"]):
        with pytest.raises(JaxrlError, match=f"{name} is a symbolic link"):
            command(folder)
    assert contents(elsewhere) == before


def test_metrics_are_not_appended_to_somebody_elses_file(folder, tmp_path):
    shutil.copy(folder / "metrics.jsonl", tmp_path / "backup")
    whole = (tmp_path / "backup").read_bytes()
    (folder / "metrics.jsonl").unlink()
    os.link(tmp_path / "backup", folder / "metrics.jsonl")  # as `cp -al` makes backups
    loop.resume(folder)
    assert (tmp_path / "backup").read_bytes() == whole


def test_only_what_carries_a_manifest_is_removed(tmp_path):
    folder = tmp_path / "run"
    loop.train(experiment(), folder, console=Stopping(STOP))
    mine = folder / "checkpoints" / "000000007"
    mine.mkdir()
    (mine / "weights").write_text("mine")
    create(folder, read_description(folder), overwrite=True)
    assert (folder / "checkpoints" / "damaged-1-000000007" / "weights").read_text() == "mine"
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == [
        "damaged-1-000000007"
    ]
