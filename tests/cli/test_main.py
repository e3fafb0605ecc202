"""What happens around a command: what is imported, from where, and in which environment."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from jaxrl import cli
from jaxrl.cli import envs

HIJACK = "raise SystemExit('a module of the working folder was imported')\n"


def python(*words, folder, **environment) -> subprocess.CompletedProcess:
    command = [sys.executable, *words]
    return subprocess.run(
        command,
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_interrupted_where_there_is_nothing_to_save(run, monkeypatch):
    def interrupt(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(envs, "environments", interrupt)
    assert run("envs", status=130) == ("", "interrupted\n")


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"]], ids=" ".join)
def test_the_first_help_waits_for_nothing(words, tmp_path):
    script = (
        f"import sys; from jaxrl import cli; cli.main({words}); print('jax' in sys.modules, "
        "'numpy' in sys.modules)"
    )
    assert python("-c", script, folder=tmp_path).stdout.endswith("False False\n")


def test_the_environment_is_prepared_before_jax_is_imported(monkeypatch, tmp_path):
    monkeypatch.setenv("XLA_FLAGS", "--xla_one")
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_NUM_CPU_DEVICES", "PJRT_NPROC"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cli.prepare_process()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "jaxrl" / "xla")
    assert int(os.environ["JAX_NUM_CPU_DEVICES"]) >= 1 and os.environ["PJRT_NPROC"] == "1"
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cli.prepare_process()
    assert (
        "JAX_COMPILATION_CACHE_DIR" not in os.environ
    )  # nowhere to keep it: compile every time, in silence
    assert os.environ["XLA_FLAGS"] == "--xla_one"


DETERMINISTIC = """
import sys
import types
from jaxrl import cli
cli.prepare_process()
from jax._src import xla_bridge
from jaxrl.cli import options, train
ask = options.ask_for_determinism

def checked():
    assert not xla_bridge.backends_are_initialized()
    print("in time")
    ask()

options.ask_for_determinism = checked
train.loop.train = lambda *_, **__: print("begun")
train.loop.resume = lambda *_, **__: types.SimpleNamespace(experiment=None)
train.report.finish = lambda *_: 0
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    "words",
    [
        ["train", "ppo", "--env=probe/two-step", "--deterministic", "--folder=x"],
        ["train", "mine:algorithm", "--env=probe/two-step", "--deterministic", "--folder=x"],
        ["resume", "x", "--deterministic"],
    ],
    ids=["train", "an algorithm that computes when it is imported", "resume"],
)
def test_determinism_is_asked_for_before_anything_is_computed(words, tmp_path):
    """XLA reads its flags when the first array is made."""
    text = (
        "import jax.numpy as jnp\n"
        "from jaxrl.algos.ppo import ppo as algorithm\n"
        "ZERO = jnp.zeros(())\n"
    )
    (tmp_path / "mine.py").write_text(text)
    flags = {"XLA_FLAGS": "--xla_cpu_enable_fast_math=false"}
    shown = "XLA_FLAGS=--xla_cpu_enable_fast_math=false --xla_gpu_deterministic_ops=true\n"
    done = python("-c", DETERMINISTIC, *words, folder=tmp_path, **flags)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("in time\n" + shown)
    done = python("-c", DETERMINISTIC, *words, "--quiet", folder=tmp_path, **flags)
    assert done.stdout.startswith("in time\n") and "XLA_FLAGS" not in done.stdout


@pytest.fixture
def strange_folder(tmp_path):
    """A working folder whose modules have the names of others', and an environment of its own."""
    for name in ("random", "gymnax", "numpy", "tyro", "jaxrl", "pathlib", "signal", "threading"):
        (tmp_path / f"{name}.py").write_text(HIJACK)
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "__init__.py").write_text(HIJACK)
    (tmp_path / "here.py").write_text(
        "from jaxrl.envs.suites.probe import TwoStep\nclass Mine(TwoStep): pass\n"
    )
    (tmp_path / "broken.py").write_text("nothing_of_this_name\n")
    return tmp_path


@pytest.mark.parametrize("start", ["-m jaxrl", "-m jaxrl.cli", "script"])
def test_the_working_folder_is_no_place_for_modules(strange_folder, start):
    words = [str(Path(sys.executable).with_name("jaxrl"))] if start == "script" else start.split()
    if start != "script":
        (
            strange_folder / "jaxrl.py"
        ).unlink()  # Python itself looks for that one, before anything of ours runs
    elif not Path(words[0]).exists():
        pytest.skip("the script is not installed")
    done = python(*words, "envs", "cart", folder=strange_folder)
    assert (done.returncode, done.stderr) == (0, "") and "CartPole-v1" in done.stdout


def test_a_working_folder_that_was_removed(tmp_path):
    (tmp_path / "gone").mkdir()
    script = f"cd gone && rmdir ../gone && {sys.executable} -m jaxrl --version"
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("jaxrl ")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("here:Mine", "total_steps is 1,"),
        (
            "broken:Mine",
            "error: importing broken failed: NameError: name 'nothing_of_this_name' is not defined",
        ),
        ("random:Mine", "unknown environment 'random:Mine'|random has no 'Mine'"),
    ],
)
def test_a_name_with_a_colon_is_looked_for_there_last(strange_folder, name, says):
    (strange_folder / "jaxrl.py").unlink()
    words = ["-m", "jaxrl.cli", "train", "ppo", "--env", name, "--total-steps=1"]
    done = python(*words, folder=strange_folder)
    assert done.returncode == 2 and re.search(says, done.stderr), done.stderr
    assert not (strange_folder / "runs").exists()
