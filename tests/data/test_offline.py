"""Learning from a dataset alone: what reaches the learner, and what is refused."""

import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core import moments
from jaxrl.data.dataset import Dataset
from jaxrl.data.offline import Learns, Offline, OfflineConfig
from jaxrl.errors import JaxrlError
from jaxrl.types import Agent, Array, feed_forward
from tests.data.test_dataset import Line, recorded


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Policy:
    observation_moments: moments.Moments | None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Counter:
    """A learner that keeps the sums of what it is shown."""

    policy: Policy
    total: Array


def update(learner, batch, key):
    del key
    seen = jnp.sum(batch.observation[:, 0])
    numbers = {"reward": jnp.mean(batch.reward), "following": jnp.mean(batch.next_observation)}
    return Counter(learner.policy, learner.total + seen), numbers


def made(**settings):
    sizes = {"total_updates": 12, "updates_per_iteration": 4, "batch_size": 64}
    config = OfflineConfig(**sizes | settings)
    agent = Agent(
        init=lambda key: Policy(moments.init((2,)) if config.normalize_observations else None),
        modes={"deterministic": feed_forward(lambda policy, observation, key: jnp.zeros(1))},
    )
    learns = Learns(lambda policy: Counter(policy, jnp.zeros(())), update)
    dataset = Dataset.of(recorded(), Line())
    return Offline(config, Line(), dataset, agent, learns).algorithm()


@functools.cache
def stepped(**settings):
    algorithm = made(**settings)
    begun = algorithm.init(jax.random.key(0))
    return begun, *jax.jit(algorithm.step)(begun)


def batches(key):
    """The batches of the first iteration, drawn as `step` draws them."""
    key_run, _ = jax.random.split(made().init(key).key)
    draws = [jax.random.split(each)[0] for each in jax.random.split(key_run, 4)]
    dataset = Dataset.of(recorded(), Line())
    return [jax.device_get(dataset.sample(draw, 64, 0.99, Line().action_space)) for draw in draws]


def test_an_iteration_takes_its_gradient_steps_each_on_a_batch_of_its_own():
    _, state, metrics = stepped()
    assert made().budget == ("gradient steps", 4, 3, {})
    assert int(state.iteration) == 1
    assert all(float(pair.count) == 4 for pair in metrics.values())
    drawn = batches(jax.random.key(0))
    sums = [float(batch.observation[:, 0].sum()) for batch in drawn]
    assert len(set(sums)) == 4
    assert float(state.learner.total) == sum(sums)
    np.testing.assert_allclose(
        metrics["reward"].sum, sum(batch.reward.mean() for batch in drawn), rtol=1e-6
    )


def test_rewards_are_shifted_and_then_scaled():
    plain = stepped()[2]["reward"]
    changed = stepped(reward_scale=4.0, reward_shift=-0.5)[2]["reward"]
    np.testing.assert_allclose(changed.sum / 4, 4 * (plain.sum / 4 - 0.5), rtol=1e-6)


def test_observations_are_standardised_by_the_datasets_statistics():
    begun, state, metrics = stepped(normalize_observations=True)
    drawn = batches(jax.random.key(0))
    kept = begun.learner.policy.observation_moments
    rows = recorded().observation
    np.testing.assert_allclose(kept.mean, rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(kept.variance, rows.var(0), rtol=1e-6)
    deviation = np.sqrt(rows.var(0) + 1e-8)
    standardised = [(batch.observation - rows.mean(0)) / deviation for batch in drawn]
    total = sum(float(batch[:, 0].sum()) for batch in standardised)
    np.testing.assert_allclose(state.learner.total, total, rtol=1e-4)
    following = [(batch.next_observation - rows.mean(0)) / deviation for batch in drawn]
    clipped = [np.clip(batch, -10, 10).mean() for batch in following]
    np.testing.assert_allclose(metrics["following"].sum, sum(clipped), rtol=1e-4)


def test_a_budget_below_one_iteration_is_refused():
    with pytest.raises(JaxrlError, match="choose 12 or less"):
        made(updates_per_iteration=13)
