"""The harness of experiments and benchmarks: cells that resume, the estimate before them, tables,
files; and that nothing published would be measured again."""

import importlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass

import pytest

from experiments import harness
from experiments.harness import Cell, Study, StudyArguments
from jaxrl.algos.ppo import PPOConfig
from jaxrl.config import flatten
from jaxrl.data import formats
from jaxrl.errors import JaxrlError
from jaxrl.train import datasets
from jaxrl.train.output.console import Console


@pytest.fixture
def log():
    """The cells that were measured, in order."""
    return []


def cells_of(log, numbers, stopped_at=None):
    """A cell per number, which measures its square."""

    def measure(name, number):
        if name == stopped_at:
            raise KeyboardInterrupt
        log.append(name)
        return {"square": number**2}

    return {
        name: Cell({"number": number}, lambda name=name, number=number: measure(name, number), 0.5)
        for name, number in numbers.items()
    }


def study_of(cells, folder):
    def text(found):
        return harness.markdown([{"cell": name, **cell} for name, cell in found.items()])

    def draw(found, path):
        assert found and path == folder / "squares.png"

    return Study("squares", cells, text, draw, folder)


def test_a_finished_cell_is_measured_again_only_if_it_is_asked_something_else(log, tmp_path):
    harness.conduct(study_of(cells_of(log, {"a": 1, "b": 2}), tmp_path))
    harness.conduct(study_of(cells_of(log, {"a": 1, "b": 3, "c": 4}), tmp_path))
    assert log == ["a", "b", "b", "c"]
    found = json.loads((tmp_path / "squares.json").read_text())["cells"]
    assert {name: cell["square"] for name, cell in found.items()} == {"a": 1, "b": 9, "c": 16}
    assert found["b"]["asked"] == {"number": 3} and "jax" in found["b"]["versions"]


