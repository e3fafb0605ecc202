import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from jaxrl.errors import JaxrlError
from jaxrl.train.files.logs import append_metrics, read_metrics
from jaxrl.train.output.sinks import JsonlSink, Sinks, TensorBoardSink, WandbSink, series

ROW = {"iteration": 2, "transitions": 2**33, "seconds": 1.5, "loss": 0.25, "return": [[1.0, 3.0]]}


class FakeRun:
    def __init__(self, options):
        self.options, self.rows, self.finished, self.step = options, [], False, None

    def define_metric(self, name, step_metric):
        self.step = (name, step_metric)

    def log(self, row):
        self.rows.append(row)

    def finish(self):
        self.finished = True


@pytest.fixture
def wandb(monkeypatch):
    module = types.ModuleType("wandb")
    module.runs = []

    def init(**options):
        module.runs.append(FakeRun(options))
        return module.runs[-1]

    module.init = init
    monkeypatch.setitem(sys.modules, "wandb", module)
    return module


def test_series_are_means_and_seeds():
    assert series(ROW) == {"loss": 0.25, "return": 2.0, "return/seed0": 1.0, "return/seed1": 3.0}
    assert series({"loss": np.array([[0.5]])}) == {"loss": 0.5}
    assert series({"x": [[1.0, None], [3.0, 5.0]], "y": np.nan, "z": None}) == {
        "x/setting0": 1.0,
        "x/setting0/seed0": 1.0,
        "x/setting1": 4.0,
        "x/setting1/seed0": 3.0,
        "x/setting1/seed1": 5.0,
    }
    assert series({"x": np.ones((1, 17))}) == {"x": 1.0}
    assert len(series({"x": np.ones((1, 16))})) == 17
    with pytest.raises(
        JaxrlError, match=r"metric x has shape \(1, 1, 1\), but must be a number or"
    ):
        series({"x": [[[1]]]})


def test_jsonl(tmp_path):
    sink = JsonlSink(tmp_path)
    sink.write(ROW)
    sink.close()
    assert read_metrics(tmp_path) == [ROW]


class Writer:
    made = []

    def __init__(self, path, **options):
        self.path, self.options, self.scalars, self.closed = path, options, [], False
        Writer.made.append(self)

    def add_scalar(self, name, value, step):
        self.scalars.append((name, value, step))

    def close(self):
        self.closed = True


def test_tensorboard_draws_over_transitions_and_resumes(tmp_path, monkeypatch):
    module = types.ModuleType("tensorboardX")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    with Sinks(tmp_path, ["tensorboard"]) as sinks:
        sinks.write(ROW)
    first = Writer.made[-1]
    assert ("return/seed1", 3.0, 2**33) in first.scalars and ("loss", 0.25, 2**33) in first.scalars
    assert first.closed and first.options["purge_step"] is None
    Sinks(tmp_path, ["tensorboard"]).close()
    assert Writer.made[-1].options["purge_step"] == 2**33 + 1


def test_tensorboard_writes_an_event_file(tmp_path):
    pytest.importorskip("tensorboardX")
    sink = TensorBoardSink(tmp_path)
    sink.write(ROW)
    sink.close()
    (events,) = (tmp_path / "tensorboard").glob("events.out.tfevents.*")
    assert b"return/seed1" in events.read_bytes()


def test_wandb_is_one_run_with_a_series_a_seed(tmp_path, wandb):
    with Sinks(tmp_path, ["wandb"], {"seed": np.int64(3)}, project="mine") as sinks:
        sinks.write(ROW)
    (run,) = wandb.runs
    assert run.options["project"] == "mine" and run.options["config"] == {"seed": 3}
    assert run.options["resume"] == "allow" and run.options["name"] == tmp_path.name
    assert run.rows == [
        {
            "iteration": 2,
            "transitions": 2**33,
            "seconds": 1.5,
            "loss": 0.25,
            "return": 2.0,
            "return/seed0": 1.0,
            "return/seed1": 3.0,
        }
    ]
    assert run.finished and run.step == ("*", "transitions")
    WandbSink("mine", tmp_path).close()
    assert wandb.runs[1].options["id"] == run.options["id"]  # a resumed run goes on in the same one
    assert json.loads((tmp_path / "wandb.json").read_text())["id"] == run.options["id"]


@pytest.mark.parametrize("name, package", [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_missing_package_says_how_to_install_it(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        JaxrlError, match=rf"needs the package {package}.*: pip install 'jaxrl\[track\]'"
    ):
        Sinks(tmp_path, [name])


def test_an_unknown_sink_names_the_nearest(tmp_path):
    with pytest.raises(JaxrlError, match="unknown sink 'tensorbord'. Did you mean tensorboard"):
        Sinks(tmp_path, ["tensorbord"])


def test_every_sink_is_closed_even_if_one_fails(tmp_path, wandb, monkeypatch):
    monkeypatch.setattr(JsonlSink, "close", lambda self: closed.append("jsonl"))
    monkeypatch.setattr(FakeRun, "finish", lambda self: 1 / 0)
    closed = []
    with pytest.raises(ZeroDivisionError):
        Sinks(tmp_path, ["wandb"]).close()
    assert closed == ["jsonl"]
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setattr(FakeRun, "finish", lambda self: closed.append("wandb"))
    with pytest.raises(JaxrlError):
        Sinks(tmp_path, ["wandb", "tensorboard"])
    assert sorted(closed) == ["jsonl", "jsonl", "wandb"]


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    pytest.importorskip("tensorboardX")
    (tmp_path / "file").write_text("")
    with pytest.raises(JaxrlError, match="cannot write .*file"):
        TensorBoardSink(Path(tmp_path / "file"))
    with pytest.raises(JaxrlError, match="cannot write .*file/metrics.jsonl"):
        append_metrics(tmp_path / "file", ROW)
