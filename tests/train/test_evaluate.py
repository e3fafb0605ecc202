"""Evaluation: every episode counts once, to its own end or to the time limit,
under keys of its own."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs.api import Environment
from jaxrl.envs.play import Episodes, play
from jaxrl.envs.registry import make
from jaxrl.train.modes import Asked
from jaxrl.train.player import EvaluationStopped, Played, Player
from jaxrl.train.population import Population
from jaxrl.train.program import Program
from jaxrl.types import Agent, Algorithm, Box, Budget, Discrete, Mean, Mode, Timestep
from tests.envs.paying import LARGE, MANY, paying
from tests.train.tiny import PROBE, experiment, same_bits

EPISODES = 400


def coin_agent(env=None, config=None) -> Agent:
    """Without parameters: deterministic action 1, else a fair coin;
    its memory counts its actions."""

    def deterministic(policy, memory, view, key):
        return jnp.int32(1), memory + 1

    def stochastic(policy, memory, view, key):
        return jax.random.bernoulli(key).astype(jnp.int32), memory + 1

    modes = {"deterministic": Mode(deterministic), "stochastic": Mode(stochastic)}
    return Agent(
        init=lambda key: {"draw": jax.random.uniform(key)},
        modes=modes,
        memory=lambda policy: jnp.int32(0),
    )


def coin_policy(env, config=None) -> Algorithm:
    """A learner that learns nothing."""
    agent = coin_agent()
    return Algorithm(
        init=agent.init,
        step=lambda state: (state, {"loss": Mean.of(0.0)}),
        policy=lambda state: state,
        agent=agent,
        budget=Budget("transitions", 1, 1),
    )


@functools.cache
def episodes(
    environment: str, deterministic: bool = True, seed: int = 0, count: int = EPISODES
) -> Episodes:
    env = make(environment)

    def run(key):
        return play(
            env, coin_agent(), {}, key, count, "deterministic" if deterministic else "stochastic"
        )

    return jax.device_get(jax.jit(run)(jax.random.key(seed)))


def test_short_episodes_do_not_win():
    """Returns are 2 or 10 with equal chance, mean 6;
    over the first to end it would be about 3.3."""
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
    return play(env, coin_agent(), {}, jax.random.key(0), 2, "deterministic")


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
    modes = {"counting": Mode(lambda policy, memory, *_: (memory, memory + 1))}
    agent = Agent(init=lambda key: {}, modes=modes, memory=lambda policy: jnp.int32(0))
    found = play(Recall(), agent, {}, jax.random.key(0), 5, "counting")
    np.testing.assert_array_equal(found.returns, 0 + 1 + 2)


class RevealsItsKey(Recall):
    """The reward is a number drawn from the key of the reset,
    as `coin_policy` draws its first state."""

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
    """(the numbers drawn in training, a function of the iteration:
    those of both kinds of evaluation)."""
    config = experiment().config
    program = Program(coin_policy, RevealsItsKey(), config, [0, 1], num_episodes=50)
    state = program.init()

    def evaluated(iteration: int) -> np.ndarray:
        played = program.evaluate(program.policies(state), iteration)
        return np.stack([episodes.returns for episodes in played.values()])

    return np.asarray(state["draw"]), evaluated, state


def test_evaluation_has_keys_of_its_own(revealing):
    trained, evaluated, _ = revealing
    drawn = np.concatenate([evaluated(iteration).ravel() for iteration in (0, 1)])
    assert (
        len(np.unique(drawn)) == drawn.size == 2 * 2 * 2 * 50
    )  # iterations, kinds, seeds, episodes
    assert not np.isin(trained, drawn).any()


def test_the_same_iteration_is_evaluated_on_the_same_episodes(revealing):
    _, evaluated, state = revealing
    before = jax.tree.map(np.asarray, state)
    assert same_bits(evaluated(3), evaluated(3))
    assert same_bits(state, before)  # nothing is learned from an evaluation


def test_another_evaluation_seed_is_another_set_of_episodes_for_each_seed():
    def returns(seeds: list[int]) -> np.ndarray:
        population = Population(RevealsItsKey(), experiment().config, {}, (1, 2))
        player = Player(population, coin_agent, population.keys(seeds), 50)
        played = player.evaluate({"draw": jnp.zeros((1, 2))}, 0)
        return np.stack([episodes.returns for episodes in played.values()])

    first, second = returns([0, 1]), returns([1, 2])
    assert np.isin(
        first[:, :, 1], second[:, :, 0]
    ).all()  # a seed's episodes are its own, whoever plays them
    assert not np.isin(first[:, :, 0], second).any()
    assert not np.isin(second[:, :, 0], second[:, :, 1]).any()


def test_the_numbers_of_a_mode_do_not_hang_on_which_others_run():
    def returns(*modes: str) -> dict[str, np.ndarray]:
        population = Population(RevealsItsKey(), experiment().config, {}, (1, 1))
        player = Player(population, coin_agent, population.keys([0]), 50, tuple(map(Asked, modes)))
        played = player.evaluate({"draw": jnp.zeros(())}, 0)
        return {mode: episodes.returns for mode, episodes in played.items()}

    both, alone = returns("deterministic", "stochastic"), returns("stochastic")
    assert list(both) == ["deterministic", "stochastic"] and list(alone) == ["stochastic"]
    np.testing.assert_array_equal(both["stochastic"], alone["stochastic"])


def test_a_mode_that_is_steered_is_one_compilation_for_all_numbers():
    """The policy holds a target, the memory what is left of it: three steps of a third each."""
    steered = Mode(
        act=lambda policy, memory, view, key: (
            (policy["target"] / 3).astype(jnp.int32),
            memory - view.reward,
        ),
        steer=lambda policy, number: policy | {"target": number},
    )
    agent = Agent(
        init=lambda key: {"target": jnp.float32(3.0)},
        modes={"target": steered},
        memory=lambda policy: policy["target"],
    )
    population = Population(Recall(), experiment().config, {}, (1, 1))
    asked = (Asked("target"), Asked("target", 6.0), Asked("target", 9.0))
    player = Player(population, lambda env, config: agent, population.keys([0]), 4, asked)
    played = player.evaluate({"target": jnp.float32(3.0)}, 0)
    assert {mode: float(episodes.returns.mean()) for mode, episodes in played.items()} == {
        "target": 3.0,
        "target=6": 6.0,
        "target=9": 9.0,
    }
    assert sorted(population.compiled) == [
        *("begin ", "begin target=", "keys target", "play target", "play target="),
    ]


def test_a_long_evaluation_is_played_in_pieces_that_are_told_of():
    population = Population(paying(1.0, 1.0, 1000), experiment().config, {}, (1, 1))
    player = Player(population, coin_agent, population.keys([0]), 2, (Asked("deterministic"),))
    told: list[Played] = []
    played = player.evaluate({"draw": jnp.zeros(())}, 0, told.append)
    np.testing.assert_array_equal(played["deterministic"].lengths, 1000)
    steps = [each.steps for each in told]
    assert len(steps) >= 2 and steps == sorted(steps) and steps[0] > 0 and steps[-1] < 1000
    assert told[0]._replace(steps=0) == Played("deterministic", 0, 1000, 0, 2)


def test_an_evaluation_stops_between_two_pieces_where_it_is_told_to():
    population = Population(paying(1.0, 1.0, 1000), experiment().config, {}, (1, 1))
    player = Player(population, coin_agent, population.keys([0]), 2, (Asked("deterministic"),))
    told: list[Played] = []

    def each_piece(played):
        told.append(played)
        return len(told) == 2

    with pytest.raises(EvaluationStopped):
        player.evaluate({"draw": jnp.zeros(())}, 0, each_piece)
    assert len(told) == 2
