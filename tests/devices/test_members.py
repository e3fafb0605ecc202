"""Members that are dealt out to devices, evenly or not: they end where they end on one device,
to rounding.

Each device compiles a batch of its own size, so that after the first step the last bits may differ.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.train.build import build
from jaxrl.train.devices.layout import Layout
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.population import Population
from tests.devices.eight import assert_close
from tests.train.tiny import EPISODES, arrays, experiment, same_bits, shared_compilations

ITERATIONS = 12
EVERYTHING = {
    "num_envs": 8,
    "num_epochs": 2,
    "normalize_observations": True,
    "scale_rewards": True,
    "normalize_advantages": "batch",
    "target_kl": 0.5,
    "ewma_center_of_mass": 2.0,
}
POPULATIONS = {
    "five seeds": {"num_seeds": 5},
    "two settings": {"sweep": {"learning_rate": [1e-3, 1e-2]}},
}
SHAPES = {"five seeds": (1, 5), "two settings": (2, 1)}
each_population = pytest.mark.parametrize("name", POPULATIONS)


@pytest.fixture(scope="module", autouse=True)
def shared():
    with shared_compilations():
        yield


@functools.cache
def program(name, devices):
    made = experiment(**EVERYTHING, **POPULATIONS[name])
    built = build(
        dataclasses.replace(made, run=dataclasses.replace(made.run, mesh=(f"seed={devices}",)))
    )
    assert built.layout == Layout(seed=devices)
    return built


@functools.cache
def run(name, devices):
    """(first state, last state, metrics, evaluation) as they are saved."""
    trained = program(name, devices)
    first = trained.init()
    saved = jax.device_get(arrays(trained.whole(first)))
    state, metrics = trained.chunk(first, ITERATIONS)
    episodes = trained.evaluate(trained.policies(state), ITERATIONS)
    return saved, trained.whole(state), metrics, episodes


@pytest.mark.parametrize(
    "name", ["five seeds", pytest.param("two settings", marks=pytest.mark.slow)]
)
def test_they_begin_with_the_bits_of_one_device_and_end_within_its_rounding(name):
    (first, state, metrics, _), (first_of_two, state_of_two, metrics_of_two, _) = (
        run(name, n) for n in (1, 2)
    )
    assert same_bits(first, first_of_two)
    assert jax.tree.structure(state) == jax.tree.structure(state_of_two)
    assert_close(state_of_two, state)
    for found, expected in zip(*map(jax.tree.leaves, (metrics_of_two, metrics)), strict=True):
        assert found.shape == SHAPES[name]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@each_population
def test_no_two_members_are_alike(name):
    params = jax.tree.leaves(run(name, 2)[1].policy.params)[0]
    rows = np.asarray(params).reshape(np.prod(SHAPES[name]), -1)
    assert len(np.unique(rows, axis=0)) == len(rows)


@each_population
def test_they_are_evaluated_on_the_same_episodes(name):
    one, two = run(name, 1)[3], run(name, 2)[3]
    assert list(one) == list(two) == ["deterministic", "stochastic"]
    for mode, episodes in two.items():
        assert isinstance(episodes.returns, np.ndarray) and episodes.returns.shape == (
            *SHAPES[name],
            EPISODES,
        )
        np.testing.assert_allclose(episodes.returns, one[mode].returns, rtol=1e-5)
        np.testing.assert_array_equal(episodes.lengths, one[mode].lengths)


def test_what_is_dealt_out_is_gathered_again_without_what_filled_up_the_devices():
    population = program("five seeds", 2).population
    tree = {"numbers": jnp.arange(10.0).reshape(1, 5, 2), "count": jnp.arange(5).reshape(1, 5)}
    dealt = population.deal(tree)
    np.testing.assert_array_equal(dealt["count"], [0, 1, 2, 3, 4, 4])  # the last one twice
    assert {shard.data.shape for shard in dealt["numbers"].addressable_shards} == {(3, 2)}
    assert same_bits(population.gather(dealt), tree)
    both = Population(population.env, population.first_config, {}, (2, 3), Layout(seed=4))
    members = 10 * jnp.arange(2)[:, None] + jnp.arange(3)[None]
    dealt = both.deal(members)
    np.testing.assert_array_equal(dealt, [0, 10, 1, 11, 2, 12, 12, 12])  # seed by seed
    assert same_bits(both.gather(dealt), members)
    state = program("five seeds", 2).init()
    assert same_bits(program("five seeds", 2).place(program("five seeds", 2).whole(state)), state)


@pytest.mark.parametrize(("saved_by", "read_by"), [(1, 2), (2, 1)])
def test_a_checkpoint_is_the_same_whatever_devices_wrote_it(saved_by, read_by, tmp_path):
    checkpoints, further = Checkpoints(tmp_path), program("five seeds", read_by)
    state = run("five seeds", saved_by)[1]
    checkpoints.save(ITERATIONS, state, {})
    restored = checkpoints.restore_latest(further.abstract_state())
    assert not restored.problems and same_bits(restored.state, state)
    after, _ = further.chunk(further.place(restored.state), 2)
    whole = program("five seeds", saved_by)
    expected, _ = whole.chunk(whole.place(jax.tree.map(lambda leaf: leaf.copy(), state)), 2)
    assert_close(further.whole(after), whole.whole(expected))
