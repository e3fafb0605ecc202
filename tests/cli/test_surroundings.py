"""What failed because of what is around a command has words; a bug has none."""

import errno
import os
import shutil
import subprocess
import sys

import pytest

from jaxrl import cli
from jaxrl.cli import envs
from jaxrl.cli.surroundings import refused_xla_flags, why
from jaxrl.config import install_command
from jaxrl.train.files.folder import fresh_folder


def test_a_bug_stays_a_bug(monkeypatch):
    assert why(ZeroDivisionError("nothing")) is None
    assert why(ModuleNotFoundError("No module", name="jaxrl.cli.misspelt")) is None
    monkeypatch.setattr(envs, "environments", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["envs"])


def test_files_packages_and_variables_are_named(monkeypatch, capsys):
    denied = PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/some/where")
    assert why(denied) == "cannot use /some/where: Permission denied."
    missing = why(ModuleNotFoundError("No module named 'rich'", name="rich"))
    assert "the package rich is missing" in missing and f"{sys.executable} -m pip" in missing
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    error = RuntimeError("invalid value for environment variable MUJOCO_GL: nonsense")

    def fail(_):
        raise error

    monkeypatch.setattr(envs, "environments", fail)
    assert cli.main(["envs"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: the environment variable MUJOCO_GL is 'nonsense': unset it")
    monkeypatch.delenv("MUJOCO_GL")
    assert why(error) is None


def test_packages_are_installed_with_the_interpreters_own_command(capsys, monkeypatch):
    """Also where an environment that uv made has no pip."""
    assert cli.main(["train", "ppo", "--env", "probe/two-step", "--help"]) == 0
    shown = "".join(capsys.readouterr().out.replace("│", "").split())
    assert "".join(install_command("jaxrl[track]").split()) in shown
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    said = why(ModuleNotFoundError("No module named 'rich'", name="rich"))
    assert f"uv pip install --python {sys.executable} --reinstall jaxrl" in said


def test_without_a_home_no_cache_is_kept_in_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # no HOME, and no passwd entry
    cli.prepare_process()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ and not os.listdir(tmp_path)


def test_the_name_of_a_run_folder_fits_a_file_system(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = fresh_folder("ppo", "päckage." * 60 + "module:Environment")
    assert folder.is_dir() and len(folder.name.encode()) <= 255 - len("-1000")
    shutil.rmtree(folder)


def test_a_window_is_never_asked_for(monkeypatch):
    monkeypatch.setenv("MPLBACKEND", "module://no_such_package.backend_inline")
    cli.prepare_process()
    assert os.environ["MPLBACKEND"] == "agg"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--xla_wrong", "Unknown flag in XLA_FLAGS: --xla_wrong"),
        ("--xla_cpu_enable_fast_math=maybe", "xla_cpu_enable_fast_math"),
        ("nowhere", 'Could not open file "nowhere"'),
    ],
)
def test_flags_that_xla_does_not_know_are_named_before_it_exits(flags, said):
    done = subprocess.run(
        [sys.executable, "-m", "jaxrl", "envs", "cart"],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2 and not done.stdout
    assert done.stderr.startswith(f"error: the environment variable XLA_FLAGS is {flags!r}, with ")
    assert said in done.stderr and len(done.stderr.splitlines()) == 1


def test_flags_are_tried_where_they_are_set_and_not_read_yet(monkeypatch):
    found = subprocess.CompletedProcess([], 1, "", "F1127 1 x.cc:9] Unknown flag: --xla_wrong\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: found)
    monkeypatch.setenv("XLA_FLAGS", "--xla_wrong")
    assert refused_xla_flags() is None  # JAX is in use here
    monkeypatch.delitem(sys.modules, "jax")
    assert "every process (Unknown flag: --xla_wrong): unset it" in refused_xla_flags()
    found.stderr = "Traceback (most recent call last):\nImportError: no jaxlib\n"
    assert refused_xla_flags() is None
    found.returncode, found.stderr = 0, "a warning\n"
    assert refused_xla_flags() is None
    monkeypatch.setenv("XLA_FLAGS", " ")
    monkeypatch.setattr(subprocess, "run", None)
    assert refused_xla_flags() is None
