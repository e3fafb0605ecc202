"""The benchmark of MuJoCo tasks: what is asked of whom, contenders that step what they say,
tables and the picture."""

import importlib
import json

import numpy as np
import pytest

from benchmarks import mujoco as benchmark
from benchmarks.mujoco import STEPPING, TRAINING, Arguments, Benchmark, training_setting
from benchmarks.mujoco_report import draw, text
from benchmarks.peers.mujoco_actions import LONGEST, ROWS, random_actions
from benchmarks.report import spread
from jaxrl.errors import JaxrlError
from tests.tables import unpadded


def test_the_plan_keeps_large_sizes_from_slow_contenders():
    plan = {(environment, size): names for environment, size, names in Arguments().plan()}
    assert plan["HalfCheetah-v5", 1] == list(STEPPING)
    assert plan["HalfCheetah-v5", 2048] == ["rollout", "jaxrl", "envpool"]
    assert plan["Hopper-v5", 64] == plan["Ant-v5", 64] == ["rollout", "jaxrl", "envpool", "sync"]
    asked = Arguments(environments=("Ant-v5",), sizes=(32, 128), contenders=("jaxrl", "mjx")).plan()
    assert asked == [("Ant-v5", 32, ["jaxrl", "mjx"]), ("Ant-v5", 128, ["jaxrl"])]


def test_what_is_unknown_is_refused_before_anything_starts():
    for wrong in ({"contenders": ("jaxlr",)}, {"trainers": ("sb4",)}, {"settings": ("tunned",)}):
        with pytest.raises(JaxrlError, match=next(iter(wrong.values()))[0]):
            benchmark.main(Arguments(**wrong))


@pytest.mark.parametrize(("num_envs", "steps"), [(1, LONGEST), (64, ROWS // 64), (8192, 1)])
def test_random_actions_fill_the_bounds(num_envs, steps):
    actions = random_actions(num_envs, [-1.0, 0.0], [1.0, 0.5])
    assert actions.shape == (steps, num_envs, 2) and actions.dtype == np.float32
    assert (
        np.abs(actions[..., 0]).max() <= 1.0
        and actions[..., 1].min() >= 0.0
        and actions[..., 1].max() <= 0.5
    )
    assert actions.std(axis=(0, 1)) == pytest.approx(np.array([2.0, 0.5]) / 12**0.5, rel=0.1)


@pytest.mark.parametrize("name", ["rollout", "jaxrl", "sync"])
def test_a_contender_steps_what_it_says(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its log into the working directory
    monkeypatch.setattr("benchmarks.peers.mujoco_actions.LONGEST", 4)
    contender = STEPPING[name]
    module = importlib.import_module(f"benchmarks.peers.{contender.module}")
    (variant,) = module.make({"environment": "HalfCheetah-v5", "num_envs": 2} | contender.setting)
    assert variant.steps == 2 * 4
    variant.train(2)


def test_settings_are_those_of_the_experiment_as_plain_data():
    reference, tuned = training_setting("reference"), training_setting("tuned")
    assert (
        reference["num_envs"],
        reference["num_minibatches"],
        reference["value_clip_epsilon"],
    ) == (1, 32, 0.2)
    assert tuned["num_envs"] > 1 and tuned["hidden_sizes"] == (64, 64)
    assert json.loads(json.dumps(tuned))["environment"] == "HalfCheetah-v5"


def test_a_row_of_training_has_the_rate_of_stepping_of_the_same_rounds(monkeypatch):
    def pretend(jobs, repeats, begin):
        asked.update(jobs)
        return {name: {"versions": {"jax": "1"}, "device": {"platform": "cpu"}} for name in jobs}

    asked = {}
    monkeypatch.setattr(benchmark, "take_turns", pretend)
    record = {"versions": {}, "training": [], "device": {"platform": "cpu", "kind": "cpu"}}
    pythons = {"jaxrl_ppo": "ours", "mujoco_jaxrl": "ours"}  # the others could not be installed
    Benchmark(Arguments(patience=7.0), lambda text: None, record, pythons).train("reference")
    assert set(asked) == {"jaxrl", "stepping"} and asked["stepping"].patience == 7.0
    assert asked["stepping"].setting["num_envs"] == asked["jaxrl"].setting["num_envs"] == 1
    assert (
        asked["stepping"].setting["backend"] == "mujoco" and "backend" not in asked["jaxrl"].setting
    )
    assert record["versions"] == {"jaxrl_ppo": {"jax": "1"}, "mujoco_jaxrl": {"jax": "1"}}
    assert record["training"][0]["num_minibatches"] == 32


@pytest.fixture
def record():
    def timed(*rates):
        return {"steps_per_second": spread(rates), "startup_seconds": 1.25}

    systems = {
        "rollout": timed(50e3, 40e3),
        "jaxrl": timed(45e3, 40e3),
        "envpool": timed(30e3, 20e3),
    }
    stepping = [
        {
            "environment": "HalfCheetah-v5",
            "num_envs": 64,
            "systems": systems | {"mjx": {"error": "no answer"}},
        },
        {"environment": "HalfCheetah-v5", "num_envs": 512, "systems": systems},
        {"environment": "Ant-v5", "num_envs": 64, "systems": systems},
    ]
    ppo = {"jaxrl": timed(8e3, 6e3), "sb3": timed(2e3, 2e3), "stepping": timed(10e3, 10e3)}
    sizes = {"num_envs": 1, "num_steps": 2048, "num_minibatches": 32, "num_epochs": 10}
    return {
        "repeats": 2,
        "seconds": 3.0,
        "machine": {"processor": "a processor", "cores": 2, "memory_gib": 24.0, "system": "Linux"},
        "device": {"platform": "cpu", "kind": "cpu"},
        "versions": {"mujoco_rollout": {"mujoco": "4.0"}},
        "missing": {"sbx_ppo": "no such package"},
        "stepping": stepping,
        "training": [{"setting": "reference", "systems": ppo} | sizes],
    }


def test_the_tables_tell_rates_ratios_and_failures(record):
    lines = unpadded(text(record)).splitlines()
    assert "| 64 | 45k [40k, 50k] | 42.5k [40k, 45k] | 25k [20k, 30k] | failed |" in lines
    assert "| 512 | 95% [90%, 100%] | 1.75× [1.50×, 2.00×] | – |" in lines
    ppo = (
        "| reference | 1 | 2,048 | 32 × 10 | 7k [6k, 8k] | 2k | 10k | 70% [60%, 80%] | 3.50× "
        "[3.00×, 4.00×] |"
    )
    assert ppo in lines
    assert "- mjx failed with 64 environments: no answer" in lines
    assert "- sbx_ppo is missing: no such package" in lines


def test_the_picture_has_a_panel_a_task(record, tmp_path):
    draw(record, tmp_path / "all.png")
    assert (tmp_path / "all.png").stat().st_size > 10_000


def test_every_contender_is_a_module_of_its_own():
    for contender in (*STEPPING.values(), *TRAINING.values()):
        assert importlib.util.find_spec(f"benchmarks.peers.{contender.module}") is not None
