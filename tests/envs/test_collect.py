"""Rollouts: the value of what follows, at every kind of end, however final observations are kept."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl.envs.rollout import Decision, collect

from jaxrl.envs.starts import Fresh
from jaxrl.envs.vector import VectorEnv
from tests.envs.test_vector import HORIZON, OwnLimits, Scripted

NUM_ENVS = 30
CHEAP = {"xla_backend_optimization_level": 0}  # these programs run once: compile them fast
STARTS = {"fresh": Fresh(Scripted()), "own limits": OwnLimits(Scripted())}


def decide(observation, key):
    """A random reward; one action in ten terminates."""
    action = jax.random.uniform(key, (NUM_ENVS, 2))
    action = jnp.stack([action[:, 0], 0.555 * action[:, 1]], axis=1)
    return Decision(action, action, jnp.zeros(NUM_ENVS), value(observation))


def value(observation):
    """Tells an observation (name, age) from every other."""
    return 100.0 * observation[..., 0] + observation[..., 1]


@pytest.mark.parametrize("num_steps", [3, HORIZON + 1, 8 * HORIZON])
@pytest.mark.parametrize(("name", "stagger"), [("fresh", False), ("fresh", True), ("own limits", True)])
def test_the_next_value_is_that_of_the_state_before_any_reset(num_steps, name, stagger):
    """The world only grows older: the successor of (name, age) is (name, age + 1), truncated or not.

    Three steps fill one slot, HORIZON + 1 so many that all final observations are kept, 8 * HORIZON several slots.
    """
    vector = VectorEnv(Scripted(), STARTS[name], NUM_ENVS, stagger)

    @functools.partial(jax.jit, compiler_options=CHEAP)
    def run(key):
        key_init, *keys = jax.random.split(key, 3)
        state, first, _ = collect(vector, vector.init(key_init), decide, value, num_steps, keys[0])
        return first, collect(vector, state, decide, value, num_steps, keys[1])[1]

    seen_truncated = 0
    for rollout in jax.device_get(run(jax.random.key(0))):
        running = ~rollout.terminated
        successor = rollout.observation + np.array([0.0, 1.0], np.float32)
        np.testing.assert_allclose(rollout.next_value[running], value(successor)[running], rtol=1e-6)
        np.testing.assert_allclose(rollout.value, value(rollout.observation), rtol=1e-6)
        seen_truncated += rollout.truncated.sum()
    assert seen_truncated > 0
