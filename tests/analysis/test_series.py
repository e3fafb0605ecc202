"""What a run recorded, by name; its long format; gaps and moving means."""

import csv
import json
import math
import sys

import numpy as np
import pytest

from jaxrl.analysis.long import write_csv
from jaxrl.analysis.runs import load_run
from jaxrl.analysis.series import bridged, smoothed
from jaxrl.errors import JaxrlError
from tests.analysis.test_runs import write_run

NAN = float("nan")
SWEEP = {"rate": [0.1, 0.2]}


def write_metrics(folder, rows):
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def swept(tmp_path):
    """A sweep of two settings by three seeds, from seed 7, evaluated three times."""
    folder = write_run(tmp_path / "swept", SWEEP, (3, 2, 3, 5))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"run": {"seed": 7}}))
    loss = [[1.0, None, 3.0], [4.0, 5.0, 6.0]]
    rows = [
        {
            "iteration": 2 * i,
            "transitions": 10 * i,
            "seconds": 4.0 * i,
            "loss": loss,
            "gradient_steps": 5.0,
        }
        for i in (1, 2)
    ]
    write_metrics(folder, rows)
    return folder


def test_the_long_format_has_a_row_for_every_number(swept):
    run = load_run(swept)
    rows = list(run.rows())
    names = [*(f"evaluation/{mode}_{what}" for mode in ("deterministic", "stochastic")
               for what in ("return", "length"))]  # fmt: skip
    assert run.names == ["loss", "gradient_steps", *names]
    assert len(rows) == 6 * (2 + 2 + 4 * 3)
    assert rows[4] == {
        "run": "swept",
        "algorithm": "ppo",
        "environment": "CartPole-v1",
        "setting": "rate=0.2",
        "seed": 8,
        "iteration": 2,
        "transitions": 10,
        "seconds": 4.0,
        "metric": "loss",
        "value": 5.0,
    }
    last = [row["value"] for row in rows if row["metric"] == names[0]][-6:]
    np.testing.assert_array_equal(np.reshape(last, (2, 3)), run.returns()[-1])


def test_evaluations_have_the_seconds_of_their_iterations(swept):
    run = load_run(swept)
    series = run.series(run.score)
    assert series.iteration.tolist() == [0, 1, 2]
    assert series.seconds.tolist() == [0.0, 2.0, 4.0]
    assert run.along(series, "seconds").tolist() == [0.0, 2.0, 4.0]
    assert run.along(series, "transitions").tolist() == [0, 100_000, 200_000]
    assert run.along(series, "gradient_steps").tolist() == [0.0, 5.0, 10.0]
    with pytest.raises(JaxrlError, match="unknown x of .*'second'. Did you mean seconds"):
        run.along(series, "second")
    write_metrics(swept, [])
    run = load_run(swept)
    assert run.axes == ["iteration", "transitions", "seconds"]
    assert np.isnan(run.series(run.score).seconds).all()
    with pytest.raises(JaxrlError, match=r"x is seconds, which metrics\.jsonl does not have"):
        run.along(run.series(run.score), "seconds")


def test_csv_leaves_empty_what_is_not_known(swept, tmp_path):
    offline = write_run(tmp_path / "offline", algorithm="bc", shape=(1, 1, 1, 2))
    config = json.loads((offline / "config.json").read_text())
    (offline / "config.json").write_text(json.dumps(config | {"unit": "gradient steps"}))
    write_metrics(offline, [{"iteration": 1, "updates": 50, "seconds": 1.0, "loss": float("inf")}])
    arrays = dict(np.load(offline / "evaluations.npz"))
    np.savez(offline / "evaluations.npz", updates=arrays.pop("transitions"), **arrays)
    runs = [load_run(swept), load_run(offline)]
    count = write_csv(runs, tmp_path / "both.csv")
    with (tmp_path / "both.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == count == sum(len(list(run.rows())) for run in runs)
    assert rows[1]["value"] == "" and rows[1]["updates"] == "" and rows[1]["transitions"] == "10"
    (loss,) = [row for row in rows if row["run"] == "offline" and row["metric"] == "loss"]
    assert (loss["updates"], loss["transitions"], loss["value"]) == ("50", "", "inf")
    for row in rows:
        if row["value"]:
            float(row["value"])


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path):
    runs = [load_run(write_run(tmp_path / place / "run")) for place in "ab"]
    write_csv(runs, tmp_path / "x.csv")
    with (tmp_path / "x.csv").open(newline="") as file:
        assert {row["run"] for row in csv.DictReader(file)} == {str(run.folder) for run in runs}


