"""A task as CleanRL wraps it, against Gymnasium's wrappers written as slow loops."""

import importlib

import jax
import numpy as np
import pytest

from jaxrl.envs.registry import make
from jaxrl.envs.vector import VectorEnv

STEPS = 410  # past two ends of Pendulum's 200 steps


@pytest.fixture
def study():
    """The experiment as it imports itself."""
    pytest.importorskip("mujoco")
    return importlib.import_module("reference_gap")


class RunningMeanStd:
    """Gymnasium's, of one environment: a batch of one row on every step, in float64."""

    def __init__(self, shape):
        self.mean, self.variance, self.count = np.zeros(shape), np.ones(shape), 1e-4

    def update(self, x):
        delta, total = x - self.mean, self.count + 1
        moment = self.variance * self.count + delta**2 * self.count / total
        self.mean, self.variance, self.count = self.mean + delta / total, moment / total, total

    def clipped(self, x):
        return np.clip(x / np.sqrt(self.variance + 1e-8), -10, 10)


def played(study, ends):
    """(task's observations and what was shown [T + 1], transitions of T steps)."""
    env = study.AsInCleanRL(make("Pendulum-v1"), ends=ends, normalises=True)
    vector = VectorEnv(env, study.Carried(env), 1)

    def step(state, key):
        action = jax.random.uniform(key, (1, 1), minval=-2.0, maxval=2.0)
        state, transition = vector.step(state, action, jax.random.fold_in(key, 1))
        return state, (state.env_state.observation[0], state.observation[0], transition)

    with jax.debug_key_reuse(False):
        state = vector.init(jax.random.key(0))
        keys = jax.random.split(jax.random.key(1), STEPS)
        _, (raw, shown, transition) = jax.jit(lambda state: jax.lax.scan(step, state, keys))(state)
    raw = np.concatenate([state.env_state.observation, raw])
    return raw, np.concatenate([state.observation, shown]), transition


def test_rewards_past_an_end_and_observations_are_gymnasiums(study):
    raw, shown, transition = played(study, ends=True)
    of_returns, earned = RunningMeanStd(()), 0.0
    for step, reward in enumerate(np.asarray(transition.info["reward"][:, 0], np.float64)):
        earned = 0.99 * earned + reward  # zeroed where the task itself terminates, and never here
        of_returns.update(earned)
        expected = of_returns.clipped(reward)
        np.testing.assert_allclose(transition.reward[step, 0], expected, rtol=1e-4, atol=1e-4)
    of_observations = RunningMeanStd(3)
    for step in range(199):
        of_observations.update(raw[step])
        expected = of_observations.clipped(raw[step] - of_observations.mean)
        np.testing.assert_allclose(shown[step], expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("ends", [True, False])
def test_the_time_limit_is_an_end_or_is_none(study, ends):
    _, _, transition = played(study, ends)
    at = [199, 399]
    assert np.flatnonzero(transition.terminated).tolist() == (at if ends else [])
    assert np.flatnonzero(transition.truncated).tolist() == ([] if ends else at)
