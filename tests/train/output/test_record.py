"""One recorded episode: the frames that the agent acted on, and what each action earned."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxrl.envs.api import Environment
from jaxrl.envs.registry import make
from jaxrl.train.output import record
from jaxrl.train.output.record import record_episode
from jaxrl.types import Agent, Box, Discrete, Timestep, feed_forward
from tests.envs.paying import LARGE, paying


def repeating_agent() -> Agent:
    """An agent whose policy is one action; stochastic, it is that action plus 1."""
    modes = {
        "deterministic": feed_forward(lambda policy, observation, key: policy["action"]),
        "stochastic": feed_forward(lambda policy, observation, key: policy["action"] + 1),
    }
    return Agent(init=lambda key: {"action": jnp.int32(0)}, modes=modes)


def recorded(env, action=1, mode="deterministic", seed=0):
    return record_episode(
        env, repeating_agent(), {"action": jnp.int32(action)}, jax.random.key(seed), mode
    )


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
    ("action", "mode", "positions", "rewards"),
    [
        (1, "deterministic", [0, 1, 2], [1, 1, 1]),  # ends by itself
        (1, "stochastic", [0, 2], [2, 2]),
        (0, "deterministic", [0, 0, 0, 0], [0, 0, 0, 0]),  # ends at the time limit
    ],
)
@pytest.mark.parametrize("piece", [1, 3, 256])
def test_frames_are_those_the_agent_acted_on(action, mode, positions, rewards, piece, monkeypatch):
    monkeypatch.setattr(record, "STEPS_PER_PIECE", piece)
    frames, earned = recorded(Walk(), action, mode)
    assert set(frames) == {"observation", "position"}
    np.testing.assert_array_equal(frames["position"], positions)
    np.testing.assert_array_equal(frames["observation"], np.asarray(positions, np.float32)[:, None])
    np.testing.assert_array_equal(earned, rewards)


def test_rewards_can_be_added_up_over_any_number_of_steps():
    _, earned = recorded(paying(LARGE, 1.0, 1001))
    np.testing.assert_array_equal(np.cumsum(earned), LARGE + np.arange(1001))


def test_the_key_decides_the_episode():
    lengths = {len(recorded(make("probe/two-lengths"), seed=seed)[1]) for seed in range(6)}
    assert lengths == {2, 10}


class Drawn(Walk):
    """A walk that draws its states."""

    seconds = 0.1

    def painter(self):
        raise NotImplementedError


def test_of_an_environment_that_draws_itself_whole_states_are_kept():
    frames, _ = recorded(Drawn())
    assert set(frames) == {"observation", "state"}
    np.testing.assert_array_equal(frames["state"].position, [0, 1, 2])
