"""What failed because of what is around a command has words; a bug has none."""

import errno
import os
import shutil
import sys

import pytest

from jaxrl import cli
from jaxrl.cli import envs
from jaxrl.cli.surroundings import why
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
