"""Starts at the learner's own past, and episodes that a guide begins."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.ppo import PPOConfig, ppo
from jaxrl.algos.td3 import TD3Config, td3
from jaxrl.config import check, override
from jaxrl.core.shards import SINGLE
from jaxrl.envs.collect import collect
from jaxrl.envs.guided import GuidedVectorEnv
from jaxrl.envs.vector import make_vector
from jaxrl.errors import JaxrlError
from jaxrl.types import Actor, Agent, Mode, Progress
from tests.envs.test_snapshots import CHEAP, HORIZON, OFF_POLICY, SIZES, Line

N = 4


def vector_of(**settings):
    inputs = settings.pop("inputs", {})
    config = PPOConfig(num_envs=N, num_steps=8, total_steps=3200, **settings)
    return make_vector(Line(), config, SINGLE, inputs)


# ---- Replayed


REPLAYED = {"starts": "replayed", "replayed_capacity": 8, "replayed_every": 2}


@functools.cache
def replayed(**settings):
    """The state at first, and after each of HORIZON steps to the right by 1; all [T, …]."""
    vector = vector_of(**REPLAYED, replayed_share=1.0, **settings)

    @jax.jit
    def run(key):
        key_init, key_steps = jax.random.split(key)

        def one_step(state, key):
            state, seen = vector.step(state, jnp.ones((N, 1)), key)
            return state, (state, seen)

        first = vector.init(key_init)
        return first, jax.lax.scan(one_step, first, jax.random.split(key_steps, HORIZON))[1]

    return vector, *jax.device_get(run(jax.random.key(0)))


def test_the_ring_keeps_what_was_reached_in_its_order():
    """Four environments fill half of it every second step."""
    _, first, (after, seen) = replayed()
    np.testing.assert_array_equal(after.starts.next, [0, 4, 4, 0] * 5)
    for time in (1, 3, 17):
        half = slice(0, 4) if time % 4 == 1 else slice(4, 8)
        np.testing.assert_array_equal(after.starts.state[time][half], seen.final_observation[time])
    np.testing.assert_array_equal(after.starts.state, after.starts.observation)
    np.testing.assert_array_equal(first.starts.state < 1.0, True)  # resets
    assert seen.truncated[-1].all() and not seen.truncated[:-1].any()
    origin = after.origin[-1]
    np.testing.assert_array_equal(after.env_state[-1], after.starts.state[-1][origin])


def test_what_the_ring_holds_at_first_is_no_environments_own_start():
    vector, first, _ = replayed()
    for key in first.starts.natural.key:
        own = [vector.env.reset(jax.random.fold_in(key, episode))[0] for episode in range(8)]
        assert not np.isin(first.starts.state, own).any()


def test_episodes_begun_are_counted_and_rare_ones_come_more_often():
    vector, first, (after, _) = replayed(replayed_priority="visits")
    assert first.starts.begun.sum() == N and after.starts.begun[-1].sum() == N
    past = replace(first.starts, begun=jnp.float32([0, 3, 15] + [1e12] * 5))
    renewed = vector.starts.refresh(past, jax.random.key(1), Progress(jnp.int32(1), 32))
    share = np.diff(np.asarray(renewed.cumulative), prepend=0.0)
    np.testing.assert_allclose(share[:4] / share[0], [1, 1 / 2, 1 / 4, 0], atol=1e-5)


def test_a_state_is_not_drawn_by_the_visits_of_the_one_that_it_replaces():
    """Episodes began at the first half of the ring alone, until new states are written there."""
    vector, first, (after, seen) = replayed(replayed_priority="visits")
    past = replace(first.starts, begun=jnp.float32([1e12] * 4 + [3] * 4))
    refreshed = vector.starts.refresh(past, jax.random.key(1), Progress(jnp.int32(1), 32))
    seen, reached = jax.tree.map(lambda leaf: leaf[0], (seen, after.env_state))
    draw = jax.jit(vector.starts.draw)

    def chances(past):
        key, ended = jax.random.key(2), jnp.zeros(N, bool)
        kept = draw(past, key, ended, seen, reached)[0]
        return np.diff(np.asarray(kept.cumulative), prepend=0.0)

    # Nothing is due in the first of two steps.
    np.testing.assert_allclose(chances(refreshed), [0] * 4 + [1 / 4] * 4, atol=1e-5)
    due = replace(refreshed, time=jnp.int32(1))
    np.testing.assert_allclose(chances(due), [1 / 6] * 4 + [1 / 12] * 4, atol=1e-5)


def test_a_ring_without_room_for_every_environment_is_refused():
    vector = vector_of(**REPLAYED | {"replayed_capacity": 3})
    with pytest.raises(JaxrlError, match="replayed_capacity is 3, but must hold a state of each"):
        vector.init(jax.random.key(0))


# ---- A guide acts first


def act(policy, memory, view, key):
    """To the left by the policy's number, from the second step of its memory on by half of it."""
    del view, key
    return -policy * jnp.where(memory > 0, 0.5, 1.0)[None], memory + 1


