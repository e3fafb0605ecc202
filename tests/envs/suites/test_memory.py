"""Tasks that need a memory: what is seen, what is paid, and what can be earned without one."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import play, registry
from jaxrl.envs.suites.memory import EAST, NORTH, SEEN, SOUTH, WEST, Asked, Walk
from jaxrl.errors import JaxrlError
from jaxrl.types import Agent, Mode, feed_forward, zeros_of

KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def keys_may_be_reused():
    """The same key must give the same step in two environments."""
    with jax.debug_key_reuse(False):
        yield


def steps(env, state, *actions):
    """[(observation, reward, terminated)] of some actions, from a state on."""
    seen = []
    for action in actions:
        state, timestep = env.step(KEY, state, jnp.int32(action))
        observation = np.asarray(timestep.observation).tolist()
        seen.append((observation, pytest.approx(float(timestep.reward)), bool(timestep.terminated)))
    return seen


def returns(env, mode, num_episodes=64):
    """Whole episodes of an agent without parameters, whose memory is an observation."""
    agent = Agent(
        init=lambda key: (),
        modes={"only": mode},
        memory=lambda policy: zeros_of(env.observation_space),
    )
    played = functools.partial(play.play, env, agent, (), num_episodes=num_episodes, mode="only")
    return jax.jit(played)(key=KEY)


def remembering(act):
    """Acts on the first observation and on the present one: `act(first, present) -> action`."""

    def acted(policy, first, view, key):
        first = jnp.where(view.first, view.observation, first)
        return act(first, view.observation), first

    return Mode(acted)


def best_without_memory(env, states, kinds):
    """The highest mean return of any table from what is seen, one of `kinds`, to an action.

    states: the states in which episodes begin, equally often.
    """
    kinds = jnp.asarray(kinds, jnp.float32)
    tables = jnp.array(list(itertools.product(range(env.action_space.n), repeat=len(kinds))))

    def step(carry, _):
        table, state, observation, running = carry
        action = table[jnp.argmax(jnp.all(kinds == observation[None], axis=1))]
        state, timestep = env.step(KEY, state, action)
        running_on = running & ~timestep.terminated
        return (table, state, timestep.observation, running_on), timestep.reward * running

    def earned(table, state):
        first = table, state, env.observe(state), jnp.ones((), bool)
        return jax.lax.scan(step, first, None, env.horizon)[1].sum()

    each = jax.jit(jax.vmap(lambda table: jnp.stack([earned(table, state) for state in states])))
    return float(each(tables).mean(axis=1).max())


def asked(coin, time=0):
    return Asked(jnp.float32(coin), jnp.int32(time))


@pytest.mark.parametrize("length", [1, 3])
def test_the_coin_is_shown_once_and_asked_for_after_the_length(length):
    env = registry.make("memory/chain", length=length)
    state, first = env.reset(KEY)
    assert abs(float(first[0])) == 1.0 and float(first[1]) == 0.0
    right = int(state.coin > 0)
    blank, question = [0.0, 0.0], [0.0, 1.0]
    waited = [(blank, 0.0, False)] * (length - 1) + [(question, 0.0, False)]
    for last, reward in ((right, 1.0), (1 - right, -1.0)):
        wrong_before = [1 - last] * length
        assert steps(env, state, *wrong_before, last) == [*waited, (blank, reward, True)]
    assert env.horizon == length + 1


def test_the_chain_is_for_who_remembers():
    env = registry.make("memory/chain")
    played = returns(env, remembering(lambda first, present: (first[0] > 0).astype(jnp.int32)))
    assert set(played.returns.tolist()) == {1.0} and set(played.lengths.tolist()) == {17}
    kinds = [(-1, 0), (1, 0), (0, 0), (0, 1)]
    assert best_without_memory(env, [asked(-1), asked(1)], kinds) == 0.0
    assert env.reference_scores == (0.0, 1.0)


def test_cartpole_is_seen_without_its_velocities_and_else_the_same():
    whole, positions = registry.make("CartPole-v1"), registry.make("memory/cartpole")
    space = whole.observation_space
    assert positions.observation_space.low == (space.low[0], space.low[2])
    assert positions.observation_space.bounded and positions.action_space == whole.action_space
    (state, first), (other, expected) = positions.reset(KEY), whole.reset(KEY)
    np.testing.assert_array_equal(first, expected[SEEN])
    step_positions, step_whole = jax.jit(positions.step), jax.jit(whole.step)
    for _ in range(12):
        state, seen = step_positions(KEY, state, jnp.int32(1))
        other, expected = step_whole(KEY, other, jnp.int32(1))
        np.testing.assert_array_equal(seen.observation, expected.observation[SEEN])
        assert (seen.reward, seen.terminated) == (expected.reward, expected.terminated)
    assert seen.terminated and positions.horizon == 500


def test_a_pole_is_balanced_by_who_remembers_the_last_positions():
    env = registry.make("memory/cartpole")

    def push(position, velocity):
        x, angle = position
        x_velocity, angle_velocity = velocity
        pull = 0.05 * x + 0.1 * x_velocity + angle + 0.3 * angle_velocity
        return (pull > 0).astype(jnp.int32)

    def act(policy, last, view, key):
        last = jnp.where(view.first, view.observation, last)
        return push(view.observation, (view.observation - last) / 0.02), view.observation

    balanced = returns(env, Mode(act), num_episodes=16)
    assert set(balanced.returns.tolist()) == {500.0}
    blind = feed_forward(lambda policy, seen, key: push(seen, jnp.zeros(2)))
    assert float(returns(env, blind, num_episodes=16).returns.mean()) < 60.0


def test_options_of_cartpole_are_cartpoles():
    env = registry.make("memory/cartpole", length=1.0, max_steps_in_episode=200)
    assert float(env.cartpole.parameters.length) == 1.0 and env.horizon == 200
    with pytest.raises(JaxrlError, match="unknown option of CartPole-v1 'lenght'.*length"):
        registry.make("memory/cartpole", lenght=1.0)


def at(place, north):
    return Walk(jnp.int32(place), jnp.asarray(north))


ENTRANCE_NORTH, ENTRANCE_SOUTH = [0.0, 1.0, 1.0], [1.0, 1.0, 0.0]
CORRIDOR, JUNCTION = [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]


def test_walls_cost_and_walking_is_free():
    env = registry.make("memory/t-maze", length=2)
    assert env.observe(at(0, True)).tolist() == ENTRANCE_NORTH
    stood = [(ENTRANCE_SOUTH, -0.1, False)] * 3
    assert steps(env, at(0, False), WEST, NORTH, SOUTH) == stood
    assert steps(env, at(0, False), EAST, NORTH, WEST) == [
        (CORRIDOR, 0.0, False),
        (CORRIDOR, -0.1, False),
        (ENTRANCE_SOUTH, 0.0, False),
    ]
    assert steps(env, at(1, True), EAST, EAST, WEST) == [
        (JUNCTION, 0.0, False),
        (JUNCTION, -0.1, False),
        (CORRIDOR, 0.0, False),
    ]


@pytest.mark.parametrize("north", [True, False])
def test_the_turn_that_the_sign_told_earns_4(north):
    env = registry.make("memory/t-maze", length=2)
    right, wrong = (NORTH, SOUTH) if north else (SOUTH, NORTH)
    assert steps(env, at(2, north), right) == [(JUNCTION, 4.0, True)]
    assert steps(env, at(2, north), wrong) == [(JUNCTION, -0.1, True)]


def test_the_t_maze_is_for_who_remembers():
    env = registry.make("memory/t-maze", length=3)

    def turn(first, present):
        told = jnp.where(first[2] > first[0], NORTH, SOUTH)
        at_junction = jnp.all(present == jnp.array(JUNCTION))
        return jnp.where(at_junction, told, EAST)

    played = returns(env, remembering(turn))
    assert set(played.returns.tolist()) == {4.0} and set(played.lengths.tolist()) == {4}
    kinds = [ENTRANCE_NORTH, ENTRANCE_SOUTH, CORRIDOR, JUNCTION]
    best = best_without_memory(env, [at(0, True), at(0, False)], kinds)
    assert best == pytest.approx(1.95)


def test_signs_are_tossed():
    states, _ = jax.vmap(registry.make("memory/t-maze").reset)(jax.random.split(KEY, 1000))
    assert states.north.mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("length", [1, 4])
def test_random_actions_earn_in_the_t_maze_what_the_reference_says(length):
    env = registry.make("memory/t-maze", length=length)
    act = feed_forward(lambda policy, seen, key: env.action_space.sample(key))
    earned = returns(env, act, num_episodes=20_000).returns
    random, best = env.reference_scores
    spread = float(earned.std()) / np.sqrt(20_000)
    assert float(earned.mean()) == pytest.approx(random, abs=4 * spread) and best == 4.0


@pytest.mark.parametrize("name", ["memory/chain", "memory/t-maze"])
def test_lengths_that_are_none_are_refused(name):
    for length in (0, 1.5, -3):
        with pytest.raises(JaxrlError, match=f"length is {length}"):
            registry.make(name, length=length)
    with pytest.raises(JaxrlError, match=f"unknown option of {name} 'size'"):
        registry.make(name, size=3)
