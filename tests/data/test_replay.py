"""The replay buffer, against Python lists: what it holds, what it draws, what it never draws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.shards import Shards
from jaxrl.data.replay import Replay
from jaxrl.envs import registry
from jaxrl.errors import JaxrlError
from jaxrl.types import Transition

GAMMA = 0.9
ENV = registry.make("probe/continuous-never-ending")


def vector_step(step, num_envs, terminated=None, truncated=None):
    """A vector step whose rows are told apart: environment e observes 1000 e + step at `step`."""
    number = 1000.0 * jnp.arange(num_envs) + step
    never = jnp.zeros(num_envs, bool)
    return Transition(
        observation=number[:, None],
        action=jnp.zeros((num_envs, 1)),
        reward=number,
        terminated=never if terminated is None else terminated,
        truncated=never if truncated is None else truncated,
        final_observation=number[:, None] + 0.5,
        episode_return=number,
        episode_length=jnp.zeros(num_envs, jnp.int32),
        origin=jnp.full(num_envs, -1, jnp.int32),
    )


@functools.cache
def adding(replay):
    return jax.jit(replay.add)


def filled(replay, steps, ends=None):
    """The buffer after so many vector steps; `ends(step)` says which episodes end there."""
    log = replay.init(ENV)
    for step in range(steps):
        terminated, truncated = (None, None) if ends is None else ends(step)
        seen = vector_step(step, replay.num_envs, terminated, truncated)
        log = adding(replay)(log, seen, jnp.full((replay.num_envs, 1), step / 100))
    return log


def draw(replay, log, number=4000, seed=0):
    sample = jax.jit(replay.sample, static_argnums=2)
    return jax.device_get(sample(log, jax.random.key(seed), number, GAMMA))


def test_after_a_round_and_a_half_it_holds_the_newest_rows_and_draws_no_others():
    replay = Replay(48, 4)
    log = filled(replay, 18)  # 12 vector steps fit
    newest = {1000.0 * env + step for env in range(4) for step in range(6, 18)}
    assert set(np.asarray(log.rows.reward).tolist()) == newest and len(newest) == 48
    batch = draw(replay, log)
    assert set(batch.reward.tolist()) == newest
    np.testing.assert_array_equal(batch.observation[:, 0], batch.reward)
    np.testing.assert_array_equal(batch.next_observation[:, 0], batch.reward + 0.5)
    np.testing.assert_allclose(batch.action[:, 0], batch.reward % 1000 / 100, rtol=1e-6)
    np.testing.assert_array_equal(batch.discount, np.float32(GAMMA))
    environment = np.asarray(log.rows.environment)
    np.testing.assert_array_equal(environment, np.asarray(log.rows.reward) // 1000)
    np.testing.assert_array_equal(environment, np.arange(48) % 4)


def test_rows_that_were_never_written_are_never_drawn():
    replay = Replay(48, 4)
    log = filled(replay, 3)
    written = {1000.0 * env + step for env in range(4) for step in range(3)}
    assert set(draw(replay, log).reward.tolist()) == written


@pytest.mark.parametrize("steps", [5, 12, 17, 40])
def test_rows_are_drawn_uniformly(steps):
    replay = Replay(48, 4)
    reward = draw(replay, filled(replay, steps), 48_000).reward
    rows, counts = np.unique(reward, return_counts=True)
    assert len(rows) == 4 * min(steps, 12)
    expected = 48_000 / len(rows)
    chi_square = np.sum((counts - expected) ** 2 / expected)
    assert chi_square < len(rows) + 4 * np.sqrt(2 * len(rows))


def by_hand(steps, num_envs, n_step, ends):
    """Every n-step transition of the newest `steps`, {(env, step): (reward, discount, next)}."""
    found = {}
    for env in range(num_envs):
        for first in steps[: len(steps) - (n_step - 1)]:
            reward, discount = 0.0, 1.0
            for step in range(first, first + n_step):
                terminated, truncated = (bool(flags[env]) for flags in ends(step))
                reward += discount * (1000.0 * env + step)
                discount *= GAMMA
                following = 1000.0 * env + step + 0.5
                if terminated or truncated:
                    discount = 0.0 if terminated else discount
                    break
            found[env, first] = (reward, discount, following)
    return found


@pytest.mark.parametrize("n_step", [1, 2, 3, 5])
@pytest.mark.parametrize("steps", [7, 12, 13, 30])
def test_transitions_of_n_steps_span_no_end_no_head_and_no_two_environments(n_step, steps):
    def ends(step):
        """Environment e ends every 4 + e steps, by turns for either reason."""
        ended = (step + 1) % (4 + np.arange(3)) == 0
        turn = (step // 5) % 2 == 0
        return jnp.asarray(ended & turn), jnp.asarray(ended & (not turn))

    replay = Replay(36, 3, n_step)
    batch = draw(replay, filled(replay, steps, ends))
    expected = by_hand(list(range(max(0, steps - 12), steps)), 3, n_step, ends)
    seen = set()
    for observation, reward, discount, following in zip(
        batch.observation[:, 0],
        batch.reward,
        batch.discount,
        batch.next_observation[:, 0],
        strict=True,
    ):
        env, step = divmod(int(observation), 1000)
        seen.add((env, step))
        np.testing.assert_allclose((reward, discount, following), expected[env, step], rtol=2e-6)
    assert seen == set(expected)


def test_it_can_be_drawn_from_once_there_is_a_whole_transition():
    replay = Replay(30, 3, n_step=4)
    found = [bool(replay.can_sample(filled(replay, steps))) for steps in range(6)]
    assert found == [False, False, False, False, True, True]


def test_members_of_a_population_draw_from_rings_of_their_own():
    replay = Replay(8, 2)
    logs = jax.tree.map(lambda *leaves: jnp.stack(leaves), filled(replay, 3), filled(replay, 9))
    keys = jax.random.split(jax.random.key(0), 2)
    rewards = jax.vmap(lambda log, key: replay.sample(log, key, 200, GAMMA).reward)(logs, keys)
    assert set((rewards[0] % 1000).tolist()) == {0, 1, 2}
    assert set((rewards[1] % 1000).tolist()) == {5, 6, 7, 8}


def test_every_device_numbers_its_environments_among_all():
    replay = Replay(4, 2, shards=Shards("env", 3))
    seen = vector_step(0, 2)

    def add(_):
        return replay.add(replay.init(ENV), seen, jnp.zeros((2, 1))).rows.environment

    found = jax.vmap(add, axis_name="env")(jnp.zeros(3))
    assert found[:, :2].tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ((50, 4), "capacity is 50, but must be a multiple of the 4 environments"),
        ((8, 4, 3), "of at least 12, for samples of n_step=3"),
        ((0, 4), "capacity is 0"),
        ((8, 4, 0), "n_step is 0"),
        ((8.0, 4), "capacity is 8.0"),
    ],
)
def test_a_ring_without_room_is_refused(settings, words):
    with pytest.raises(JaxrlError, match=words):
        Replay(*settings)


def test_a_vector_step_is_written_in_place_and_a_draw_copies_nothing():
    replay = Replay(100_000, 2)

    def one(log, seen, key):
        log = replay.add(log, seen, jnp.zeros((2, 1)))
        return log, replay.sample(log, key, 16, GAMMA)

    def many(log, seen, key):
        return jax.lax.scan(lambda log, key: one(log, seen, key), log, jax.random.split(key, 3))

    log = replay.init(ENV)
    lowered = jax.jit(many, donate_argnums=0).lower(log, vector_step(0, 2), jax.random.key(0))
    compiled = lowered.compile()
    text = compiled.as_text()
    assert not [line for line in text.splitlines() if " copy(" in line and "[100000" in line]
    analysis = compiled.memory_analysis()
    assert analysis.alias_size_in_bytes >= 100_000 * 4
    assert analysis.temp_size_in_bytes < 100_000
