"""PPO shared by eight devices: it learns, it talks no more than it must,
and members of a population never meet."""

import collections
import dataclasses
import re

import jax
import numpy as np
import pytest

from jaxrl.train.build import build
from jaxrl.train.experiment import Experiment, RunSettings
from jaxrl.train.program import Program
from tests.devices.eight import assert_close, assert_replicated
from tests.train.tiny import experiment, shared_compilations

EVERYTHING = {
    "normalize_observations": True,
    "scale_rewards": True,
    "normalize_advantages": "batch",
    "target_kl": 0.5,
    "ewma_center_of_mass": 2.0,
    "outer_step_size": 1.1,
}
COLLECTIVE = re.compile(
    r"= .*?\b(all-reduce|all-gather|all-to-all|collective-\w+|reduce-scatter|send|recv)"
    r"(?:-start)?\("
)


@pytest.fixture(scope="module", autouse=True)
def shared():
    with shared_compilations():
        yield


def spread(made: Experiment, *mesh: str) -> Program:
    return build(dataclasses.replace(made, run=dataclasses.replace(made.run, mesh=mesh)))


@pytest.fixture(scope="module")
def learned():
    """(program, state, returns before, returns after) of the probe whose best action depends on the
    observation."""
    made = experiment(
        "probe/observation-action",
        **{
            "total_steps": 50 * 256,
            "num_envs": 16,
            "num_steps": 16,
            "minibatch_size": 64,
            "num_epochs": 4,
        },
        **{"learning_rate": 0.01, "entropy_coefficient": 0.0, "hidden_sizes": (16,)},
        **EVERYTHING,
    )
    made = dataclasses.replace(made, run=RunSettings(evaluation_episodes=64))
    program = spread(made, "env=8")
    state = program.init()
    before = program.evaluate(program.policies(state), 0)["deterministic"].returns
    state, _ = program.chunk(state, program.algorithm.budget.steps)
    return (
        program,
        state,
        before,
        program.evaluate(program.policies(state), 50)["deterministic"].returns,
    )


@pytest.fixture(scope="module")
def population():
    """(program, state) of two settings and two seeds, each member shared by four devices."""
    program = spread(
        experiment(**SIZES, sweep={"learning_rate": RATES}, num_seeds=2), "env=4,seed=2"
    )
    return program, program.chunk(program.init(), 3)[0]


SIZES, RATES = {"num_envs": 8, "num_epochs": 2}, [1e-3, 1e-2]


def test_eight_devices_learn_what_one_learns(learned):
    _, _, before, after = learned
    assert before.mean() < 0.9
    np.testing.assert_array_equal(after, 1.0)


def test_statistics_and_parameters_stay_the_same_everywhere(learned):
    program, state, _, _ = learned
    assert int(state.iteration) == 50
    assert_replicated(program, state)


def test_devices_draw_numbers_of_their_own(learned):
    keys = np.asarray(jax.random.key_data(learned[1].vector.starts.key))
    assert len(np.unique(keys, axis=0)) == 16


def messages(program: Program) -> dict[int, int]:
    """How many messages the compiled chunk holds, by the loops around them:
    3 is a gradient step's."""
    lines = [
        line
        for line in program.population.compiled["chunk"].as_text().splitlines()
        if COLLECTIVE.search(line)
    ]
    assert {COLLECTIVE.search(line)[1] for line in lines} == {"all-reduce"}
    return dict(
        collections.Counter(
            re.search('op_name="([^"]*)"', line)[1].split("/").count("while") for line in lines
        )
    )


def test_a_gradient_step_sends_one_message(learned, population):
    # A chunk sends its metrics; an epoch, the means and the variances of its minibatches'
    # advantages.
    assert messages(population[0]) == {0: 1, 2: 2, 3: 1}
    # Of the batch instead, once an iteration: the advantages' mean and variance, and two rounds for
    # the moments of observations and returns together. The divergence travels with the gradient.
    assert messages(learned[0]) == {0: 1, 1: 4, 3: 1}


def test_members_of_a_population_never_meet(population):
    groups = re.findall(
        r"replica_groups=(\{\{.*?\}\}|mesh\S+ \{.*?\})",
        population[0].population.compiled["chunk"].as_text(),
    )
    assert set(groups) in (
        {"{{0,1,2,3},{4,5,6,7}}"},
        {"mesh['seed'=2,'env'=4] {'env'}"},
    )  # as jax 0.10 or 0.11 has it


@pytest.mark.slow
def test_seeds_alone_send_nothing():
    program = spread(experiment(num_seeds=2), "seed=2")
    program.chunk(program.init(), 1)
    assert not COLLECTIVE.search(program.population.compiled["chunk"].as_text())


@pytest.mark.parametrize("setting", range(2))
@pytest.mark.parametrize("seed", range(2))
def test_a_member_is_what_it_is_alone(population, setting, seed):
    program = spread(experiment(**SIZES, learning_rate=RATES[setting], seed=seed), "env=4")
    state, _ = program.chunk(program.init(), 3)
    whole = population[0].whole(population[1])
    assert_close(jax.tree.map(lambda leaf: leaf[setting, seed], whole), state)
