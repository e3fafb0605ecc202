"""Reading run folders: whole ones, ones still being written, and broken ones."""

import json
from dataclasses import replace

import numpy as np
import pytest

from jaxrl.analysis.runs import load_run

PER_EPISODE = (
    "deterministic_returns",
    "stochastic_returns",
    "deterministic_lengths",
    "stochastic_lengths",
)


def write_run(
    folder,
    sweep=None,
    shape=(3, 1, 4, 5),
    algorithm="ppo",
    environment="CartPole-v1",
    scale=1.0,
    *,
    names=PER_EPISODE,
    sampled=False,
):
    """A run folder with evaluations of shape [K, H, S, E]; returns its path.
    Shared with test_plots."""
    folder.mkdir(parents=True)
    config = {
        "algorithm": algorithm,
        "environment": environment,
        "config": {},
        "sweep": sweep or {},
    }
    if sampled:
        config["sampled"] = dict.fromkeys(sweep, "0..1")
    (folder / "config.json").write_text(json.dumps(config))
    rows = [
        {
            "iteration": i,
            "transitions": 1000 * i,
            "seconds": 0.5 * i,
            "loss": None if i == 0 else 1.5,
        }
        for i in range(3)
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    rise = np.arange(shape[0]).reshape(-1, 1, 1, 1) + np.arange(shape[1]).reshape(1, -1, 1, 1)
    noise = np.random.default_rng(0).normal(size=shape)
    arrays = dict.fromkeys(names, scale * (10.0 * rise + noise))
    counters = {"iteration": np.arange(shape[0]), "transitions": 100_000 * np.arange(shape[0])}
    np.savez(folder / "evaluations.npz", **arrays, **counters)
    return folder


def test_reads_a_run(tmp_path):
    run = load_run(write_run(tmp_path / "first"))
    assert (run.name, run.algorithm, run.environment) == ("first", "ppo", "CartPole-v1")
    assert run.settings == [{}]
    assert run.returns().shape == (3, 1, 4)
    np.testing.assert_allclose(
        run.returns(), run.evaluations["deterministic_returns"].mean(axis=-1)
    )
    transitions, loss = run.metric("loss")
    assert transitions.tolist() == [0, 1000, 2000]
    np.testing.assert_array_equal(loss, [np.nan, 1.5, 1.5])


def test_means_over_episodes_are_of_float64(tmp_path):
    run = load_run(write_run(tmp_path / "run"))
    returns = np.array([[[[2.0**24, 1.0]]]], np.float32)  # whose float32 sum is 2**24
    mean = replace(run, evaluations={"deterministic_returns": returns}).returns()
    assert mean.dtype == np.float64 and mean == 2**23 + 0.5


def test_a_metric_may_have_the_name_of_a_count_that_the_run_does_not_have(tmp_path):
    folder = write_run(tmp_path / "run")
    rows = [{"iteration": i, "transitions": i, "updates": i / 2, "seconds": 1.0} for i in range(3)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts, updates = load_run(folder).metric("updates")
    assert counts.tolist() == [0, 1, 2] and updates.tolist() == [0.0, 0.5, 1.0]


def test_metrics_of_settings_and_seeds_keep_their_axes(tmp_path):
    folder = write_run(tmp_path / "run")
    rows = [{"iteration": i, "transitions": i, "return": [[1.0, None, 3.0]] * 2} for i in range(4)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = load_run(folder).metric("return")[1]
    assert values.shape == (4, 2, 3)
    assert np.isnan(values[:, :, 1]).all()


@pytest.mark.parametrize(
    "torn", ['{"iteration": 3, "transi', '{"iteration": 3, "name": "\N{EURO SIGN}']
)
def test_a_torn_last_line_is_left_out(tmp_path, torn):
    folder = write_run(tmp_path / "run")
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write(torn.encode()[:-1])
    assert [row["iteration"] for row in load_run(folder).metrics] == [0, 1, 2]


def test_a_broken_line_elsewhere_is_an_error(tmp_path):
    folder = write_run(tmp_path / "run")
    path = folder / "metrics.jsonl"
    path.write_text("{torn\n" + path.read_text())
    with pytest.raises(ValueError, match="line 1 is no row of metrics"):
        load_run(folder)


def test_a_run_that_has_just_begun(tmp_path):
    folder = write_run(tmp_path / "run")
    (folder / "metrics.jsonl").unlink()
    (folder / "evaluations.npz").unlink()
    run = load_run(folder)
    assert (run.metrics, run.evaluations) == ([], {})
    with pytest.raises(ValueError, match="was not evaluated"):
        run.returns()
    with pytest.raises(ValueError, match="no metric 'loss'. Logged are: none"):
        run.metric("loss")


def test_settings_follow_the_axis(tmp_path):
    sweep = {"rate": [1, 2], "clip": [0.1, 0.2, 0.3]}
    grid = load_run(write_run(tmp_path / "grid", sweep, (3, 6, 2, 2))).settings
    assert grid[0] == {"rate": 1, "clip": 0.1}
    assert grid[1] == {"rate": 1, "clip": 0.2}
    assert grid[-1] == {"rate": 2, "clip": 0.3}
    beside = load_run(
        write_run(tmp_path / "beside", {"rate": [1, 2], "clip": [3, 4]}, (3, 2, 2, 2))
    )
    assert beside.settings == [{"rate": 1, "clip": 3}, {"rate": 2, "clip": 4}]
    wrong = load_run(write_run(tmp_path / "wrong", sweep, (3, 5, 2, 2)))
    with pytest.raises(ValueError, match=r"holds 5 settings, but the sweep of config.json has 6"):
        _ = wrong.settings


def test_errors_say_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match="nowhere is no folder"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        load_run(tmp_path)
    folder = write_run(tmp_path / "run")
    with pytest.raises(
        ValueError, match="was not evaluated in mode 'greedy'. There are: deterministic, stochastic"
    ):
        load_run(folder).returns("greedy")
    np.savez(folder / "evaluations.npz", iteration=np.arange(2), transitions=np.arange(2))
    with pytest.raises(ValueError, match="lacks the returns of any mode"):
        load_run(folder)
    (folder / "evaluations.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(ValueError, match=r"evaluations\.npz is damaged: it cannot be read"):
        load_run(folder)
    (folder / "config.json").write_text('{"algorithm": "ppo"}')
    with pytest.raises(ValueError, match="lacks 'environment'"):
        load_run(folder)


STEERED = ("target=3600_returns", "target=3600_lengths", "a_lengths_returns", "a_lengths_lengths")


def test_modes_are_those_of_the_file_in_its_order(tmp_path):
    run = load_run(write_run(tmp_path / "run", names=STEERED))
    assert run.modes == ("target=3600", "a_lengths")
    np.testing.assert_array_equal(run.returns(), run.returns("target=3600"))
    assert run.settings == [{}]


STRANGE = {
    "a mode without lengths": ({"best_returns": np.zeros((3, 1, 4, 5))}, "lacks best_lengths"),
    "a mode of capitals": ({"Best_returns": 0, "Best_lengths": 0}, "'Best' is no name of a mode"),
    "a mode of control codes": ({"\x1b[2J_returns": 0}, r"'\\x1b\[2J' is no name of a mode"),
    "steered by a word": ({"target=far_returns": 0}, "'target=far' is no name of a mode"),
    "steered by nothing": ({"target=_returns": 0}, "'target=' is no name of a mode"),
    "without a name": ({"_returns": 0}, "'' is no name of a mode"),
    "of no mode": ({"wurst": np.zeros((3, 1, 4))}, "'wurst' is no array of evaluations"),
    "a measure without a name": (
        {"measure_": np.zeros((3, 1, 4))},
        "'measure_' is no array of evaluations",
    ),
    "a measure of other seeds": (
        {"measure_x": np.zeros((3, 1, 5))},
        r"must begin with \(3, 1, 4\)",
    ),
    "a measure of words": ({"measure_x": np.full((3, 1, 4), "x")}, "must be of numbers"),
}


@pytest.mark.parametrize(("strange", "words"), STRANGE.values(), ids=STRANGE)
def test_arrays_that_are_none_of_evaluations(tmp_path, strange, words):
    folder = write_run(tmp_path / "run")
    np.savez(folder / "evaluations.npz", **dict(np.load(folder / "evaluations.npz")), **strange)
    with pytest.raises(ValueError, match=words):
        load_run(folder)


def test_measures_lie_beside_the_modes(tmp_path):
    folder = write_run(tmp_path / "run")
    measures = {
        "measure_bias": np.zeros((3, 1, 4)),
        "measure_x_returns": np.ones((3, 1, 4, 2, 7), np.int32),
    }
    np.savez(folder / "evaluations.npz", **measures, **dict(np.load(folder / "evaluations.npz")))
    run = load_run(folder)
    assert run.modes == ("deterministic", "stochastic")
    assert run.evaluations["measure_x_returns"].shape == (3, 1, 4, 2, 7)


def test_arrays_that_do_not_fit_each_other(tmp_path):
    folder = write_run(tmp_path / "run")
    arrays = dict(np.load(folder / "evaluations.npz"))
    np.savez(folder / "evaluations.npz", **(arrays | {"transitions": np.arange(2)}))
    with pytest.raises(ValueError, match=r"transitions has shape \(2,\), but must be \(3,\)"):
        load_run(folder)
