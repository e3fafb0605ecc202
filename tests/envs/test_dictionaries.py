"""Dictionaries of observations: their space, how environments are held to it, who refuses them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs.api import Environment
from jaxrl.envs.check import check_environment
from jaxrl.errors import JaxrlError
from jaxrl.nn.q_networks import check_single_box
from jaxrl.types import Box, Dict, Discrete, Timestep, zeros_of

SPACE = Dict({"speed": Box(-1.0, 1.0, (2,)), "action_mask": Box(0, 1, (3,), bool)})


class Keys(Environment):
    """Two keys, seen once."""

    observation_space = SPACE
    action_space = Discrete(3)
    horizon = 4

    def seen(self):
        return {"speed": jnp.ones(2), "action_mask": jnp.ones(3, bool)}

    def reset(self, key):
        return (), self.seen()

    def step(self, key, state, action):
        return (), Timestep(self.seen(), jnp.ones(()), jnp.ones((), bool))


def test_equal_spaces_are_equal_and_print_their_keys_in_one_order():
    again = Dict(dict(reversed(SPACE.spaces.items())))
    assert again == SPACE and hash(again) == hash(SPACE)
    assert str(SPACE) == "Dict(action_mask: Box(3) bool, speed: Box(2) float32)"


def test_a_sample_and_zeros_have_their_shapes_and_types():
    for made in (SPACE.sample(jax.random.key(0)), zeros_of(SPACE)):
        assert made["speed"].shape == (2,) and made["speed"].dtype == jnp.float32
        assert made["action_mask"].shape == (3,) and made["action_mask"].dtype == bool
    assert zeros_of(SPACE, (5, 4))["speed"].shape == (5, 4, 2)
    np.testing.assert_array_equal(zeros_of(Box(-1.0, 1.0, (2,)), (3,)), np.zeros((3, 2)))


def test_whoever_needs_one_array_says_so():
    for ask in (lambda: SPACE.shape, lambda: SPACE.dtype):
        with pytest.raises(JaxrlError, match=r"speed: Box\(2\) float32.*single array"):
            ask()


def test_spaces_are_boxes():
    with pytest.raises(JaxrlError, match="mode of a Dict is Discrete"):
        Dict({"mode": Discrete(3)})


def test_an_environment_of_keys_is_checked():
    check_environment("own", Keys())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"observation_space": Box(-1.0, 1.0, (2,))}, "of type dict"),
        ({"observation_space": Dict({"speed": Box(-1.0, 1.0, (2,))})}, "its keys are"),
        (
            {"observation_space": Dict(SPACE.spaces | {"speed": Box(-1.0, 1.0, (4,))})},
            "whose speed is of type float32",
        ),
        ({"action_space": Discrete(4)}, r"each of the 4 actions, Box\(4\) bool"),
        ({"action_space": Box(-1.0, 1.0, (3,))}, "action_mask is for discrete actions"),
    ],
)
def test_an_environment_that_leaves_its_keys_is_refused(change, words):
    kind = type("Broken", (Keys,), change)
    with pytest.raises(JaxrlError, match=words):
        check_environment("own", kind())


def test_an_algorithm_that_needs_one_array_says_who_does_not():
    for algorithm in ("td3", "decision_transformer"):
        with pytest.raises(JaxrlError, match=f"{algorithm} needs a Box: ppo reads dictionaries"):
            check_single_box(algorithm, SPACE)
    with pytest.raises(JaxrlError, match="needs a Box: encode them as one-hot"):
        check_single_box("td3", Discrete(3))
