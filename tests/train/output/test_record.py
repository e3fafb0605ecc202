"""One recorded episode: the frames that the agent acted on, and what each action earned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxrl.envs.api import Environment
from jaxrl.envs.registry import make
from jaxrl.train.output.record import record_episode
from jaxrl.train.program import Program
from jaxrl.types import Algorithm, Box, Discrete, Mean, Timestep
from tests.envs.paying import LARGE, paying
from tests.train.tiny import experiment


def repeating_policy(env, config) -> Algorithm:
    """A learner whose policy is one action: 1 for the first seed, 0 for others; sampled, it is that action plus 1."""

    def act(policy, memory, observation, key, deterministic):
        return policy["action"] + (0 if deterministic else 1), memory

    return Algorithm(
        init=lambda key: {"action": (jax.random.key_data(key) == first).all().astype(jnp.int32)},
        step=lambda state: (state, {"loss": Mean.of(0.0)}),
        policy=lambda state: state,
        memory=lambda: (),
        act=act,
        samples_per_step=1,
        num_iterations=1,
    )


first = np.asarray(jax.random.key_data(jax.random.fold_in(jax.random.key(0), 0)))  # the training key of seed 0


@struct.dataclass
class Place:
    """Where the walker is."""

    position: jax.Array
    label: str = struct.field(pytree_node=False, default="not an array")


class Walk(Environment):
    """Each action is a step and its reward; ends at 3, or after 4 steps."""

    @property
    def observation_space(self):
        return Box(0.0, 10.0, (1,))

    @property
    def action_space(self):
        return Discrete(3)

    @property
    def horizon(self):
        return 4

    def reset(self, key):
        return Place(jnp.int32(0)), jnp.zeros(1)

    def step(self, key, state, action):
        position = state.position + action
        observation = position.astype(jnp.float32)[None]
        return Place(position), Timestep(observation, action.astype(jnp.float32), position >= 3)


@pytest.mark.parametrize(
    ("seeds", "deterministic", "positions", "rewards"),
    [
        ([0], True, [0, 1, 2], [1, 1, 1]),  # ends by itself
        ([0], False, [0, 2], [2, 2]),
        ([1], True, [0, 0, 0, 0], [0, 0, 0, 0]),  # ends at the time limit
    ],
)
def test_frames_are_those_the_agent_acted_on(seeds, deterministic, positions, rewards):
    program = Program(repeating_policy, Walk(), experiment().config, seeds)
    frames, earned = record_episode(program.env, program.algorithm, program.init(), jax.random.key(0), deterministic)
    assert set(frames) == {"observation", "position"}
    np.testing.assert_array_equal(frames["position"], positions)
    np.testing.assert_array_equal(frames["observation"], np.asarray(positions, np.float32)[:, None])
    np.testing.assert_array_equal(earned, rewards)


def test_rewards_can_be_added_up_over_any_number_of_steps():
    program = Program(repeating_policy, paying(LARGE, 1.0, 1001), experiment().config, [0])
    _, earned = record_episode(program.env, program.algorithm, program.init(), jax.random.key(0), True)
    np.testing.assert_array_equal(np.cumsum(earned), LARGE + np.arange(1001))


def test_the_key_decides_the_episode():
    program = Program(repeating_policy, make("probe/two-lengths"), experiment().config, [0])
    lengths = {
        len(record_episode(program.env, program.algorithm, program.init(), jax.random.key(seed), True)[1])
        for seed in range(6)
    }
    assert lengths == {2, 10}


class Drawn(Walk):
    """A walk that draws its states."""

    seconds = 0.1

    def painter(self):
        raise NotImplementedError


def test_of_an_environment_that_draws_itself_whole_states_are_kept():
    program = Program(repeating_policy, Drawn(), experiment().config, [0])
    frames, _ = record_episode(program.env, program.algorithm, program.init(), jax.random.key(0), True)
    assert set(frames) == {"observation", "state"}
    np.testing.assert_array_equal(frames["state"].position, [0, 1, 2])
