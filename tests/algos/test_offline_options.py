"""Offline learners are traced to another program for every option: none is without effect."""

import functools

import jax
import jax.numpy as jnp
import pytest

from jaxrl.algos.registry import load
from jaxrl.config import override, possible
from jaxrl.types import View
from tests.algos.offline import SMALL, reaching
from tests.algos.reach import Reach

SHARED = {
    "updates_per_iteration": 5,
    "normalize_observations": None,
    "batch_size": 8,
    "hidden_sizes": (8,),
    "activation": "tanh",
    "initialization": None,
    "learning_rate": 1e-2,
}
CRITICS = {
    "gamma": 0.5,
    "reward_scale": 2.0,
    "reward_shift": 1.0,
    "online": True,
    "critic_learning_rate": 1e-2,
    "tau": 0.5,
    "layer_norm": None,
    "num_critics": 3,
}
TWIN = SHARED | CRITICS | {"policy_delay": 3, "target_noise": 0.4, "target_noise_clip": 0.1}
BEST = {"candidates": 5, "candidate_temperature": 1.0, "candidate_noise": 0.5}
GENERATIVE = SHARED | CRITICS | BEST
GENERATIVE |= {
    "eta": 3.0,
    "anneal_learning_rate": True,
    "max_grad_norm": 1.0,
    "ema": 0.5,
    "ema_interval": 2,
    "ema_start": 3,
    "policy_critic": "mean",
    "q_normalization": "policy",
    "backup_candidates": 2,
    "behavior_weight": "guided",
    "guidance_temperature": 0.1,
    "time_width": 8,
}
OPTIONS = {
    "bc": SHARED | {"best_fraction": 0.5, "gaussian": True},
    "td3_bc": TWIN | {"alpha": 1.0},
    "rebrac": TWIN | {"actor_penalty": 1.0, "critic_penalty": 1.0},
    "iql": SHARED
    | CRITICS
    | {
        "expectile": 0.9,
        "inverse_temperature": 1.0,
        "maximum_weight": 2.0,
        "anneal_learning_rate": False,
    },
    "fql": {name: value for name, value in (SHARED | CRITICS).items() if name[:7] != "critic_"}
    | BEST
    | {
        "alpha": 3.0,
        "normalize_q": True,
        "target_critics": "least",
        "flow_steps": 2,
        "time_width": 8,
    },
    "dql": GENERATIVE | {"diffusion_steps": 3},
    "ofql": GENERATIVE
    | {
        "time_distribution": "uniform",
        "time_mean": 0.0,
        "time_std": 0.5,
        "flow_ratio": 0.25,
        "behavior_reduction": "sum",
        "adaptive_power": 1.0,
        "shared_time": True,
        "clip_actions": False,
    },
}
# What an option is read with.
BESIDE = {
    "exploration_noise": {"online": True},
    "guidance_temperature": {"behavior_weight": "guided"},
    "policy_critic": {"q_normalization": "policy"},
}
# Values of an option whose default is not the same everywhere: the other one.
OTHER = {"initialization": ("torch", "orthogonal")}
# How long, and on what.
BUDGET = {"total_updates", "dataset"}
CASES = [(name, *each) for name, options in OPTIONS.items() for each in options.items()]
CASES += [(name, "exploration_noise", 0.5) for name in OPTIONS if name != "bc"]


@functools.cache
def program(algorithm, settings):
    """The first iteration and what acts as JAX traces them, numbers included."""
    spec, env = load(algorithm), Reach()
    averages = {"ema_start": 0} if algorithm in ("ofql", "dql") else {}
    config = override(spec.config_class(), SMALL | averages | dict(settings))
    made = spec.factory(env, config, dataset=reaching())

    def run(key):
        key, *keys = jax.random.split(key, 1 + len(made.agent.modes))
        state, metrics = made.step(made.init(key))
        policy, view = made.policy(state), View.at_start(jnp.zeros(3), env.action_space)
        modes = zip(made.agent.modes.values(), keys, strict=True)
        return state, metrics, [mode.act(policy, (), view, key) for mode, key in modes]

    traced = jax.make_jaxpr(run)(jax.random.key(0))
    return str(traced), [str(each) for each in traced.consts]


def usual(algorithm, name):
    """The default of an option."""
    return flat(algorithm)[name].setting.value


@functools.cache
def flat(algorithm):
    return {each.setting.name: each for each in possible(load(algorithm).config_class())}


@pytest.mark.slow
@pytest.mark.parametrize("algorithm, option, value", CASES)
def test_every_option_changes_the_program(algorithm, option, value):
    if value is None:
        default = usual(algorithm, option)
        value = next(each for each in OTHER.get(option, (True, False)) if each != default)
    beside = tuple(BESIDE.get(option, {}).items())
    assert program(algorithm, beside) != program(algorithm, (*beside, (option, value)))


@pytest.mark.parametrize("algorithm", OPTIONS)
def test_every_option_is_tried(algorithm):
    tried = {option for name, option, _ in CASES if name == algorithm}
    assert set(flat(algorithm)) - BUDGET == tried
