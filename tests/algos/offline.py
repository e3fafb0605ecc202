"""Small datasets for tests of offline learners, and runs on them."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.data.dataset import Dataset
from jaxrl.data.recorded import Recorded, describe
from jaxrl.envs import registry
from jaxrl.types import View
from tests.algos.reach import CHEAP, Reach, a_batch

SMALL = {"total_updates": 40, "updates_per_iteration": 4, "batch_size": 16, "hidden_sizes": (16,)}
BANDIT = registry.make("probe/continuous-action")
WORSE, BETTER = -0.6, 0.6


def of_episodes(env, observation, action, reward, length, terminated=True):
    """A dataset of episodes back to back; an observation is followed by itself at the end."""
    length = np.asarray(length, np.int32)
    ends = np.cumsum(length) - 1
    last = np.zeros(len(reward), bool)
    last[ends] = True
    recorded = Recorded(
        observation=np.asarray(observation, np.float32),
        action=np.asarray(action),
        reward=np.asarray(reward, np.float32),
        terminated=last & terminated,
        truncated=last & (not terminated),
        final_observation=np.asarray(observation, np.float32)[ends],
        length=length,
        about=describe("test", "made by a test"),
    )
    return Dataset.of(recorded, env)


def two_actions(worse=70, better=30):
    """Episodes of one step: of two actions the rarer one earns 1, and the other nothing."""
    action = np.repeat(np.float32([WORSE, BETTER]), [worse, better])[:, None]
    ones = np.ones(worse + better)
    return of_episodes(BANDIT, 0.0 * action, action, action[:, 0] > 0, ones)


def reaching(low=-1.0, high=1.0, episodes=12):
    """Random actions on a grid that float32 holds in any of the bounds, in episodes of 7 steps."""
    rng = np.random.default_rng(0)
    unit = rng.integers(-64, 65, (7 * episodes, 3)) / 64.0
    action = (0.5 * (low + high) + 0.5 * (high - low) * unit).astype(np.float32)
    observation = rng.normal(size=(7 * episodes, 3))
    reward = -np.abs(observation).sum(1)
    return of_episodes(Reach(low, high), observation, action, reward, [7] * episodes, False)


def recorded_batch(keys):
    """Sixteen transitions with the actions that followed, but for every third of them."""
    batch = a_batch(keys)
    following = jax.random.uniform(jax.random.key(77), (16, 3), minval=-1.0)
    kept = jnp.arange(16) % 3 != 0
    return replace(batch, next_action=following, next_acted=kept)


def run(factory, env, config, dataset, iterations):
    """(algorithm, state after so many iterations, the last one's means)."""
    state, metrics = steps(factory, env, config, dataset, iterations)
    numbers = {name: float(mean.sum / mean.count) for name, mean in metrics.items()}
    return factory(env, config, dataset=dataset), state, numbers


@functools.partial(jax.jit, static_argnames="factory", compiler_options=CHEAP)
def steps(factory, env, config, dataset, iterations):
    """Numbers of the configuration are traced: runs that differ in them compile once."""
    algorithm = factory(env, config, dataset=dataset)
    state = algorithm.init(jax.random.key(0))
    state = jax.lax.fori_loop(0, iterations - 1, lambda _, s: algorithm.step(s)[0], state)
    return algorithm.step(state)


def acted(algorithm, state, env, mode="deterministic", keys=None):
    """What the policy does at the first observation, all zeros; under each of several keys."""
    view = View.at_start(jnp.zeros(env.observation_space.shape), env.action_space)
    act = algorithm.agent.modes[mode].act
    keys = jax.random.split(jax.random.key(1), 1) if keys is None else keys
    policy = algorithm.policy(state)
    return np.asarray(jax.vmap(lambda key: act(policy, (), view, key)[0])(keys))


def assert_same_bits(one, other):
    """Equal trees of arrays, to the last bit."""
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(left, right)
