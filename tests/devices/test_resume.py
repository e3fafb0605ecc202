"""A run that was begun on some devices goes on, and is looked at, on others."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from jaxrl import cli
from jaxrl.errors import JaxrlError
from jaxrl.train import loop
from jaxrl.train.acting import load
from jaxrl.train.files.folder import read_description
from jaxrl.train.files.logs import load_evaluations, read_metrics
from jaxrl.types import View
from tests.train.test_loop import Stopping
from tests.train.tiny import (
    ITERATIONS,
    PROBE,
    experiment,
    newest_state,
    records,
    same_bits,
    shared_compilations,
)

STOP = 11


@pytest.fixture(scope="module", autouse=True)
def shared():
    with shared_compilations():
        yield


def on(*mesh: str, environment: str = PROBE):
    made = experiment(environment)
    return dataclasses.replace(made, run=dataclasses.replace(made.run, mesh=mesh))


@pytest.fixture
def stopped(tmp_path):
    """A run on four devices, stopped in its middle."""
    loop.train(on("env=4"), tmp_path / "run", console=Stopping(STOP))
    return tmp_path / "run"


def test_on_the_same_devices_it_ends_in_the_same_bits(stopped, tmp_path, capsys):
    loop.train(on("env=4"), tmp_path / "whole")
    assert cli.main(["resume", str(stopped)]) == 0
    assert "devices were" not in capsys.readouterr().out
    assert same_bits(
        newest_state(tmp_path / "whole", on("env=4")), newest_state(stopped, on("env=4"))
    )
    assert records(tmp_path / "whole") == records(stopped)


@pytest.mark.parametrize(
    ("options", "layout", "recorded"),
    [
        (["--devices", "2"], "env=2,seed=1", (2, [])),
        (["--devices", "1"], "env=1,seed=1", (1, [])),
        (["--mesh", "env=4,seed=1"], "env=4,seed=1", (None, ["env=4,seed=1"])),
    ],
)
def test_on_other_devices_it_goes_on_and_says_so(stopped, options, layout, recorded, capsys):
    assert cli.main(["resume", str(stopped), *options]) == 0
    note = f"devices were env=4,seed=1 and are {layout}: the run goes on, with other random numbers"
    assert (note in capsys.readouterr().out) == (layout != "env=4,seed=1")
    description = read_description(stopped)
    assert description["layout"] == layout
    assert (description["run"]["devices"], description["run"]["mesh"]) == recorded
    assert [row["iteration"] for row in read_metrics(stopped)] == list(range(1, ITERATIONS + 1))
    assert load_evaluations(stopped)["iteration"][-1] == ITERATIONS
    assert np.isfinite([row["loss"] for row in read_metrics(stopped)]).all()


def test_a_run_from_before_devices_were_written_down_goes_on(stopped):
    path = stopped / "config.json"
    description = json.loads(path.read_text())
    del description["layout"], description["run"]["devices"], description["run"]["mesh"]
    path.write_text(json.dumps(description))
    assert loop.resume(stopped).iteration == ITERATIONS
    assert (
        read_description(stopped)["layout"] == "env=1,seed=1"
    )  # what is chosen for so small a run


def test_how_many_devices_a_cpu_is_taken_for_is_no_difference(stopped, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=3")
    assert loop.resume(stopped).iteration == ITERATIONS


def test_settings_still_need_force(stopped):
    with pytest.raises(JaxrlError, match=r"config\.gamma: 0\.99 -> 0\.5\nUse --force"):
        loop.resume(stopped, changes={"gamma": 0.5}, sharing={"devices": 2, "mesh": ()})
    assert read_description(stopped)["layout"] == "env=4,seed=1"


def fewer(monkeypatch, count: int) -> None:
    present = jax.devices()[:count]
    monkeypatch.setattr(jax, "devices", lambda *_: present)


def test_too_few_devices_are_told_with_the_way_out(stopped, monkeypatch, capsys):
    fewer(monkeypatch, 2)
    assert cli.main(["resume", str(stopped)]) == 2
    error = capsys.readouterr().err
    assert "mesh env=4 needs 4 devices, but JAX sees 2 (cpu)" in error
    assert f"jaxrl resume {stopped} --devices 2" in error
    assert cli.main(["resume", str(stopped), "--devices", "3"]) == 2
    assert (
        "devices is 3, but JAX sees 2 (cpu)" in (error := capsys.readouterr().err)
        and "jaxrl resume" not in error
    )
    assert cli.main(["resume", str(stopped), "--devices", "2"]) == 0


@pytest.mark.slow
def test_a_run_can_be_looked_at_on_a_single_device(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    loop.train(on("env=4", environment="CartPole-v1"), folder, console=Stopping(1))
    fewer(monkeypatch, 1)
    assert cli.main(["eval", str(folder), "--episodes", "4"]) == 0
    assert "deterministic" in capsys.readouterr().out
    assert cli.main(["plot", str(folder)]) == 0
    assert cli.main(["render", str(folder)]) == 0
    assert (folder / "plots" / "episode.gif").stat().st_size > 0
    loaded = load(folder)
    agent, policy = loaded.agent, loaded.policy
    view = View(np.zeros(4, np.float32), np.float32(0.0), np.int32(0), np.bool_(True))
    action, _ = agent.modes["deterministic"].act(
        policy, agent.memory(policy), view, jax.random.key(0)
    )
    assert action in (0, 1)
