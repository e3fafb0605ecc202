"""A run on several devices is the run on one."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.ppo import ppo
from jaxrl.config import override
from jaxrl.core.shards import Shards
from jaxrl.core.tree import copy
from jaxrl.train.devices.layout import Layout
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.program import Program
from jaxrl.types import Actor, Agent, feed_forward
from tests.algos.walk import Walk
from tests.devices.eight import (
    CONFIG,
    NUM_ENVS,
    assert_close,
    assert_replicated,
    beginning,
    deterministic_actions,
    place,
    walks,
)
from tests.train.tiny import arrays

ITERATIONS = 4
# Of each device's own rows, or of nothing but rounding.
OWN = {"explained_variance", "first_ratio_error"}


@pytest.fixture(scope="module", autouse=True)
def determined():
    with deterministic_actions():
        yield


@pytest.fixture(scope="module")
def runs():
    """(state, metrics) of the same iterations, by the number of devices that shared them."""
    return {
        devices: walks(devices).chunk(beginning(walks(devices)), ITERATIONS) for devices in (1, 8)
    }


def test_eight_devices_end_in_the_state_of_one(runs):
    assert_close(runs[8][0], runs[1][0])


@pytest.mark.slow
def test_memories_go_with_their_environments():
    config = override(CONFIG, {"memory": "gru", "memory_size": 3})
    one, two = (
        Program(ppo, Walk(), config, seeds=[0], layout=Layout(env=devices)) for devices in (1, 2)
    )
    ends = [program.chunk(place(one.init(), program), 2)[0] for program in (one, two)]
    assert_close(*ends)
    assert np.abs(np.asarray(ends[0].memory)).min() > 0.0


@pytest.mark.slow
def test_a_guide_acts_on_every_device_and_all_have_its_stages():
    settings = {"starts": "jumpstart", "guide_steps": 4, "guide_stages": 3, "guide_tolerance": 1.0}
    still = Agent(
        init=lambda key: jnp.zeros(()),
        modes={"deterministic": feed_forward(lambda policy, observation, key: jnp.int32(0))},
    )
    inputs = {"guide": Actor(jnp.zeros(()), still)}
    one, two = (
        Program(
            ppo,
            Walk(),
            override(CONFIG, settings),
            seeds=[0],
            layout=Layout(env=devices),
            inputs=inputs,
        )
        for devices in (1, 2)
    )
    ends = [program.chunk(place(one.init(), program), ITERATIONS)[0] for program in (one, two)]
    # The environment's own starts inside of the guided ones are made when they are needed.
    alone, shared = (
        replace(end, vector=replace(end.vector, starts=end.vector.starts.natural)) for end in ends
    )
    assert_close(alone, shared)
    stages = [int(end.vector.starts.stages) for end in ends]
    assert stages[0] == stages[1] < 3


def test_the_run_was_worth_comparing(runs):
    state, metrics = runs[1]
    positions = np.asarray(state.vector.env_state)
    assert len(np.unique(positions)) == NUM_ENVS  # devices held different environments
    assert metrics["episode_return"].count > NUM_ENVS
    assert 0 < metrics["taken"].sum == metrics["taken"].count
    moved = [
        np.abs(a - b).max()
        for a, b in zip(arrays(state.policy), arrays(walks(1).init().policy), strict=True)
    ]
    assert max(moved) > 1e-3


def test_a_missing_reduction_would_be_seen(runs, monkeypatch):
    monkeypatch.setattr(Shards, "mean", lambda self, tree: tree)
    program = Program(ppo, Walk(), CONFIG, seeds=[0], layout=Layout(env=8))
    state, _ = program.chunk(beginning(program), ITERATIONS)
    with pytest.raises(AssertionError):
        assert_close(state, runs[1][0])
    with pytest.raises(AssertionError):
        assert_replicated(program, state)


def test_metrics_are_those_of_all_devices(runs):
    for name in set(runs[1][1]) - OWN:
        one, eight = (runs[devices][1][name] for devices in (1, 8))
        np.testing.assert_allclose(
            eight.sum / eight.count, one.sum / one.count, rtol=1e-4, atol=1e-5, err_msg=name
        )
    for name in ("episode_return", "episode_length"):
        assert runs[8][1][name].count == runs[1][1][name].count


def test_what_devices_share_has_the_same_bits_on_all_of_them(runs):
    assert_replicated(walks(8), runs[8][0])


@pytest.mark.parametrize("devices", [1, 4])
def test_a_checkpoint_of_eight_devices_goes_on_with_others(runs, devices, tmp_path):
    checkpoints, program = Checkpoints(tmp_path), walks(devices)
    checkpoints.save(ITERATIONS, runs[8][0], {})
    restored = checkpoints.restore_latest(program.abstract_state())
    assert not restored.problems
    for leaf, abstract in zip(
        jax.tree.leaves(restored.state), jax.tree.leaves(program.abstract_state()), strict=True
    ):
        assert leaf.sharding.num_devices == devices and leaf.shape == abstract.shape
    further, _ = program.chunk(restored.state, 2)
    same, _ = walks(8).chunk(copy(runs[8][0]), 2)
    assert_close(further, same)
