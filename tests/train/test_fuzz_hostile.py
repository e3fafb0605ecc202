"""Run folders of a stranger: nothing that they name is imported or run,
and nothing outside of them is touched."""

import json
import os
import pickle
import shutil
import sys
import sysconfig
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import cli
from jaxrl.config import flatten
from jaxrl.train import loop
from jaxrl.train.experiment import default_config
from jaxrl.train.population import Population
from tests.train.test_fuzz_damaged import shared  # noqa: F401  (used by every test)
from tests.train.test_loop import STOP, Stopping
from tests.train.tiny import experiment

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {
    "resume": ["resume"],
    "eval": ["eval", "--episodes", "4"],
    "last": ["eval", "--episodes", "4", "--checkpoint", "last"],
    "render": ["render"],
    "plot": ["plot"],
}
RUNS_CODE = ("resume", "eval", "last", "render")
# Names of what is there, of what is not, and of modules that lie in the working folder and in the
# run folder.
NAMES = [
    "os:system",
    "subprocess:run",
    "builtins:exec",
    "antigravity:fly",
    "evil:Evil",
    "evil.evil:Evil",
    "random:Evil",
    "runs.evil:Evil",
    "jaxrl.train.loop:train",
    "jaxrl.envs.suites.probe:TwoLengths",
    ":x",
    "x:",
    "a b:c",
    "../evil:Evil",
]
EVIL = "import pathlib\npathlib.Path(__file__).with_suffix('.ran').write_text('ran')\n"
GOOD = (
    "from jaxrl.envs.suites.probe import TwoLengths\n\nclass Mine(TwoLengths):\n    '''My own.'''\n"
)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A run of somebody's."""
    return loop.train(experiment(), tmp_path_factory.mktemp("begun"), console=Stopping(STOP)).folder


@pytest.fixture
def folder(begun, tmp_path, monkeypatch):
    """A stranger's run folder in a working folder that is as bad:
    modules that would be found before anything else."""
    folder = shutil.copytree(begun, tmp_path / "runs" / "run")
    for place in (tmp_path, folder, tmp_path / "runs"):
        for name in ("evil", "random", "gymnax", "wandb", "sitecustomize", "mujoco"):
            (place / f"{name}.py").write_text(EVIL)
    monkeypatch.chdir(tmp_path)
    return folder


def outside(module) -> str | None:
    """Where a module lies, if that is outside of the installation,
    the standard library and this repository."""
    file = getattr(module, "__file__", None)
    known = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    known |= {str(ROOT), sys.prefix, sys.base_prefix}
    return file if file and not any(str(file).startswith(place) for place in known) else None


executed: list[str] = []


def watch(event, arguments):
    """An audit hook: what is run as a program,
    or opened to be run as a module of a temporary folder."""
    if event in ("os.system", "subprocess.Popen", "os.exec", "os.posix_spawn"):
        executed.append(f"{event} {arguments}")


sys.addaudithook(watch)


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path):
    """After each test: no module was loaded from elsewhere, no program was run,
    no module of ours has run."""
    before, path = set(sys.modules), list(sys.path)
    executed.clear()
    yield
    found = [outside(sys.modules[name]) for name in set(sys.modules) - before]
    allowed = {str(file) for file in tmp_path.glob("mine*.py")}
    sys.path[:] = path
    assert not [file for file in found if file and file not in allowed]
    assert not executed
    assert not list(tmp_path.rglob("*.ran"))


def call(capsys, words, *more):
    status = cli.main([str(word) for word in [words[0], *more, *words[1:]]])
    errors = capsys.readouterr().err
    assert "Traceback" not in errors and not any(
        ord(letter) < 32 and letter != "\n" for letter in errors
    ), errors
    return status, errors


def edit(folder, **changes):
    description = json.loads((folder / "config.json").read_text())
    for name, value in changes.items():
        group, _, inner = name.partition("__")
        if inner:
            description[group][inner] = value
        else:
            description[group] = value
    (folder / "config.json").write_text(json.dumps(description))


def forbid_compiling(monkeypatch):
    def compile_something(*_, **__):
        raise AssertionError("a stranger's folder reached the compiler")

    monkeypatch.setattr(Population, "call", compile_something)


@pytest.mark.parametrize("kind", ["environment", "algorithm"])
def test_no_name_of_a_stranger_is_imported(folder, capsys, monkeypatch, kind):
    forbid_compiling(monkeypatch)
    for name in NAMES:
        edit(folder, **{kind: name, "environment_options": {"command": "touch pwned.ran"}})
        before = sorted(folder.rglob("*"))
        for command in RUNS_CODE:
            status, errors = call(capsys, COMMANDS[command], folder)
            assert status == 2 and kind in errors and name in errors, errors
        if name != NAMES[0]:
            continue
        assert (
            call(capsys, COMMANDS["plot"], folder, "--output", folder.parent / "curve.png")[0] == 0
        )
        assert [path for path in sorted(folder.rglob("*")) if path.name != ".lock"] == [
            path for path in before if path.name != ".lock"
        ]


