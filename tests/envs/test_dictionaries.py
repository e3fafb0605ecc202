"""Observations in parts: their space, what an environment is held to, and who refuses them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs.api import Environment
from jaxrl.envs.check import check_environment
from jaxrl.errors import JaxrlError
from jaxrl.types import Box, Dict, Discrete, Timestep, zeros_of

PARTS = Dict({"speed": Box(-1.0, 1.0, (2,)), "action_mask": Box(0, 1, (3,), bool)})


class Parts(Environment):
    """Two parts, seen once."""

    observation_space = PARTS
    action_space = Discrete(3)
    horizon = 4

    def seen(self):
        return {"speed": jnp.ones(2), "action_mask": jnp.ones(3, bool)}

    def reset(self, key):
        return (), self.seen()

    def step(self, key, state, action):
        return (), Timestep(self.seen(), jnp.ones(()), jnp.ones((), bool))


def test_equal_spaces_are_equal_and_print_their_parts_in_one_order():
    again = Dict(dict(reversed(PARTS.parts.items())))
    assert again == PARTS and hash(again) == hash(PARTS)
    assert str(PARTS) == "Dict(action_mask: Box(3) bool, speed: Box(2) float32)"


def test_a_sample_and_zeros_have_the_parts_shapes_and_types():
    for made in (PARTS.sample(jax.random.key(0)), zeros_of(PARTS)):
        assert made["speed"].shape == (2,) and made["speed"].dtype == jnp.float32
        assert made["action_mask"].shape == (3,) and made["action_mask"].dtype == bool
    assert zeros_of(PARTS, (5, 4))["speed"].shape == (5, 4, 2)
    np.testing.assert_array_equal(zeros_of(Box(-1.0, 1.0, (2,)), (3,)), np.zeros((3, 2)))


def test_whoever_needs_one_array_says_so():
    for ask in (lambda: PARTS.shape, lambda: PARTS.dtype):
        with pytest.raises(JaxrlError, match=r"speed: Box\(2\) float32.*single array"):
            ask()


def test_parts_are_boxes():
    with pytest.raises(JaxrlError, match="part mode of a Dict is Discrete"):
        Dict({"mode": Discrete(3)})


def test_an_environment_of_parts_is_checked():
    check_environment("own", Parts())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"observation_space": Box(-1.0, 1.0, (2,))}, "of type dict"),
        ({"observation_space": Dict({"speed": Box(-1.0, 1.0, (2,))})}, "its parts are"),
        (
            {"observation_space": Dict(PARTS.parts | {"speed": Box(-1.0, 1.0, (4,))})},
            "whose speed is of type float32",
        ),
        ({"action_space": Discrete(4)}, r"each of the 4 actions, Box\(4\) bool"),
        ({"action_space": Box(-1.0, 1.0, (3,))}, "action_mask is for discrete actions"),
    ],
)
def test_an_environment_that_leaves_its_parts_is_refused(change, words):
    kind = type("Broken", (Parts,), change)
    with pytest.raises(JaxrlError, match=words):
        check_environment("own", kind())
