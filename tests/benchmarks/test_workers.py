"""Workers of the throughput benchmark: what they answer, how they fail, what they count."""

import json
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import workers
from benchmarks.peers import bound, protocol
from benchmarks.throughput import SETTINGS
from benchmarks.venvs import commands, last_line, own_jax, python_of
from jaxrl.errors import JaxrlError

FAKE = """
from benchmarks.peers.protocol import Variant, serve
import time
variant = Variant("a", lambda n: (print("noise"), time.sleep(0.02 * n)), 10)
serve(lambda setting: [variant], [], ["jax"])
"""


@pytest.fixture
def fake(monkeypatch):
    """A worker that runs a given program instead of a module."""

    def make(program, patience=60.0):
        popen = subprocess.Popen
        monkeypatch.setattr(
            workers.subprocess,
            "Popen",
            lambda command, **rest: popen([sys.executable, "-c", program, "{}"], **rest),
        )
        return workers.Worker(workers.Job(sys.executable, "unused", {}, patience))

    return make


def test_a_worker_answers_each_request(fake):
    worker = fake(FAKE.replace("serve(", "import sys; sys.argv[1] = '{\"seconds\": 0.1}'; serve("))
    ready, timing = worker.ready(), worker.run()
    worker.close()
    assert ready["versions"]["jax"] == jax.__version__
    iterations = ready["iterations"]["a"]
    assert 1 <= iterations <= 5
    assert timing["rates"]["a"] == pytest.approx(10 * iterations / timing["seconds"]["a"])
    assert timing["rates"]["a"] < 10 / 0.02


def test_a_worker_that_fails_says_why(fake):
    worker = fake("raise ValueError('no such thing')")
    with pytest.raises(JaxrlError, match="ValueError: no such thing"):
        worker.ready()
    with pytest.raises(JaxrlError, match="ValueError: no such thing"):
        worker.run()
    worker.close()


def test_a_worker_that_is_killed_says_so(fake):
    worker = fake("import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(JaxrlError, match="memory"):
        worker.ready()
    worker.close()


def test_a_worker_that_hangs_is_given_up(fake):
    worker = fake("import time; time.sleep(60)", patience=0.2)
    with pytest.raises(JaxrlError, match="no answer within 0 seconds"):
        worker.ready()
    worker.close()


def test_a_worker_takes_its_own_processes_with_it(fake, tmp_path):
    told = tmp_path / "child"
    child = (
        f"import os, pathlib, time; pathlib.Path({str(told)!r}).write_text(str(os.getpid())); "
        "time.sleep(60)"
    )
    worker = fake(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])")
    while not told.exists() or not told.read_text():
        time.sleep(0.05)
    worker.close()
    status = Path(f"/proc/{told.read_text()}/status")
    for _ in range(100):
        if not status.exists() or "State:\tZ" in status.read_text():
            return
        time.sleep(0.05)
    pytest.fail("the child of a closed worker lives on")


@pytest.fixture
def log(monkeypatch):
    """Pretended workers, of which the one called b fails in its second turn; who was asked,
    and who was closed."""

    class Pretended:
        def __init__(self, job):
            self.name, self.turns = job.module, 0

        def ready(self):
            order.append(self.name)
            return {"startup_seconds": 1.0}

        def run(self):
            order.append(self.name)
            self.turns += 1
            if self.name == "b" and self.turns == 2:
                raise JaxrlError("killed")
            return {"rates": {"ppo": 10.0 * self.turns}, "seconds": {"ppo": 1.0}, "peak_bytes": 5}

        def close(self):
            closed.append(self.name)

    order, closed = [], []
    monkeypatch.setattr(workers, "Worker", Pretended)
    return order, closed


def test_workers_take_turns_and_one_that_fails_is_left_out(log):
    (order, closed), said = log, []
    jobs = {name: workers.Job("python", name, {}) for name in "ab"}
    found = workers.take_turns(jobs, 3, said.append)
    assert "".join(order) == "abababa" and closed == ["b", "a"]
    assert said[:3] == ["a: compiles", "b: compiles", "a: round 1"]
    assert found["b"] == {"error": "killed"}
    assert (
        found["a"]["steps_per_second"]["samples"] == [10.0, 20.0, 30.0]
        and found["a"]["startup_seconds"] == 1.0
    )


