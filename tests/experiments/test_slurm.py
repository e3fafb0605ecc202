"""The job for SLURM, with stand-ins for SLURM: what it starts,
and what it does when it is stopped."""

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from jaxrl import cli
from jaxrl.cli import train as command
from jaxrl.train.build import build

SCRIPT = Path(__file__).resolve().parents[2] / "experiments" / "slurm_ppo.sh"


def submitted(folder: Path, status: int = 0) -> tuple[int, list[list[str]]]:
    """(exit status, the commands that were run) of the job, whose srun ends with `status`."""
    (folder / "bin").mkdir()
    log = folder / "log"
    for name, code in (("srun", status), ("scontrol", 0)):
        stub = folder / "bin" / name
        stub.write_text(f'#!/bin/sh\necho {name} "$@" >> {log}\nexit {code}\n')
        stub.chmod(0o755)
    path = f"{folder / 'bin'}:{os.environ['PATH']}"
    job = subprocess.run(
        [SCRIPT], cwd=folder, env=os.environ | {"PATH": path, "SLURM_JOB_ID": "7"}, check=False
    )
    return job.returncode, [line.split() for line in log.read_text().splitlines()]


def test_it_trains_with_options_that_exist(tmp_path, monkeypatch):
    status, [[srun, _, jaxrl, *arguments]] = submitted(tmp_path)
    assert (status, srun, jaxrl, arguments[0]) == (0, "srun", "jaxrl", "train")
    joined, trained = [], []

    @contextlib.contextmanager
    def join(options):
        joined.append(options.distributed)
        yield

    monkeypatch.setattr(command.distributed, "joined", join)
    monkeypatch.setattr(
        command.loop, "train", lambda experiment, folder, **_: trained.append((experiment, folder))
    )
    monkeypatch.setattr(command.report, "finish", lambda *_: 0)
    assert cli.main(arguments) == 0
    [(experiment, folder)] = trained
    assert joined == [True] and str(folder) == "runs/slurm-7"
    assert build(experiment).layout.env == 8  # as many as there are GPUs


@pytest.mark.parametrize(("status", "again"), [(0, False), (143, True), (1, False)])
def test_it_goes_on_with_what_is_there_and_comes_back_when_stopped(tmp_path, status, again):
    (tmp_path / "runs" / "slurm-7").mkdir(parents=True)
    (tmp_path / "runs" / "slurm-7" / "config.json").write_text("{}")
    ended, run = submitted(tmp_path, status)
    assert ended == status
    assert run[0] == [
        "srun",
        "--kill-on-bad-exit=1",
        "jaxrl",
        "resume",
        "runs/slurm-7",
        "--distributed",
    ]
    assert run[1:] == ([["scontrol", "requeue", "7"]] if again else [])
