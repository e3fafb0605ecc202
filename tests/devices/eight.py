"""Runs on the session's eight devices that can be compared with a run on one, to rounding."""

import contextlib
import functools
from collections.abc import Iterator
from dataclasses import replace

import jax
import numpy as np
import pytest

from jaxrl.algos.ppo import ppo
from jaxrl.core.distributions import Categorical
from jaxrl.train.devices.layout import Layout
from jaxrl.train.program import Program
from tests.algos.walk import Walk, make_config
from tests.train.tiny import arrays

NUM_ENVS = 16
# One minibatch is the whole batch, so that the shuffle does not matter; all that devices reduce is
# switched on.
CONFIG = make_config(
    num_envs=NUM_ENVS,
    minibatch_size=16 * NUM_ENVS,
    num_epochs=2,
    max_grad_norm=0.5,
    target_kl=0.5,
    ewma_center_of_mass=2.0,
    normalize_advantages="batch",
)


@contextlib.contextmanager
def deterministic_actions() -> Iterator[None]:
    """Actions are not drawn: of the walk nothing is left to a device's own keys,
    since each row holds its starts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Categorical, "sample", lambda self, key: self.mode())
        yield


@functools.cache
def walks(devices: int) -> Program:
    """Walks of deterministic actions, shared by so many devices;
    to be run under `deterministic_actions`."""
    return Program(ppo, Walk(), CONFIG, seeds=[0], layout=Layout(env=devices))


def beginning(program: Program):
    """The state with which one device begins, where this program holds it."""
    return place(walks(1).init(), program)


def place(state, program: Program):
    """The same state on the devices of another program."""
    if program.population.mesh is None:
        return jax.device_put(state)
    shardings = jax.tree.map(lambda abstract: abstract.sharding, program.abstract_state())
    return jax.device_put(state, shardings)


def without_stock(state):
    """The state, of whose starts only the number handed out is left:
    when they are made is up to those who share."""
    bank = state.vector.starts
    starts = (bank.key, bank.episode + bank.used)
    return replace(state, vector=replace(state.vector, starts=starts))


def assert_close(one, other, tolerance: float = 1e-5) -> None:
    """Of two states, integers, booleans and keys are equal; floats to the tolerance."""
    for a, b in zip(arrays(without_stock(one)), arrays(without_stock(other)), strict=True):
        if np.issubdtype(a.dtype, np.floating):
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
        else:
            np.testing.assert_array_equal(a, b)


def assert_replicated(program: Program, state) -> None:
    """All that is not dealt out has the same bits on every device."""
    copies = 0
    for leaf in jax.tree.leaves(state):
        data = (
            jax.random.key_data(leaf)
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf
        )
        assert len(data.addressable_shards) == program.layout.devices
        by_index: dict[str, set[bytes]] = {}
        for shard in data.addressable_shards:
            by_index.setdefault(str(shard.index), set()).add(np.asarray(shard.data).tobytes())
        assert all(len(found) == 1 for found in by_index.values()), data.sharding
        copies += len(by_index) < program.layout.devices
    assert copies > 10  # parameters, optimiser, statistics, key and counter are such leaves