def test_every_second_round_may_go_backwards(log):
    jobs = {name: workers.Job("python", name, {}) for name in "ac"}
    workers.take_turns(jobs, 3, lambda text: None, alternate=True)
    assert "".join(log[0]) == "acaccaac"


def test_calibration_finds_the_iterations_that_take_so_long(monkeypatch):
    clock, trained = [0.0], []

    def train(iterations):
        clock[0] += 30.0 * (not trained) + 0.5 * iterations
        trained.append(iterations)

    monkeypatch.setattr(protocol.time, "perf_counter", lambda: clock[0])
    assert protocol.calibrate(train, 5.0) == (10, pytest.approx(30.0))
    assert trained == [1, 1, 10]
    assert protocol.calibrate(train, 0.1).iterations == 1


def test_the_bound_holds_the_products_and_no_others():
    networks = [bound.initial(jax.random.key(size), (4, 8, 8, size)) for size in (2, 1)]
    weights = jax.tree.map(lambda leaf: leaf[None], networks)
    rows = jnp.ones((32, 4))
    jaxpr = str(
        jax.make_jaxpr(lambda *a: bound.products((2, 8, 32, 16), *a))(jnp.int32(3), weights, rows)
    )
    # Two networks of three layers: forward in the rollout; forward, weight gradients and all but
    # the first layer's input gradients in the update.
    assert jaxpr.count("dot_general") == 2 * (3 + 3 + 3 + 2)
    assert not any(name in jaxpr for name in ("tanh", "exp", "random_bits", "sort", "gather"))


def test_the_bound_differentiates_half_the_squared_output():
    network = bound.initial(jax.random.key(0), (4, 8, 8, 2))
    rows = jax.random.normal(jax.random.key(1), (5, 4))
    expected = jax.grad(lambda network: 0.5 * jnp.sum(bound.forward(network, rows)[-1] ** 2))(
        network
    )
    for ours, theirs in zip(bound.gradients(network, rows), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)


def test_variants_of_the_bound_share_the_work_of_an_iteration():
    setting = SETTINGS | {"num_envs": 16, "num_steps": 128, "hidden_sizes": [8]}
    variants = bound.make(setting)
    assert [variant.name for variant in variants if variant.name.endswith("× 1")] == [
        "whole × 1",
        "256 × 1",
    ]
    assert {variant.steps for variant in variants} == {16 * 128 // 16}
    variants[0].train(2)
    with pytest.raises(ValueError, match="multiple of the 16"):
        bound.make(setting | {"num_steps": 100})


def test_the_settings_are_plain_data():
    assert json.loads(json.dumps(SETTINGS)) == SETTINGS


def test_an_environment_is_made_once(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, **_: ran.append(command) or subprocess.CompletedProcess([], 0),
    )
    assert python_of("rejax", tmp_path) == str(tmp_path / "rejax" / "bin" / "python")
    assert python_of("rejax", tmp_path) == str(tmp_path / "rejax" / "bin" / "python")
    assert len(ran) == 2
    assert ran[1][-3:] == ["rejax==0.1.3", "gymnax==0.0.9", own_jax()]


def test_a_failed_installation_says_why(tmp_path, monkeypatch):
    def fail(command, stdout, **_):
        stdout.write("Collecting\nERROR: No matching distribution\n\nhint: look elsewhere\n")
        stdout.flush()
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", fail)
    with pytest.raises(JaxrlError, match="cannot install rejax: ERROR: No matching distribution"):
        python_of("rejax", tmp_path)


def test_uv_is_used_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert all(
        command[0] == "/bin/uv"
        for command in commands(tmp_path, tmp_path / "bin" / "python", ["a==1"])
    )


def test_the_last_line_of_an_empty_log(tmp_path):
    (tmp_path / "log").write_text("\n")
    assert last_line(tmp_path / "log") == "no output"
