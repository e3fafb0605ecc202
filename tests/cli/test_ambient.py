"""All commands in strange surroundings: they work, or say in words why not, and never a traceback.

Each state of the surroundings is a process of its own, which tries many commands; they run two at a
time while the tests wait for theirs.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import pytest

from jaxrl import cli
from tests.train.tiny import ARGUMENTS

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = 2
TRAIN = ["train", "ppo", *ARGUMENTS, "--quiet", "--overwrite", "--folder"]
# As root, permissions bind only who has given up to override them.
UNPRIVILEGED = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
IS_ROOT = os.name == "posix" and os.geteuid() == 0
SHADOWS = ("jax", "flax", "random", "gymnax")
SOME = ("envs", "train", "resume", "eval", "plot")


def commands(run: Path, names: tuple[str, ...] = ()) -> dict[str, list[str]]:
    """Every command, or some, on a finished run or into a new one."""
    found = {
        "envs": ["envs", "cart"],
        "help": ["train", "ppo", "--help"],
        "train": [*TRAIN, "new"],
        "resume": ["resume", str(run), "--quiet"],
        "eval": ["eval", str(run), "--episodes", "2", "--quiet"],
        "plot": ["plot", str(run), "--output", "curve.png"],
        "render": ["render", str(run), "--output", "film.gif"],
        "collect": ["collect", str(run), "--episodes", "2", "--output", "e.npz", "--overwrite"],
    }
    return {name: words for name, words in found.items() if name in (names or found)}


class State:
    """Commands in a folder of their own, with an environment of their own."""

    def __init__(self, folder: Path, tasks: list[dict], prefix=(), **variables: str | None):
        self.folder, self.tasks, self.prefix = folder, tasks, list(prefix)
        folder.mkdir(exist_ok=True)
        settings = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
        self.environment = {name: value for name, value in settings.items() if value is not None}

    def __call__(self) -> list[tuple[int, str]]:
        done = subprocess.run(
            [*self.prefix, sys.executable, "-m", "tests.cli.ambient", json.dumps(self.tasks)],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


def of_words(found: dict[str, list[str]]) -> list[dict]:
    return [{"words": words} for words in found.values()]


def denied(run: Path) -> list[dict]:
    """Commands while a part of a run may not be read, or not be written."""
    others = commands(run) | {"train": [*TRAIN, str(run)]}
    tasks = []
    for path, mode, names in [
        (run, 0o000, ("eval", "plot", "resume", "train", "collect")),
        (run, 0o555, ("eval", "plot", "resume")),
        (run / "checkpoints", 0o000, ("eval", "plot", "resume")),
        (run / "checkpoints" / "000000024" / "manifest.json", 0o000, ("resume",)),
        (run / "evaluations.npz", 0o000, ("eval", "plot", "resume")),
        (run / "plots", 0o555, ("eval",)),
    ]:
        tasks += [{"words": others[name], "denied": str(path), "mode": mode} for name in names]
    into = {"denied": str(run / "plots"), "mode": 0o555}
    tasks.append({"words": ["plot", str(run)], **into})
    tasks.append({"words": ["plot", str(run)]})
    return tasks


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """What each state's commands have ended in: a function of the state's name."""
    place = tmp_path_factory.mktemp("ambient")
    run = place / "run"
    assert cli.main([*TRAIN, str(run)]) == 0

    def copy(name: str) -> Path:
        shutil.copytree(run, place / f"{name}-run")
        return place / f"{name}-run"

    def state(name: str, tasks=None, **options) -> State:
        return State(place / name, tasks or of_words(commands(copy(name), SOME)), **options)

    states = {
        "notebook": state(
            "notebook",
            of_words(commands(copy("n")) | {"wandb": [*TRAIN, "watched", "--sinks", "wandb"]}),
            MPLBACKEND="module://no_such_package.backend_inline",
            HOME=None,
            XDG_CACHE_HOME="",
        ),
        "x64": state("x64", JAX_ENABLE_X64="1"),
        "left": state("left"),
        "nojit": state("nojit", of_words({"train": [*TRAIN, "new"]}), JAX_DISABLE_JIT="1"),
        "platform": state(
            "platform", of_words({"train": [*TRAIN, "new"]}), JAX_PLATFORMS="nonsense"
        ),
        "value": state("value", of_words({"envs": ["envs"]}), JAX_ENABLE_X64="maybe"),
    }
    states["left"].tasks[0]["leave"] = True
    for name in ("wandb", "brax", "gymnax", "tensorboardX", "jaxlib"):
        (place / "notebook" / name).mkdir()
    for name in SHADOWS:
        folder = place / f"shadow-{name}"
        folder.mkdir()
        (folder / f"{name}.py").write_text("raise RuntimeError('not what was meant')\n")
        path = os.pathsep.join([str(folder), str(ROOT)])
        words = of_words({"train": ["train", "ppo", "--env", "CartPole-v1", "--total-steps", "1"]})
        states[folder.name] = state(folder.name, words, PYTHONPATH=path)
    if not IS_ROOT or shutil.which("setpriv"):
        prefix = UNPRIVILEGED if IS_ROOT else []
        states["denied"] = state("denied", denied(copy("d")), prefix=prefix)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        begun = {name: pool.submit(each) for name, each in states.items()}

        def ended(name: str) -> list[tuple[int, str]]:
            if name not in begun:
                pytest.skip("permissions do not bind root here")
            found = begun[name].result()
            for (status, errors), task in zip(found, states[name].tasks, strict=True):
                said = f"{task}: {status}\n{errors}"
                assert status in (0, 2) and "Traceback" not in errors, said
                assert status == 0 or "error: " in errors or "╭" in errors, said
            return found

        ended.place = place
        yield ended


def by_command(found, names=()) -> dict[str, tuple[int, str]]:
    return dict(zip(commands(Path(), names), found, strict=False))


def test_a_notebooks_settings_folders_of_packages_names_and_no_home(results):
    found = results("notebook")
    statuses = {name: status for name, (status, _) in by_command(found).items()}
    assert statuses == dict.fromkeys(statuses, 0) | {"render": 2}  # a probe has no picture
    assert "jaxrl cannot draw" in by_command(found)["render"][1]
    if importlib.util.find_spec("wandb") is None:
        status, errors = found[-1]
        assert status == 2 and f"{sys.executable} -m pip install 'jaxrl[track]'" in errors
        assert not (results.place / "notebook" / "watched").exists()
    assert (results.place / "notebook" / "new" / "plots" / "learning_curve.png").exists()
    # No cache went into the folder one works in.
    assert not {"~", "jaxrl"} & set(os.listdir(results.place / "notebook"))


def test_numbers_of_64_bits(results):
    found = by_command(results("x64"), SOME)
    assert found["envs"][0] == found["plot"][0] == 0
    assert found["resume"][0] == 2 and "jax_enable_x64: (absent)" in found["resume"][1]
    assert "JAX_ENABLE_X64=True" in found["train"][1]  # a probe computes in float32
    assert "jax_enable_x64 was False, and is True now" in found["eval"][1]
    assert not (results.place / "x64" / "new" / "config.json").exists()


def test_a_working_folder_that_was_removed(results):
    found = by_command(results("left"), SOME)
    works = {name for name, (status, _) in found.items() if status == 0}
    assert works == {"envs", "resume", "eval"}  # the others write there
    assert "No such file or directory" in found["train"][1] + found["plot"][1]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nojit", "JAX_DISABLE_JIT"),
        ("platform", "JAX_PLATFORMS is 'nonsense', but JAX finds no such device here"),
        ("value", "the environment variable JAX_ENABLE_X64 is 'maybe': unset it, or give it"),
    ],
)
def test_what_jax_cannot_do_is_told_in_words(results, name, says):
    ((status, errors),) = results(name)
    assert status == 2 and says in errors
    assert not list((results.place / name).rglob("config.json"))


@pytest.mark.parametrize("name", SHADOWS)
def test_a_file_in_the_way_of_a_package_is_named(results, name):
    ((status, errors),) = results(f"shadow-{name}")
    path = results.place / f"shadow-{name}" / f"{name}.py"
    assert status == 2 and f"{path} is imported in place of {name}" in errors


def test_parts_of_a_run_that_may_not_be_read_or_written(results):
    found = results("denied")
    statuses = [status for status, _ in found]
    #           nothing read     read only   checkpoints  manifest  evaluations  plots
    assert statuses == [2] * 5 + [0, 0, 2] + [2, 2, 2] + [2] + [0, 2, 2] + [0] + [2, 0]
    refused = [errors for status, errors in found if status == 2]
    assert [errors for errors in refused if "ou may not" not in errors] == []
    assert "--output PATH" in found[-2][1]


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
@pytest.mark.parametrize(
    ("command", "statuses"),
    [
        ("{jaxrl} --help >&-", (2,)),
        ("{jaxrl} envs cart 2>&-", (0,)),
        ("{jaxrl} envs | head -1", (0, 141)),  # head may leave before all is written, or after
    ],
)
def test_outputs_that_are_closed(command, statuses, tmp_path):
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command.format(jaxrl=f"{sys.executable} -m jaxrl.cli")],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in statuses and "Traceback" not in done.stderr, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("output", [">&-", "2>&-", ">/dev/full", "| head -1"])
def test_a_run_may_lose_its_voice_but_not_its_life(output, tmp_path):
    words = " ".join(word for word in [*TRAIN, "run"] if word != "--quiet")
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{sys.executable} -m jaxrl.cli {words} {output}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    assert (tmp_path / "run" / "checkpoints" / "000000024" / "manifest.json").exists()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(tmp_path):
    state = State(tmp_path, of_words({"train": [*TRAIN, "new"]}), JAX_PLATFORMS="cuda")
    ((status, errors),) = state()
    assert status == 2 and "JAX_PLATFORMS is 'cuda'" in errors and "extra cuda12" in errors