def guide(number=0.5):
    agent = Agent(
        init=lambda key: jnp.zeros(()),
        modes={"deterministic": Mode(act)},
        memory=lambda policy: jnp.zeros((), jnp.int32),
    )
    return Actor(jnp.float32(number), agent)


GUIDED = {"starts": "jumpstart", "guide_steps": 6, "guide_stages": 3}


@functools.cache
def guided(**settings):
    """Two episodes in which the learner goes right by 1."""
    vector = vector_of(**GUIDED | settings, inputs={"guide": guide()})
    assert isinstance(vector, GuidedVectorEnv)

    def learner(memory, view, key):
        return jnp.ones((N, 1)), memory, ()

    @jax.jit
    def run(key):
        key_init, key_run = jax.random.split(key)
        return collect(vector, vector.init(key_init), (), learner, 2 * HORIZON, key_run)

    return vector, *jax.device_get(run(jax.random.key(0)))


def test_the_guide_acts_for_its_steps_with_its_memory_and_they_weigh_nothing():
    _, _, _, rollout, metrics = guided()
    seen = rollout.transition
    turn = np.arange(2 * HORIZON) % HORIZON
    expected = np.where(turn == 0, -0.5, np.where(turn < 6, -0.25, 1.0))
    np.testing.assert_array_equal(seen.action[..., 0], np.repeat(expected[:, None], N, 1))
    np.testing.assert_array_equal(seen.weight, np.repeat((turn >= 6)[:, None], N, 1))
    np.testing.assert_array_equal(seen.origin, 6)
    # What was executed is what happened.
    np.testing.assert_allclose(seen.reward, seen.action[..., 0])
    assert metrics["episode_return"].count == 0 and metrics["snapshot_return"].count == 2 * N


def test_steps_of_the_guide_that_are_drawn_lie_between_none_and_all():
    _, state, _, rollout, _ = guided(guide_schedule="random")
    origin = np.concatenate([rollout.transition.origin.ravel(), state.origin])
    assert set(origin) <= {-1, 1, 2, 3, 4, 5, 6} and len(set(origin)) > 2


def test_a_stage_is_taken_away_as_long_as_returns_stay_up():
    starts = vector_of(**GUIDED, guide_tolerance=0.1, inputs={"guide": guide()}).starts
    state = starts.init(jax.random.key(0), N)

    def after(state, earned, episodes):
        state = replace(state, earned=jnp.float32([earned, episodes]))
        return starts.refresh(state, jax.random.key(1), Progress(jnp.int32(1), 32))

    begun = after(state, 0.0, 0.0)
    assert begun.stages == 3 and begun.best == -np.inf
    once = after(begun, 40.0, 4.0)
    assert once.stages == 2 and once.best == 10.0
    worse = after(once, 8.9, 1.0)
    assert worse.stages == 2 and worse.best == 10.0
    nearly = after(worse, 18.2, 2.0)
    assert nearly.stages == 1 and nearly.best == 10.0
    assert after(after(nearly, 10.0, 1.0), 10.0, 1.0).stages == 0


