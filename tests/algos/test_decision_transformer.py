"""Decision Transformer: that it does what is asked, and what it is told to refuse."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.decision_transformer import (
    DecisionTransformerConfig,
    decision_transformer,
    decision_transformer_agent,
)
from jaxrl.errors import JaxrlError
from jaxrl.nn.action_labels import ActionLabels
from jaxrl.types import Box, MultiDiscrete
from tests.algos.asking import HORIZON, SMALL, Asking, dataset, returns

CONFIG = DecisionTransformerConfig(**SMALL, num_heads=2)
CHOICES, NUMBERS = Asking(), Asking(continuous=True)


@functools.cache
def trained(env):
    algorithm = decision_transformer(env, CONFIG, dataset=dataset(env))
    step = jax.jit(algorithm.step)
    state = jax.jit(algorithm.init)(jax.random.key(0))
    for _ in range(algorithm.budget.steps):
        state, metrics = step(state)
    return algorithm.policy(state), metrics


@pytest.mark.slow
def test_what_is_asked_for_is_earned():
    policy, metrics = trained(NUMBERS)
    agent = decision_transformer_agent(NUMBERS, CONFIG)
    assert list(agent.modes) == ["target"]
    play = returns(NUMBERS, agent, "target")
    for target in range(HORIZON + 1):
        np.testing.assert_allclose(play(policy, jnp.float32(target)), target, atol=0.5)
    assert play._cache_size() == 1
    assert all(np.isfinite(pair.sum) and pair.count == 50 for pair in metrics.values())


def test_heads_that_do_not_share_a_token_are_refused():
    config = DecisionTransformerConfig(**SMALL, num_heads=3)
    with pytest.raises(JaxrlError, match="num_heads is 3, but must divide"):
        decision_transformer(CHOICES, config, dataset=dataset(CHOICES, num_episodes=2))


def test_observations_that_are_no_numbers_are_refused():
    class Lettered(Asking):
        @property
        def observation_space(self):
            return MultiDiscrete((3, 4))

    with pytest.raises(JaxrlError, match="decision_transformer needs a Box"):
        decision_transformer_agent(Lettered(), CONFIG)


def test_labels_of_several_whole_numbers():
    labels = ActionLabels(MultiDiscrete((2, 3)))
    assert labels.size == 5 and not labels.squashed
    rows = labels.of_rows(jnp.array([[1, 2], [0, 0]]))
    np.testing.assert_array_equal(rows, [[0, 1, 0, 0, 1], [1, 0, 1, 0, 0]])
    output = jnp.log(jnp.array([0.25, 0.75, 0.5, 0.3, 0.2]))
    np.testing.assert_allclose(labels.expected(output), jnp.exp(output), rtol=1e-6)
    np.testing.assert_allclose(labels.error(output, rows[0]), -np.log(0.75 * 0.2), rtol=1e-6)
    assert labels.decide(output).tolist() == [1, 0]
    assert labels.of_executed(jnp.array([1, 2])).tolist() == rows[0].tolist()


def test_labels_of_actions_between_bounds_are_in_units_of_the_bounds():
    labels = ActionLabels(Box(0.0, 4.0, (2,)))
    assert labels.size == 2 and labels.squashed
    assert labels.of_executed(jnp.array([1.0, 4.0])).tolist() == [-0.5, 1.0]
    assert labels.decide(jnp.array([-0.5, 1.0])).tolist() == [1.0, 4.0]
    np.testing.assert_allclose(labels.error(jnp.array([0.0, 1.0]), jnp.array([1.0, 3.0])), 2.5)


def test_labels_of_unbounded_actions_are_the_actions():
    labels = ActionLabels(Box(-np.inf, np.inf, (1, 2)))
    action = jnp.array([[3.0, -9.0]])
    assert not labels.squashed and labels.of_executed(action).tolist() == [3.0, -9.0]
    assert labels.decide(jnp.array([3.0, -9.0])).tolist() == action.tolist()


def test_labels_of_actions_some_of_which_are_bounded_are_the_actions():
    labels = ActionLabels(Box((0.0, -np.inf, -np.inf), (10.0, 10.0, np.inf), (3,)))
    action = jnp.array([0.5, 5.0, 70.0])
    assert not labels.squashed
    assert labels.decide(labels.of_executed(action)).tolist() == action.tolist()
    assert labels.decide(jnp.array([-1.0, 11.0, -9.0])).tolist() == [0.0, 10.0, -9.0]