def test_a_frame_is_the_long_format(swept):
    pandas = pytest.importorskip("pandas")
    run = load_run(swept)
    frame = run.frame()
    assert isinstance(frame, pandas.DataFrame)
    assert frame.columns.tolist() == list(next(run.rows()))
    assert frame["value"].dtype == np.float64 and frame["seed"].dtype == np.int64
    assert frame.query("metric == 'loss'")["value"].isna().sum() == 2
    assert len(frame) == len(list(run.rows()))


def test_a_frame_without_pandas_says_how_to_install_it(swept, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(JaxrlError, match=r"needs the package pandas. Install it with: .* pandas"):
        load_run(swept).frame()


def test_a_run_that_has_just_begun_is_an_empty_table(swept, tmp_path):
    (swept / "metrics.jsonl").unlink()
    (swept / "evaluations.npz").unlink()
    run = load_run(swept)
    assert run.members == (2, 1) and list(run.rows()) == [] and run.names == []
    assert write_csv([run], tmp_path / "none.csv") == 0
    with pytest.raises(JaxrlError, match="recorded nothing yet"):
        run.series("loss")


def test_an_unknown_metric_is_refused_with_the_nearest(swept):
    run = load_run(swept)
    with pytest.raises(JaxrlError, match="'los'. Did you mean loss?"):
        run.series("los")
    with pytest.raises(JaxrlError, match="Did you mean evaluation/stochastic_return"):
        run.series("stochastic_return")


@pytest.mark.parametrize(
    "value", ["high", [1.0, 2.0], [[1.0, 2.0]], {"a": 1}, [[1.0, "x", 2.0]] * 2, 10**400]
)
def test_what_is_no_number_of_each_member_is_refused(swept, value):
    write_metrics(swept, [{"iteration": 3, "transitions": 1, "odd": value}])
    with pytest.raises(ValueError, match=r"metrics\.jsonl: 'odd' of iteration 3 is .*of 3 of them"):
        load_run(swept).series("odd")


def test_one_number_is_that_of_all_members(swept):
    write_metrics(swept, [{"iteration": 3, "transitions": 1, "shared": 2, "nothing": None}])
    run = load_run(swept)
    assert run.series("shared").values.tolist() == [[[2.0] * 3] * 2]
    assert np.isnan(run.series("nothing").values).all()


def test_measures_with_axes_of_their_own_have_a_series_for_each_place(swept):
    measures = {
        "measure_bias": np.arange(18).reshape(3, 2, 3),
        "measure_visits": np.arange(3 * 6 * 4).reshape(3, 2, 3, 2, 2),
    }
    np.savez(swept / "evaluations.npz", **dict(np.load(swept / "evaluations.npz")), **measures)
    run = load_run(swept)
    assert run.names[-5:] == [
        "evaluation/bias",
        *(f"evaluation/visits[{place}]" for place in ("0,0", "0,1", "1,0", "1,1")),
    ]
    np.testing.assert_array_equal(
        run.series("evaluation/visits[1,0]").values, measures["measure_visits"][..., 1, 0]
    )
    np.testing.assert_array_equal(
        run.series("evaluation/bias").values, measures["measure_bias"].astype(float)
    )


def test_gaps_are_bridged_between_values_and_not_beyond():
    values = np.array([[NAN, 1.0], [2.0, NAN], [NAN, NAN], [4.0, 4.0], [5.0, NAN]])
    expected = [[NAN, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0], [5.0, NAN]]
    np.testing.assert_allclose(bridged(values), expected)
    assert math.isnan(values[2, 0])  # what was given stays as it was


def test_moving_means_by_hand():
    values = np.array([1.0, 2.0, 6.0, NAN, 4.0, NAN, NAN])
    np.testing.assert_allclose(smoothed(values, 3), [1.5, 3.0, 4.0, 5.0, 4.0, NAN, NAN])
    np.testing.assert_allclose(smoothed(np.arange(6.0), 2), [0.5, 1.5, 2.5, 3.5, 4.5, 5.0])
    pairs = np.stack([np.arange(4.0), np.full(4, NAN)], axis=1)
    np.testing.assert_allclose(smoothed(pairs, 3)[:, 0], [0.5, 1.0, 2.0, 2.5])
    assert np.isnan(smoothed(pairs, 3)[:, 1]).all()
