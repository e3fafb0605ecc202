"""Dictionaries of observations: what each entry is for, and what can be earned without it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import play, registry
from jaxrl.envs.suites.dictionaries import CELLS, NEIGHBOURS, SIDE, Coins, Door, Trip
from jaxrl.errors import JaxrlError
from jaxrl.types import Agent, feed_forward

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def keys_may_be_reused():
    """The same key must give the same step in two environments."""
    with jax.debug_key_reuse(False):
        yield


def returns(env, act, num_episodes=64):
    """Returns of whole episodes of `act(observation, key) -> action`."""
    mode = feed_forward(lambda policy, observation, key: act(observation, key))
    agent = Agent(init=lambda key: (), modes={"only": mode})
    played = functools.partial(play.play, env, agent, (), num_episodes=num_episodes, mode="only")
    return jax.jit(played)(key=KEY).returns


def mean_and_error(values):
    return float(values.mean()), float(values.std()) / np.sqrt(len(values))


def of_lock(seen):
    """Which of 50 keys open the lock that is seen, bool [50]."""
    return jnp.arange(50) % 5 == jnp.argmax(seen["lock"])


def any_at_hand(seen, key):
    return jax.random.categorical(key, jnp.where(seen["action_mask"], 0.0, -jnp.inf))


def test_one_key_of_each_lock_is_at_hand_drawn_anew_each_turn():
    env = registry.make("dict/locks")
    doors, seen = jax.vmap(env.reset)(jax.random.split(KEY, 4000))
    at_hand = np.asarray(doors.keys).reshape(4000, 10, 5)
    np.testing.assert_array_equal(at_hand.sum(axis=1), 1)
    np.testing.assert_allclose(at_hand.mean(axis=0), 0.1, atol=0.03)
    np.testing.assert_array_equal(seen["action_mask"], doors.keys)
    np.testing.assert_allclose(seen["lock"].mean(axis=0), 0.2, atol=0.03)
    door = jax.tree.map(lambda leaf: leaf[0], doors)
    again, timestep = env.step(KEY, door, jnp.argmax(door.keys))
    assert (again.keys != door.keys).any()
    np.testing.assert_array_equal(timestep.observation["action_mask"], again.keys)


@pytest.mark.parametrize(
    ("action", "time", "reward", "terminated"),
    [
        (12, 0, 0.1, False),  # opens lock 2
        (12, 9, 0.1, True),
        (13, 0, 0.0, False),  # at hand, but another lock's
        (7, 0, 0.0, True),  # the lock's, but not at hand
        (8, 0, 0.0, True),
    ],
)
def test_a_turn_at_the_locks(action, time, reward, terminated):
    keys = jnp.zeros(50, bool).at[jnp.array([10, 11, 12, 13, 14])].set(True)
    door = Door(jnp.int32(2), keys, jnp.int32(time))
    _, timestep = registry.make("dict/locks").step(KEY, door, jnp.int32(action))
    assert float(timestep.reward) == pytest.approx(reward)
    assert bool(timestep.terminated) == terminated


def test_with_the_mask_every_lock_can_be_opened():
    env = registry.make("dict/locks")
    best = returns(env, lambda seen, key: jnp.argmax(of_lock(seen) & seen["action_mask"]))
    np.testing.assert_allclose(best, 1.0, rtol=1e-6)
    mean, error = mean_and_error(returns(env, any_at_hand, 4000))
    assert mean == pytest.approx(0.2, abs=4 * error)


def test_without_the_mask_nearly_none_can():
    env = registry.make("dict/locks", mask=False)
    assert set(env.observation_space.spaces) == {"lock"}
    mean, error = mean_and_error(
        returns(env, lambda seen, key: jnp.argmax(of_lock(seen)), num_episodes=20_000)
    )
    bound = 0.1 * sum(0.1**turn for turn in range(1, 11))
    assert bound == pytest.approx(0.0111, abs=1e-4) and mean == pytest.approx(bound, abs=4 * error)


def test_random_keys_earn_what_the_reference_says():
    env = registry.make("dict/locks", actions=10)
    sample = returns(env, lambda seen, key: env.action_space.sample(key), num_episodes=20_000)
    mean, error = mean_and_error(sample)
    random, best = env.reference_scores
    assert mean == pytest.approx(random, abs=4 * error) and best == 1.0


def test_only_the_mask_is_missing_without_it():
    shown, hidden = (registry.make("dict/locks", mask=mask) for mask in (True, False))
    (first, seen), (other, less) = shown.reset(KEY), hidden.reset(KEY)
    jax.tree.map(np.testing.assert_array_equal, first, other)
    action = jnp.argmax(first.keys)
    (first, timestep), (other, unseen) = (env.step(KEY, first, action) for env in (shown, hidden))
    jax.tree.map(np.testing.assert_array_equal, first, other)
    assert timestep.reward == unseen.reward
    assert set(seen) - set(less) == {"action_mask"}
    np.testing.assert_array_equal(timestep.observation["lock"], unseen.observation["lock"])


@pytest.mark.parametrize("actions", [0, 5, 7, 12.5])
def test_keys_that_do_not_share_out_are_refused(actions):
    with pytest.raises(JaxrlError, match=f"actions is {actions}, but must be"):
        registry.make("dict/locks", actions=actions)


def test_options_are_refused_by_name():
    with pytest.raises(JaxrlError, match="mask is 0, but must be True or False"):
        registry.make("dict/locks", mask=0)
    with pytest.raises(JaxrlError, match="unknown option of dict/locks 'action'.*actions"):
        registry.make("dict/locks", action=10)
    with pytest.raises(JaxrlError, match="dict/grid takes no options"):
        registry.make("dict/grid", size=3)
    for noise in (-1.0, float("inf"), float("nan")):
        with pytest.raises(JaxrlError, match="noise is"):
            registry.make("dict/privileged", noise=noise)


@pytest.mark.parametrize("noise", [10, 2.5])
def test_the_hidden_coin_is_noise_whose_value_is_known(noise):
    env = registry.make("dict/privileged", noise=noise)
    for seen in (-1.0, 1.0):
        for hidden in (-1.0, 1.0):
            coins = Coins(jnp.float32(seen), jnp.float32(hidden))
            named = jnp.int32(seen > 0)
            _, right = env.step(KEY, coins, named)
            _, wrong = env.step(KEY, coins, 1 - named)
            assert right.terminated and float(wrong.reward) == noise * hidden
            assert float(right.reward) == 1.0 + noise * hidden
            assert env.optimal_value(right.observation, 0.9) == right.reward
            assert float(right.observation["seen"][0]) == seen


def test_the_two_coins_are_tossed_apart():
    coins, seen = jax.vmap(registry.make("dict/privileged").reset)(jax.random.split(KEY, 4000))
    assert abs(np.corrcoef(coins.seen, coins.hidden)[0, 1]) < 0.05
    assert abs(coins.seen.mean()) < 0.05 and abs(coins.hidden.mean()) < 0.05
    np.testing.assert_array_equal(seen["hidden"][:, 0], coins.hidden)


def test_the_grid_shows_the_cell_and_the_goal():
    env = registry.make("dict/grid")
    trip = Trip(jnp.int32(7), jnp.int32(14))  # row 1, column 2; row 2, column 4
    following, timestep = env.step(KEY, trip, jnp.int32(2))  # down
    image = np.asarray(timestep.observation["grid"])
    assert np.argwhere(image).tolist() == [[2, 2, 0]] and int(following.cell) == 12
    assert timestep.observation["goal"].tolist() == [0.0, 1.0]
    ended = []
    for action in (1, 1):  # right, to the goal
        following, timestep = env.step(KEY, following, jnp.int32(action))
        ended.append((float(timestep.reward), bool(timestep.terminated)))
    assert ended == [(0.0, False), (1.0, True)]
    corner = Trip(jnp.int32(0), jnp.int32(14))
    assert [int(env.step(KEY, corner, jnp.int32(a))[0].cell) for a in range(4)] == [0, 1, 5, 0]


def test_who_sees_both_reaches_every_goal_in_time():
    env = registry.make("dict/grid")

    def towards(seen, key):
        cell = jnp.argmax(seen["grid"])
        row, column = jnp.round((seen["goal"] + 1.0) * (SIDE - 1) / 2.0)
        down, right = row - cell // SIDE, column - cell % SIDE
        vertical, sideways = jnp.where(down > 0, 2, 0), jnp.where(right > 0, 1, 3)
        return jnp.where(down != 0, vertical, sideways)

    assert set(returns(env, towards, num_episodes=1000).tolist()) == {1.0}
    sample = returns(env, lambda seen, key: env.action_space.sample(key), num_episodes=20_000)
    mean, error = mean_and_error(sample)
    random, best = env.reference_scores
    assert mean == pytest.approx(random, abs=4 * error) and best == 1.0


def test_who_does_not_see_the_goal_reaches_a_third():
    """To the edge and along it clockwise: 8 cells beside the first, from wherever one begins."""

    def along_the_edge(seen, key):
        row, column = jnp.divmod(jnp.argmax(seen["grid"]), SIDE)
        last = SIDE - 1
        on_edge = (row == 0) | (row == last) | (column == 0) | (column == last)
        right, down = (row == 0) & (column < last), (column == last) & (row < last)
        left = (row == last) & (column > 0)
        return jnp.select([~on_edge, right, down, left], [0, 1, 2, 3], 0)

    mean, error = mean_and_error(returns(registry.make("dict/grid"), along_the_edge, 8000))
    assert mean == pytest.approx(1 / 3, abs=4 * error)


def test_what_the_goal_alone_is_worth():
    """The best of all probabilities of the four actions, in sixteenths, for each goal."""
    parts = range(17)
    mixtures = np.array(
        [(a, b, c, 16 - a - b - c) for a in parts for b in parts for c in parts if a + b + c <= 16]
    )
    best = []
    for goal in range(CELLS):
        there = np.eye(CELLS)[goal]
        reached = np.broadcast_to(there, (len(mixtures), CELLS))
        for _ in range(2 * (SIDE - 1)):
            on = np.einsum("mca,ma->mc", reached[:, NEIGHBOURS], mixtures / 16)
            reached = np.maximum(there, on)
        best.append((reached.sum(axis=1).max() - 1) / (CELLS - 1))
    assert np.mean(best) == pytest.approx(0.458, abs=0.002)
