"""The benchmark of environments alone: programs that do what they are compared for,
and its table."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import environments
from benchmarks.environments import BASELINES, SEGMENT, Arguments, programs, random_action, text
from benchmarks.report import spread
from jaxrl.envs.registry import make
from tests.tables import unpadded

NUM_ENVS, NUM_STEPS = 6, 8 * SEGMENT


@functools.cache
def played(name):
    """The carry of a program after NUM_STEPS steps: (environments, random words, rewards, ends)."""
    program = programs(make("CartPole-v1"), NUM_ENVS)[name]
    run = jax.jit(lambda key, keys: program.chunk(program.init(key), keys))
    return jax.device_get(run(jax.random.key(0), jax.random.split(jax.random.key(1), NUM_STEPS)))


@pytest.mark.parametrize("name", programs(make("CartPole-v1"), NUM_ENVS))
def test_every_program_steps_all_environments(name):
    _, _, reward, ends = played(name)
    if name != "physics":  # which goes on after an end, without reward
        np.testing.assert_array_equal(reward, NUM_STEPS)
    assert (
        (reward > 0).all()
        and (ends >= NUM_STEPS // 70).all()
        and reward.shape == ends.shape == (NUM_ENVS,)
    )


def test_a_reset_on_every_step_gives_the_starts_of_the_bank():
    fresh, each = played("fresh"), played("each")
    np.testing.assert_array_equal(fresh[0].observation, each[0].observation)
    np.testing.assert_array_equal(fresh[-1], each[-1])


def test_stored_and_idle_begin_again_from_the_first_start_and_draw_none():
    for name in ("stored", "idle"):
        bank = played(name)[0].starts
        assert not bank.episode.any()
        np.testing.assert_array_equal(bank.observation, played("stored")[0].starts.observation)
    np.testing.assert_array_equal(played("stored")[0].observation, played("idle")[0].observation)
    assert played("fresh")[0].starts.episode.all()


def test_random_actions_are_spread_evenly():
    words = jax.random.bits(jax.random.key(0), (10_000,))
    for _ in range(3):
        words, actions = random_action(words, 3)
        np.testing.assert_allclose(np.bincount(actions, minlength=3) / 10_000, 1 / 3, atol=0.02)
    assert actions.dtype == jnp.int32 and words.dtype == jnp.uint32


def test_the_record_of_a_size(monkeypatch):
    monkeypatch.setattr(
        environments,
        "programs",
        lambda env, n: {name: all_of_them[name] for name in ("fresh", *BASELINES)},
    )
    all_of_them = programs(make("CartPole-v1"), 2)
    row = environments.measure("CartPole-v1", 2, Arguments(repeats=2, seconds=0.001, clock="cpu"))
    rates = {name: found["samples"] for name, found in row["steps_per_second"].items()}
    assert row["fresh_over"]["each"] == spread(
        [rates["fresh"][k] / rates["each"][k] for k in range(2)]
    )
    assert 0.02 < row["ended"]["fresh"] < 0.1 and all(
        rate > 0 for found in rates.values() for rate in found
    )


def test_the_table_tells_rates_and_ratios():
    rates = {name: spread([1e6, 3e6, 2e6]) for name in ("physics", "fresh", *BASELINES)}
    row = {
        "environment": "E",
        "num_envs": 1024,
        "steps_per_second": rates,
        "ended": {"fresh": 0.05},
    }
    row["fresh_over"] = {name: spread([0.5, 0.25, 1.0]) for name in BASELINES}
    machine = {"processor": "a processor", "cores": 2}
    shared = {
        "repeats": 3,
        "clock": "cpu",
        "device": "cpu",
        "machine": machine,
        "versions": {"jax": "1.2"},
    }
    lines = unpadded(text(shared | {"rows": [row]})).splitlines()
    assert "| E | 1,024 | 2M | 2M | 2M | 2M | 2M | 2M | 2M |" in lines
    assert any("| 0.50 [0.25, 1.00] |" in line and line.endswith("| 20.0 |") for line in lines)
    assert "processor time" in lines[0]
