"""What an accelerator is measured by: sizes of trainings, tables, differences from a CPU."""

import subprocess
from pathlib import Path

import numpy as np

from benchmarks import scaling, smoke
from benchmarks.report import spread


def test_sizes_of_a_training():
    """TD3 and SAC take a gradient step per transition: few of them an iteration."""
    many = scaling.sizes_of(None, num_envs=4096, num_steps=128)
    assert many == {
        "num_envs": 4096,
        "num_steps": 1,
        "total_steps": 4096 * scaling.MOST_ITERATIONS,
        "warm_up": 0,
    }
    ppo = scaling.sizes_of(4, num_envs=64, num_steps=16)
    assert (ppo["num_steps"], ppo["minibatch_size"]) == (16, 256)


def test_rates_are_shown_by_algorithm(tmp_path):
    row = {
        "environment": "Pendulum-v1",
        "num_envs": 4,
        "num_steps": 8,
        "devices": 1,
        "steps_per_second": spread([3000.0, 5000.0]),
        "efficiency": spread([1.0]),
    }
    rows = [
        {"algorithm": "sac", "minibatches": None, **row},
        {"algorithm": "ppo", "minibatches": 4, **row},
    ]
    lines = scaling.text({"rows": rows}).splitlines()
    assert lines[0].split()[1] == "algorithm" and "4,000" in lines[2] and "sac" in lines[2]
    assert "algorithm" not in scaling.text({"rows": [{"minibatches": 4, **row}]})
    scaling.draw(rows, tmp_path / "rates.png")
    assert (tmp_path / "rates.png").stat().st_size > 1000


def test_differences_from_a_cpu_are_the_largest_of_each_algorithm(monkeypatch):
    def run(command, env, **_):
        off = 0.25 if env.get("JAX_PLATFORMS") == "cpu" else 0.0
        leaves = {f"{name} 0": np.zeros(2) for name in smoke.FIRST}
        leaves |= {"td3 1": np.array([1.0, 1.0 + off])}
        np.savez(Path(command[-1]), **leaves)

    monkeypatch.delenv("JAX_PLATFORMS", raising=False)
    monkeypatch.setattr(subprocess, "run", run)
    found = smoke.differences()
    assert found == {"ppo": 0.0, "td3": 0.25, "sac": 0.0}
    record = {"devices": ["gpu"], "differences": found, "tolerance": 1e-3, "score": 500.0}
    table = smoke.text(record | {"transitions": 10, "seconds": 1.0, "goal": 475.0})
    assert "td3: largest difference" in table and "2.5e-01" in table
