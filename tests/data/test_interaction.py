"""Acting and learning in turn, with a learner that only counts: warm-up, ratio, statistics."""

import functools
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core import moments
from jaxrl.core.moments import Moments
from jaxrl.core.shards import SINGLE
from jaxrl.data.interaction import InteractionConfig, Learns, make_interaction
from jaxrl.data.off_policy import OffPolicy
from jaxrl.envs import registry
from jaxrl.envs.starts.jumpstart import JumpstartConfig
from jaxrl.errors import JaxrlError
from jaxrl.types import Agent, feed_forward
from tests.envs.test_replayed import guide

ENV = registry.make("probe/continuous-never-ending")
SETTINGS = {
    "total_steps": 1000,
    "num_envs": 4,
    "num_steps": 8,
    "replay_capacity": 64,
    "batch_size": 4,
    "warm_up": 0,
    "gamma": 0.9,
}


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class CountingPolicy:
    observation_moments: Moments | None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Counting:
    """A learner that counts its gradient steps."""

    policy: CountingPolicy
    updates: jax.Array


def begin(policy):
    return Counting(policy, jnp.zeros((), jnp.int32))


def explore(learner, view, key):
    """The action 0, so that random ones are told apart; a bonus of a quarter."""
    rows = len(view.reward)
    return jnp.zeros((rows, 1)), jnp.full(rows, 0.25)


def update(learner, batch, key):
    seen = {"reward": batch.reward.mean(), "observed": batch.observation.mean()}
    return replace(learner, updates=learner.updates + 1), seen


def value(learner, observation, key):
    """The number of gradient steps so far."""
    return jnp.full(len(observation), learner.updates, jnp.float32)


LEARNS = Learns(begin, explore, update, value)


@functools.cache
def made(**settings):
    config = InteractionConfig(**SETTINGS | settings)
    shape = ENV.observation_space.shape

    def init(key):
        return CountingPolicy(moments.init(shape) if config.normalize_observations else None)

    act = feed_forward(lambda policy, observation, key: jnp.zeros(1))
    agent = Agent(init, {"deterministic": act})
    inputs = {"guide": guide()} if isinstance(config.starts, JumpstartConfig) else {}
    interaction = make_interaction(ENV, config, SINGLE, inputs)
    return OffPolicy(interaction, agent, LEARNS).algorithm(config.total_steps)


@functools.cache
def compiled(**settings):
    return jax.jit(made(**settings).step)


def run(iterations, **settings):
    """(state, metrics of each iteration)."""
    state, metrics = made(**settings).init(jax.random.key(0)), []
    for _ in range(iterations):
        state, seen = compiled(**settings)(state)
        metrics.append({name: tuple(map(float, pair)) for name, pair in seen.items()})
    return state, metrics


