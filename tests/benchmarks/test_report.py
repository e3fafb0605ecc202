"""Tables, ratios and files of the benchmarks,
from records with numbers that can be checked by eye."""

import importlib
import json

import pytest

from benchmarks import report, venvs
from benchmarks.report import device_name, spread, steps
from benchmarks.throughput_report import draw, ratios, text
from benchmarks.workers import summary
from experiments.harness import command_line, signed
from jaxrl.errors import JaxrlError
from tests.tables import unpadded


def result(*rates, **more):
    timings = [{"rates": {"ppo": rate}, "seconds": {"ppo": 2.0}, "peak_bytes": 7} for rate in rates]
    return summary(timings) | {"startup_seconds": 1.25, "iterations": {"ppo": 3}} | more


@pytest.fixture
def record():
    bound = summary(
        [
            {
                "rates": {"whole": 400.0, "256": 900.0},
                "seconds": {"whole": 1.0, "256": 1.0},
                "peak_bytes": 1,
            },
            {
                "rates": {"whole": 500.0, "256": 800.0},
                "seconds": {"whole": 1.0, "256": 1.0},
                "peak_bytes": 1,
            },
        ]
    )
    small = {
        "jaxrl": result(200.0, 400.0),
        "rejax": result(100.0, 100.0),
        "bound": bound | {"startup_seconds": 4.0},
    }
    large = {"jaxrl": result(2e6, 2e6), "rejax": {"error": "killed"}}
    return {
        "settings": {"environment": "CartPole-v1"},
        "repeats": 2,
        "seconds": 5.0,
        "machine": {"processor": "a processor", "cores": 2, "memory_gib": 24.0, "system": "Linux"},
        "device": {"platform": "cpu", "kind": "cpu"},
        "versions": {"jaxrl": {"jax": "1.2.3"}},
        "missing": {"sbx": "no such package"},
        "sizes": [
            {"num_envs": 4, "num_steps": 128, "systems": small},
            {"num_envs": 1024, "num_steps": 16, "systems": large},
        ],
    }


def test_a_device_as_part_of_a_name(monkeypatch):
    monkeypatch.setattr(report, "cores", lambda: 2)
    assert device_name("cpu", "cpu") == "cpu2"
    assert device_name("gpu", "NVIDIA H100 80GB HBM3") == "nvidia_h100_80gb_hbm3"


def test_what_cannot_be_installed_is_recorded(monkeypatch, tmp_path):
    def refuse(name, folder):
        raise JaxrlError(f"cannot install {name}: no such version")

    monkeypatch.setattr(venvs, "python_of", refuse)
    missing = {}
    pythons = venvs.interpreters(
        {"jaxrl": None, "rejax": "rejax"}, tmp_path, missing, lambda _: None
    )
    assert list(pythons) == ["jaxrl"]
    assert missing == {"rejax": "cannot install rejax: no such version"}


def test_the_machine_is_described_and_not_named():
    assert set(report.machine()) == {"processor", "cores", "memory_gib", "system"}


def test_spread():
    assert spread([3.0, 1.0, 2.0]) == {
        "median": 2.0,
        "min": 1.0,
        "max": 3.0,
        "samples": [3.0, 1.0, 2.0],
    }


def test_steps_are_lines_where_there_is_no_terminal(capsys):
    with steps(2) as begin:
        begin("first")
        begin("second")
    seen = capsys.readouterr()
    assert seen.out == ""
    assert seen.err.splitlines() == ["[1/2] first", "[2/2] second"]


def test_ratios_are_of_the_same_round(record):
    small, large = record["sizes"]
    assert ratios(small, "rejax") == [2.0, 4.0]
    assert ratios(large, "rejax") == []


def test_the_fastest_variant_counts(record):
    bound = record["sizes"][0]["systems"]["bound"]
    assert bound["best"] == "256"
    assert bound["steps_per_second"]["median"] == 850.0
    assert bound["seconds"] == 2.0


def test_the_text_holds_every_number_and_every_failure(record):
    lines = unpadded(text(record)).splitlines()
    smallest = "| 4 | 128 | 300 [200, 400] | 100 | 850 [800, 900] | 3.00× [2.00×, 4.00×]"
    assert f"{smallest} | 36% [22%, 50%] |" in lines
    assert "| 1,024 | 16 | 2M | failed | – | – | – |" in lines
    assert "| 4 | 450 | **850** |" in lines
    assert "- sbx is missing: no such package" in lines
    assert "- rejax failed with 1,024 environments: killed" in lines


def test_results_are_written(record, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    command = command_line()
    said = report.write("name", {"a": 1.5}, "text\n\n")
    found = json.loads((tmp_path / "name.json").read_text())
    assert found == {"commands": [command], "a": 1.5}
    assert (tmp_path / "name.md").read_text() == f"text\n\nMade by `{command}`.\n"
    assert said.startswith("text\n\nMade by")
    draw(record, tmp_path / "name.png")
    assert (tmp_path / "name.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("compile_time_cpu2", "compile_time"),
        ("environments_cpu2", "environments"),
        ("inputs", "inputs"),
        ("log_checkpoints", "log_checkpoints"),
        ("log_checkpoints_short", "log_checkpoints"),
        ("log_checkpoints_td3", "log_checkpoints"),
        ("memory_cpu1", "memory"),
        ("dataset_copies", "dataset_copies"),
        ("memories_cpu2", "memories"),
        ("mujoco_cpu2", "mujoco_report"),
        ("off_policy_cpu2", "off_policy_report"),
        ("offline_cpu2", "offline_report"),
        ("mutants", "mutants"),
        ("pairs", "pairs"),
        ("same_bits", "same_bits"),
        ("scaling_cpu2", "scaling"),
        ("sequence_latency_cpu2", "sequence_latency"),
        ("stepmix", "stepmix"),
        ("throughput_cpu2", "throughput_report"),
        ("throughput_cpu2_million", "throughput_report"),
    ],
)
def test_the_published_tables_are_those_of_the_json(name, module):
    found = json.loads((report.RESULTS / f"{name}.json").read_text())
    expected = importlib.import_module(f"benchmarks.{module}").text(found)
    expected = signed(expected.rstrip(), found.get("commands", []))
    assert (report.RESULTS / f"{name}.md").read_text() == f"{expected}\n"
