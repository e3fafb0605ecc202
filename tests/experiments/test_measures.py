"""What the experiments measure while they train: against the same computed directly,
or known beforehand."""

import importlib
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.deep_stepmix import DeepStepMixConfig, deep_stepmix
from jaxrl.algos.ppo import PPOConfig
from jaxrl.envs.registry import make
from jaxrl.envs.suites.bandit import fixed_states
from jaxrl.nn.actor_critic import NetworkConfig
from jaxrl.train.build import build
from jaxrl.train.experiment import Experiment, RunSettings
from jaxrl.types import View
from tests.envs.acting import actor

TINY = NetworkConfig(hidden_sizes=(4,))


@pytest.fixture
def measures():
    """The module as the experiments find it, beside them."""
    return importlib.import_module("measures")


def test_a_run_measures_the_regret_of_its_policy():
    config = PPOConfig(num_envs=8, num_steps=1, minibatch_size=8, network=TINY)
    run = RunSettings(num_seeds=2, devices=1, measures=("measures:regret",))
    program = build(Experiment("ppo", "bandit/contextual", config, run))
    state = program.init()
    measured = program.measure(state, 0)["regret"]
    assert measured.shape == (1, 2) and measured[0, 0] != measured[0, 1]

    env, agent = program.env, program.algorithm.agent
    policy = jax.tree.map(lambda leaf: leaf[0, 1], program.policies(state))
    states = fixed_states()
    views = jax.vmap(lambda state: View.at_start(state, env.action_space))(states)
    act = jax.vmap(agent.modes["deterministic"].act, in_axes=(None, None, 0, None))
    actions, _ = act(policy, (), views, jax.random.key(0))
    distances = np.sum(
        np.square(np.asarray(actions - env.optimal_action(states), np.float64)), axis=-1
    )
    assert measured[0, 1] == pytest.approx(distances.mean(), rel=1e-5)


def test_a_round_is_measured_under_its_plan(measures):
    env, config = (
        make("CartPole-v1"),
        DeepStepMixConfig(num_envs=4, minibatch_size=1000, return_high=500.0),
    )
    falling = actor(lambda observation, key: jnp.int32(0))  # always to the left: some nine steps
    algorithm = deep_stepmix(env, config.replace(network=TINY), baseline=falling)
    state = algorithm.init(jax.random.key(0))

    @jax.jit
    def measure(choice, key):
        plan = replace(state.vector.plan, choice=choice)
        planned = replace(state, vector=replace(state.vector, plan=plan))
        return measures.round_returns(algorithm, planned, {"baseline": falling}, key, episodes=64)

    first = state.vector.plan.choice
    mean, error, handover = measure(
        first, jax.random.key(1)
    )  # nothing is known yet: the baseline alone
    assert handover == 500 and 8 < mean < 11 and 0 < error < 0.3
    learner = first._replace(bold=jnp.int32(0), cautious=jnp.int32(500), weight=jnp.float32(1.0))
    mean, error, handover = measure(learner, jax.random.key(1))
    assert handover == 0 and mean > 13 and error > 0.5
    assert measure(learner._replace(weight=jnp.float32(0.5)), jax.random.key(1))[2] == 250
