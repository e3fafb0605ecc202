"""Learning from a replay buffer on two devices: rows of their own, one learner."""

import jax
import numpy as np
import pytest

from jaxrl.algos.registry import load
from jaxrl.config import override
from jaxrl.core.shards import Shards
from jaxrl.envs import registry
from jaxrl.train.devices.layout import Layout
from jaxrl.train.program import Program
from tests.devices.eight import assert_replicated

SETTINGS = {
    "total_steps": 800,
    "num_envs": 4,
    "num_steps": 8,
    "replay_capacity": 40,
    "batch_size": 8,
    "warm_up": 16,
    "updates_per_transition": 0.125,
    "policy_delay": 1,
    "hidden_sizes": (4,),
}
# Every compilation of SAC takes longer.
LEARNERS = ["td3", pytest.param("sac", marks=pytest.mark.slow)]


def trained(algorithm):
    """(what trains it on two devices, the state after two iterations)."""
    spec = load(algorithm)
    config = override(spec.config_class(), SETTINGS)
    env = registry.make("probe/continuous-never-ending")
    program = Program(spec.factory, env, config, seeds=[0], layout=Layout(env=2))
    return program, program.chunk(program.init(), 2)[0]


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_each_device_fills_rows_of_its_own_and_all_have_one_learner(algorithm):
    program, state = trained(algorithm)
    assert_replicated(program, state)
    assert state.learner.gradient_steps == 7  # of 8: none is taken in the warm-up
    log = state.experience.log
    assert log.written.tolist() == [[32, 0], [32, 0]]
    first, second = np.asarray(log.rows.environment).reshape(2, 20)
    assert set(first) == {0, 1} and set(second) == {2, 3}


@pytest.mark.parametrize("algorithm", LEARNERS)
def test_gradients_that_are_not_averaged_would_be_seen(algorithm, monkeypatch):
    monkeypatch.setattr(Shards, "mean", lambda self, tree: tree)
    program, state = trained(algorithm)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.learner.policy))
    with pytest.raises(AssertionError):
        assert_replicated(program, state)
