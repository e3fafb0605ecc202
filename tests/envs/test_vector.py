"""VectorEnv against a loop over single environments: time limits, resets and episode statistics."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxrl.envs import registry
from jaxrl.envs.api import Environment
from jaxrl.envs.starts.api import Draw
from jaxrl.envs.starts.fresh import Fresh
from jaxrl.envs.starts.pool import Pool
from jaxrl.envs.vector import VectorEnv, episode_metrics
from jaxrl.types import Box, Progress, Timestep, Transition
from tests.envs.paying import LARGE, MANY, paying

NUM_ENVS, NUM_STEPS, HORIZON = 3, 40, 5


class Scripted(Environment):
    """Does as it is told: an action is (reward, whether to terminate).
    Observes (its random name, its age)."""

    @property
    def observation_space(self):
        return Box(0.0, np.inf, (2,))

    @property
    def action_space(self):
        return Box(-1.0, 1.0, (2,))

    @property
    def horizon(self):
        return HORIZON

    def reset(self, key):
        state = jnp.stack([jax.random.uniform(key), jnp.zeros(())])
        return state, state

    def step(self, key, state, action):
        state = state.at[1].add(1.0)
        return state, Timestep(state, action[0], action[1] > 0.5)


class OwnLimits(struct.PyTreeNode):
    """Grants every episode a budget of its own, 2 to 6 steps, and notes it as the origin."""

    env: Environment
    shortest: int = struct.field(pytree_node=False, default=2)
    sharded: bool = struct.field(pytree_node=False, default=True)

    def init(self, key, n):
        return jnp.zeros(n, jnp.int32)

    def refresh(self, state, key, progress):
        return state + progress.iteration

    def draw(self, state, key, ended, seen, reached):
        n = len(ended)
        key_reset, key_limit = jax.random.split(key)
        env_state, observation = jax.vmap(self.env.reset)(jax.random.split(key_reset, n))
        limit = jax.random.randint(key_limit, (n,), 2, 7)
        return state, Draw(env_state, observation, limit, 100 + limit)


STARTS = {
    "fresh": Fresh(Scripted()),
    "pool": Pool(Scripted(), 8),
    "own limits": OwnLimits(Scripted()),
}


@functools.cache
def play(name):
    """NUM_STEPS steps of a random script: actions, states before each step, transitions,
    all [T, N, ...]."""
    vector = VectorEnv(Scripted(), STARTS[name], NUM_ENVS)
    rng = np.random.default_rng(0)
    actions = rng.normal(size=(NUM_STEPS, NUM_ENVS, 2)).astype(np.float32)
    actions[..., 1] = rng.random((NUM_STEPS, NUM_ENVS)) < 0.15

    def step(state, inputs):
        following, transition = vector.step(state, *inputs)
        return following, (state, following, transition)

    @jax.jit
    def run(key, actions):
        key_init, key_steps = jax.random.split(key)
        keys = jax.random.split(key_steps, NUM_STEPS)
        return jax.lax.scan(step, vector.init(key_init), (actions, keys))[1]

    return actions, *jax.device_get(run(jax.random.key(0), actions))


each_start = pytest.mark.parametrize("name", STARTS)


@each_start
def test_episodes_are_those_of_a_loop_over_single_environments(name):
    actions, states, _, seen = play(name)
    for n in range(NUM_ENVS):
        clock, total, limit = 0, 0.0, states.limit[0, n]
        for t in range(NUM_STEPS):
            clock, total = clock + 1, total + float(actions[t, n, 0])
            terminated = actions[t, n, 1] > 0.5
            truncated = clock >= limit and not terminated
            assert seen.terminated[t, n] == terminated and seen.truncated[t, n] == truncated
            assert seen.episode_length[t, n] == clock
            assert seen.episode_return[t, n] == np.float32(total)
            if terminated or truncated:
                clock, total = 0, 0.0
                limit = states.limit[min(t + 1, NUM_STEPS - 1), n]


@each_start
def test_the_script_holds_every_kind_of_end(name):
    _, states, _, seen = play(name)
    at_limit = states.clock + 1 == states.limit
    assert (
        (seen.terminated & at_limit).any()
        and (seen.terminated & ~at_limit).any()
        and seen.truncated.any()
    )


@each_start
def test_a_termination_on_the_last_granted_step_is_no_truncation(name):
    _, states, _, seen = play(name)
    assert not (seen.terminated & seen.truncated).any()
    at_limit = states.clock + 1 == states.limit
    np.testing.assert_array_equal(seen.truncated, at_limit & ~seen.terminated)


@each_start
def test_the_final_observation_is_of_the_old_episode_and_the_next_one_of_the_new(name):
    _, states, following, seen = play(name)
    ended = seen.terminated | seen.truncated
    np.testing.assert_array_equal(seen.observation, states.observation)
    names, ages = seen.final_observation[..., 0], seen.final_observation[..., 1]
    np.testing.assert_array_equal(names, states.observation[..., 0])
    np.testing.assert_array_equal(ages, states.observation[..., 1] + 1)
    np.testing.assert_array_equal(following.observation[ended][:, 1], 0.0)
    # A pool may hand a row to the episode after the one that it began.
    assert (following.observation[ended][:, 0] != names[ended]).mean() >= (
        0.5 if name == "pool" else 1.0
    )
    np.testing.assert_array_equal(following.observation[~ended], seen.final_observation[~ended])
    np.testing.assert_array_equal(following.env_state, following.observation)


@each_start
def test_clock_limit_origin_and_return_begin_anew_with_an_episode(name):
    _, states, following, seen = play(name)
    ended = seen.terminated | seen.truncated
    assert not following.clock[ended].any() and not following.episode_return[ended].any()
    assert states.return_remainder.any() and not following.return_remainder[ended].any()
    np.testing.assert_array_equal(following.clock[~ended], states.clock[~ended] + 1)
    for field in ("limit", "origin"):
        before, after = getattr(states, field), getattr(following, field)
        np.testing.assert_array_equal(after[~ended], before[~ended])


def test_a_start_distribution_grants_each_episode_its_own_budget():
    _, states, following, seen = play("own limits")
    np.testing.assert_array_equal(states.origin, 100 + states.limit)
    lengths = seen.episode_length[seen.truncated]
    np.testing.assert_array_equal(lengths, states.limit[seen.truncated])
    assert len(set(lengths.tolist())) >= 4
    ended = seen.terminated | seen.truncated
    assert (following.limit[ended] != states.limit[ended]).any()


def test_the_starts_own_state_changes_only_when_refreshed():
    _, states, following, _ = play("own limits")
    assert not states.starts.any() and not following.starts.any()
    vector = VectorEnv(Scripted(), STARTS["own limits"], NUM_ENVS)
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf[3]), states)
    renewed = jax.jit(vector.refresh)(state, jax.random.key(0), Progress(jnp.int32(2), 64))
    np.testing.assert_array_equal(renewed.starts, 2)
    jax.tree.map(np.testing.assert_array_equal, replace(renewed, starts=state.starts), state)


def test_init_begins_every_environment_in_its_own_episode():
    state = jax.jit(VectorEnv(Scripted(), STARTS["fresh"], NUM_ENVS).init)(jax.random.key(0))
    assert len(set(state.observation[:, 0].tolist())) == NUM_ENVS
    np.testing.assert_array_equal(state.limit, HORIZON)
    assert (
        not state.clock.any()
        and not state.episode_return.any()
        and not state.return_remainder.any()
    )
    assert not any(getattr(leaf, "weak_type", False) for leaf in jax.tree.leaves(state))


@functools.cache
def play_on(stagger):
    """4 * HORIZON steps of 700 environments that only time ends: first limits [N],
    transitions [T, N, ...]."""
    vector = VectorEnv(Scripted(), STARTS["fresh"], 700, stagger=stagger)

    @jax.jit
    def run(key):
        def step(state, key):
            return vector.step(state, jnp.zeros((700, 2)), key)

        key_init, key_steps = jax.random.split(key)
        first = vector.init(key_init)
        return first.limit, jax.lax.scan(step, first, jax.random.split(key_steps, 4 * HORIZON))[1]

    return vector, *jax.device_get(run(jax.random.key(0)))


def test_staggered_first_episodes_end_at_times_spread_evenly_and_the_next_ones_are_whole():
    _, limits, seen = play_on(stagger=True)
    counts = np.bincount(limits, minlength=HORIZON + 1)
    assert counts[0] == 0 and len(counts) == HORIZON + 1
    assert np.abs(counts[1:] - 700 / HORIZON).max() < 5 * np.sqrt(700 / HORIZON)
    assert not seen.terminated.any()
    for row, limit in enumerate(limits):
        ends = np.flatnonzero(seen.truncated[:, row])
        np.testing.assert_array_equal(ends, range(limit - 1, 4 * HORIZON, HORIZON))
        np.testing.assert_array_equal(
            seen.episode_length[ends, row], [limit] + [HORIZON] * (len(ends) - 1)
        )
    # Limits and not clocks are spread: every state knows its age.
    np.testing.assert_array_equal(seen.final_observation[..., 1], seen.episode_length)


def test_without_staggering_all_end_together():
    _, limits, seen = play_on(stagger=False)
    np.testing.assert_array_equal(limits, HORIZON)
    assert (seen.truncated.all(1) == seen.truncated.any(1)).all()


@pytest.mark.parametrize(
    "num_steps", [1, HORIZON - 1, HORIZON, HORIZON + 1, 2 * HORIZON, 3 * HORIZON - 2]
)
def test_staggering_adds_no_truncation_to_a_rollout(num_steps):
    """Only the first episode is short, and before it there is no other. The bound is reached."""
    vector, _, seen = play_on(stagger=True)
    windows = np.lib.stride_tricks.sliding_window_view(seen.truncated, num_steps, axis=0).sum(-1)
    assert windows.max() == vector.most_truncations(num_steps) == -(-num_steps // HORIZON)


def test_nothing_counts_beyond_an_episode_but_the_banks_number_of_it():
    """2**31 transitions pass without any integer reaching 2**31:
    every count of steps begins anew with an episode."""
    _, states, following, seen = play("fresh")
    ended = seen.terminated | seen.truncated
    counts = {name: getattr(following, name) for name in ("clock", "limit", "origin")}
    assert all(leaf.dtype == np.int32 and leaf.max() <= HORIZON for leaf in counts.values())
    assert (
        following.episode_return.dtype == np.float32 and not following.episode_return[ended].any()
    )
    np.testing.assert_array_equal(
        following.starts.episode + following.starts.used, 1 + ended.cumsum(0)
    )
    assert following.starts.episode.dtype == np.uint32


def test_the_longest_episode_that_int32_can_count_ends_in_a_truncation():
    vector, longest = VectorEnv(Scripted(), STARTS["fresh"], NUM_ENVS), 2**31 - 1
    first = jax.jit(vector.init)(jax.random.key(0))
    late = replace(first, clock=jnp.full(NUM_ENVS, longest - 2), limit=jnp.full(NUM_ENVS, longest))
    ends = []
    for seed in (1, 2, 3):
        late, seen = vector.step(late, jnp.zeros((NUM_ENVS, 2)), jax.random.key(seed))
        ends.append((bool(seen.truncated.all()), int(seen.episode_length[0])))
    assert ends == [(False, longest - 1), (True, longest), (False, 1)]


@jax.jit
def first_episode(env):
    """(return, length) of the first episode of two environments, [2] each,
    by one loop of vector steps."""
    vector = VectorEnv(env, Fresh(env), 2)

    def one_step(time, carry):
        state, _ = carry
        state, seen = vector.step(
            state, jnp.zeros(2, jnp.int32), jax.random.fold_in(jax.random.key(1), time)
        )
        return state, (seen.episode_return, seen.episode_length)

    begun = (vector.init(jax.random.key(0)), (jnp.zeros(2), jnp.zeros(2, jnp.int32)))
    return jax.lax.fori_loop(0, env.horizon, one_step, begun)[1]


def test_a_return_keeps_what_float32_rounds_away():
    earned, lengths = first_episode(paying(LARGE, 1.0, 1001))
    np.testing.assert_array_equal(earned, LARGE + 1000)
    np.testing.assert_array_equal(lengths, 1001)


@pytest.mark.parametrize("reward", [1.0, 0.1])
def test_a_return_of_more_steps_than_float32_counts(reward):
    earned, lengths = first_episode(paying(reward, reward, MANY))
    np.testing.assert_array_equal(earned, np.float32(MANY * np.float64(np.float32(reward))))
    np.testing.assert_array_equal(lengths, MANY)


def test_episodes_of_two_lengths_are_counted_as_they_end():
    env = registry.make("probe/two-lengths")
    vector = VectorEnv(env, Fresh(env), 100)

    def step(state, key):
        state, seen = vector.step(state, jnp.zeros(100, jnp.int32), key)
        return state, (seen, episode_metrics(seen))

    keys = jax.random.split(jax.random.key(1), 60)
    _, (seen, metrics) = jax.jit(lambda key, keys: jax.lax.scan(step, vector.init(key), keys))(
        jax.random.key(0), keys
    )
    ended = np.asarray(seen.terminated)
    lengths = np.asarray(seen.episode_length)[ended]
    assert set(lengths.tolist()) == {2, 10} and not np.asarray(seen.truncated).any()
    np.testing.assert_array_equal(np.asarray(seen.episode_return)[ended], lengths)
    total = jax.tree.map(lambda leaf: float(leaf.sum()), metrics)
    assert total["episode_return"] == total["episode_length"] == (lengths.sum(), len(lengths))
    assert total["truncated_fraction"] == (0.0, len(lengths))
    # Within a window short episodes are seen more often than they begin: not the fixed-length
    # evaluation's mean.
    assert lengths.mean() < 6.0


def test_episode_metrics_count_only_what_ended():
    zeros = jnp.zeros((3, 1))
    seen = Transition(
        observation=zeros,
        action=zeros,
        reward=jnp.ones(3),
        terminated=jnp.array([True, False, False]),
        truncated=jnp.array([False, True, False]),
        final_observation=zeros,
        episode_return=jnp.array([4.0, 6.0, 100.0]),
        episode_length=jnp.array([2, 5, 50]),
        origin=jnp.full(3, -1),
    )
    metrics = jax.tree.map(lambda leaf: float(leaf.sum()), episode_metrics(seen))
    assert metrics == {
        "episode_return": (10, 2),
        "episode_length": (7, 2),
        "truncated_fraction": (1, 2),
    }


def test_a_step_in_which_nothing_ends_counts_nothing():
    _, _, _, seen = play("fresh")
    running = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), seen)
    assert not (running.terminated | running.truncated).any()
    assert not any(leaf.any() for leaf in jax.tree.leaves(episode_metrics(running)))
