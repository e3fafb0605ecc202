"""PPO learns the probe environments: each isolates one link of the learner and has a known
answer."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.ppo import PPOConfig, ppo
from jaxrl.envs import registry
from jaxrl.nn.actor_critic import NetworkConfig

GAMMA = 0.9
CHEAP = {"xla_backend_optimization_level": 0}  # most of the time goes into compiling
CONFIG = PPOConfig(
    total_steps=50 * 256,
    num_envs=16,
    num_steps=16,
    minibatch_size=64,
    learning_rate=0.01,
    gamma=GAMMA,
    entropy_coefficient=0.0,
    network=NetworkConfig(hidden_sizes=(16,)),
)


@functools.cache
def learned(environment_id):
    """The environment, and the policy after 50 iterations."""
    environment = registry.make(environment_id)
    algorithm = ppo(environment, CONFIG)

    @functools.partial(jax.jit, compiler_options=CHEAP)
    def train(key):
        state = algorithm.init(key)
        state = jax.lax.fori_loop(
            0, algorithm.budget.steps, lambda _, state: algorithm.step(state)[0], state
        )
        return algorithm.policy(state)

    return environment, train(jax.random.key(0))


def apply(environment_id, observation, method):
    environment, policy = learned(environment_id)
    network = CONFIG.network.make(environment.observation_space, environment.action_space)
    return jax.jit(functools.partial(network.apply, method=method))(policy.params, observation)


@pytest.mark.parametrize(
    ("environment_id", "observations", "tolerance"),
    [
        ("probe/constant-reward", [[0]], 0.02),
        ("probe/never-ending", [[0]], 0.5),
        ("probe/two-step", [[0], [1]], 0.05),
        ("probe/observation-reward", [[-1], [1]], 0.05),
        ("probe/action-reward", [[0]], 0.05),
        ("probe/observation-action", [[-1], [1]], 0.1),
    ],
)
def test_the_value_is_that_of_the_optimal_policy(environment_id, observations, tolerance):
    observations = jnp.array(observations, jnp.float32)
    value = apply(environment_id, observations, "value")
    expected = learned(environment_id)[0].optimal_value(observations, GAMMA)
    np.testing.assert_allclose(value, expected, atol=tolerance)


def test_a_time_limit_is_not_an_end():
    value = float(apply("probe/never-ending", jnp.zeros((1, 1)), "value")[0])
    # Taking each cut for a termination, V is the mean discounted sum of the rewards left until the
    # limit.
    remaining = np.arange(1, 11)
    mistaken = np.mean((1 - GAMMA**remaining) / (1 - GAMMA))
    assert mistaken < 5.0 < (1 - GAMMA**10) / (1 - GAMMA) < 7.0
    assert value == pytest.approx(1 / (1 - GAMMA), rel=0.05)


def greedy(environment_id, observations):
    return apply(environment_id, observations, None)[0].mode()


@pytest.mark.parametrize(
    ("environment_id", "observations"),
    [
        ("probe/action-reward", [[0]]),
        ("probe/observation-action", [[-1], [1]]),
        (
            "probe/multi-discrete-action",
            [[i, 1 - i, j == 0, j == 1, j == 2] for i in (0, 1) for j in (0, 1, 2)],
        ),
    ],
)
def test_the_greedy_action_is_optimal(environment_id, observations):
    observations = jnp.array(observations, jnp.float32)
    environment, _ = learned(environment_id)
    expected = jax.vmap(environment.optimal_action)(observations)
    np.testing.assert_array_equal(greedy(environment_id, observations), expected)


def test_the_greedy_continuous_action_is_near_the_optimum():
    assert float(greedy("probe/continuous-action", jnp.zeros((1, 1)))[0, 0]) == pytest.approx(
        0.5, abs=0.1
    )
