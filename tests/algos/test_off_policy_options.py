"""TD3 and SAC compile to another program for every option that is set: none is without effect."""

import functools

import jax
import pytest

from jaxrl.algos.registry import load
from jaxrl.config import override
from jaxrl.envs.registry import make

SMALL = {
    "num_envs": 4,
    "num_steps": 8,
    "total_steps": 4 * 8 * 20,
    "warm_up": 32,
    "batch_size": 16,
    "replay_capacity": 1024,
    "updates_per_transition": 0.125,
    "hidden_sizes": (8, 8),
}
OPTIONS = {
    "warm_up": 64,
    "warm_up_hold": 8,
    "updates_per_transition": 0.25,
    "n_step": 3,
    "gamma": 0.5,
    "normalize_observations": True,
    "starts": "pool",
    "stagger": True,
    "policy_delay": 3,
    "learning_rate": 1e-2,
    "critic_learning_rate": 1e-2,
    "tau": 0.5,
    "hidden_sizes": (16,),
    "activation": "tanh",
    "layer_norm": True,
    "initialization": "orthogonal",
    "num_critics": 3,
}
OWN = {
    "td3": {"exploration_noise": 0.5, "target_noise": 0.4, "target_noise_clip": 0.1},
    "sac": {
        "initial_temperature": 0.1,
        "train_temperature": False,
        "temperature_learning_rate": 1e-2,
        "temperature_loss": "linear",
        "target_entropy": -3.0,
    },
}
CASES = [(name, *each) for name, own in OWN.items() for each in (OPTIONS | own).items()]
POOL = {"starts": "pool"}


@functools.cache
def program(algorithm, settings):
    """The first iteration as JAX traces it, numbers included."""
    spec = load(algorithm)
    config = override(spec.config_class(), SMALL | dict(settings))
    made = spec.factory(make("Pendulum-v1"), config)
    traced = jax.make_jaxpr(lambda key: made.step(made.init(key)))(jax.random.key(0))
    return str(traced), [str(each) for each in traced.consts]


@pytest.mark.parametrize("algorithm, option, value", CASES)
def test_every_option_changes_the_program(algorithm, option, value):
    assert program(algorithm, ()) != program(algorithm, ((option, value),))


@pytest.mark.parametrize("algorithm", OWN)
def test_so_does_the_size_of_a_pool(algorithm):
    pools = [program(algorithm, (("pool_size", size), *POOL.items())) for size in (8, 16)]
    assert pools[0] != pools[1]