@pytest.mark.parametrize(
    ("num_envs", "warm_up", "random"), [(1, 12, 12), (4, 12, 12), (8, 12, 16), (4, 0, 0)]
)
def test_so_many_transitions_of_all_environments_are_random(num_envs, warm_up, random):
    settings = {"num_envs": num_envs, "num_steps": 32 // num_envs, "warm_up": warm_up}
    state, metrics = run(2, **settings)
    actions = np.asarray(state.experience.log.rows.action[:, 0])
    assert np.count_nonzero(actions[:random]) == random
    assert not np.any(actions[random:])
    assert np.all(np.abs(actions) <= 1.0) and (random == 0 or np.std(actions[:random]) > 0.3)
    # The vector step that completes the warm-up is the first that is learned from.
    taken = 64 - max(random, num_envs) + num_envs
    assert state.learner.updates == taken
    assert metrics[1]["updates_per_transition"] == (32, 32)
    assert metrics[0]["updates_per_transition"] == (taken - 32, taken - 32)


def test_random_actions_are_held_for_some_steps_of_their_episode():
    state, _ = run(1, num_envs=1, num_steps=64, warm_up=48, warm_up_hold=3)
    rows, limit = state.experience.log.rows, ENV.horizon
    actions = np.asarray(rows.action[:48, 0]).reshape(-1)
    clock = np.arange(48) % limit
    assert limit % 3 and limit < 48  # an episode ends while an action is held
    for step in range(1, 48):
        same = np.isclose(actions[step], actions[step - 1], atol=1e-6)
        assert same == (clock[step] % 3 != 0)


def test_the_first_random_action_after_a_guides_is_a_new_one():
    """It acts for 2 of 5 steps; what is drawn after it is held until the next multiple of 3."""
    starts = JumpstartConfig(guide="given", guide_steps=2)
    state, _ = run(1, num_envs=1, num_steps=64, warm_up=48, warm_up_hold=3, starts=starts)
    actions = np.asarray(state.experience.log.rows.action[:45, 0]).reshape(-1, ENV.horizon)
    np.testing.assert_array_equal(actions[:, :2], [[-0.5, -0.25]] * 9)
    np.testing.assert_allclose(actions[:, 4], actions[:, 3], atol=1e-6)
    assert len(set(actions[:, 2:4].ravel())) == 18


@pytest.mark.parametrize(
    ("ratio", "num_envs", "num_steps"), [(2.0, 4, 8), (0.25, 4, 8), (0.5, 1, 8), (1 / 64, 4, 32)]
)
def test_the_ratio_holds_for_any_number_of_environments(ratio, num_envs, num_steps):
    settings = {"updates_per_transition": ratio, "num_envs": num_envs, "num_steps": num_steps}
    state, metrics = run(3, **settings)
    transitions = num_envs * num_steps
    assert state.learner.updates == round(3 * ratio * transitions)
    for seen in metrics:
        assert seen["updates_per_transition"] == (ratio * transitions, transitions)
    also = made(**settings).budget.also
    assert also == {"gradient steps": round(ratio * transitions)}


def test_gradient_steps_are_spread_evenly_over_an_iteration():
    config = InteractionConfig(**SETTINGS | {"num_envs": 1, "num_steps": 10})
    due = {
        ratio: make_interaction(
            ENV, replace(config, updates_per_transition=ratio), SINGLE, {}
        ).due.tolist()
        for ratio in (0.3, 1.0, 1.5)
    }
    assert due[0.3] == [0, 0, 0, 1, 0, 0, 1, 0, 0, 1]
    assert due[1.0] == [1] * 10
    assert sorted(due[1.5]) == [1] * 5 + [2] * 5 and sum(due[1.5]) == 15


def test_no_gradient_step_is_taken_before_a_whole_transition_can_be_drawn():
    state, _ = run(1, n_step=4)
    assert state.learner.updates == (8 - 3) * 4


def test_the_buffer_keeps_what_was_led_to_and_the_ends_as_they_were():
    state, _ = run(2)
    rows = state.experience.log.rows
    step = np.arange(64) // 4
    np.testing.assert_array_equal(rows.truncated, (step + 1) % 5 == 0)
    assert not np.any(rows.terminated)
    np.testing.assert_array_equal(rows.reward, 1.0)
    np.testing.assert_array_equal(rows.origin, -1)


def test_what_the_critic_foresaw_is_held_against_what_followed():
    _, metrics = run(1)
    # Episodes of 5 steps, each of reward 1 and bonus 1/4; the critic says how many gradient steps
    # there were: 0, 20 after 5 vector steps. At the end what was cut off is worth as much to it.
    assert metrics[0]["value_foreseen"] == (0.0, 4.0)
    followed = 1.25 * (1 - 0.9**5) / 0.1 + 0.9**5 * 16
    total, count = metrics[0]["value_followed"]
    assert count == 4 and total / count == pytest.approx(followed, rel=1e-5)
    assert metrics[0]["overestimation"][0] / 4 == pytest.approx(-followed, rel=1e-5)
    _, metrics = run(2)
    # Episodes end after vector steps 10 and 15, which the critic valued 4 * 4 and 4 * 9 before.
    assert metrics[1]["value_foreseen"] == (4.0 * (16 + 36), 8.0)


def test_of_n_steps_the_first_one_s_bonus_counts_as_it_does_in_targets():
    _, metrics = run(1, n_step=4)
    # Bonuses before the steps 0 and 4 of 5, and 4 gradient steps before the end of the episode.
    followed = (1 - 0.9**5) / 0.1 + 0.25 * (1 + 0.9**4) + 0.9**5 * 4
    total, count = metrics[0]["value_followed"]
    assert count == 4 and total / count == pytest.approx(followed, rel=1e-5)


def test_episodes_that_began_in_the_warm_up_are_not_held_against_the_critic():
    # Three vector steps of random actions; episodes end after 5, in the second iteration after 10
    # and 15.
    _, metrics = run(2, warm_up=12)
    for name in ("overestimation", "value_foreseen", "value_followed"):
        assert [seen[name][1] for seen in metrics] == [0.0, 8.0]
    assert metrics[0]["episode_length"] == (20.0, 4.0)


def test_episodes_that_a_guide_began_are_not_held_against_the_critic():
    """It is gone after the first iteration, but for the episodes that have begun with it."""
    _, metrics = run(2, starts=JumpstartConfig(guide="given", guide_steps=3, guide_stages=1))
    for name in ("overestimation", "value_foreseen", "value_followed"):
        assert [seen[name][1] for seen in metrics] == [0.0, 4.0]
    assert metrics[0]["snapshot_length"] == (20.0, 4.0)


def test_the_fill_of_the_ring():
    fills = [seen["replay_fill"] for seen in run(3)[1]]
    assert fills == [(0.5, 1.0), (1.0, 1.0), (1.0, 1.0)]


def test_observations_count_once_each_and_are_normalised_when_drawn():
    settings = {"normalize_observations": True}
    state, metrics = run(3, **settings)
    kept = state.learner.policy.observation_moments
    assert float(kept.count) == 3 * 32
    # The probe observes 0 always: only a wrong mean could show.
    assert float(kept.mean[0]) == 0.0 and metrics[2]["observed"][0] == 0.0
    shifted = replace(
        state,
        learner=replace(
            state.learner,
            policy=CountingPolicy(Moments(jnp.full(1, 3.0), jnp.full(1, 4.0), kept.count)),
        ),
    )
    _, seen = compiled(**settings)(shifted)
    total, count = seen["observed"]
    assert float(total / count) == pytest.approx(-1.5)
    np.testing.assert_array_equal(shifted.experience.log.rows.observation, 0.0)


def test_members_of_a_population_do_what_each_does_alone():
    algorithm = made(warm_up=12)
    keys = jax.random.split(jax.random.key(0), 3)
    with jax.debug_key_reuse(False):  # the checker takes vmap's axes of scanned keys for two uses
        states, metrics = jax.jit(jax.vmap(algorithm.step))(jax.vmap(algorithm.init)(keys))
    alone, seen = compiled(warm_up=12)(algorithm.init(keys[1]))
    assert states.learner.updates.tolist() == [24, 24, 24]
    np.testing.assert_array_equal(
        states.experience.log.rows.action[1], alone.experience.log.rows.action
    )
    for name, pair in seen.items():
        np.testing.assert_allclose(metrics[name].sum[1], pair.sum, rtol=1e-5)


def test_a_run_that_begins_from_a_policy_foresees_with_its_critic():
    algorithm = made()
    state = replace(algorithm.init(jax.random.key(0)))
    policy = algorithm.policy(state)
    begun = algorithm.begin_from(state, policy)
    assert begun.experience.values.foreseen.tolist() == [0.0] * 4


def test_it_foresees_with_a_key_that_no_step_uses():
    def drawn(learner, observation, key):
        return jax.random.uniform(jax.random.clone(key), (len(observation),))

    agent = Agent(lambda key: CountingPolicy(None), {})
    interaction = make_interaction(ENV, InteractionConfig(**SETTINGS), SINGLE, {})
    state = OffPolicy(interaction, agent, LEARNS._replace(value=drawn)).init(jax.random.key(0))
    for key in jax.random.split(state.key, 3):  # as a step does
        of_step = drawn(None, jnp.zeros(4), key)
        assert not np.array_equal(state.experience.values.foreseen, of_step)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"replay_capacity": 3},
            "replay_capacity is 3, but must hold at least the batch_size of 4",
        ),
        ({"warm_up": 65}, "replay_capacity is 64, but must hold at least the warm_up of 65"),
        (
            {"n_step": 20},
            r"replay_capacity is 64, but must be at least n_step \* num_envs = 80",
        ),
        (
            {"num_envs": 128, "warm_up": 0},
            r"replay_capacity is 64, but must be at least n_step \* num_envs = 128",
        ),
        (
            {"warm_up": 1000, "replay_capacity": 5000},
            "warm_up is 1000, but total_steps are 1000, of which whole iterations take 992",
        ),
        (
            {"warm_up": 993, "replay_capacity": 5000},
            "nothing would be learned. Choose a warm_up below 992",
        ),
        (
            {"total_steps": 40, "n_step": 9},
            "n_step is 9, .*whole iterations take 32, 8 steps of each environment.*n_step=8 or",
        ),
        ({"total_steps": 3}, "choose num_envs=3 or less, or more total_steps"),
        ({"num_steps": 300}, "total_steps is 1000, less than one iteration"),
        ({"updates_per_transition": 0.3}, "makes 9.6 gradient steps"),
        ({"updates_per_transition": 0.001}, "choose 0.03125, or another num_steps"),
    ],
)
def test_what_does_not_fit_together_is_refused(settings, words):
    with pytest.raises(JaxrlError, match=words):
        make_interaction(ENV, InteractionConfig(**SETTINGS | settings), SINGLE, {})


@pytest.mark.parametrize(
    "settings", [{"warm_up": 991, "replay_capacity": 5000}, {"total_steps": 40, "n_step": 8}]
)
def test_a_budget_is_enough_whose_last_vector_step_is_learned_from(settings):
    make_interaction(ENV, InteractionConfig(**SETTINGS | settings), SINGLE, {})