def test_what_is_finished_outlives_a_stop_and_what_was_stopped_is_measured_anew(log, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        harness.conduct(study_of(cells_of(log, {"a": 1, "b": 2, "c": 3}, "b"), tmp_path))
    assert log == ["a"]
    harness.conduct(study_of(cells_of(log, {"a": 1, "b": 2, "c": 3}), tmp_path))
    assert log == ["a", "b", "c"]


def test_what_a_process_beside_this_one_has_finished_is_kept(log, tmp_path):
    """Even of a cell that this one has yet to measure, and is stopped at."""
    cells = cells_of(log, {"a": 1, "b": 2}, "b")
    beside = study_of(cells_of(log, {"b": 2}), tmp_path)
    both = {"a": cells["a"]._replace(measure=lambda: harness.conduct(beside) or {"square": 1})}
    with pytest.raises(KeyboardInterrupt):
        harness.conduct(study_of(both | {"b": cells["b"]}, tmp_path))
    assert log == ["b"]
    assert sorted(json.loads((tmp_path / "squares.json").read_text())["cells"]) == ["a", "b"]


def test_what_a_record_tells_of_a_runs_settings_is_compared():
    asked = {"run": {"seed": 0, "modes": ["target=1"]}}
    assert harness.same_request(asked, {"run": {"seed": 0}}), "as it was before modes were told"
    assert not harness.same_request(asked, {"run": {"seed": 0, "modes": ["target=2"]}})


def test_a_run_folder_that_does_not_tell_of_measures_is_the_same_run():
    training = importlib.import_module("training")
    names = ("algorithm", "environment", "environment_options", "config", "sweep")
    run = {"seed": 0, "num_seeds": 1, "evaluation_episodes": 10, "modes": ["stochastic"]}
    older = dict.fromkeys(names, {}) | {"run": run}
    newer = older | {"run": run | {"measures": []}}
    asked, before = map(training.request_of, (newer, older))
    assert harness.same_request(asked, before) and "measures" not in before["run"]


def test_a_small_dataset_is_no_dataset_of_a_study(tmp_path, monkeypatch):
    training = importlib.import_module("training")
    monkeypatch.setenv("JAXRL_DATASETS", str(tmp_path))
    formats.write_as("own", tmp_path / "bandit-2d.npz", datasets.build("bandit-2d", small=True))
    with pytest.raises(JaxrlError, match="is the small bandit-2d: `jaxrl dataset build bandit-2d"):
        training.ensure_built("bandit-2d", Console())


def test_only_a_report_measures_nothing_and_keeps_what_is_there(log, tmp_path, capsys):
    harness.conduct(study_of(cells_of(log, {"a": 1}), tmp_path))
    before = (tmp_path / "squares.json").read_bytes()
    harness.conduct(study_of(cells_of(log, {"a": 5, "b": 2}), tmp_path), report_only=True)
    assert log == ["a"] and (tmp_path / "squares.json").read_bytes() == before
    assert (tmp_path / "squares.md").read_text().splitlines()[0] in capsys.readouterr().out


def test_the_estimate_comes_before_the_first_cell(log, tmp_path, capsys):
    cells = cells_of(log, {"a": 1, "b": 2})
    first = cells["a"]
    said = []

    def listening():
        said.append(capsys.readouterr().out)
        return first.measure()

    cells["a"] = first._replace(measure=listening)
    harness.conduct(study_of(cells, tmp_path))
    assert said == ["2 of 2 cells are missing: some 1.00 CPU-hours\n"]


def test_an_option_that_is_new_counts_only_where_it_is_used():
    asked = {"config": flatten(PPOConfig(outer_step_size=0.5)), "seeds": 3}
    before = json.loads(json.dumps(asked))
    del before["config"]["outer_step_size"]  # as if PPO had got it since
    assert not harness.same_request(asked, before, PPOConfig())
    asked["config"]["outer_step_size"] = PPOConfig().outer_step_size
    assert harness.same_request(asked, before, PPOConfig())
    assert not harness.same_request(asked | {"seeds": 4}, before, PPOConfig())
    behind, known = ({"baseline": each | {"algorithm": "ppo"}} for each in (asked, before))
    assert harness.same_request(behind, known)
    assert not harness.same_request(behind, {"baseline": known["baseline"] | {"seeds": 4}})
    assert not harness.same_request(behind, {})


def test_every_command_that_measured_something_stands_below_the_tables(log, tmp_path, monkeypatch):
    for option in ("--one", "--one", "--two words"):
        monkeypatch.setattr(sys, "argv", [str(harness.ROOT / "experiments/x.py"), *option.split()])
        monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
        cells = cells_of(log, {option: len(option)})
        harness.conduct(study_of(cells, tmp_path))
    last = (tmp_path / "squares.md").read_text().splitlines()[-1]
    assert last == "Made by `python experiments/x.py --one`, `python experiments/x.py --two words`."


def test_a_module_is_named_as_python_runs_it(monkeypatch):
    spec = importlib.util.spec_from_loader("benchmarks.memory", None)
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", spec)
    monkeypatch.setattr(sys, "argv", ["/somewhere/benchmarks/memory.py", "--num-envs", "64"])
    assert harness.command_line() == "python -m benchmarks.memory --num-envs 64"


def test_a_table_lines_up_and_numbers_are_flush_right():
    lines = harness.table(
        ["task", "score"], [["Hopper-v5", "2.5 [1, 3]"], ["Ant", "−1"], ["Pusher", None]]
    ).splitlines()
    assert lines == [
        "| task      |      score |",
        "| --------- | ---------: |",
        "| Hopper-v5 | 2.5 [1, 3] |",
        "| Ant       |         −1 |",
        "| Pusher    |          – |",
    ]


def test_a_table_of_rows_has_a_column_for_every_key():
    lines = harness.markdown([{"a": 1}, {"a": None, "b": "x"}], "About:").splitlines()
    assert lines[:3] == ["About:", "", "|   a | b   |"]
    assert lines[-2:] == ["|   1 | –   |", "|   – | x   |"]
    assert harness.markdown([], "About:") == ""


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="zip"):
        harness.table(["a", "b"], [[1, 2], [3]])


