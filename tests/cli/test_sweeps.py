"""Sweeps from beginning to end: drawn settings, sizes in turn, and what is said of the winner."""

import json
import re
import shlex
import signal

import numpy as np
import pytest

from jaxrl import cli
from jaxrl.analysis.runs import load_run
from jaxrl.cli import train as command
from jaxrl.train import loop, turns
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.folder import read_description
from jaxrl.train.files.lock import locked
from jaxrl.train.files.logs import load_evaluations
from jaxrl.train.output import ranked
from jaxrl.train.output.console import Console
from jaxrl.train.runner import Diverged, Result
from tests.train.tiny import (
    ARGUMENTS,
    EPISODES,
    ITERATIONS,
    POINTS,
    experiment,
    records,
    shared_compilations,
)

DRAWN = ["--over", "learning_rate=log:1e-4..1e-2", "gamma=0.9..0.99", "--samples", "3"]
SIZES = ["--over", "num_envs=4,8", "learning_rate=1e-3,1e-2"]


@pytest.fixture(autouse=True, scope="module")
def programs_of_equal_shapes_compile_once():
    with shared_compilations():
        yield


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A finished sweep over three drawn settings by two seeds."""
    folder = tmp_path_factory.mktemp("sweeps") / "drawn"
    words = ["sweep", "ppo", *ARGUMENTS, *DRAWN, "--num-seeds", "2", "--folder", str(folder)]
    assert cli.main([*words, "--quiet"]) == 0
    return folder


def test_drawn_settings_are_trained_side_by_side_and_kept(drawn):
    described = read_description(drawn)
    assert described["sampled"] == {"learning_rate": "log:1e-4..1e-2", "gamma": "0.9..0.99"}
    assert [len(values) for values in described["sweep"].values()] == [3, 3]
    returns = load_evaluations(drawn)["deterministic_returns"]
    assert returns.shape == (len(POINTS), 3, 2, EPISODES)
    rows = list(zip(*described["sweep"].values(), strict=True))
    run = load_run(drawn)
    assert [tuple(setting.values()) for setting in run.settings] == rows and run.is_sampled


def test_each_member_has_the_values_of_one_place(drawn, run, ask):
    rates, gammas = read_description(drawn)["sweep"].values()
    words = ("eval", drawn, "--episodes", 4, "--member")
    output, _ = run(*words, f"learning_rate={rates[1]},gamma={gammas[1]},seed=1")
    assert f"{gammas[1]:.4g}" in output and f"{gammas[0]:.4g}" not in output
    assert run(*words, f"gamma={gammas[2]}")[0].count("deterministic") == 1
    status, _, errors = ask(*words, f"learning_rate={rates[0]},gamma={gammas[1]}")
    assert status == 2 and "no member has" in errors and "together" in errors


def test_a_drawn_sweep_goes_on_is_drawn_and_reported(drawn, run, tmp_path):
    output, errors = run("resume", drawn)
    assert errors == "" and "best setting" in output and "is finished" in output
    assert (drawn / "plots" / "sweep.png").exists()
    run("plot", drawn, "--kind", "curve", "--output", tmp_path / "curve.png")
    run("report", drawn, "--output", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "--samples 3" in page and "log:1e-4..1e-2" in page


def test_a_damaged_sample_is_refused(drawn, ask, tmp_path):
    (tmp_path / "run").mkdir()
    described = read_description(drawn)
    for wrong in (
        {"sampled": {"gamma": "0.9..0.99"}},
        {"sampled": [1]},
        {"sweep": described["sweep"] | {"gamma": [0.5]}},
    ):
        (tmp_path / "run" / "config.json").write_text(json.dumps(described | wrong))
        status, _, errors = ask("eval", tmp_path / "run")
        assert status == 2 and "config.json" in errors and "sampled" in errors


@pytest.fixture(scope="module")
def in_turn(tmp_path_factory):
    """A finished sweep over two sizes, of two learning rates and two seeds each."""
    folder = tmp_path_factory.mktemp("sweeps") / "turns"
    words = ["sweep", "ppo", *without("--num-envs"), *SIZES, "--num-seeds", "2"]
    assert cli.main([*words, "--folder", str(folder), "--quiet"]) == 0
    return folder


def without(option):
    """The arguments of the tiny run but for one option."""
    at = ARGUMENTS.index(option)
    return [*ARGUMENTS[:at], *ARGUMENTS[at + 2 :]]


def test_sizes_are_gone_through_in_turn(in_turn):
    assert turns.read(in_turn) == (["num_envs"], ["num_envs=4", "num_envs=8"])
    for num_envs in (4, 8):
        described = read_description(in_turn / f"num_envs={num_envs}")
        assert described["config"]["num_envs"] == num_envs
        assert described["sweep"] == {"learning_rate": [1e-3, 1e-2]}
        assert (in_turn / f"num_envs={num_envs}" / "plots" / "sweep.png").exists()


def test_a_run_in_turn_is_the_one_that_is_trained_by_itself(in_turn, run, tmp_path):
    words = [*without("--num-envs"), "--num-envs", "8", *SIZES[:1], *SIZES[2:], "--num-seeds", "2"]
    run("sweep", "ppo", *words, "--folder", tmp_path / "alone", "--quiet")
    assert records(tmp_path / "alone") == records(in_turn / "num_envs=8")


def test_all_settings_are_ranked_together(in_turn, run):
    output, errors = run("resume", in_turn)
    assert errors == ""
    rows = re.findall(r"\| +(\d) +\| +(0\.0\d+) +\| deterministic +\| +([\d.]+)", output)
    assert sorted(row[:2] for row in rows) == [
        (envs, rate) for envs in "48" for rate in ("0.001", "0.01")
    ]
    scores = [float(row[2]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    best = rows[0]
    assert f"best setting  num_envs={best[0]},learning_rate={best[1]}," in output
    assert f"jaxrl eval {in_turn / f'num_envs={best[0]}'} --member learning_rate=" in output
    (command_line,) = re.findall(r"new seeds +jaxrl (.*)", output)
    words = shlex.split(command_line)
    assert words[words.index("--seed") + 1] == "2" and words[words.index("--num-seeds") + 1] == "5"
    assert words[words.index("--num-envs") + 1] == best[0]


def test_a_sweep_in_turn_that_was_killed_goes_on_where_it_was(in_turn, run, tmp_path, monkeypatch):
    """After the first run nothing is trained but the second, whose folder was there already."""
    words = ["sweep", "ppo", *without("--num-envs"), *SIZES, "--num-seeds", "2", "--quiet"]
    folder = tmp_path / "killed"
    resume, begun = loop.resume, []

    def killed(path, **given):
        begun.append(path.name)
        if len(begun) > 1:
            raise KeyboardInterrupt
        return resume(path, **given)

    monkeypatch.setattr(turns.loop, "resume", killed)
    assert cli.main([*words, "--folder", str(folder)]) == 130
    assert begun == ["num_envs=4", "num_envs=8"]
    assert (folder / "num_envs=8" / "config.json").exists()
    assert not Checkpoints(folder / "num_envs=8").iterations()
    monkeypatch.setattr(turns.loop, "resume", resume)
    first = (folder / "num_envs=4" / "metrics.jsonl").stat().st_mtime_ns
    output, _ = run("resume", folder)
    assert "2 of 2" in output and "best setting" in output
    assert (folder / "num_envs=4" / "metrics.jsonl").stat().st_mtime_ns == first
    for name in ("num_envs=4", "num_envs=8"):
        assert records(folder / name) == records(in_turn / name)


def test_a_signal_stops_the_sweep_and_says_how_to_go_on(in_turn, capsys):
    done = [
        loop.resume(in_turn / name, console=Console(quiet=True))
        for name in turns.read(in_turn).runs
    ]
    stopped = done[1]._replace(signal=signal.SIGTERM, evaluated_iteration=3)
    status = command.report.finish_turns(in_turn, iter([done[0], stopped]), Console())
    output = capsys.readouterr().out
    assert status == 143 and f"go on: jaxrl resume {in_turn}\n" in output
    assert "best setting" not in output


def test_a_signal_after_a_whole_run_stops_the_sweep_too(in_turn, capsys):
    first = loop.resume(in_turn / "num_envs=4", console=Console(quiet=True))
    done = first._replace(signal=signal.SIGINT)
    assert command.report.finish_turns(in_turn, iter([done]), Console()) == 130
    output = capsys.readouterr().out
    assert f"go on: jaxrl resume {in_turn}\n" in output and "final evaluation" not in output


def test_a_run_that_diverges_does_not_stop_the_others(in_turn, monkeypatch, capsys):
    resume = loop.resume

    def diverging(path, **given):
        if path.name in lost:
            raise Diverged("loss became NaN.")
        return resume(path, **given)

    monkeypatch.setattr(turns.loop, "resume", diverging)
    lost = ["num_envs=4"]
    status = cli.main(["resume", str(in_turn)])
    output, errors = capsys.readouterr()
    assert "num_envs=4 diverged: loss became NaN. The others go on" in errors
    assert status == 0 and "best setting  num_envs=8" in output
    assert "no score      num_envs=4: diverged" in output
    lost = ["num_envs=4", "num_envs=8"]
    assert cli.main(["resume", str(in_turn)]) == 2
    assert "all runs in" in capsys.readouterr().err


def test_a_bad_size_is_refused_before_there_is_a_folder(ask, nothing_compiles, tmp_path):
    words = ("sweep", "ppo", *without("--num-envs"), "--folder", tmp_path / "new")
    status, _, errors = ask(*words, "--over", "num_envs=4,1")
    assert status == 2 and "num_envs=1: " in errors and not list(tmp_path.iterdir())


def test_what_is_swept_is_not_scaled_and_said_so(ask, nothing_compiles, tmp_path):
    words = ("sweep", "ppo", *ARGUMENTS, "--folder", tmp_path / "new", "--scale-from", "2")
    over = ("--over", "learning_rate=1e-3,1e-2", "--scale-rule", "R4")
    status, _, errors = ask(*words, *over)
    assert status == 2 and "--scale-from scales learning_rate, but not the values" in errors


def test_a_sweep_is_not_written_over_another_unasked(in_turn, ask, run, tmp_path):
    words = ("sweep", "ppo", *without("--num-envs"), "--over", "num_envs=4,8")
    status, _, errors = ask(*words, "--folder", in_turn)
    assert status == 2 and "num_envs=4 already holds a run" in errors
    assert "it cannot be set" in ask("resume", in_turn, "--set", "num_envs=2")[2]
    status, _, errors = ask("train", "ppo", *ARGUMENTS, "--folder", in_turn, "--overwrite")
    assert status == 2 and "holds a sweep (sweep.json exists)" in errors
    before = records(in_turn / "num_envs=4")
    with locked(in_turn / "num_envs=8"):
        status, _, errors = ask(*words, "--folder", in_turn, "--overwrite")
    assert status == 2 and "num_envs=8 is being trained by another process" in errors
    assert records(in_turn / "num_envs=4") == before, "nothing is removed until all is locked"
    (tmp_path / "sweep.json").write_text('{"varied": ["x"], "runs": ["../up"]}')
    assert "sweep.json is damaged" in ask("resume", tmp_path)[2]


def result(returns, **sweep):
    """How a sweep with such returns [H, S, E] ended."""
    made = experiment(sweep=sweep, num_seeds=returns.shape[1], seed=3)
    return Result(
        *(made, None, ITERATIONS, ITERATIONS, ITERATIONS, None, 1),
        {"deterministic": returns},
        *(None, 1.0, 1.0),
    )


def said(capsys, returns):
    """What is said of the winner among as many gammas as there are rows."""
    gammas = np.linspace(0.5, 0.9, len(returns)).tolist()
    ranked.name_the_winner([result(returns, gamma=gammas)], (), Console())
    return capsys.readouterr().out


def test_how_sure_the_best_is(capsys):
    seeds = np.asarray([0.0, 1.0, 2.0, 3.0])
    apart = np.stack([seeds, seeds + 1.0, seeds + 50.0])[..., None]
    output = said(capsys, apart)
    assert "best setting  gamma=0.9," in output
    assert "0 of 2 others have intervals that reach its own" in output
    assert "The highest of 3 noisy scores is too high" in output and "one seed" not in output
    close = np.stack([seeds + 49.0, seeds, seeds + 50.0])[..., None]
    assert "1 of 2 others" in said(capsys, close)
    alone = said(capsys, np.asarray([[[1.0, 2.0]], [[3.0, 4.0]]]))
    assert "one seed does not show what luck does" in alone


def test_new_seeds_are_new(capsys):
    output = said(capsys, np.asarray([[[1.0], [2.0]], [[3.0], [4.0]]]))
    (again,) = re.findall(r"again +(jaxrl train .*)", output)
    (anew,) = re.findall(r"new seeds +(jaxrl train .*)", output)
    assert "--gamma 0.9" in anew and "--seed 3 --num-seeds 2" in again
    assert "--seed 5 --num-seeds 5" in anew


def test_a_setting_that_diverged_is_no_rival(capsys):
    returns = np.asarray([[[1.0], [np.nan]], [[3.0], [4.0]]])
    assert "0 of 1 others" in said(capsys, returns)
