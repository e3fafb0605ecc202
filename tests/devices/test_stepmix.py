"""StepMix on several devices: episodes are dealt out, and what was seen is added up."""

import jax
import numpy as np
import pytest

from jaxrl.algos.stepmix import StepMixConfig, stepmix
from jaxrl.envs.registry import make
from jaxrl.train.devices.layout import Layout
from jaxrl.train.program import Program
from tests.train.tiny import arrays

ITERATIONS, NUM_ENVS = 3, 16
CONFIG = StepMixConfig(num_envs=NUM_ENVS, bonus_scale=0.01, known_baseline_value=True)


def run(environment_id, devices, **settings):
    config = CONFIG if not settings else StepMixConfig(num_envs=NUM_ENVS, **settings)
    program = Program(stepmix, make(environment_id), config, seeds=[0], layout=Layout(env=devices))
    return program.chunk(program.init(), ITERATIONS)


def test_counts_are_those_of_all_devices_and_the_same_on_each():
    state, metrics = run("tabular/paper", 8)
    counts = np.asarray(state.counts)
    assert counts.sum() == ITERATIONS * NUM_ENVS * 3
    for leaf in jax.tree.leaves(state):
        data = (
            jax.random.key_data(leaf)
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf
        )
        assert len({np.asarray(shard.data).tobytes() for shard in data.addressable_shards}) == 1
    assert metrics["expected_return"].count == 8 * ITERATIONS
    assert len(np.unique(counts.sum(-1)[0, 0])) > 1  # devices drew episodes of their own


@pytest.mark.slow
def test_where_nothing_is_drawn_eight_devices_are_one():
    settings = {"method": "baseline", "baseline": "constant", "baseline_action": 1}
    one, eight = (run("tabular/deep-sea", devices, **settings) for devices in (1, 8))
    for a, b in zip(arrays(one[0]), arrays(eight[0]), strict=True):
        np.testing.assert_array_equal(a, b)