def test_only_whole_episodes_of_the_present_stage_judge_it():
    """Two of three parts are left, 4 steps: the first two rows began so and had all their time."""
    starts = vector_of(**GUIDED, inputs={"guide": guide()}).starts
    state = replace(starts.init(jax.random.key(0), N), stages=jnp.int32(2))
    _, _, _, rollout, _ = guided()

    def earned(stages, **changes):
        seen = jax.tree.map(lambda leaf: leaf[HORIZON - 1], rollout.transition)
        at_stage = replace(state, stages=jnp.int32(stages))
        ended = jnp.ones(N, bool)
        seen = replace(seen, **{name: jnp.asarray(each) for name, each in changes.items()})
        return starts.draw(at_stage, jax.random.key(1), ended, seen, None)[0].earned

    returns = jnp.float32([1.0, 2.0, 4.0, 8.0])
    origin, cut = jnp.int32([4, 4, 6, 4]), jnp.arange(N) != 1
    length = jnp.int32([HORIZON, 7, HORIZON, 7])
    whole = {"episode_return": returns, "episode_length": length, "terminated": ~cut}
    np.testing.assert_array_equal(earned(2, origin=origin, truncated=cut, **whole), [3.0, 2.0])
    # The last stage is the learner's alone: those are natural episodes.
    natural = jnp.where(origin == 4, -1, origin)
    np.testing.assert_array_equal(earned(0, origin=natural, truncated=cut, **whole), [3.0, 2.0])
    np.testing.assert_array_equal(earned(1, origin=origin, truncated=cut, **whole), [0.0, 0.0])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"guide_steps": 21}, "guide_steps is 21, but episodes have 20 steps"),
        ({"guide_mode": "determinstic"}, "unknown guide_mode 'determinstic'. Did you mean"),
    ],
    ids=["steps", "mode"],
)
def test_a_guide_that_cannot_act_so_is_refused(settings, words):
    with pytest.raises(JaxrlError, match=words):
        vector_of(**GUIDED | settings, inputs={"guide": guide()})


@pytest.mark.parametrize("name", ["guide_stages", "guide_tolerance"])
def test_stages_of_steps_that_are_drawn_are_refused(name):
    settings = {"starts": "jumpstart", "guide": "runs/guide", name: 1}
    check(override(PPOConfig(), settings))
    with pytest.raises(JaxrlError, match=f"{name} is 1, which has no effect: .*=curriculum"):
        check(override(PPOConfig(), settings | {"guide_schedule": "random"}))


def test_a_replay_buffer_keeps_what_the_guide_executed():
    """The warm-up is over at once, so that both would otherwise be the learner's."""
    own = OFF_POLICY | {"warm_up": 0} | GUIDED | {"guide_steps": HORIZON, "guide_stages": 1}
    config = override(TD3Config(), SIZES | own)
    algorithm = td3(Line(), config, guide=guide())
    state = jax.jit(algorithm.init, compiler_options=CHEAP)(jax.random.key(0))
    state, _ = jax.jit(algorithm.step, compiler_options=CHEAP)(state)
    rows = state.experience.log.rows
    action = np.asarray(rows.action)[:32, 0].reshape(8, N)
    np.testing.assert_allclose(action[0], -0.5)
    np.testing.assert_allclose(action[1:], -0.25)
    moved = np.asarray(rows.final_observation - rows.observation)[:32, 0].reshape(8, N)
    np.testing.assert_allclose(moved, action, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(rows.origin)[:32], HORIZON)


def test_ppo_learns_nothing_from_the_guides_rows():
    """Whole rollouts of a guide: gradients, entropy and all, are 0."""
    own = {"minibatch_size": 16, "num_epochs": 1, "entropy_coefficient": 0.01}
    config = override(PPOConfig(), SIZES | own | GUIDED | {"guide_steps": 16})
    algorithm = ppo(Line(), config, guide=guide())
    state = jax.jit(algorithm.init, compiler_options=CHEAP)(jax.random.key(0))
    after, metrics = jax.jit(algorithm.step, compiler_options=CHEAP)(state)
    assert float(metrics["gradient_norm"].sum) == 0.0
    jax.tree.map(np.testing.assert_array_equal, after.policy.params, state.policy.params)
