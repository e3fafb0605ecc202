"""The Algorithm contract, held against every algorithm in `jaxrl.algos` on an environment for each
kind of action."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos import registry
from jaxrl.config import field_names, override, sweepable
from jaxrl.core.tree import copy
from jaxrl.envs import registry as environments
from jaxrl.train import contract
from jaxrl.train.contract_case import PROBES, SMALL, Case
from tests.algos.offline import of_episodes
from tests.envs.acting import actor

# Beside the small settings of `jaxrl check`: those of some algorithms alone.
TINY = SMALL | {
    "known_baseline_value": True,
    "know_rewards": False,
    "updates_per_transition": 0.5,
    # The average that acts moves from the second gradient step on.
    "ema_start": 1,
    "ema_interval": 1,
    "time_width": 4,
    "diffusion_steps": 2,
    "flow_steps": 2,
    "candidates": 3,
}
ENVIRONMENTS = PROBES
# Algorithms for environments of another kind.
OWN = {
    "ppo": (*ENVIRONMENTS, "dict/locks"),
    "stepmix": ("tabular/paper",),
    "deep_stepmix": ("probe/two-lengths",),
    "td3": ("probe/continuous-never-ending",),
    "sac": ("probe/continuous-never-ending",),
    "bc": ("probe/two-lengths", "probe/continuous-action"),
    "td3_bc": ("probe/continuous-never-ending",),
    "iql": ("probe/continuous-never-ending",),
    "rebrac": ("probe/continuous-never-ending",),
    "ofql": ("probe/continuous-never-ending",),
    "dql": ("probe/continuous-never-ending",),
    "fql": ("probe/continuous-never-ending",),
    "decision_mamba": ("probe/continuous-action",),
    "decision_transformer": ("probe/multi-discrete-action",),
}
# A constraint that binds nothing, so that the learner acts; and what is read from disk otherwise.
UNBOUND = {
    "constraint": "absolute",
    "constraint_level": -20.0,
    "return_low": -20.0,
    "return_high": 20.0,
}
# With a memory whole environments are read; a round of deep StepMix holds whole episodes.
MEMORY = {"memory": "gru", "memory_size": 4}
SETTINGS = {
    "deep_stepmix": UNBOUND | MEMORY | {"num_steps": 20, "minibatch_size": 40},
    "ppo on probe/multi-discrete-action": MEMORY,
}
SEQUENCES = {"context": 2, "width": 8, "num_layers": 1, "warm_up_updates": 0}
SETTINGS |= {
    "decision_mamba": SEQUENCES | {"state_size": 2, "expand": 1, "stages": 3200},
    "decision_transformer": SEQUENCES,
}


def random_steps(env):
    """A dataset of episodes of two random steps."""
    keys = jax.random.split(jax.random.key(0), 40)
    action = np.asarray(jax.vmap(env.action_space.sample)(keys))
    rng = np.random.default_rng(0)
    observation = rng.normal(size=(40, *env.observation_space.shape))
    return {"dataset": of_episodes(env, observation, action, rng.normal(size=40), [2] * 20)}


INPUTS = {
    "deep_stepmix": lambda env: {
        "baseline": actor(lambda observation, key: env.action_space.sample(key))
    },
    "bc": random_steps,
    "td3_bc": random_steps,
    "iql": random_steps,
    "rebrac": random_steps,
    "ofql": random_steps,
    "dql": random_steps,
    "fql": random_steps,
    "decision_mamba": random_steps,
    "decision_transformer": random_steps,
}
# Numbers that change what is learned, where not all of them do: cloning reads no reward.
SWEPT = {"bc": ["learning_rate"]}
CASES = [
    (name, each) for name in registry.algorithm_names() for each in OWN.get(name, ENVIRONMENTS)
]
each_case = pytest.mark.parametrize(("name", "environment_id"), CASES)


def tiny_config(name, environment_id):
    config = registry.load(name).config_class()
    sizes = {field: value for field, value in TINY.items() if field in field_names(config)}
    settings = SETTINGS.get(name, {}) | SETTINGS.get(f"{name} on {environment_id}", {})
    return override(config, sizes | settings)


@functools.cache
def compiled(name, environment_id):
    """An algorithm on an environment, whose programs all tests share."""
    env, config = environments.make(environment_id), tiny_config(name, environment_id)
    inputs = INPUTS.get(name, lambda env: {})(env)
    swept = SWEPT.get(name, sweepable(config))[:2]
    return Case(registry.load(name), env, config, inputs, swept)


# What each check says of itself is in its docstring.
@each_case
@pytest.mark.parametrize(
    "check", [contract.check_traced, *contract.CHECKS], ids=lambda check: check.__name__
)
def test_it_keeps_the_contract(check, name, environment_id):
    case = compiled(name, environment_id)
    note = check(case) or ""
    if check is contract.check_members:
        assert case.swept[0] not in note, "the first of its numbers changes what is learned"
    assert check is not contract.check_ranks or not note


@each_case
def test_the_budget_is_what_the_configuration_says(name, environment_id):
    budget = compiled(name, environment_id).algorithm.budget
    assert budget.steps == TINY["total_steps"] // budget.per_step


@each_case
def test_it_has_a_mode_without_chance_and_the_others_vary(name, environment_id):
    case = compiled(name, environment_id)
    policy = case.algorithm.policy(case.first)
    view = case.view(jax.jit(case.env.reset)(jax.random.key(0))[1])
    unique = {}
    for mode, act in case.act.items():
        keys = jax.random.split(jax.random.key(1), 20)
        actions, _ = act(policy, case.agent.memory(policy), view, keys)
        unique[mode] = len(np.unique(np.asarray(actions), axis=0))
    assert set(unique) & set(contract.DETERMINISTIC)
    assert all((number == 1) == (mode in contract.DETERMINISTIC) for mode, number in unique.items())


@each_case
def test_a_donated_state_cannot_be_read_again(name, environment_id):
    case = compiled(name, environment_id)
    state = copy(case.first)
    case.run(1, state)
    with pytest.raises(RuntimeError, match="deleted"):
        np.asarray(next(leaf for leaf in jax.tree.leaves(state) if leaf.dtype == jnp.float32))
