"""What algorithms are given from disk: read where an option names a path,
refused in the user's words."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.ppo import PPOConfig, ppo
from jaxrl.algos.stepmix import StepMixConfig, stepmix
from jaxrl.config import configuration, flatten, inputs_of, option, override, part
from jaxrl.core.shards import SINGLE
from jaxrl.data import formats, store
from jaxrl.data.dataset import Dataset
from jaxrl.data.recorded import Recorded, describe
from jaxrl.envs.registry import make
from jaxrl.envs.starts.api import StartsConfig
from jaxrl.envs.starts.family import STARTS
from jaxrl.envs.starts.fresh import Fresh
from jaxrl.envs.vector import make_vector
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
    words = (
        "(it should be an .npz file of states and actions, but (it is none|actions is not)|there "
        "is no such file)"
    )
    with pytest.raises(JaxrlError, match=f"dataset is .*episodes.npz: {words}"):
        read(stepmix, override(StepMixConfig(), {"dataset": str(path)}), "tabular/paper")


@pytest.mark.parametrize("state", [7, 2**32])  # which int32 would take for 0
def test_episodes_of_another_problem_are_refused_before_anything_compiles(tmp_path, state):
    np.savez(
        tmp_path / "episodes.npz", states=np.full((4, 2), state), actions=np.zeros((3, 2), int)
    )
    config = override(StepMixConfig(), {"dataset": str(tmp_path / "episodes.npz")})
    with pytest.raises(
        JaxrlError, match=rf"dataset is .*episodes.npz: the dataset has state {state}, but the env"
    ):
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


class Named(Numbers):
    """An input that reads what no program can take."""

    @classmethod
    def read(cls, path, env):
        """The name of the file for an array."""
        return cls(jnp.zeros(3), np.array(["text"]))


@configuration
class BeginningConfig(StartsConfig):
    """Starts that are given numbers, and may be given more."""

    numbers: str = option("")

    def make(self, env, shards, *, numbers: Numbers):
        """The environment's own after all."""
        return Fresh(env), numbers


@configuration
class WholeConfig:
    """Two start distributions, and an input of the algorithm's own."""

    num_envs: int = 2
    stagger: bool = False
    dataset: str = option("")
    starts: StartsConfig = part(STARTS, "fresh")
    later: StartsConfig = part(STARTS, "fresh", prefix="later_")


def whole(env, config: WholeConfig, *, dataset: Numbers | None = None, **inputs) -> Algorithm:
    """Is never made."""


def misnamed(env, config: WholeConfig, *, data: Numbers | None = None) -> Algorithm:
    """Names no option."""


BEGINNING = f"{__name__}:BeginningConfig"


def saved(path, count):
    np.savez(path, numbers=np.arange(count), more=np.ones(1))
    return str(path)


def test_parts_are_given_their_own_inputs_by_flat_name(tmp_path):
    paths = {
        name: saved(tmp_path / f"{name}.npz", count)
        for count, name in enumerate(("dataset", "one", "two"), 1)
    }
    chosen = {
        "starts": BEGINNING,
        "later": BEGINNING,
        "later_numbers": paths["two"],
        "numbers": paths["one"],
    }
    config = override(WholeConfig(), chosen | {"dataset": paths["dataset"]})
    found = read(whole, config, "probe/two-step")
    assert {name: len(each.value.numbers) for name, each in found.items()} == {
        "dataset": 1,
        "numbers": 2,
        "later_numbers": 3,
    }
    inputs = {name: each.value for name, each in found.items()}
    assert inputs_of(config, "later", inputs) == {"numbers": inputs["later_numbers"]}
    vector = make_vector(make("probe/two-step"), config, SINGLE, inputs)
    assert vector.starts[1] is inputs["numbers"]
    assert (
        read(whole, override(WholeConfig(), flatten(config)), "probe/two-step").keys()
        == found.keys()
    )
    with pytest.raises(
        JaxrlError, match="BeginningConfig needs later_numbers, .*: --later-numbers PATH"
    ):
        read(whole, override(config, {"later_numbers": ""}), "probe/two-step")


def learning(env, config: WholeConfig, *, dataset: Dataset) -> Algorithm:
    """Is never made."""


def zeros(steps, environment):
    """A dataset of one episode."""
    rows = np.zeros((steps, 1), np.float32)
    return Recorded(
        observation=rows,
        action=rows,
        reward=rows[:, 0],
        terminated=np.arange(steps) == steps - 1,
        truncated=np.zeros(steps, np.bool_),
        final_observation=rows[:1],
        length=np.asarray([steps], np.int32),
        about=describe("zeros", "zeros", environment=environment),
    )


@pytest.mark.parametrize(("text", "steps"), [("mine", 1), ("./mine", 2), (".//mine", 2)])
def test_a_path_stays_one_where_a_dataset_has_its_name(text, steps, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXRL_DATASETS", str(tmp_path / "datasets"))
    monkeypatch.chdir(tmp_path)
    store.root().mkdir()
    environment = "probe/continuous-never-ending"
    formats.write_as("own", store.place("mine"), zeros(1, environment))
    formats.write_as("own", tmp_path / "mine", zeros(2, environment))
    found = read(learning, override(WholeConfig(), {"dataset": text}), environment)
    assert found["dataset"].value.num_rows == steps


def test_an_input_that_no_option_names_is_refused():
    with pytest.raises(
        JaxrlError, match="misnamed needs data, but there is no option of that name"
    ):
        read(misnamed, WholeConfig(), "probe/two-step")


def test_what_programs_cannot_take_or_is_empty_is_refused(tmp_path):
    path = saved(tmp_path / "numbers.npz", 0)
    np.savez(path, numbers=np.zeros(0), more=np.zeros((0, 3)))

    def named(env, config: WholeConfig, *, dataset: Named) -> Algorithm:
        """Is never made."""

    config = override(WholeConfig(), {"dataset": path})
    with pytest.raises(JaxrlError, match="dataset is .*numbers.npz: there is nothing in it"):
        read(whole, config, "probe/two-step")
    with pytest.raises(
        JaxrlError, match="numbers.npz: it holds <U4 at .more, but must hold arrays of numbers"
    ):
        read(named, config, "probe/two-step")


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
        summing,
        make("probe/two-step"),
        PPOConfig(),
        list(range(seeds)),
        inputs={"numbers": read},
        compiled=compiled,
    )


def test_an_input_is_an_argument_and_no_constant_of_the_program():
    """The program's text has the same length whatever there is in the input,
    and nearly so however much."""
    lengths = []
    for count in (10, 100_000):
        program = with_input(np.arange(count))
        population = program.population
        arguments = (
            population.env,
            population.config,
            population.inputs,
            program.abstract_state(),
            jnp.int32(1),
        )
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
