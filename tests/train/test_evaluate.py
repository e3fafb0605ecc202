"""Evaluation: every episode counts once, to its own end or to the time limit, under keys of its own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs.api import Environment
from jaxrl.envs.registry import make
from jaxrl.train.evaluate import Episodes, evaluate
from jaxrl.train.program import Program
from jaxrl.types import Algorithm, Box, Discrete, Mean, Timestep
from tests.envs.paying import LARGE, MANY, paying
from tests.train.tiny import PROBE, experiment, same_bits

EPISODES = 400


def coin_policy(env, config=None) -> Algorithm:
    """A learner without parameters: likeliest action 1, else a fair coin; its memory counts its actions."""

    def act(policy, memory, observation, key, deterministic):
        action = jnp.int32(1) if deterministic else jax.random.bernoulli(key).astype(jnp.int32)
        return action, memory + 1

    return Algorithm(
        init=lambda key: {"draw": jax.random.uniform(key)},
        step=lambda state: (state, {"loss": Mean.of(0.0)}),
        policy=lambda state: state,
        memory=lambda: jnp.int32(0),
        act=act,
        samples_per_step=1,
        num_iterations=1,
    )


@functools.cache
def episodes(environment: str, deterministic: bool = True, seed: int = 0, count: int = EPISODES) -> Episodes:
    env = make(environment)

    def run(key):
        return evaluate(env, coin_policy(env), {}, key, count, deterministic)

    return jax.device_get(jax.jit(run)(jax.random.key(seed)))


def test_short_episodes_do_not_win():
    """Returns are 2 or 10 with equal chance, mean 6; over the first to end it would be about 3.3."""
    returns, lengths = episodes(PROBE)
    assert set(np.unique(returns)) == {2.0, 10.0}
    long = np.mean(returns == 10)
    assert abs(long - 0.5) < 3 * 0.5 / np.sqrt(EPISODES)
    assert returns.mean() == pytest.approx(2 * (1 - long) + 10 * long)
    np.testing.assert_array_equal(lengths, returns)  # reward 1 a step, and none after the end


def test_episodes_without_an_end_stop_at_the_horizon():
    returns, lengths = episodes("probe/never-ending")
    np.testing.assert_array_equal(lengths, 10)
    np.testing.assert_array_equal(returns, 10)


def test_no_episode_is_longer_than_the_horizon():
    for environment in (PROBE, "probe/never-ending", "probe/memory"):
        assert episodes(environment).lengths.max() <= make(environment).horizon


def test_the_likeliest_actions_and_sampled_ones():
    np.testing.assert_array_equal(episodes("probe/action-reward").returns, 1)
    sampled = episodes("probe/action-reward", deterministic=False).returns
    assert set(np.unique(sampled)) == {0.0, 1.0}
    assert abs(sampled.mean() - 0.5) < 3 * 0.5 / np.sqrt(EPISODES)


def test_the_key_decides_the_episodes_and_nothing_else_does():
    assert not np.array_equal(episodes(PROBE).returns, episodes(PROBE, seed=1).returns)
    episodes.cache_clear()
    again = episodes(PROBE)
    episodes.cache_clear()
    assert same_bits(again, episodes(PROBE))


def test_results_are_float32_returns_and_int32_lengths():
    returns, lengths = episodes(PROBE)
    assert (returns.dtype, lengths.dtype) == (np.float32, np.int32)
    assert returns.shape == lengths.shape == (EPISODES,)


@jax.jit
def two_episodes(env) -> Episodes:
    return evaluate(env, coin_policy(env), {}, jax.random.key(0), 2, True)


def test_a_return_keeps_what_float32_rounds_away():
    returns, lengths = two_episodes(paying(LARGE, 1.0, 1001))
    np.testing.assert_array_equal(returns, LARGE + 1000)
    np.testing.assert_array_equal(lengths, 1001)


@pytest.mark.parametrize("reward", [1.0, 0.1])
def test_a_return_of_more_steps_than_float32_counts(reward):
    returns, lengths = two_episodes(paying(reward, reward, MANY))
    np.testing.assert_array_equal(returns, np.float32(MANY * np.float64(np.float32(reward))))
    np.testing.assert_array_equal(lengths, MANY)


class Recall(Environment):
    """Three steps; the reward is the action, and the policy below acts by its memory alone."""

    @property
    def observation_space(self):
        return Box(0.0, 1.0, (1,))

    @property
    def action_space(self):
        return Discrete(10)

    @property
    def horizon(self):
        return 3

    def reset(self, key):
        return (), jnp.zeros(1)

    def step(self, key, state, action):
        return (), Timestep(jnp.zeros(1), action.astype(jnp.float32), jnp.zeros((), bool))


def test_memory_is_carried_through_each_episode():
    algorithm = coin_policy(None)._replace(act=lambda policy, memory, *_: (memory, memory + 1))
    found = evaluate(Recall(), algorithm, {}, jax.random.key(0), 5, True)
    np.testing.assert_array_equal(found.returns, 0 + 1 + 2)


class RevealsItsKey(Recall):
    """The reward is a number drawn from the key of the reset, as `coin_policy` draws its first state."""

    @property
    def horizon(self):
        return 1

    def reset(self, key):
        drawn = jax.random.uniform(key)
        return drawn, jnp.zeros(1)

    def step(self, key, state, action):
        return state, Timestep(jnp.zeros(1), state, jnp.ones((), bool))


@pytest.fixture(scope="module")
def revealing():
    """(the numbers drawn in training, a function of the iteration: those of both kinds of evaluation)."""
    config = experiment().config
    program = Program(coin_policy, RevealsItsKey(), config, [0, 1], num_episodes=50)
    state = program.init()

    def evaluated(iteration: int) -> np.ndarray:
        return np.stack([kind.returns for kind in program.evaluate(program.policies(state), iteration)])

    return np.asarray(state["draw"]), evaluated, state


def test_evaluation_has_keys_of_its_own(revealing):
    trained, evaluated, _ = revealing
    drawn = np.concatenate([evaluated(iteration).ravel() for iteration in (0, 1)])
    assert len(np.unique(drawn)) == drawn.size == 2 * 2 * 2 * 50  # iterations, kinds, seeds, episodes
    assert not np.isin(trained, drawn).any()


def test_the_same_iteration_is_evaluated_on_the_same_episodes(revealing):
    _, evaluated, state = revealing
    before = jax.tree.map(np.asarray, state)
    assert same_bits(evaluated(3), evaluated(3))
    assert same_bits(state, before)  # nothing is learned from an evaluation


def test_another_evaluation_seed_is_another_set_of_episodes_for_each_seed():
    def program(**options) -> Program:
        return Program(coin_policy, RevealsItsKey(), experiment().config, [0, 1], num_episodes=50, **options)

    usual, other = program(), program(evaluation_seed=1)
    state = usual.init()
    first, second = (
        np.stack([kind.returns for kind in each.evaluate(each.policies(state), 0)]) for each in (usual, other)
    )
    assert np.isin(first[:, :, 1], second[:, :, 0]).all()  # a seed's episodes are its own, whoever plays them
    assert not np.isin(first[:, :, 0], second).any()
    assert not np.isin(second[:, :, 0], second[:, :, 1]).any()
