"""What algorithms are given from disk: read where an option names a path, refused in the user's words."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.ppo import PPOConfig, ppo
from jaxrl.algos.stepmix import StepMixConfig, stepmix
from jaxrl.config import override
from jaxrl.envs.registry import make
from jaxrl.errors import JaxrlError
from jaxrl.train.experiment import default_config
from jaxrl.train.inputs import read_inputs
from jaxrl.train.program import Program
from jaxrl.train.trust import NOBODY
from jaxrl.types import Agent, Algorithm, Budget, Mean, feed_forward


def read(factory, config, environment):
    return read_inputs(factory, config, environment, make(environment), NOBODY)


def test_nothing_is_read_where_no_option_names_a_path():
    assert read(stepmix, StepMixConfig(), "tabular/paper") == {}
    assert read(ppo, default_config("ppo", "CartPole-v1")[0], "CartPole-v1") == {}


def test_episodes_come_from_a_file_of_arrays(tmp_path):
    states, actions = np.arange(8).reshape(4, 2) % 5, np.arange(6).reshape(3, 2) % 5
    np.savez(tmp_path / "episodes.npz", states=states, actions=actions)
    config = override(StepMixConfig(), {"dataset": str(tmp_path / "episodes.npz")})
    found = read(stepmix, config, "tabular/paper")
    assert list(found) == ["dataset"] and found["dataset"].value.states.dtype == np.int32
    np.testing.assert_array_equal(found["dataset"].value.states, states)
    np.testing.assert_array_equal(found["dataset"].value.actions, actions)


@pytest.mark.parametrize("content", [None, b"no archive", {"states": np.zeros((4, 2))}])
def test_a_file_that_holds_no_episodes_is_named(tmp_path, content):
    path = tmp_path / "episodes.npz"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        np.savez(path, **content)
    words = "(it should be an .npz file of states and actions|there is no such file)"
    with pytest.raises(JaxrlError, match=f"dataset is .*episodes.npz: {words}"):
        read(stepmix, override(StepMixConfig(), {"dataset": str(path)}), "tabular/paper")


def test_episodes_of_another_problem_are_refused_before_anything_compiles(tmp_path):
    np.savez(tmp_path / "episodes.npz", states=np.full((4, 2), 7), actions=np.zeros((3, 2), int))
    config = override(StepMixConfig(), {"dataset": str(tmp_path / "episodes.npz")})
    with pytest.raises(JaxrlError, match=r"dataset is .*episodes.npz: the dataset has state 7, but the environment's"):
        read(stepmix, config, "tabular/paper")


class Numbers(NamedTuple):
    """An input of two arrays."""

    numbers: jax.Array
    more: jax.Array

    @classmethod
    def read(cls, path, env):
        """The arrays of an .npz file."""
        with np.load(path) as file:
            return cls(jnp.asarray(file["numbers"]), jnp.asarray(file["more"]))


def summing(env, config: PPOConfig, *, numbers: Numbers | None = None) -> Algorithm:
    """Adds the mean of its input to a number, on and on."""

    def step(state):
        total = state["total"] + config.learning_rate * numbers.numbers.mean() + numbers.more.sum()
        return {"total": total, "key": state["key"]}, {"loss": Mean.of(total)}

    agent = Agent(
        init=lambda key: {"total": jnp.float32(0)},
        modes={"deterministic": feed_forward(lambda policy, observation, key: jnp.int32(0))},
    )
    return Algorithm(
        init=lambda key: {"total": jnp.float32(0), "key": key},
        step=step,
        policy=lambda state: {"total": state["total"]},
        agent=agent,
        budget=Budget("gradient steps", 1, 10),
    )


def with_input(values, *, seeds=1, compiled=None):
    read = Numbers(jnp.asarray(values, jnp.float32), jnp.ones(3))
    return Program(
        summing, make("probe/two-step"), PPOConfig(), list(range(seeds)), inputs={"numbers": read}, compiled=compiled
    )


def test_an_input_is_an_argument_and_no_constant_of_the_program():
    """The program's text has the same length whatever there is in the input, and nearly so however much."""
    lengths = []
    for count in (10, 100_000):
        program = with_input(np.arange(count))
        population = program.population
        arguments = population.env, population.config, population.inputs, program.abstract_state(), jnp.int32(1)
        lengths.append(len(jax.jit(program._chunk).lower(*arguments).as_text()))
    assert abs(lengths[1] - lengths[0]) < 0.01 * lengths[0]


def test_inputs_of_equal_shape_share_a_compilation():
    first = with_input([1.0, 2.0, 3.0])
    second = with_input([10.0, 20.0, 30.0], compiled=first.population.compiled)
    totals = []
    for program in (first, second):
        state, _ = program.chunk(program.init(), 1)
        totals.append(float(state["total"]))
    assert totals == pytest.approx([3.0 + 2.0 * 2.5e-4, 3.0 + 20.0 * 2.5e-4])
    assert second.compile_seconds == 0.0


def test_all_members_share_one_copy_of_an_input_and_none_is_saved():
    program = with_input(np.ones(1000), seeds=8)
    assert program.population.inputs["numbers"].numbers.shape == (1000,)
    state, _ = program.chunk(program.init(), 1)
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(program.whole(state)["total"])) == 8 * 4
