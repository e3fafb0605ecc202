"""Collecting: the value of what follows at every kind of end, memories,
and what a policy is shown."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs.collect import bootstrap, collect
from jaxrl.envs.starts.fresh import Fresh
from jaxrl.envs.vector import VectorEnv, memories
from jaxrl.types import View
from tests.envs.test_vector import HORIZON, OwnLimits, Scripted

NUM_ENVS = 30
CHEAP = {"xla_backend_optimization_level": 0}  # these programs run once: compile them fast
STARTS = {"fresh": Fresh(Scripted()), "own limits": OwnLimits(Scripted())}
BEGIN = 7  # of the memory below


def script(key):
    """A random reward; one action in ten terminates."""
    action = jax.random.uniform(key, (NUM_ENVS, 2))
    return jnp.stack([action[:, 0], 0.555 * action[:, 1]], axis=1)


def value(observation):
    """Tells an observation (name, age) from every other."""
    return 100.0 * observation[..., 0] + observation[..., 1]


def decide(memory, view, key):
    """Without a memory; adds the value of what it sees."""
    return script(key), memory, value(view.observation)


@pytest.mark.parametrize("num_steps", [3, HORIZON + 1, 8 * HORIZON])
@pytest.mark.parametrize(
    ("name", "stagger"), [("fresh", False), ("fresh", True), ("own limits", True)]
)
def test_the_next_value_is_that_of_the_state_before_any_reset(num_steps, name, stagger):
    """The world only grows older: the successor of (name, age) is (name, age + 1),
    truncated or not.

    Three steps fill one slot, HORIZON + 1 so many that all final observations are kept, 8 * HORIZON
    several slots.
    """
    vector = VectorEnv(Scripted(), STARTS[name], NUM_ENVS, stagger)

    def values(rollout, state):
        return rollout, bootstrap(rollout, rollout.extras, value(state.observation), value)

    @functools.partial(jax.jit, compiler_options=CHEAP)
    def run(key):
        key_init, *keys = jax.random.split(key, 3)
        middle, _, first, _ = collect(vector, vector.init(key_init), (), decide, num_steps, keys[0])
        end, _, second, _ = collect(vector, middle, (), decide, num_steps, keys[1])
        return values(first, middle), values(second, end)

    seen_truncated = 0
    for rollout, next_value in jax.device_get(run(jax.random.key(0))):
        seen = rollout.transition
        successor = seen.observation + np.array([0.0, 1.0], np.float32)
        running = ~seen.terminated
        np.testing.assert_allclose(next_value[running], value(successor)[running], rtol=1e-6)
        np.testing.assert_allclose(rollout.extras, value(seen.observation), rtol=1e-6)
        seen_truncated += seen.truncated.sum()
    assert seen_truncated > 0


def count(memory, view, key):
    """Its memory counts the steps of the episode, from BEGIN on; it adds the memory,
    what it saw, and the value."""
    return (
        script(key),
        memory + 1,
        {"memory": memory, "view": view, "value": critic((memory, view))},
    )


def critic(read):
    """The value of a view with a memory; no two of an episode have the same."""
    memory, view = read
    acted = 5.0 * view.action[..., 0] + 3.0 * view.action[..., 1]
    return (
        value(view.observation) + 10.0 * memory + 1000.0 * view.reward + acted - 2000.0 * view.first
    )


@functools.cache
def counted(name, num_steps):
    """Two rollouts, the second where the first one ended, each with its next values;
    leaves [T, N, ...]."""
    vector = VectorEnv(Scripted(), STARTS[name], NUM_ENVS, stagger=True)

    def half(state, memory, key):
        state, memory, rollout, _ = collect(
            vector,
            state,
            memory,
            count,
            num_steps,
            key,
            initial_memory=jnp.float32(BEGIN),
            critic_reads=lambda memory, view: (memory, view),
        )
        last_value = critic((memory, state.view))
        return (
            state,
            memory,
            (rollout, bootstrap(rollout, rollout.extras["value"], last_value, critic)),
        )

    @functools.partial(jax.jit, compiler_options=CHEAP)
    def run(key):
        key_init, *keys = jax.random.split(key, 3)
        state, memory = vector.init(key_init), memories(jnp.float32(BEGIN), NUM_ENVS)
        state, memory, first = half(state, memory, keys[0])
        return first, half(state, memory, keys[1])[2]

    return jax.device_get(run(jax.random.key(0)))


def whole(name, num_steps=HORIZON + 1):
    """Both rollouts as one, without what is kept of final states: (transition, first, extras)."""
    halves = [
        (rollout.transition, rollout.first, rollout.extras)
        for rollout, _ in counted(name, num_steps)
    ]
    return jax.tree.map(lambda *halves: np.concatenate(halves), *halves)


@pytest.mark.parametrize("name", STARTS)
def test_a_memory_is_carried_on_and_begins_again_with_each_episode(name):
    seen, first, extras = whole(name)
    ended = seen.terminated | seen.truncated
    assert ended[HORIZON].any() and not ended[HORIZON].all(), (
        "the first rollout cuts some episodes, and not others"
    )
    np.testing.assert_array_equal(extras["memory"], BEGIN + seen.episode_length - 1)
    np.testing.assert_array_equal(first, seen.episode_length == 1)
    np.testing.assert_array_equal(first[1:], ended[:-1])
    assert first[0].all()


@pytest.mark.parametrize("name", STARTS)
def test_a_policy_sees_what_its_last_action_in_the_episode_was_and_earned(name):
    seen, first, extras = whole(name)
    view = extras["view"]
    assert isinstance(view, View) and seen.final_observation == ()
    before = {field: np.roll(getattr(seen, field), 1, axis=0) for field in ("reward", "action")}
    np.testing.assert_array_equal(view.observation, seen.observation)
    np.testing.assert_array_equal(view.first, first)
    np.testing.assert_array_equal(view.reward, np.where(first, 0.0, before["reward"]))
    np.testing.assert_array_equal(view.action, np.where(first[..., None], 0.0, before["action"]))
    assert view.reward[~first].all() and view.action.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "num_steps", "kept"),
    [
        ("fresh", 3, 1),
        ("fresh", HORIZON + 1, HORIZON + 1),
        ("fresh", 8 * HORIZON, 8),
        ("own limits", 6, 6),
    ],
)
def test_a_critic_that_reads_the_memory_and_the_view_bootstraps_exactly(name, num_steps, kept):
    """Of the successor it reads the memory after the action, the reward and the action:
    none of it of a new episode."""
    truncated = 0
    for rollout, next_value in counted(name, num_steps):
        seen, memory = rollout.transition, rollout.extras["memory"]
        assert (
            len(rollout.finals[0]) == kept
        )  # one slot, the states of all steps, or a slot an episode
        successor = seen.observation + np.array([0.0, 1.0], np.float32)
        following = View(successor, seen.reward, seen.action, np.zeros_like(seen.terminated))
        running = ~seen.terminated
        np.testing.assert_allclose(
            next_value[running], critic((memory + 1, following))[running], rtol=1e-6
        )
        truncated += seen.truncated.sum()
    assert truncated > 0
