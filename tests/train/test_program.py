"""The compiled programs: one compilation, numbers as arguments, populations, memory."""

import dataclasses
import logging
import math
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.train.build import build
from jaxrl.train.profile.flops import count
from jaxrl.train.program import Program
from tests.train.tiny import ITERATIONS, SIZES, arrays, experiment, same_bits, shared_compilations

RATES = [1e-3, 1e-2]
SEEDS = 2


@pytest.fixture(scope="module", autouse=True)
def shared():
    with shared_compilations():
        yield


def alone(setting: int = 0, seed: int = 0) -> Program:
    """The program of one member of the population."""
    return build(experiment(learning_rate=RATES[setting], seed=seed))


@pytest.fixture(scope="module", params=[math.inf, 0], ids=["side by side", "one by one"])
def population(request):
    """The program of all members, which holds while it is in use: it compiles when it is called."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaxrl.train.population.CACHED", request.param)
        yield build(experiment(sweep={"learning_rate": RATES}, num_seeds=SEEDS))


@pytest.fixture(scope="module")
def trained(population):
    """(state, metrics) of the population after three iterations, as they are saved:
    leaves [H, S, ...]."""
    state, metrics = population.chunk(population.init(), 3)
    return population.whole(state), metrics


def lowered(program: Program) -> jax.stages.Lowered:
    """The chunk as `Program` compiles it."""
    population = program.population
    arguments = (
        population.env,
        population.config,
        population.inputs,
        program.abstract_state(),
        jnp.int32(1),
    )
    return jax.jit(program._chunk, donate_argnums=3).lower(*arguments)


def member(tree, setting: int, seed: int):
    return jax.tree.map(lambda leaf: leaf[setting, seed], tree)


def test_chunks_of_any_length_are_one_compilation(caplog):
    def compilations(name: str) -> int:
        return sum(
            f"Finished XLA compilation of jit({name})" in record.message
            for record in caplog.records
        )

    program = build(experiment(hidden_sizes=(3,)))  # a shape of its own: nothing is compiled yet
    with jax.log_compiles(), caplog.at_level(logging.WARNING, "jax"):
        state, other = program.init(), program.init()
        for length in (3, 4, 1):
            state, _ = program.chunk(state, length)
        other, _ = program.chunk(other, 8)
    assert compilations("_chunk") == 1
    assert compilations("_init") == 1
    assert same_bits(state, other)  # however the eight iterations are cut
    assert int(state.iteration) == 8


def test_metrics_of_a_chunk_are_those_of_its_parts():
    program = alone()
    state, first = program.chunk(program.init(), 2)
    _, second = program.chunk(state, 3)
    _, whole = program.chunk(program.init(), 5)
    assert (
        whole["episode_return"].count
        == first["episode_return"].count + second["episode_return"].count
        > 0
    )
    for name, pair in whole.items():
        np.testing.assert_allclose(
            pair.sum, first[name].sum + second[name].sum, rtol=1e-5, atol=1e-6, err_msg=name
        )


def test_another_shape_is_an_error_and_no_recompilation(population):
    program = alone()
    program.chunk(program.init(), 1)
    with pytest.raises(TypeError, match="compiled"):
        program.chunk(population.init(), 1)


def test_numbers_are_arguments_and_not_constants():
    texts = [
        lowered(build(experiment(learning_rate=rate, gamma=gamma, clip_epsilon=clip))).as_text()
        for rate, gamma, clip in ((1e-3, 0.99, 0.2), (0.0123, 0.9, 0.3))
    ]
    assert texts[0] == texts[1]


def test_parameters_of_the_environment_are_arguments_too():
    texts = []
    for gravity in (9.8, 3.7):
        described = dataclasses.replace(
            experiment("CartPole-v1"), environment_options={"gravity": gravity}
        )
        texts.append(lowered(build(described)).as_text())
    assert texts[0] == texts[1]


def test_programs_that_differ_in_numbers_still_differ():
    states = [alone(setting).chunk(alone(setting).init(), 2)[0] for setting in (0, 1)]
    assert not same_bits(states[0].policy.params, states[1].policy.params)


@pytest.mark.parametrize("setting", range(len(RATES)))
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_member_of_a_population_is_what_it_is_alone(population, trained, setting, seed):
    """Keys and everything counted agree exactly; floats to 1e-5,
    since XLA may order batched sums differently."""
    program = alone(setting, seed)
    state, metrics = program.chunk(program.init(), 3)
    for together, one in zip(arrays(member(trained[0], setting, seed)), arrays(state), strict=True):
        if np.issubdtype(one.dtype, np.floating):
            np.testing.assert_allclose(together, one, rtol=1e-5, atol=1e-5)
        else:
            np.testing.assert_array_equal(together, one)
    for name, pair in metrics.items():
        together = trained[1][name].sum[setting, seed]
        np.testing.assert_allclose(together, pair.sum, rtol=1e-4, atol=1e-5, err_msg=name)


def test_one_by_one_on_one_device_a_member_has_the_bits_it_has_alone(monkeypatch):
    monkeypatch.setattr("jaxrl.train.population.CACHED", 0)
    many = build(experiment(sweep={"learning_rate": RATES}, num_seeds=SEEDS, devices=1))
    states, metrics = many.chunk(many.init(), 3)
    one = build(experiment(learning_rate=RATES[1], seed=1, devices=1))
    assert same_bits(member((states, metrics), 1, 1), one.chunk(one.init(), 3))


def test_members_with_large_layers_are_trained_one_by_one(monkeypatch):
    def loops(program: Program) -> bool:
        """Whether the members of a program are taken in a loop."""
        return f"length={len(RATES) * SEEDS}" in str(traced(program))

    def traced(program: Program):
        return program.traced_chunk(program.abstract_state())

    program = build(experiment(sweep={"learning_rate": RATES}, num_seeds=SEEDS, devices=1))
    of_one = count(traced(build(experiment(devices=1)))).product_bytes
    assert of_one > 0
    monkeypatch.setattr("jaxrl.train.population.CACHED", of_one + 1)
    assert not loops(program)
    monkeypatch.setattr("jaxrl.train.population.CACHED", of_one - 1)
    assert loops(program)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert not loops(program)


def test_settings_and_seeds_of_a_population_differ(trained):
    params = [arrays(member(trained[0].policy.params, *at)) for at in np.ndindex(len(RATES), SEEDS)]
    for one in range(len(params)):
        for other in range(one):
            assert not all(
                np.array_equal(a, b) for a, b in zip(params[one], params[other], strict=True)
            )


def test_a_seed_begins_with_the_same_key_whatever_it_runs_with(population):
    keys = jax.random.key_data(population.whole(population.init()).key)
    for setting, seed in np.ndindex(len(RATES), SEEDS):
        np.testing.assert_array_equal(
            keys[setting, seed], jax.random.key_data(alone(seed=seed).init().key)
        )


def test_evaluations_have_the_shape_of_the_population(population, trained):
    for episodes in population.evaluate(
        population.policies(population.place(trained[0])), 3
    ).values():
        assert episodes.returns.shape == episodes.lengths.shape == (len(RATES), SEEDS, 4)


def test_finite_is_told_member_by_member(population, trained):
    np.testing.assert_array_equal(population.is_finite(population.place(trained[0])), True)
    leaves, structure = jax.tree.flatten(trained[0].policy.params)
    leaves[0] = leaves[0].at[1, 0].set(jnp.nan)
    policy = replace(trained[0].policy, params=jax.tree.unflatten(structure, leaves))
    broken = replace(trained[0], policy=policy)
    np.testing.assert_array_equal(
        population.is_finite(population.place(broken)), [[True, True], [False, True]]
    )


def test_nothing_crosses_to_the_host_within_a_chunk():
    program = alone()
    state, _ = program.chunk(program.init(), 1)
    length = jnp.int32(2)
    with jax.transfer_guard("disallow"):
        population = program.population
        state, metrics = population.compiled["chunk"](
            population.env, population.config, population.inputs, state, length
        )
        jax.block_until_ready(metrics)
    assert int(state.iteration) == 3


def test_the_state_is_donated():
    program = alone()
    state = program.init()
    program.chunk(state, 1)
    assert state.policy.params is not None
    with pytest.raises(RuntimeError, match="deleted"):
        np.asarray(jax.tree.leaves(state.policy.params)[0])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_run():
    sizes = []
    for iterations in (ITERATIONS, 1000 * ITERATIONS):
        program = build(experiment(total_steps=iterations * 32))
        assert program.algorithm.budget.steps == iterations
        memory = lowered(program).compile().memory_analysis()
        sizes.append(
            (memory.temp_size_in_bytes, memory.output_size_in_bytes, memory.alias_size_in_bytes)
        )
    assert sizes[0] == sizes[1]
    state_bytes = sum(leaf.nbytes for leaf in arrays(alone().init()))
    assert sizes[0][2] >= 0.9 * state_bytes  # the next state takes the place of the last
    assert sizes[0][0] < 1e6 and SIZES["num_envs"] == 4
