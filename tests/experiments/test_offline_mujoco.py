"""The offline study on MuJoCo: what its tables say of known scores, and its cells' settings."""

import importlib
import json

import numpy as np
import pytest

from jaxrl.config import flatten
from tests.tables import unpadded

METHODS = ("bc", "td3_bc", "rebrac", "iql", "fql", "dql", "ofql")


@pytest.fixture
def report(monkeypatch, tmp_path):
    """The report as it imports itself, without the mazes' record."""
    found = importlib.import_module("offline_mujoco_report")
    monkeypatch.setattr(found, "MAZE_RECORD", tmp_path / "none.json")
    return found


def cell(*scores, modes=("deterministic",), sweep=None, updates=30_000):
    """A finished cell with scores [settings][seeds]."""
    return {
        "scores": dict.fromkeys(modes, [list(each) for each in scores]),
        "sweep": sweep or {},
        "updates": updates,
        "training_seconds": 7.0,
    }


def whole(**others):
    """Every method on one set, with scores 0 and 10; `others` have their own."""
    scores = dict.fromkeys(METHODS, (0.0, 10.0)) | others
    return {f"hopper-medium-expert/{name}": cell(each) for name, each in scores.items()}


def test_a_difference_is_paired_and_its_probability_is_not(report):
    """By hand: 20 − 10 and 40 − 50; of four pairs 20 beats 10, 40 beats 10: a half."""
    found = report.difference(np.array([[20.0], [40.0]]), np.array([[10.0], [50.0]]))
    assert found == "+0.0 [-10.0, 10.0], 50 % [0, 100]"


def test_methods_are_compared_over_sets_that_all_of_them_have_finished(report):
    cells = whole(ofql=(20.0, 30.0)) | {"walker2d-medium-replay/ofql": cell((99.0, 99.0))}
    drawn = cell((0.0, 10.0), modes=("stochastic",))
    drawn["scores"]["best"] = [[40.0, 50.0]]
    cells["hopper-medium-expert/dql"] = drawn
    words = report.text(cells)
    assert "| DQL    |   5.0 [0.0, 10.0] | 45.0 [40.0, 50.0] |" in words
    assert "Over hopper-medium-expert: " in words and "with pointmaze" not in words
    assert (
        "| OFQL   | 25.0 [20.0, 30.0] |                   | +20.0 [20.0, 20.0], 100 % [100, 100] |"
        in words
    )
    del cells["hopper-medium-expert/bc"]
    assert "Over" not in report.text(cells)


def test_mazes_count_as_episodes_in_a_hundred_that_arrive(report, monkeypatch, tmp_path):
    arrive = {"modes": {"deterministic": {"successes": [[0.5, 1.0]], "returns": [[-9.0, -9.0]]}}}
    mazes = {f"{maze}/{name}": arrive for maze in report.MAZES for name in METHODS}
    (tmp_path / "offline.json").write_text(json.dumps({"commands": [], "cells": mazes}))
    monkeypatch.setattr(report, "MAZE_RECORD", tmp_path / "offline.json")
    words = report.text(whole())
    assert "The same with pointmaze-large-stitch, " in words
    # 50 and 100 on three mazes, 0 and 10 on the set: the middle four of eight are 50, 50, 50, 100.
    assert "| OFQL   | 62.5 [" in words


def test_every_part_has_a_table_and_the_picture_a_panel_for_each(report, monkeypatch, tmp_path):
    cells = whole() | {
        "hopper-medium-replay/iql": cell((20.0, 24.0)),
        "tuning/hopper-medium-replay/iql": cell(
            (1.0, 3.0), (5.0, 5.0), sweep={"inverse_temperature": [1.0, 3.0]}, updates=10_000
        ),
        "tuning/walker2d-medium-replay/iql": cell(
            (9.0, 9.0), (2.0, 2.0), sweep={"inverse_temperature": [1.0, 3.0]}, updates=10_000
        ),
        "beyond/hopper-medium-replay/iql": cell((6.0, 6.0), sweep={"inverse_temperature": [0.3]}),
        "beyond/walker2d-medium-replay/iql": cell((7.0, 8.0), sweep={"inverse_temperature": [0.3]}),
        "ablation/flow-0": cell((1.0, 2.0), modes=("stochastic", "best")),
        "halfcheetah-medium-replay/ofql": cell((4.0, 6.0), modes=("stochastic", "best")),
        "full/dql": cell((1.0, 2.0), modes=("stochastic", "best"), updates=50_000),
        "online/iql": cell((30.0, 34.0), updates=50_000),
        "online/sac": cell((5.0, 6.0), updates=50_000),
    }
    words = report.text(cells)
    # 0.3 earns 6 and 7.5 there; of the first four 1 is best, with 2 and 9.
    assert "| 0.3: 6, 1: 2, 3: 5 | 0.3: 8, 1: 9, 3: 2 | 0.3 |" in unpadded(words)
    parts = "| flow ratio 0 | 1.5 [1.0, 2.0] | -3.5 [-4.0, -3.0] | 1.5 [1.0, 2.0] | 1 | 10.5 |"
    assert parts in unpadded(words)
    assert "50,000 gradient steps on hopper-medium-replay" in words
    assert "+10.0 [10.0, 10.0]" in words and "SAC, from nothing" in words
    drawn, picture = [], report.picture

    def kept(path, panels, **size):
        drawn.extend(panels)
        picture(path, panels, **size)

    monkeypatch.setattr(report, "picture", kept)
    report.draw(cells, tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").stat().st_size > 1000
    assert [panel.args[0] for panel in drawn] == [
        "hopper-medium-replay",
        "hopper-medium-expert",
        "halfcheetah-medium-replay",
        "parts, halfcheetah-medium-replay",
        "online, hopper-medium-replay",
    ]


def test_the_best_of_the_first_four_stands_beside_the_choice(report):
    first = cell((20.0, 24.0)) | {"asked": {"config": {"inverse_temperature": 1.0}}}
    cells = {f"grid/{dataset}/iql": first for dataset in report.TASKS}
    row = "| IQL | inverse_temperature 1 | 22.0 | 22.0 | 22.0 | 22.0 | 22.0 [20.0, 24.0] | |"
    assert row in unpadded(report.text(cells))
    del cells["grid/hopper-medium-expert/iql"]
    assert "inverse_temperature 1" not in report.text(cells)


def test_nothing_finished_is_an_empty_report_and_no_picture(report, tmp_path):
    assert "**" not in report.text({})
    report.draw({}, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_every_cell_is_an_experiment_with_the_settings_of_its_name():
    script = importlib.import_module("offline_mujoco")
    for place in script.CELLS:
        run = script.experiment(place, quick=False)
        kind, _, name = place.partition("/")
        assert run.run.num_seeds == {"tuning": 2, "beyond": 2, "full": 2}.get(kind, 5), place
        is_tuning = kind in ("tuning", "beyond")  # with seeds that are never scored
        assert (run.run.seed >= 100) == is_tuning, place
        if kind == "online" and name != "sac":
            assert run.config.online and run.config.total_updates == 50_000
        if kind == "full":
            assert list(flatten(run.config)["hidden_sizes"]) == [256, 256, 256]
        if kind == "ablation" and name.startswith("flow"):
            assert run.config.flow_ratio == float(name.removeprefix("flow-"))