def test_files_are_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "new" / "result.md"
    harness.save(path, "whole\n\n")
    assert path.read_text() == "whole\n"

    def fail(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(JaxrlError, match="disk is full"):
        harness.save(path, "half")
    monkeypatch.undo()
    assert path.read_text() == "whole\n" and [each.name for each in path.parent.iterdir()] == [
        "result.md"
    ]


def test_a_picture_has_a_panel_after_the_other(tmp_path):
    places = []

    def panel(axes):
        places.append(axes.get_subplotspec().get_geometry()[:3])

    path = tmp_path / "new" / "all.png"
    harness.picture(path, [panel] * 3, 3.0, 2.0)
    assert places == [(2, 2, 0), (2, 2, 1), (2, 2, 2)] and path.read_bytes().startswith(b"\x89PNG")
    harness.picture(tmp_path / "none.png", [], 3.0, 2.0)
    assert not (tmp_path / "none.png").exists()


@dataclass(frozen=True)
class Words(StudyArguments):
    """Words of a command line."""

    tasks: tuple[str, ...] = ("hopper",)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--quick", "--report-only"], 0, ""),
        (["--tasks", "hoper"], 2, "error: unknown task 'hoper'"),
    ],
)
def test_a_script_ends_with_its_status_and_says_what_is_wrong(
    words, status, said, monkeypatch, capsys
):
    def main(given):
        harness.check_choices("task", given.tasks, ("hopper", "walker"))
        assert given.quick and given.report

    monkeypatch.setattr(sys, "argv", ["x.py", *words])
    with pytest.raises(SystemExit) as stop:
        harness.start(main, Words)
    assert (stop.value.code or 0) == status and capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("classic_control", {}),
        ("classic_control", {"quick": True}),
        ("deep_stepmix", {}),
        ("mjx_errors", {}),
        ("offline", {}),
        ("offline_mujoco", {}),
        ("scaling_envs", {}),
        ("scaling_envs", {"quick": True}),
        ("sequence_models", {}),
        ("snapshot_backward", {}),
        ("snapshot_rl", {"full": True}),
        ("stepmix", {}),
        ("stepmix", {"quick": True}),
        ("brax_ppo", {"quick": True}),
        ("memory", {}),
        ("mujoco_ppo", {"settings": ("reference",), "tasks": ("HalfCheetah-v5", "Pusher-v5")}),
        ("mujoco_ppo", {"settings": ("tuned",), "tasks": ("Ant-v5", "Swimmer-v5")}),
    ],
    ids=str,
)
def test_what_is_published_is_not_measured_again(script, options, tmp_path):
    module = importlib.import_module(script)
    study = module.study(module.Arguments(**options))
    done = harness.read(harness.RESULTS / f"{study.name}.json")["cells"]
    missing = [
        name for name, cell in study.cells.items() if not harness.is_finished(cell, done.get(name))
    ]
    assert missing == []


@pytest.mark.parametrize(
    "name", sorted(path.stem for path in harness.RESULTS.glob("*.json")), ids=str
)
def test_the_published_tables_are_those_of_the_json(name):
    script = importlib.import_module(name.removesuffix("_quick"))
    record = harness.read(harness.RESULTS / f"{name}.json")
    text = harness.signed(script.text(record["cells"]), record["commands"])
    assert (harness.RESULTS / f"{name}.md").read_text() == text + "\n"


def test_measuring_says_how_long_each_cell_took(log, tmp_path, capsys):
    record = {"commands": [], "cells": {}}
    harness.measure_missing(cells_of(log, {"a": 1}), record, tmp_path / "x.json", Console())
    assert capsys.readouterr().out.splitlines()[-1] == "a: 0 s"
    assert record == json.loads((tmp_path / "x.json").read_text())


def test_a_notebooks_window_is_not_asked_for():
    """In a process of its own, for here matplotlib is imported already."""
    missing = "module://no_such_package.backend_inline"
    done = subprocess.run(
        [sys.executable, "-c", "import harness, matplotlib.pyplot as plots; plots.figure()"],
        cwd=harness.ROOT / "experiments",
        env=os.environ | {"MPLBACKEND": missing, "PYTHONPATH": str(harness.ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
