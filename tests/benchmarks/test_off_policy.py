"""The benchmark of off-policy training: its report, from a record that can be checked by eye,
what the bound counts, and what fills a replay buffer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.off_policy import CASES
from benchmarks.off_policy_report import text
from benchmarks.peers import off_policy_bound
from benchmarks.peers.off_policy_jaxrl import ELSEWHERE, filled
from benchmarks.workers import summary
from jaxrl.algos.registry import load
from jaxrl.config import flatten
from jaxrl.envs.registry import make
from jaxrl.train.build import build
from jaxrl.train.experiment import Experiment
from tests.tables import unpadded


def result(*rounds):
    """A contender's summary of rounds, each {variant: rate}."""
    timings = [
        {"rates": rates, "seconds": dict.fromkeys(rates, 1.0), "peak_bytes": 7} for rates in rounds
    ]
    return summary(timings) | {"startup_seconds": 1.25}


@pytest.fixture
def record():
    systems = {
        "jaxrl": result({"td3": 200.0}, {"td3": 240.0}),
        "sbx": result({"td3": 100.0}, {"td3": 100.0}),
        "bound": result({"apart": 400.0, "batched": 100.0}, {"apart": 240.0, "batched": 100.0}),
        "rejax": {"error": "killed"},
    }
    case = {
        "title": "TD3",
        "setting": CASES["td3"].setting,
        "goals": {"sbx": 2.2, "bound": 0.7, "rejax": 10.0},
        "systems": systems,
    }
    return {
        "repeats": 2,
        "seconds": 5.0,
        "clock": "wall",
        "machine": {"processor": "a processor", "cores": 2, "memory_gib": 24.0, "system": "Linux"},
        "device": {"platform": "cpu", "kind": "cpu"},
        "versions": {"off_policy_jaxrl": {"jax": "1.2.3"}},
        "missing": {},
        "cases": [case],
    }


def test_the_text_holds_every_rate_beside_its_goal(record):
    lines = unpadded(text(record)).splitlines()
    mine = "| TD3 | 220 [200, 240]"
    assert f"{mine} | sbx | 100 | 2.20× [2.00×, 2.40×] | ≥ 2.20× | yes |" in lines
    assert f"{mine} | bound | 320 [240, 400] | 75% [50%, 100%] | ≥ 70% | yes |" in lines
    assert f"{mine} | rejax | failed | – | ≥ 10.00× | – |" in lines
    assert "| TD3 | 1.2 | 1.2 | 1.2 | – |" in lines
    assert "- rejax failed in TD3: killed" in lines
    assert "apart 320, batched 100." in text(record)


def test_a_goal_that_is_missed_is_said_so(record):
    record["cases"][0]["goals"]["sbx"] = 2.3
    assert "| ≥ 2.30× | no |" in unpadded(text(record))


def test_the_bound_counts_the_products_of_a_gradient_step():
    """By hand, of 3 rows and one hidden layer of 2 units: 17-2-6 and 23-2-1."""
    actor, critic = 17 * 2 + 2 * 6, 23 * 2 + 2 * 1
    critics = actor + 2 * critic + 2 * (critic + critic + 2 * 1)
    through_the_critic = critic + 2 * 1 + 2 * 6
    of_actor = actor + through_the_critic + actor + 2 * 6
    assert off_policy_bound.flops([2], 3, 2) == 2 * 3 * (critics + of_actor / 2)
    assert off_policy_bound.flops([256, 256], 256, 2) == pytest.approx(415e6, rel=0.01)


@pytest.mark.parametrize("way", ["apart", "batched"])
def test_the_bound_does_what_it_counts(way):
    """XLA's count of a unit: its products, and the little that keeps it from leaving them out."""
    hidden, rows, delay = [64, 64], 256, 2
    unit = jax.jit(off_policy_bound.unit, static_argnums=(2, 3))
    way = off_policy_bound.ways()[way]
    shapes = jax.eval_shape(lambda: off_policy_bound.first_weights(hidden, way))
    batch = jax.ShapeDtypeStruct((rows, 23), jnp.float32)
    counted = unit.lower(shapes, batch, delay, way).compile().cost_analysis()["flops"]
    assert counted == pytest.approx(delay * off_policy_bound.flops(hidden, rows, delay), rel=0.02)


@pytest.mark.parametrize("case", CASES)
def test_the_settings_are_those_of_the_algorithms(case):
    setting = CASES[case].setting
    known = flatten(load(setting["algorithm"]).config_class())
    assert set(setting) - ELSEWHERE <= set(known)
    if case == "td3":
        env = make(setting["environment"])
        assert env.observation_space.shape == (off_policy_bound.OBSERVATION,)
        assert env.action_space.shape == (off_policy_bound.ACTIONS,)


@pytest.mark.slow
def test_a_replay_buffer_is_filled_with_copies():
    config = load("td3").config_class()
    sizes = {"num_steps": 5, "replay_capacity": 12, "warm_up": 5, "batch_size": 2}
    given = Experiment("td3", "Pendulum-v1", config).changed(sizes | {"total_steps": 100})
    program = build(given)
    state, _ = program.chunk(program.init(), 1)
    before = np.array(state.experience.log.rows.action)
    log = filled(state).experience.log
    assert int(log.count) == 12
    np.testing.assert_array_equal(log.rows.action, before[np.arange(12) % 5])
    program.chunk(filled(state), 1)  # which it is accepted by
