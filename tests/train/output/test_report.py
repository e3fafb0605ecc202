"""The numbers that a run's summary gives."""

import signal

import numpy as np
import pytest

from jaxrl.errors import JaxrlError, RunWarning
from jaxrl.train.output import report
from jaxrl.train.output.ranked import score_rows
from jaxrl.train.runner import Result
from tests.train.tiny import experiment

SWEEP = {"learning_rate": [1e-3, 1e-2], "gamma": [0.9]}


def test_one_seed_has_an_interval_over_its_episodes():
    returns = np.asarray([[[1.0, 2.0, 3.0, 6.0]]])
    first, second = score_rows([{}], {"target=9": returns, "best": returns + 1})
    assert (first["mode"], second["mode"]) == ("target=9", "best")
    assert (first["return"], second["return"]) == (3.0, 4.0)
    assert (first["episodes"], first["seeds"]) == (4, 1)
    assert 1.0 <= first["95% low"] < 3.0 < first["95% high"] <= 6.0
    assert "normalised" not in first


def test_scores_are_normalised_where_the_scale_is_known():
    returns = np.asarray([[[1.0, 2.0, 3.0, 6.0]]])
    first, second = score_rows(
        [{}], {"deterministic": returns, "stochastic": returns - 4}, (-1.0, 7.0)
    )
    assert (first["normalised"], second["normalised"]) == (50.0, 0.0)
    assert list(first)[-3:] == ["normalised", "episodes", "seeds"]


def test_several_seeds_have_an_interval_over_seeds():
    """Episodes of one policy are not independent draws:
    100 of each make two seeds no more than two."""
    returns = np.stack([np.zeros(100), np.ones(100)])[None]
    row = score_rows([{}], {"deterministic": returns})[0]
    assert (row["return"], row["episodes"], row["seeds"]) == (0.5, 200, 2)
    assert row["95% low"] == pytest.approx(0.0, abs=0.01) and row["95% high"] == pytest.approx(
        1.0, abs=0.01
    )


def test_a_sweep_has_rows_for_every_setting():
    returns = np.arange(2 * 3 * 4.0).reshape(2, 3, 4)
    rows = score_rows(experiment(sweep=SWEEP).settings(), {"first": returns, "second": -returns})
    assert [(row["learning_rate"], row["gamma"], row["mode"]) for row in rows] == [
        (rate, 0.9, mode)
        for rate in reversed(SWEEP["learning_rate"])
        for mode in ("first", "second")
    ]
    assert [row["return"] for row in rows] == [17.5, -17.5, 5.5, -5.5]  # the first mode ranks


def test_a_setting_that_diverged_has_no_score():
    returns = np.full((1, 1, 4), np.nan)
    row = score_rows([{}], {"deterministic": returns})[0]
    assert all(np.isnan(row[name]) for name in ("return", "95% low", "95% high"))


@pytest.mark.parametrize(
    ("stopped", "status"), [(None, 0), (signal.SIGINT, 130), (signal.SIGTERM, 143)]
)
def test_the_exit_status_is_that_of_a_shell(tmp_path, monkeypatch, stopped, status):
    monkeypatch.setattr(report, "plot", lambda folders, output: "curve.png")
    monkeypatch.setattr(report.Checkpoints, "newest", tmp_path / "checkpoints" / "000000007")
    printed = []
    console = type(
        "Console", (), {"note": lambda self, text: printed.append(text), "summary": lambda *_: None}
    )()
    returns = np.zeros((1, 1, 2))
    result = Result(
        experiment(), tmp_path, 7, 9, 4, stopped, 7, {"deterministic": returns}, None, 1500.0, 2.0
    )
    assert report.finish(result, experiment(), console) == status
    assert "training      1.5k environment steps/s, compiled in 2.0 s" in printed
    assert any(text.endswith(f"go on: jaxrl resume {tmp_path}") for text in printed) == (
        stopped is not None
    )
    printed.clear()
    report.finish(result._replace(trained_iterations=0), experiment(), console)
    assert any("is finished" in text for text in printed) == (stopped is None)


@pytest.mark.parametrize(
    "error", [JaxrlError("a full disk"), RuntimeError("no latex"), KeyError(1)]
)
def test_a_picture_never_decides_how_a_run_ends(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(report, "plot", fail)
    monkeypatch.setattr(report.Checkpoints, "newest", tmp_path / "checkpoints" / "000000007")
    console = type("Console", (), {"note": lambda *_: None, "summary": lambda *_: None})()
    result = Result(
        experiment(), tmp_path, 9, 9, 9, None, 9, {"a": np.zeros((1, 1, 2))}, None, 1.0, 2.0
    )
    with pytest.warns(RunWarning, match="no picture was drawn: "):
        assert report.finish(result, experiment(), console) == 0


def test_errors_of_the_pictures_are_those_of_a_request(tmp_path):
    with pytest.raises(JaxrlError, match="is not a run folder"):
        report.plot([tmp_path / "nothing"], None)
