"""Figures: written, not blank, the same bytes twice, no global state, and refusals in words."""

import json
import subprocess
import sys
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from PIL import Image

from jaxrl.analysis import plots, versus
from jaxrl.analysis.panels import _positions, intervals
from jaxrl.analysis.plots import (
    Look,
    curve_of,
    plot_comparison,
    plot_learning_curve,
    plot_scores,
    plot_sweep,
)
from jaxrl.analysis.runs import load_run, tasks_of
from jaxrl.analysis.style import count_label, save_figure, short_number, spread, write_bytes
from jaxrl.analysis.versus import plot_improvement, plot_profiles
from jaxrl.errors import JaxrlError
from tests.analysis.test_runs import PER_EPISODE, write_run

DRAWN = {"rate": [3e-4, 1e-2, 2e-5], "clip": [0.3, 0.1, 0.2], "gamma": [0.9, 0.99, 0.95]}
ROWS = [
    {
        "task": "CartPole-v1",
        "score": 500.0,
        "low": 499.0,
        "high": 500.0,
        "published": 500,
        "source": "X",
    },
    {
        "task": "Pendulum-v1",
        "score": -151.0,
        "low": None,
        "high": None,
        "published": None,
        "source": None,
    },
]


def test_a_users_matplotlibrc_changes_no_figure(tmp_path):
    run = load_run(write_run(tmp_path / "run"))
    usual = plot_learning_curve(run, tmp_path / "usual.png").read_bytes()
    with matplotlib.rc_context({"text.usetex": True, "lines.linewidth": 9.0, "font.size": 30.0}):
        assert plot_learning_curve(run, tmp_path / "other.png").read_bytes() == usual
        assert matplotlib.rcParams["text.usetex"]  # the caller's come back


@pytest.fixture
def figures(tmp_path):
    """The functions under test, as (name, writes to a path)."""
    one = load_run(write_run(tmp_path / "one"))
    lone = load_run(write_run(tmp_path / "lone", shape=(1, 1, 1, 2)))
    sac = load_run(write_run(tmp_path / "sac", algorithm="sac", scale=0.7))
    other = load_run(write_run(tmp_path / "other", environment="Hopper", scale=90))
    rates = load_run(write_run(tmp_path / "rates", {"rate": [1e-4, 1e-3, 1e-2]}, (2, 3, 4, 2)))
    names = load_run(write_run(tmp_path / "names", {"activation": ["relu", "tanh"]}, (2, 2, 1, 2)))
    grid = load_run(write_run(tmp_path / "grid", {"rate": [1, 2], "clip": [1, 2, 3]}, (2, 6, 3, 2)))
    drawn = load_run(write_run(tmp_path / "drawn", DRAWN, (2, 3, 2, 2), sampled=True))
    return {
        "drawn": lambda path: plot_sweep(drawn, path),
        "curve": lambda path: plot_learning_curve(one, path),
        "lone": lambda path: plot_learning_curve(lone, path),
        "settings": lambda path: plot_learning_curve(grid, path),
        "comparison": lambda path: plot_comparison([one, sac], path),
        "panels": lambda path: plot_comparison([one, sac, other], path, labels=["a", "b", "a"]),
        "rates": lambda path: plot_sweep(rates, path),
        "names": lambda path: plot_sweep(names, path),
        "grid": lambda path: plot_sweep(grid, path),
        "scores": lambda path: plot_scores(ROWS, path),
        "metric": lambda path: plot_learning_curve(one, path, Look("loss", "seconds"), "mine"),
        "final": lambda path: plot_sweep(rates, path, Look("evaluation/stochastic_length")),
        "profile": lambda path: plot_profiles([one, sac], path),
        "improvement": lambda path: plot_improvement(
            [one, sac, other, other], path, ["a", "b", "a", "b"]
        ),
        "settings profile": lambda path: plot_profiles([rates], path),
        "settings improvement": lambda path: plot_improvement([rates], path),
    }


def test_drawn_settings_are_shown_against_each_number(tmp_path, monkeypatch):
    run = load_run(write_run(tmp_path / "drawn", DRAWN, (2, 3, 2, 2), sampled=True))
    panels = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: panels.extend(figure.axes))
    plot_sweep(run, tmp_path / "x.png")
    shown = {axes.get_xlabel(): axes.lines[0].get_xdata().tolist() for axes in panels}
    assert shown == DRAWN
    assert [axes.get_xscale() for axes in panels] == ["log", "linear", "linear"]


