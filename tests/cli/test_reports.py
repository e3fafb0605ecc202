"""What is made of runs for people and for other programs: export, plot's options, report."""

import csv
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from jaxrl import cli
from jaxrl.analysis import page, plots, versus
from jaxrl.analysis.runs import load_run
from jaxrl.cli import report
from tests.train.tiny import ARGUMENTS, ITERATIONS, shared_compilations


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two finished runs of two seeds, and a sweep."""
    folder = tmp_path_factory.mktemp("runs")
    shared = [*ARGUMENTS, "--quiet", "--num-seeds", "2", "--folder"]
    with shared_compilations():
        assert cli.main(["train", "ppo", *shared, str(folder / "one")]) == 0
        assert cli.main(["train", "ppo", *shared, str(folder / "two"), "--gamma", "0.9"]) == 0
        over = ["--over", "learning_rate=1e-3,1e-2"]
        assert cli.main(["sweep", "ppo", *shared, str(folder / "sweep"), *over]) == 0
    return folder


pytestmark = pytest.mark.usefixtures("nothing_compiles")


def test_export_writes_every_number_of_every_run(run, runs, tmp_path):
    target = tmp_path / "all.csv"
    output, errors = run("export", runs / "one", runs / "sweep", "--csv", target)
    with target.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert (output, errors) == (f"wrote {target}: {len(rows):,} rows\n", "")
    returns = load_run(runs / "sweep").returns()
    found = [
        float(row["value"])
        for row in rows
        if row["metric"] == "evaluation/deterministic_return" and row["run"] == "sweep"
    ]
    np.testing.assert_array_equal(np.reshape(found, returns.shape), returns)
    assert {row["setting"] for row in rows} == {"", "learning_rate=0.001", "learning_rate=0.01"}
    assert {row["seed"] for row in rows} == {"0", "1"}
    losses = [row for row in rows if (row["metric"], row["run"]) == ("loss", "one")]
    assert len(losses) == 2 * ITERATIONS and losses[-1]["transitions"] == str(32 * ITERATIONS)


def test_export_replaces_a_file_only_if_asked(run, runs, tmp_path):
    target = tmp_path / "all.csv"
    target.write_text("mine")
    assert "--overwrite" in run("export", runs / "one", "--csv", target, status=2)[1]
    assert target.read_text() == "mine"
    run("export", runs / "one", "--csv", target, "--overwrite")
    assert target.read_text().startswith("run,algorithm,")


PLOTS = {
    "RUNS/one --metric loss": ("plot_learning_curve", "learning_curve-loss", plots.Look("loss")),
    "RUNS/one RUNS/two --x seconds --smooth 2": (
        "plot_comparison",
        "comparison",
        plots.Look(x="seconds", smooth=2),
    ),
    "RUNS/sweep --size 5,4": ("plot_sweep", "sweep", plots.Look(size=(5.0, 4.0))),
    "RUNS/sweep --kind curve --size 5 4": (
        "plot_learning_curve",
        "learning_curve",
        plots.Look(size=(5.0, 4.0)),
    ),
    "RUNS/sweep --kind improvement --metric evaluation/stochastic_length": (
        "plot_improvement",
        "improvement-evaluation-stochastic_length",
        plots.Look("evaluation/stochastic_length"),
    ),
    "RUNS/one RUNS/two --kind profile --labels a b": ("plot_profiles", "profile", plots.Look()),
}


@pytest.mark.parametrize(("text", "drawn"), PLOTS.items(), ids=list(PLOTS))
def test_plot_draws_what_is_asked_for(run, runs, tmp_path, monkeypatch, text, drawn):
    function, name, look = drawn
    module = versus if hasattr(versus, function) else plots
    real, seen = getattr(module, function), []

    def spied(*given, **named):
        seen.extend([*given, *named.values()])
        return real(*given, **named)

    monkeypatch.setattr(module, function, spied)
    copies = shutil.copytree(runs, tmp_path / "runs")
    output, _ = run("plot", *text.replace("RUNS", str(copies)).split())
    first = text.split()[0].removeprefix("RUNS/")
    picture = copies / first / "plots" / f"{name}.png"
    assert output == f"wrote {picture}\n"
    assert look in seen
    if "--labels" in text:
        assert ("a", "b") in seen
    with Image.open(picture) as image:
        size = image.size
    assert (size == (800, 640)) == ("--size" in text)


BAD = {
    "export RUNS/one --csv x.txt": ["csv is x.txt", ".csv"],
    "export --csv x.csv": ["at least one run folder"],
    "export RUNS/one": ["--csv"],
    "export RUNS/on --csv x.csv": ["not a run folder", "one"],
    "export RUNS/one RUNS/one --csv x.csv": ["one is given twice"],
    "export RUNS/one --csv no/x.csv": ["no/x.csv", "No such file"],
    "plot RUNS/one --metric los": ["unknown metric", "'los'", "loss"],
    "plot RUNS/one --metric deterministic_return": ["evaluation/deterministic_return"],
    "plot RUNS/one --x second": ["'second'", "seconds"],
    "plot RUNS/one --x updates": ["'updates'", "transitions"],
    "plot RUNS/one --kind pie": ["pie", "'profile'"],
    "plot RUNS/one --smooth 1": ["smooth is 1", "at least 2"],
    "plot RUNS/one --smooth 99": ["smooth is 99", "points of evaluation/deterministic_return"],
    "plot RUNS/one --size 4": ["--size", "'4' is not two numbers"],
    "plot RUNS/one --size 0.5 4": ["size (width) is 0.5", "[1, 50]"],
    "plot RUNS/one --size 5 nan": ["size (height) is nan"],
    "plot RUNS/one --labels a b": ["--labels is a b", "each of 1 runs"],
    "plot RUNS/sweep --labels a": ["--labels is a", "by their values"],
    "plot RUNS/sweep --x seconds": ["--x is seconds", "--kind curve", "--kind final"],
    "plot RUNS/one RUNS/two --kind profile --smooth 3": ["--smooth is 3", "--kind profile"],
    "plot RUNS/one --kind final": ["swept nothing"],
    "plot RUNS/one RUNS/two --kind final": ["one sweep", "2 runs"],
    "plot RUNS/one --kind improvement": ["only 'ppo'", "two labels"],
    "report RUNS/one --output x.htm": ["output is x.htm", ".html"],
    "report --output x.html": ["at least one run folder"],
    "report RUNS/one": ["--output"],
    "report RUNS/one --films --output x.html": ["cannot draw probe/two-lengths"],
}


@pytest.mark.parametrize(("text", "named"), BAD.items(), ids=list(BAD))
def test_a_bad_request_is_one_message(ask, runs, tmp_path, monkeypatch, text, named):
    monkeypatch.chdir(tmp_path)
    status, _, errors = ask(*text.replace("RUNS", str(runs)).split())
    assert status == 2
    assert [word for word in named if word not in errors] == [], errors
    assert not list(tmp_path.iterdir())


@pytest.fixture
def reported(run, monkeypatch, tmp_path):
    """What `jaxrl report` puts on its page."""

    def command(*words):
        seen = []
        real = page.write_page
        monkeypatch.setattr(
            report, "write_page", lambda shown, path: seen.extend(shown) or real(shown, path)
        )
        run("report", *words, "--output", tmp_path / "page.html", "--overwrite")
        return seen

    return command


def test_report_writes_a_page_with_commands_that_repeat_the_runs(run, runs, tmp_path):
    target = tmp_path / "page.html"
    output, errors = run("report", runs / "one", runs / "sweep", "--output", target)
    text = target.read_text()
    assert output.startswith(f"wrote {target}: 2 runs, ") and errors == ""
    assert text.startswith("<!doctype html>") and "<figure" in text
    again = text[text.index("<h2>Again") :]
    assert "jaxrl train ppo --env probe/two-lengths --total-steps 768 --num-envs 4" in again
    assert "jaxrl sweep ppo --env probe/two-lengths --over learning_rate=0.001,0.01" in again
    assert "--learning-rate" not in again
    assert "give another --output" in run("report", runs / "one", "--output", target, status=2)[1]
    assert target.read_text() == text


def test_the_command_of_a_report_makes_the_same_experiment(runs, reported, monkeypatch, capsys):
    (shown,) = reported(runs / "sweep")
    made = []
    monkeypatch.setattr("jaxrl.train.loop.train", lambda given, *_, **__: made.append(given))
    monkeypatch.setattr("jaxrl.train.output.report.finish", lambda *_: 0)
    assert cli.main(shown.command.split()[1:]) == 0
    described = json.loads((runs / "sweep" / "config.json").read_text())
    again = json.loads(json.dumps(made[0].description() | {"run": described["run"]}, default=str))
    for name in ("algorithm", "environment", "sweep"):
        assert again[name] == described[name]
    assert made[0].run.num_seeds == 2 and made[0].config.num_envs == 4


def test_a_page_about_a_strangers_run_imports_nothing(runs, reported, tmp_path):
    folder = shutil.copytree(runs / "one", tmp_path / "run")
    described = json.loads((folder / "config.json").read_text())
    described["environment"] = "evil:Evil"
    (folder / "config.json").write_text(json.dumps(described))
    (shown,) = reported(folder)
    assert shown.command.startswith("not known: ") and "evil:Evil" in shown.command


def test_films_are_those_that_are_there_or_new_ones(runs, reported, tmp_path, monkeypatch):
    folder = shutil.copytree(runs / "one", tmp_path / "run")
    film = folder / "plots" / "episode.gif"
    (shown,) = reported(folder)
    assert shown.film is None
    film.write_bytes(b"GIF89a, old")
    assert reported(folder)[0].film == b"GIF89a, old"
    monkeypatch.setattr(
        report, "render", lambda run, name, seed, path, **_: path.write_bytes(b"GIF89a, new")
    )
    assert reported(folder, "--films")[0].film == b"GIF89a, new"
    assert film.read_bytes() == b"GIF89a, old"


def test_what_is_no_film_of_the_run_is_not_shown(runs, reported, tmp_path, monkeypatch):
    folder = shutil.copytree(runs / "one", tmp_path / "run")
    film, secret = folder / "plots" / "episode.gif", tmp_path / "secret.gif"
    film.write_bytes(b"<script>")
    assert reported(folder)[0].film is None
    secret.write_bytes(b"GIF89a, somebody's")
    film.unlink()
    film.symlink_to(secret)
    assert reported(folder)[0].film is None
    film.unlink()
    film.write_bytes(b"GIF89a, long")
    monkeypatch.setattr(report, "LARGEST_FILM", 5)
    assert reported(folder)[0].film is None