def test_a_baseline_that_names_code_is_refused_too(folder, begun, capsys, monkeypatch):
    forbid_compiling(monkeypatch)
    edit(folder, algorithm="evil:Evil")
    words = [
        "train",
        "deep_stepmix",
        "--env",
        "probe/two-lengths",
        "--return-low",
        "-9",
        "--return-high",
        "9",
    ]
    words += [
        "--num-envs",
        "4",
        "--minibatch-size",
        "16",
        "--hidden-sizes",
        "4",
        "--folder",
        folder.parent / "deep",
    ]
    status, errors = call(capsys, [*words, "--baseline", folder])
    assert status == 2 and "evil:Evil" in errors and "--imports evil:Evil" in errors
    assert not (folder.parent / "deep").exists()


@pytest.mark.parametrize(
    "field", ["config__torso", "config__activation", "config__starts", "run__mesh", "layout"]
)
@pytest.mark.parametrize(
    "value",
    ["os:system", "evil:Evil", "__import__('evil')", "${evil}", "../../evil.py", "\x1b[2Jx"],
)
def test_code_in_other_fields_is_data(folder, capsys, monkeypatch, field, value):
    forbid_compiling(monkeypatch)
    edit(folder, **{field: [value] if field == "run__mesh" else value})
    # How devices shared the run is nothing to an evaluation.
    for command in ("resume",) if field == "run__mesh" else ("eval", "resume"):
        status, errors = call(capsys, COMMANDS[command], folder)
        assert status == 2 and field.rpartition("__")[2] in errors, errors


@pytest.mark.parametrize(
    "option", [["--trust"], ["--imports", "mine:Mine"], ["--imports=mine:Mine"]]
)
def test_a_name_that_the_user_repeats_is_used(folder, tmp_path, capsys, option):
    (tmp_path / "mine.py").write_text(GOOD)
    sys.modules.pop("mine", None)
    edit(folder, environment="mine:Mine")
    status, errors = call(capsys, [*COMMANDS["eval"], *option], folder)
    assert status == 0, errors
    assert "changed by hand" in errors  # as it was
    assert call(capsys, [*COMMANDS["eval"], "--imports", "yours:Mine"], folder)[0] == 2
    sys.modules.pop("mine", None)


class Exploit:
    def __reduce__(self):
        return os.system, ("touch pickled.ran",)


def test_pickles_are_not_read(folder, tmp_path, capsys):
    rows = np.array([Exploit()], object)
    np.savez(folder / "evaluations.npz", iteration=rows, transitions=rows)
    for command in ("plot", "resume"):
        status, errors = call(capsys, COMMANDS[command], folder)
        assert "evaluations.npz is damaged" in errors and status == (
            2 if command == "plot" else 0
        ), errors
    np.savez(tmp_path / "episodes.npz", states=rows, actions=rows)
    data = [
        "--env",
        "tabular/paper",
        "--dataset",
        tmp_path / "episodes.npz",
        "--folder",
        tmp_path / "new",
    ]
    status, errors = call(capsys, ["train", "stepmix", *data])
    assert status == 2 and "dataset is" in errors and not (tmp_path / "new").exists()
    (folder / "config.json").write_bytes(pickle.dumps(Exploit()))
    assert "not valid JSON" in call(capsys, COMMANDS["eval"], folder)[1]


LINKED = [
    "metrics.jsonl",
    "evaluations.npz",
    "config.json",
    ".lock",
    "checkpoints",
    "plots",
    "tensorboard",
    "profile",
]
LINKED += [
    "checkpoints/rows",
    "checkpoints/.tmp-000000099",
    "checkpoints/000000099",
    "checkpoints/best-000000099",
    "plots/episode.gif",
]


@pytest.mark.parametrize("name", LINKED)
def test_what_links_lead_to_is_left_alone(folder, begun, tmp_path, capsys, name):
    """Whether a command serves the folder or refuses it:
    what lies elsewhere keeps its names and bytes."""
    victim = tmp_path / "victim"
    if (begun / name).is_dir():
        shutil.copytree(begun / name, victim)
    elif (begun / name).exists():
        shutil.copy(begun / name, victim)
    elif "0000" in name or name in ("tensorboard", "profile"):
        shutil.copytree(begun / "checkpoints" / f"{STOP:09d}", victim)
        (victim / "events.out.tfevents.1").write_text("mine")
    else:
        victim.write_text("mine")
    path = folder / name
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(victim)
    before = snapshot(victim)
    for command in ("resume", "eval", "plot"):
        assert call(capsys, COMMANDS[command], folder)[0] in (0, 2)
        assert snapshot(victim) == before, command
    again = [
        "train",
        "ppo",
        "--env",
        "probe/two-lengths",
        "--overwrite",
        "--folder",
        folder,
        "--total-steps",
        "1",
    ]
    call(capsys, again)  # the budget is refused last of all, or first: either way nothing is lost
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Runner, "run", lambda *_, **__: None)
        try:
            loop.train(experiment(), folder, overwrite=True)
        except ValueError as error:
            assert "symbolic link" in str(error)
    assert snapshot(victim) == before


