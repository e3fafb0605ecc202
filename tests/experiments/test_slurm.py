"""The jobs for SLURM, with stand-ins for SLURM: what they start,
and what they do when they are stopped."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from jaxrl import cli
from jaxrl.cli import train as command
from jaxrl.train.build import build

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
SCRIPT, ARRAY = EXPERIMENTS / "slurm_ppo.sh", EXPERIMENTS / "slurm_array.sh"
# A jaxrl that trains until it is told to stop, once there is a file `endless`.
JAXRL = """#!/bin/bash
trap 'echo saved >> {log}; exit 143' TERM
echo jaxrl "$@" >> {log}
while [ -e endless ]; do sleep 0.01; done
"""


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


def array_task(folder: Path, task: int, *settings: str) -> tuple[subprocess.Popen, Path]:
    """(the task of an array, which runs, the file of what it has started)."""
    (folder / "bin").mkdir(exist_ok=True)
    log = folder / "log"
    for name, text in (("jaxrl", JAXRL), ("scontrol", '#!/bin/sh\necho scontrol "$@" >> {log}\n')):
        (folder / "bin" / name).write_text(text.format(log=log))
        (folder / "bin" / name).chmod(0o755)
    slurm = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(task)}
    path = {"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    command = [ARRAY, *settings]
    job = subprocess.Popen(command, cwd=folder, env=os.environ | path | slurm, process_group=0)
    return job, log


@pytest.mark.parametrize(
    ("task", "settings", "seed", "learning_rate"),
    [
        (0, (), 0, None),
        (4, (), 40, None),
        (1, ("--learning-rate=3e-4", "--learning-rate=1e-3"), 0, 1e-3),
        (2, ("--learning-rate=3e-4", "--learning-rate=1e-3"), 10, 3e-4),
    ],
)
def test_a_task_trains_its_own_seeds_and_setting(
    tmp_path, monkeypatch, task, settings, seed, learning_rate
):
    job, log = array_task(tmp_path, task, *settings)
    assert job.wait() == 0
    [[jaxrl, *arguments]] = [line.split() for line in log.read_text().splitlines()]
    trained = []
    monkeypatch.setattr(
        command.loop, "train", lambda experiment, folder, **_: trained.append((experiment, folder))
    )
    monkeypatch.setattr(command.report, "finish", lambda *_: 0)
    assert (jaxrl, cli.main(arguments)) == ("jaxrl", 0)
    [(experiment, folder)] = trained
    assert str(folder) == f"runs/slurm-7/{task}"
    assert list(experiment.seeds()) == list(range(seed, seed + 10))
    assert learning_rate in (None, experiment.config.learning_rate)


@pytest.mark.parametrize("kill", [os.kill, os.killpg], ids=["to the shell", "to all of the task"])
def test_a_task_that_is_stopped_saves_comes_back_and_goes_on(tmp_path, kill):
    (tmp_path / "endless").touch()
    job, log = array_task(tmp_path, 3)
    while not log.exists() or "jaxrl" not in log.read_text():
        time.sleep(0.01)
    kill(job.pid, signal.SIGTERM)
    assert job.wait(timeout=60) == 143
    assert [line.split()[0] for line in log.read_text().splitlines()][1:] == ["saved", "scontrol"]
    assert log.read_text().splitlines()[-1] == "scontrol requeue 7_3"
    (tmp_path / "endless").unlink()
    (tmp_path / "runs" / "slurm-7" / "3").mkdir(parents=True)
    (tmp_path / "runs" / "slurm-7" / "3" / "config.json").write_text("{}")
    job, _ = array_task(tmp_path, 3)
    assert job.wait() == 0
    assert log.read_text().splitlines()[-1] == "jaxrl resume runs/slurm-7/3"
