import importlib.util
import json
import sys
import types
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from jaxrl.config import installed
from jaxrl.errors import JaxrlError, RunWarning
from jaxrl.train import loop
from jaxrl.train.files.logs import append_metrics, read_metrics
from jaxrl.train.output.sinks import JsonlSink, Sinks, TensorBoardSink, WandbSink, series
from tests.train.tiny import EVALUATIONS, POINTS, experiment, records, shared_compilations

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
    module.__spec__ = json.__spec__
    monkeypatch.setitem(sys.modules, "wandb", module)
    for name in ("WANDB_PROJECT", "WANDB_ENTITY", "WANDB_RUN_ID", "WANDB_NAME", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
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
    with Sinks(tmp_path, ["wandb"], {"seed": np.int64(3)}) as sinks:
        sinks.write(ROW)
    (run,) = wandb.runs
    assert run.options["project"] == "jaxrl" and run.options["config"] == {"seed": 3}
    assert run.options["dir"] == str(tmp_path) and "entity" not in run.options
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
    WandbSink(tmp_path).close()
    assert wandb.runs[1].options["id"] == run.options["id"]  # a resumed run goes on in the same one
    assert json.loads((tmp_path / "wandb.json").read_text())["id"] == run.options["id"]


def test_the_variables_of_wandb_count(tmp_path, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_PROJECT", "my project")
    monkeypatch.setenv("WANDB_ENTITY", "our-team")
    monkeypatch.setenv("WANDB_RUN_ID", "of-an-agent")
    monkeypatch.setenv("WANDB_NAME", "a name")  # which wandb reads itself, where nothing is given
    monkeypatch.setenv("WANDB_DIR", "/elsewhere")
    WandbSink(tmp_path).close()
    place = {"project": "my project", "entity": "our-team", "id": "of-an-agent"}
    options = wandb.runs[0].options
    assert options.items() >= place.items() and not {"name", "dir"} & options.keys()
    for name in ("WANDB_PROJECT", "WANDB_ENTITY", "WANDB_RUN_ID"):
        monkeypatch.setenv(name, "another")
    WandbSink(tmp_path).close()
    assert wandb.runs[1].options.items() >= place.items()  # a run goes on where it was begun
    monkeypatch.setenv("WANDB_PROJECT", "a/b")
    (tmp_path / "wandb.json").unlink()
    with pytest.raises(JaxrlError, match="environment of this process: project is 'a/b', but must"):
        WandbSink(tmp_path)
    assert not (tmp_path / "wandb.json").exists()


def test_evaluations_reach_the_graphical_sinks_at_their_transitions(tmp_path, wandb):
    with shared_compilations():
        result = loop.train(experiment(), tmp_path / "run", sinks=("wandb",))
    (run,) = wandb.runs
    evaluated = [row for row in run.rows if "evaluation/stochastic_return" in row]
    assert [row["transitions"] for row in evaluated] == [32 * point for point in POINTS]
    assert [row["iteration"] for row in evaluated] == POINTS and len(POINTS) == EVALUATIONS + 1
    mean = np.mean(result.returns["deterministic"])
    assert evaluated[-1]["evaluation/deterministic_return"] == pytest.approx(mean)
    assert {"evaluation/deterministic_length", "evaluation/stochastic_length"} <= evaluated[
        0
    ].keys()
    rows, _ = records(tmp_path / "run")
    assert "evaluation/" not in rows  # metrics.jsonl is as it was


def test_measures_of_one_number_reach_them_too(tmp_path, wandb):
    row = {
        "iteration": 2,
        "transitions": 64,
        "deterministic_returns": np.array([[[1.0, 3.0], [5.0, np.nan]]]),
        "deterministic_lengths": np.array([[[1, 2], [3, 4]]]),
        "measure_norm": np.array([[7.0, 8.0]]),
        "measure_field": np.zeros((1, 2, 5)),
    }
    with Sinks(tmp_path, ["wandb"]) as sinks:
        sinks.evaluation(row)
    assert wandb.runs[0].rows == [
        {
            "iteration": 2,
            "transitions": 64,
            "evaluation/deterministic_return": 2.0,  # of the seed whose return is finite
            "evaluation/deterministic_return/seed0": 2.0,
            "evaluation/deterministic_length": 2.5,
            "evaluation/deterministic_length/seed0": 1.5,
            "evaluation/deterministic_length/seed1": 3.5,
            "evaluation/norm": 7.5,
            "evaluation/norm/seed0": 7.0,
            "evaluation/norm/seed1": 8.0,
        }
    ]


def test_a_sink_that_does_not_begin_leaves_nothing_that_refuses_the_next_try(
    tmp_path, wandb, monkeypatch
):
    def fail(**_):
        raise RuntimeError("no API key configured\nmore")

    begin = wandb.init
    monkeypatch.setattr(wandb, "init", fail)
    with shared_compilations():
        with pytest.raises(JaxrlError, match="wandb does not begin: RuntimeError: no API key conf"):
            loop.train(experiment(), tmp_path / "run", sinks=("wandb",))
        monkeypatch.setattr(wandb, "init", begin)
        assert not list((tmp_path / "run").glob("[!.]*"))
        loop.train(experiment(), tmp_path / "run", sinks=("wandb",))


def test_a_sink_that_fails_is_given_up_and_the_run_goes_on(tmp_path, wandb, monkeypatch):
    def lost(self, row):
        raise ConnectionError("the network is gone")

    monkeypatch.setattr(FakeRun, "log", lost)
    with Sinks(tmp_path, ["wandb"]) as sinks:
        with pytest.warns(RunWarning, match="wandb failed .* goes on: ConnectionError: the netw"):
            sinks.write(ROW)
        sinks.write(ROW)
    assert read_metrics(tmp_path) == [ROW, ROW]


@pytest.fixture
def imported_anew():
    """Forget a package; afterwards Python has imported what it had before."""

    def forget(top):
        for name in [name for name in sys.modules if name.partition(".")[0] == top]:
            del sys.modules[name]

    with mock.patch.dict(sys.modules):
        yield forget


@pytest.mark.parametrize("package", ["wandb", "tensorboardX", "mujoco.mjx", "nothing.at_all"])
def test_a_mere_folder_is_no_package(tmp_path, monkeypatch, imported_anew, package):
    """As W&B makes one in the folder one works in."""
    top = package.partition(".")[0]
    (tmp_path / top).mkdir()
    imported_anew(top)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    importlib.invalidate_caches()
    assert importlib.util.find_spec(top) is not None  # which is all that Python says
    assert not installed(package)
    sink = {"wandb": "wandb", "tensorboardX": "tensorboard"}.get(package)
    if sink is not None:
        with pytest.raises(JaxrlError, match=f"needs the package {package}.*jaxrl.track"):
            loop.check_request((sink,))
        with pytest.raises(JaxrlError, match=f"needs the package {package}.*jaxrl.track"):
            Sinks(tmp_path, [sink])


def test_a_damaged_package_is_found_out_before_there_is_a_folder(
    tmp_path, monkeypatch, imported_anew
):
    (tmp_path / "tensorboardX").mkdir()
    (tmp_path / "tensorboardX" / "__init__.py").write_text("raise AttributeError('protobuf')")
    imported_anew("tensorboardX")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(JaxrlError, match="tensorboardX, whose import fails: AttributeError: proto"):
        loop.check_request(("tensorboard",))


@pytest.mark.parametrize("name, package", [("tensorboard", "tensorboardX"), ("wandb", "wandb")])
def test_a_missing_package_says_how_to_install_it(tmp_path, monkeypatch, name, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        JaxrlError, match=rf"needs the package {package}.*: .*pip install 'jaxrl\[track\]'"
    ):
        Sinks(tmp_path, [name])


def test_an_unknown_sink_names_the_nearest(tmp_path):
    with pytest.raises(JaxrlError, match="unknown sink 'tensorbord'. Did you mean tensorboard"):
        Sinks(tmp_path, ["tensorbord"])


def test_every_sink_is_closed_even_if_one_fails(tmp_path, wandb, monkeypatch):
    monkeypatch.setattr(FakeRun, "finish", lambda self: 1 / 0)
    closed = []
    monkeypatch.setattr(TensorBoardSink, "close", lambda self: closed.append("tensorboard"))
    with pytest.warns(RunWarning, match="wandb failed .*: ZeroDivisionError: division by zero"):
        Sinks(tmp_path, ["tensorboard", "wandb"]).close()
    assert closed == ["tensorboard"]
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    monkeypatch.setattr(FakeRun, "finish", lambda self: closed.append("wandb"))
    with pytest.raises(JaxrlError):
        Sinks(tmp_path, ["wandb", "tensorboard"])
    assert closed == ["tensorboard", "wandb"]


def test_a_path_that_cannot_be_written_is_named(tmp_path):
    pytest.importorskip("tensorboardX")
    (tmp_path / "file").write_text("")
    with pytest.raises(JaxrlError, match="cannot write .*file"):
        TensorBoardSink(Path(tmp_path / "file"))
    with pytest.raises(JaxrlError, match="cannot write .*file/metrics.jsonl"):
        append_metrics(tmp_path / "file", ROW)