def snapshot(path):
    files = [path] if path.is_file() else sorted(path.rglob("*"))
    return [(str(file), file.read_bytes()) for file in files if file.is_file()]


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "evaluations.npz"])
@pytest.mark.parametrize("device", ["pipe", "/dev/zero", "/dev/stdin"])
def test_what_never_ends_is_not_read(folder, capsys, name, device):
    (folder / name).unlink()
    if device == "pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to(device)
    for command in ("plot", "resume"):
        status, errors = call(capsys, COMMANDS[command], folder)
        assert status == 2 and name in errors or "symbolic link" in errors or name in errors, errors


@pytest.mark.parametrize("name", ["manifest.json", "arrays/_METADATA", "arrays/more"])
@pytest.mark.parametrize("device", ["pipe", "/dev/zero"])
def test_nor_is_it_in_a_checkpoint(folder, capsys, name, device):
    for checkpoint in (folder / "checkpoints").glob("*0*"):
        (checkpoint / name).unlink(missing_ok=True)
        os.mkfifo(checkpoint / name) if device == "pipe" else (checkpoint / name).symlink_to(device)
    for command in ("eval", "last", "resume"):
        status, errors = call(capsys, COMMANDS[command], folder)
        assert status == 2 and "is damaged" in errors, errors


def test_a_file_for_checkpoints_is_refused_before_anything_is_changed(folder, capsys):
    shutil.rmtree(folder / "checkpoints")
    os.mkfifo(folder / "checkpoints")
    before = snapshot(folder)
    assert "checkpoints is no folder" in call(capsys, COMMANDS["resume"], folder)[1]
    with pytest.raises(ValueError, match="checkpoints is no folder"):
        loop.train(experiment(), folder, overwrite=True)
    assert snapshot(folder) == before


@pytest.mark.parametrize("name", ["profile/plugins", "profile/plugins/profile", "wandb"])
def test_a_link_further_in_is_refused(folder, tmp_path, name):
    (tmp_path / "victim" / "profile" / "mine").mkdir(parents=True)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).symlink_to(tmp_path / "victim")
    for command in (loop.resume, lambda folder: loop.train(experiment(), folder, overwrite=True)):
        with pytest.raises(ValueError, match=f"{name} is a symbolic link"):
            command(folder)
    assert (tmp_path / "victim" / "profile" / "mine").is_dir()


@pytest.mark.parametrize(
    "baseline", ["itself", 5, ["x"], "x" * 300, "a\0b", "\x1b[2J", "/dev/zero"]
)
def test_no_baseline_leads_astray(folder, capsys, monkeypatch, baseline):
    forbid_compiling(monkeypatch)
    config = flatten(default_config("deep_stepmix", "probe/two-lengths")[0])
    path = str(folder / ".." / folder.name) if baseline == "itself" else baseline
    edit(folder, algorithm="deep_stepmix", config=config | {"baseline": path})
    status, errors = call(capsys, COMMANDS["eval"], folder)
    assert status == 2 and "leads back to" not in errors, (
        errors
    )  # a baseline is not read to evaluate what was learnt
    # Without --force, that the edit was made by hand is enough.
    status, errors = call(capsys, ["resume", "--force"], folder)
    names = {"itself": "leads back to", "x" * 300: "File name too long"}
    says = names.get(baseline, "config.json") if isinstance(baseline, str) else "config.json"
    assert status == 2 and says in errors, errors


def test_what_is_to_be_typed_is_no_command_of_a_stranger(folder, capsys):
    edit(folder, environment="x:y; touch typed.ran\nerror: all is well")
    errors = call(capsys, COMMANDS["eval"], folder)[1]
    assert "--imports" not in errors and "--trust" in errors and errors.count("\n") == 1


def test_wandb_is_told_no_more_than_which_run_it_is(folder, monkeypatch):
    from jaxrl.train.output.sinks import WandbSink

    given: list[dict] = []

    class Run:
        def define_metric(self, *_, **__):
            pass

    stand_in = type(sys)("wandb")
    stand_in.init = lambda **options: (given.append(options), Run())[1]
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    for text in (
        '{"project": "p", "id": "i", "settings": {"x": 1}, "dir": "/"}',
        "[1]",
        '{"project": 1, "id": []}',
        "{",
    ):
        (folder / "wandb.json").write_text(text)
        try:
            WandbSink(folder)
        except ValueError as error:
            assert "wandb.json" in str(error)
        else:
            assert set(given[-1]) <= {"project", "id", "entity", "name", "config", "dir", "resume"}
            assert given[-1]["dir"] == str(folder)
    assert jnp.ones(1).sum() == 1  # the process is as it was
