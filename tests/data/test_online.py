"""Going on in an environment: halves of a batch, what is acted and kept, what the critic says."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos import ofql, rebrac
from jaxrl.config import check, override
from jaxrl.core import moments
from jaxrl.data.dataset import Dataset
from jaxrl.data.offline import Learns, Offline, OfflineConfig
from jaxrl.data.online import Mixed, Online
from jaxrl.data.replay import Replay
from jaxrl.errors import JaxrlError
from jaxrl.types import Agent, View, feed_forward
from tests.algos.offline import SMALL, reaching
from tests.algos.reach import CHEAP, Reach
from tests.data.test_dataset import Line, recorded
from tests.data.test_offline import Counter, Policy
from tests.data.test_replay import GAMMA, filled

UPDATES = 12
LINE = Dataset.of(recorded(), Line())


def update(learner, batch, key):
    del key
    seen = ~jnp.isin(batch.reward, reaching(-2.0, 6.0).reward)
    return replace(learner, total=learner.total + 1.0), {"seen": seen.mean()}


def parts(**settings):
    """A learner that counts, in an environment of 3-vectors whose reward is minus the distance."""
    sizes = {"total_updates": UPDATES, "updates_per_iteration": 4, "batch_size": 8, "online": True}
    config = OfflineConfig(**sizes | settings)
    env, dataset = Reach(-2.0, 6.0), reaching(-2.0, 6.0)
    agent = Agent(
        init=lambda key: Policy(moments.init((3,)) if config.normalize_observations else None),
        modes={"first": feed_forward(lambda policy, observation, key: jnp.full(3, 4.0))},
        value=lambda policy, memory, view, key: 10.0 * view.observation.sum(),
    )
    learns = Learns(lambda policy: Counter(policy, jnp.zeros(())), update)
    return config, env, dataset, agent, learns


def made(**settings):
    return Offline(*parts(**settings)).algorithm()


@functools.cache
def stepped(**settings):
    algorithm = made(**settings)
    begun = algorithm.init(jax.random.key(0))
    return algorithm, begun, *jax.jit(algorithm.step, compiler_options=CHEAP)(begun)


def test_half_a_batch_is_the_dataset_s_and_half_what_was_seen_in_random_order():
    mixed = Mixed(8, 1, dataset=LINE, env=Line(), reward_scale=2.0, reward_shift=1.0)
    log = mixed.init(Line())
    seen_reward = 1000.0
    row = jax.tree.map(jnp.zeros_like, log.rows)
    one = jax.tree.map(lambda leaf: leaf[:1], replace(row, reward=row.reward + seen_reward))
    log = log.append(one)
    sample = jax.jit(lambda key: mixed.sample(log, key, 9, GAMMA))
    recorded_first = []
    for seed in range(20):
        batch = sample(jax.random.key(seed))
        is_seen = np.asarray(batch.reward) == 2.0 * (seen_reward + 1.0)
        assert is_seen.sum() == 4
        recorded = np.asarray(batch.reward)[~is_seen] / 2.0 - 1.0
        assert set(recorded) <= set(range(8))
        # Row i of the dataset observes [i, -i]; what was seen observes nothing.
        np.testing.assert_array_equal(batch.observation[~is_seen, 0], recorded)
        assert not np.any(batch.observation[is_seen])
        recorded_first.append((~is_seen[:4]).sum())
    assert np.mean(recorded_first) == pytest.approx(4 * 5 / 9, abs=0.7)


@pytest.mark.parametrize("n_step", [1, 3])
def test_the_replay_buffer_tells_which_action_followed(n_step):
    ends = {4}
    replay = Replay(20, 2, n_step)

    def end(step):
        return jnp.full(2, step in ends), jnp.zeros(2, bool)

    log = filled(replay, 8, end)
    batch = jax.device_get(replay.sample(log, jax.random.key(0), 500, GAMMA))
    first = (batch.observation[:, 0] % 1000).astype(int)
    last = np.asarray([min([k + n_step - 1, *(e for e in ends if e >= k)]) for k in first])
    acted = ~np.isin(last, list(ends)) & (last < 7)
    np.testing.assert_array_equal(batch.next_acted, acted)
    assert 0 < acted.sum() < len(acted)
    np.testing.assert_allclose(batch.next_action[acted, 0], (last[acted] + 1) / 100, rtol=1e-6)


def test_a_step_is_taken_and_kept_before_every_gradient_step():
    algorithm, begun, state, metrics = stepped()
    assert algorithm.budget == ("gradient steps", 4, 3, {"transitions": 4})
    assert int(state.learner.total) == int(state.experience.log.count) == 4
    assert int(begun.experience.log.count) == 0
    kept = state.experience.log.rows
    # 4 of [-2, 6] is 0.5 of [-1, 1], and noise of a tenth is beside it.
    actions = np.asarray(kept.action[:4])
    assert 0.01 < np.std(actions) < 0.3 and abs(actions.mean() - 0.5) < 0.15
    assert tuple(map(float, metrics["seen"])) == (4 * 0.5, 4)
    assert tuple(map(float, metrics["updates_per_transition"])) == (4, 4)


def test_without_noise_it_acts_as_its_first_mode():
    _, _, state, _ = stepped(exploration_noise=0.0)
    np.testing.assert_allclose(state.experience.log.rows.action[:4], 0.5, atol=1e-6)


def test_noise_takes_no_action_beyond_its_bounds_and_a_shift_counts_as_a_reward():
    online = Online(*parts(exploration_noise=0.5, reward_shift=-0.25))
    learner = Counter(Policy(None), jnp.zeros(()))
    view = View(jnp.zeros((200, 3)), jnp.zeros(200), jnp.zeros((200, 3)), jnp.zeros(200, bool))
    action, bonus = online.rules.explore(learner, view, jax.random.key(0))
    # The mode is 0.5 of [-1, 1], and a noise of 0.5 takes a sixth of the actions beyond 1.
    assert np.abs(action).max() == 1.0
    assert 0.1 < np.mean(np.asarray(action) == 1.0) < 0.22
    np.testing.assert_array_equal(bonus, np.full(200, -0.25, np.float32))


def test_the_statistics_stay_those_of_the_dataset():
    _, begun, state, _ = stepped(normalize_observations=True)
    expected = reaching(-2.0, 6.0).moments
    for each in (begun, state):
        found = each.learner.policy.observation_moments
        np.testing.assert_array_equal(found.mean, expected.mean)
        np.testing.assert_array_equal(found.variance, expected.variance)


def test_values_are_told_in_the_unit_of_the_rewards():
    _, plain, _, _ = stepped()
    _, scaled, _, _ = stepped(reward_scale=5.0)
    np.testing.assert_allclose(
        plain.experience.values.foreseen, 5.0 * scaled.experience.values.foreseen, rtol=1e-6
    )
    expected = 10.0 * plain.experience.vector.observation.sum()
    np.testing.assert_allclose(plain.experience.values.foreseen, expected, rtol=1e-6)


def test_a_run_begins_from_another_s_policy():
    algorithm = made(normalize_observations=True)
    begun = algorithm.init(jax.random.key(0))
    other = Policy(moments.Moments(jnp.ones(3), jnp.full(3, 4.0), jnp.float32(9.0)))
    state = algorithm.begin_from(begun, other)
    assert state.learner.policy is other
    expected = 10.0 * ((begun.experience.vector.observation - 1.0) / 2.0).sum()
    np.testing.assert_allclose(state.experience.values.foreseen, expected, rtol=1e-5)


def test_what_does_not_go_together_is_refused():
    with pytest.raises(JaxrlError, match="batch_size is 1"):
        made(batch_size=1)
    with pytest.raises(JaxrlError, match="exploration_noise"):
        check(override(OfflineConfig(), {"exploration_noise": 0.3}))


@pytest.mark.parametrize(
    "factory, config, own",
    [
        (ofql.ofql, ofql.OFQLConfig(), {"ema_start": 0, "time_width": 4}),
        (rebrac.rebrac, rebrac.ReBRACConfig(), {}),
    ],
)
def test_learners_for_datasets_go_on_online(factory, config, own):
    """That of a policy that draws, and one that reads which action followed."""
    env, dataset = Reach(-1.0, 1.0), reaching()
    settings = SMALL | {"online": True, "normalize_observations": True} | own
    algorithm = factory(env, override(config, settings), dataset=dataset)
    begun = algorithm.init(jax.random.key(1))
    state, metrics = jax.jit(algorithm.step, compiler_options=CHEAP)(begun)
    assert int(state.experience.log.count) == 4
    assert all(np.isfinite(mean.sum) for mean in metrics.values())
    assert {"critic_loss", "q", "episode_return"} <= set(metrics)