def test_figures_are_drawn_and_reproducible(figures, tmp_path):
    before = dict(matplotlib.rcParams)
    for name, plot in figures.items():
        path = plot(tmp_path / "figures" / f"{name}.png")
        pixels = np.asarray(Image.open(path).convert("RGB"))
        coloured = (np.ptp(pixels.astype(int), axis=2) > 60).mean()
        assert coloured > 0.0003, f"{name} shows no colour"
        assert plot(tmp_path / "again.png").read_bytes() == path.read_bytes(), name
    assert dict(matplotlib.rcParams) == before
    assert sorted(p.stem for p in (tmp_path / "figures").iterdir()) == sorted(
        figures
    )  # no leftovers


@pytest.mark.parametrize("suffix", [".pdf", ".svg"])
def test_vector_formats_are_reproducible(figures, tmp_path, suffix):
    first, second = (figures["curve"](tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
    assert first == second


def test_importing_is_free_of_side_effects():
    code = (
        "import sys, jaxrl.analysis.plots, jaxrl.analysis.video\n"
        "assert 'matplotlib.pyplot' not in sys.modules and 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_seed_that_failed_leaves_a_gap(tmp_path):
    scores = np.array([[1.0, 2.0, 3.0], [1.0, np.nan, 3.0]])
    middle, low, high = intervals(scores)
    assert middle[0] == 2.0 and 1.0 <= low[0] < high[0] <= 3.0
    assert np.isnan([middle[1], low[1], high[1]]).all()
    folder = write_run(tmp_path / "run")
    arrays = dict(np.load(folder / "evaluations.npz"))
    for name in PER_EPISODE:
        arrays[name][-1, 0, 0] = np.nan
    np.savez(folder / "evaluations.npz", **arrays)
    assert plot_learning_curve(load_run(folder), tmp_path / "gap.png").stat().st_size > 5000


def test_a_value_between_gaps_is_a_dot(monkeypatch):
    values = np.array([1.0, np.nan, 2.0, 3.0, np.nan, 4.0])
    curve = plots.Curve("a", np.arange(6.0), values[:, None], "red")
    axes = plots.new_figure(3, 3).add_subplot()
    plots.draw_curves(axes, [curve], thin=False)
    line, dots = axes.lines
    assert dots.get_marker() == "o" and dots.get_xdata().tolist() == [0, 5]


def test_where_swept_values_go():
    assert _positions([1e-4, 1e-3, 1e-2])[1] == "log"
    assert _positions([0.1, 0.2, 0.3])[1] == "linear"
    np.testing.assert_array_equal(
        _positions([0.999, 0.9, 0.99, 0.995])[0], [3, 0, 1, 2]
    )  # crowded: by rank
    np.testing.assert_array_equal(_positions([True, False])[0], [0, 1])


def test_numbers_in_words():
    assert [count_label(n) for n in (0, 500, 100_000, 2_500_000, 1e9)] == [
        "0",
        "500",
        "100k",
        "2.5M",
        "1B",
    ]
    assert [short_number(v) for v in (3e-4, 0.999, 1234.5, -2.0, "relu", True)] == [
        "3e-4", "0.999", "1234", "\N{MINUS SIGN}2", "relu", "True",
    ]  # fmt: skip


def test_labels_are_spread_as_little_as_needed():
    np.testing.assert_allclose(spread([0.5, 0.1, 0.52], gap=0.1), [0.5, 0.1, 0.6])
    np.testing.assert_allclose(spread([1.0, 0.98], gap=0.1), [1.0, 0.9])


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = write_bytes(tmp_path / "plot.png", b"old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_caption_says_which_of_several_modes_is_drawn(tmp_path, monkeypatch):
    captions, ends = [], []
    monkeypatch.setattr(plots, "headline", lambda axes, title, note="": captions.append(note))
    monkeypatch.setattr(
        plots, "label_ends", lambda axes, curves: ends.append([label for _, label, _ in curves])
    )
    two = load_run(write_run(tmp_path / "two"))
    steered = load_run(
        write_run(
            tmp_path / "steered", algorithm="dt", names=["target=9_returns", "target=9_lengths"]
        )
    )
    swept = load_run(write_run(tmp_path / "swept", {"rate": [1, 2]}, (2, 2, 2, 2)))
    plot_learning_curve(two, tmp_path / "a.png")
    plot_learning_curve(steered, tmp_path / "a.png")
    plot_sweep(swept, tmp_path / "a.png")
    plot_comparison([two, two], tmp_path / "a.png", labels=["a", "b"])
    plot_comparison([two, steered], tmp_path / "a.png")
    says = [caption.partition("deterministic mode; ")[1] != "" for caption in captions]
    assert says == [True, False, True, True, False], captions
    assert ends == [
        ["deterministic"],
        ["target=9"],
        ["a", "b"],
        ["ppo, deterministic", "dt, target=9"],
    ]


def test_a_legend_is_within_the_figure_and_leaves_out_what_all_names_begin_with(tmp_path):
    runs = [
        load_run(write_run(tmp_path / "study" / name / "the-same", environment=env))
        for env in ("Hopper-v5", "Walker2d-v5")
        for name in (f"{env}-with-a-long-name", f"{env}-with-another-name", f"{env}-and-a-third")
    ]
    drawn = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plots, "save_figure", lambda figure, path: drawn.append(figure))
        plot_comparison(runs, tmp_path / "a.png")
    (figure,) = drawn
    figure.canvas.draw()
    (legend,) = figure.legends
    names = [text.get_text() for text in legend.get_texts()]
    assert names[0] == "Hopper-v5-with-a-long-name/the-same" and len(names) == 6
    box, whole = legend.get_window_extent(), figure.bbox
    assert whole.x0 <= box.x0 and box.x1 <= whole.x1


def test_refusals(tmp_path):
    one = load_run(write_run(tmp_path / "one"))
    swept = load_run(write_run(tmp_path / "swept", {"rate": [1, 2]}, (2, 2, 2, 2)))
    many = load_run(write_run(tmp_path / "many", {"a": [1], "b": [1], "c": [1]}))
    path = tmp_path / "x.png"
    for call, words in [
        (lambda: plot_sweep(one, path), "swept nothing"),
        (lambda: plot_sweep(many, path), "one or two"),
        (lambda: plot_comparison([], path), "no runs"),
        (lambda: plot_comparison([one, swept], path), "use plot_sweep"),
        (lambda: plot_comparison([one], path, labels=["a", "b"]), "2 labels were given for 1 runs"),
        (lambda: plot_comparison([one] * 9, path, labels="abcdefghi"), "only 8 colours"),
        (lambda: plot_scores([], path), "no rows"),
        (lambda: plot_scores([{"task": "a"}], path), "lacks score"),
        (lambda: save_figure(None, "x.gif"), r"ends in \.png"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()
    assert not path.exists()


def test_a_size_is_kept(tmp_path):
    run = load_run(write_run(tmp_path / "run"))
    for draw in (
        plot_learning_curve,
        lambda run, path, look: plot_profiles([run], path, None, look),
    ):
        draw(run, tmp_path / "x.png", look=Look(size=(5.0, 3.0)))
        with Image.open(tmp_path / "x.png") as image:
            assert image.size == (800, 480)


def test_a_curve_is_what_the_look_asks_for(tmp_path):
    run = load_run(write_run(tmp_path / "run"))
    usual = curve_of(run, 0, "a", "red")
    np.testing.assert_array_equal(usual.scores, run.returns()[:, 0])
    assert usual.counts.tolist() == [0, 100_000, 200_000] and usual.unit == "transitions"
    other = curve_of(run, 0, "a", "red", Look("evaluation/stochastic_length", "seconds", 2))
    lengths = run.evaluations["stochastic_lengths"].mean(-1)[:, 0]
    np.testing.assert_allclose(other.scores[0], (lengths[0] + lengths[1]) / 2)
    assert other.counts.tolist() == [0, 0.5, 1.0] and other.unit == "seconds of training"


def test_gaps_of_metrics_are_bridged_and_those_of_evaluations_are_not(tmp_path):
    folder = write_run(tmp_path / "run")
    rows = [
        {"iteration": i, "transitions": i, "return": [[value, 1.0, 1.0, 1.0]]}
        for i, value in enumerate([1.0, None, 3.0])
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arrays = dict(np.load(folder / "evaluations.npz"))
    arrays["deterministic_returns"][1, 0, 0] = np.nan
    np.savez(folder / "evaluations.npz", **arrays)
    run = load_run(folder)
    assert curve_of(run, 0, "a", "red", Look("return")).scores[:, 0].tolist() == [1, 2, 3]
    assert np.isnan(curve_of(run, 0, "a", "red").scores[1, 0])


def test_what_learners_scored(tmp_path):
    """Runs with one label are one learner, its environments its tasks, in a fixed order."""
    runs = [
        load_run(write_run(tmp_path / "a", environment="B")),
        load_run(write_run(tmp_path / "b", environment="A", scale=10)),
        load_run(write_run(tmp_path / "c", environment="B", scale=2)),
        load_run(write_run(tmp_path / "d", environment="A", scale=3)),
    ]
    learners = versus._learners(runs, ["x", "x", "y", "y"], Look())
    last = [run.returns()[-1, 0] for run in runs]
    np.testing.assert_array_equal(learners["x"], np.stack([last[1], last[0]], axis=1))
    np.testing.assert_array_equal(learners["y"], np.stack([last[3], last[2]], axis=1))
    pooled = versus._learners(runs[::2], ["x", "x"], Look())
    np.testing.assert_array_equal(pooled["x"][:, 0], np.concatenate([last[0], last[2]]))


def test_settings_that_few_letters_do_not_tell_apart_are_all_there(tmp_path):
    rates = [1.2341e-4, 1.2342e-4, 5e-4]
    run = load_run(write_run(tmp_path / "run", {"rate": rates}, (2, 3, 2, 2)))
    names = ["rate 0.00012341", "rate 0.00012342", "rate 0.0005"]
    assert list(versus._learners([run], None, Look())) == names


def test_an_environment_with_other_options_is_another_task(tmp_path):
    runs = []
    for name, options in (("a", {}), ("b", {"length": 8})):
        run = load_run(write_run(tmp_path / name, environment="E"))
        runs.append(replace(run, config=run.config | {"environment_options": options}))
    assert tasks_of(runs) == ["E", "E, length=8"] and tasks_of(runs[1:]) == ["E"]
    assert versus._learners(runs, ["x", "x"], Look())["x"].shape[1] == 2, "no two seeds of one task"
    with pytest.raises(JaxrlError, match="a has no run in E, length=8"):
        plot_improvement(runs, tmp_path / "x.png", ["a", "b"])


def test_names_that_repeat_in_other_environments_alone_are_short(tmp_path):
    runs = [
        load_run(write_run(tmp_path / env / name, environment=env))
        for env in ("A", "B")
        for name in ("gru", "none")
    ]
    assert plots.labels_of(runs, None) == ["gru", "none", "gru", "none"]


def test_a_profile_of_several_environments_is_normalised(tmp_path, monkeypatch):
    runs = []
    for name, expert in (("A", 10.0), ("B", 20.0)):
        run = load_run(write_run(tmp_path / name, environment=name))
        runs.append(replace(run, config=run.config | {"reference_scores": [0.0, expert]}))
    seen = []
    real = versus.performance_profile
    monkeypatch.setattr(
        versus,
        "performance_profile",
        lambda scores, thresholds: seen.append(scores) or real(scores, thresholds),
    )
    plot_profiles(runs, tmp_path / "x.png", ["a", "a"])
    expected = [
        100 * run.returns()[-1, 0] / expert for run, expert in zip(runs, (10, 20), strict=True)
    ]
    np.testing.assert_allclose(seen[0], np.stack(expected, axis=1))


def test_refusals_of_looks_and_learners(tmp_path):
    one = load_run(write_run(tmp_path / "one"))
    other = load_run(write_run(tmp_path / "other", environment="Hopper"))
    few = load_run(write_run(tmp_path / "few", environment="Hopper", shape=(3, 1, 2, 5)))
    failed = write_run(tmp_path / "failed")
    arrays = dict(np.load(failed / "evaluations.npz"))
    arrays["deterministic_returns"][-1, 0, 0] = np.nan
    np.savez(failed / "evaluations.npz", **arrays)
    failed = load_run(failed)
    offline = replace(one, config=one.config | {"unit": "gradient steps"})
    path = tmp_path / "x.png"
    for call, words in [
        (lambda: plot_learning_curve(one, path, Look("los")), "'los'. Did you mean loss"),
        (lambda: plot_learning_curve(one, path, Look(x="second")), "Did you mean seconds"),
        (lambda: plot_learning_curve(one, path, Look(smooth=4)), "smooth is 4, .* only 3 points"),
        (
            lambda: plot_comparison([one, offline], path, ["a", "b"]),
            "gradient steps and transitions. Let x be what all of them have: iteration, seconds",
        ),
        (lambda: plot_improvement([one], path), "only 'ppo'"),
        (lambda: plot_improvement([one, failed], path), "1 of 4 last values of .* not finite"),
        (lambda: plot_improvement([one, other], path, ["a", "b"]), "a has no run in Hopper"),
        (lambda: plot_improvement([one, few], path, ["a", "a"]), "a has 2 and 4 seeds"),
        (lambda: plot_profiles([one, other], path), "normalised returns"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()
    assert not path.exists()
    plot_comparison([one, offline], path, ["a", "b"], Look(x="seconds"))
