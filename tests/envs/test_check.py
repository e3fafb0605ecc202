"""A user's environment is refused in words, before anything is compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxrl.envs.api import Environment
from jaxrl.envs.check import check_environment
from jaxrl.errors import JaxrlError
from jaxrl.types import Box, Discrete, Timestep


class Good(Environment):
    """Counts up; subclasses break one promise each."""

    gravity: float = 9.8
    width: int = struct.field(pytree_node=False, default=2)

    @property
    def observation_space(self):
        return Box(-np.inf, np.inf, (self.width,))

    @property
    def action_space(self):
        return Discrete(2)

    @property
    def horizon(self):
        return 5

    def observe(self, state):
        return jnp.full(self.width, state, jnp.float32)

    def reset(self, key):
        state = jnp.zeros((), jnp.int32)
        return state, self.observe(state)

    def reward(self):
        return jnp.float32(1.0) * self.gravity

    def step(self, key, state, action):
        return state + action, Timestep(self.observe(state), self.reward(), state > 3)


class IntegerReward(Good):
    def reward(self):
        return jnp.int32(1)


class VectorReward(Good):
    def reward(self):
        return jnp.ones(1)


class FloatEnd(Good):
    def step(self, key, state, action):
        return state, Timestep(self.observe(state), self.reward(), jnp.float32(0.0))


class OtherShape(Good):
    def observe(self, state):
        return jnp.zeros(3)


class OtherState(Good):
    def step(self, key, state, action):
        return state + 0.5, Timestep(self.observe(state), self.reward(), state > 3)


class PlainTuple(Good):
    def step(self, key, state, action):
        return state, (self.observe(state), self.reward(), state > 3)


class Broken(Good):
    def reset(self, key):
        raise KeyError("table")


class TracedSize(Good):
    limit: int = 7

    @property
    def horizon(self):
        return self.limit


class NoHorizon(Good):
    @property
    def horizon(self):
        return 0


def test_an_environment_that_keeps_its_promises_passes():
    check_environment("good", Good())
    assert jax.tree.leaves(Good()) == [9.8]


@pytest.mark.parametrize(
    ("broken", "text"),
    [
        (IntegerReward, r"reward of type int32\[\], but it must be float32\[\]"),
        (VectorReward, r"reward of type float32\[1\], but it must be float32\[\]"),
        (FloatEnd, r"terminated of type float32\[\], but it must be bool\[\]"),
        (OtherShape, r"observation of type float32\[3\], but it must be float32\[2\]"),
        (OtherState, r"state int32\[\] becomes state float32\[\]"),
        (PlainTuple, "step returns tuple where a Timestep belongs"),
        (Broken, "fails when it is traced: 'table'"),
        (TracedSize, "Declare sizes static"),
        (NoHorizon, "horizon is 0, but must be a whole number of at least 1"),
    ],
)
def test_a_broken_promise_is_named(broken, text):
    with pytest.raises(JaxrlError, match=f"mine: .*{text}"):
        check_environment("mine", broken())
