"""What is drawn from a dataset, against NumPy loops over its episodes; and what it refuses."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.data import dataset as module
from jaxrl.data.dataset import Dataset, returns_to_go
from jaxrl.data.recorded import Recorded, describe
from jaxrl.envs import registry
from jaxrl.envs.api import Environment
from jaxrl.errors import JaxrlError, RunWarning
from jaxrl.types import Box, Discrete

LENGTHS = (3, 1, 4)
RETURNS = (0 + 1 + 2, 3, 4 + 5 + 6 + 7)


class Line(Environment):
    """Two numbers observed, one action in [-2, 6]; nobody steps in it."""

    @property
    def observation_space(self):
        return Box(-np.inf, np.inf, (2,))

    @property
    def action_space(self):
        return Box(-2.0, 6.0, (1,))

    @property
    def horizon(self):
        return 10


class Chosen(Line):
    """The same with three actions."""

    @property
    def action_space(self):
        return Discrete(3)


def recorded(**changes):
    """Row i observes [i, -i], acts i, earns i; the last episode is cut, the others end."""
    rows = np.arange(sum(LENGTHS), dtype=np.float32)
    ends = np.cumsum(LENGTHS) - 1
    terminated, truncated = np.zeros(len(rows), bool), np.zeros(len(rows), bool)
    terminated[ends[:-1]] = True
    truncated[ends[-1]] = True
    whole = Recorded(
        observation=np.stack([rows, -rows], axis=1),
        action=rows[:, None] - 2.0,
        reward=rows,
        terminated=terminated,
        truncated=truncated,
        final_observation=np.stack([100.0 + ends, -100.0 - ends], axis=1).astype(np.float32),
        length=np.asarray(LENGTHS, np.int32),
        about=describe("line", "counted", reference_scores=(0.0, 22.0)),
    )
    return replace(whole, **changes)


@functools.cache
def dataset():
    return Dataset.of(recorded(), Line())


def drawn(best=1.0, number=4000):
    data = dataset()
    draw = jax.jit(lambda key: data.sample(key, number, 0.9, Line().action_space, best))
    return jax.device_get(draw(jax.random.key(0)))


def test_a_transition_leads_to_the_next_row_or_to_its_episodes_last_observation():
    batch = drawn()
    row = batch.observation[:, 0].astype(int)
    ends = np.cumsum(LENGTHS) - 1
    following = np.where(np.isin(row, ends), 100 + row, row + 1)
    np.testing.assert_array_equal(batch.observation[:, 1], -row)
    np.testing.assert_array_equal(batch.next_observation[:, 0], following)
    np.testing.assert_array_equal(batch.next_observation[:, 1], -following)
    np.testing.assert_array_equal(batch.reward, row)
    # Two episodes end by themselves, and the third is cut: its value goes on.
    discount = np.where(np.isin(row, ends[:-1]), 0.0, np.float32(0.9))
    np.testing.assert_array_equal(batch.discount, discount)
    # [-2, 6] spans [-1, 1].
    np.testing.assert_allclose(batch.action[:, 0], (row - 4.0) / 4.0, atol=1e-6)


def test_every_row_is_equally_likely():
    counts = np.bincount(drawn(number=8000).observation[:, 0].astype(int), minlength=8)
    assert len(counts) == 8
    assert np.square(counts - 1000).sum() / 1000 < 24.3  # chi-square of 7 degrees, 0.1 %


@pytest.mark.parametrize(("best", "episodes"), [(0.3, {2}), (0.34, {0, 2}), (0.7, {0, 1, 2})])
def test_of_the_best_episodes_the_share_is_rounded_up(best, episodes):
    # The last one earns the most; the first two earn the same, and stay in order.
    row = drawn(best).observation[:, 0].astype(int)
    episode = np.repeat(np.arange(3), LENGTHS)
    wanted = np.flatnonzero(np.isin(episode, list(episodes)))
    counts = np.bincount(row, minlength=8)
    assert set(row) == set(wanted)
    expected = 4000 / len(wanted)
    assert np.square(counts[wanted] - expected).sum() / expected < 24.3


@pytest.mark.parametrize(("best", "number"), [(0.07, 7), (0.071, 8), (0.55, 55), (1e-9, 1)])
def test_the_share_of_the_best_is_a_decimal_number(best, number):
    """0.07 * 100 is 7.000000000000001 in binary."""
    rows = np.arange(100, dtype=np.float32)
    ends = np.ones(100, np.bool_)
    many = Dataset.of(
        recorded(
            observation=np.stack([rows, -rows], axis=1),
            action=np.zeros((100, 1), np.float32),
            reward=rows,
            terminated=ends,
            truncated=~ends,
            final_observation=np.zeros((100, 2), np.float32),
            length=np.ones(100, np.int32),
        ),
        Line(),
    )
    row = np.asarray(many._draw(jax.random.key(0), 4000, best))
    assert set(row) == set(range(100 - number, 100))


def test_windows_stay_in_their_episode_and_are_filled_up_on_the_right():
    windows = jax.device_get(dataset().windows(jax.random.key(1), 500, 3, Line().action_space))
    ends = np.cumsum(LENGTHS) - 1
    starts = ends - np.asarray(LENGTHS) + 1
    for index in range(500):
        first = int(windows.observation[index, 0, 0])
        episode = int(np.searchsorted(ends, first))
        for k in range(3):
            row = min(first + k, ends[episode])
            assert windows.valid[index, k] == (first + k <= ends[episode])
            np.testing.assert_array_equal(windows.observation[index, k], [row, -row])
            np.testing.assert_allclose(windows.action[index, k], [(row - 4.0) / 4.0], atol=1e-6)
            assert windows.reward[index, k] == row
            assert windows.step[index, k] == row - starts[episode]
            assert windows.return_to_go[index, k] == np.arange(row, ends[episode] + 1).sum()


def test_returns_to_go_keep_their_digits_in_long_data():
    rewards = np.full(1_000_000, 0.1, np.float32)
    lengths = np.full(1000, 1000)
    found = returns_to_go(rewards, np.zeros(len(rewards), bool), np.cumsum(lengths))
    expected = np.float64(np.float32(0.1)) * np.arange(1000, 0, -1)
    np.testing.assert_allclose(found.reshape(1000, 1000), np.tile(expected, (1000, 1)), rtol=1e-9)


def test_what_is_earned_after_a_termination_is_not_to_come():
    """An episode that goes on after its goal: rows 4 to 7, of which two are terminated."""
    terminated = recorded().terminated.copy()
    terminated[[4, 6]] = True
    data = Dataset.of(recorded(terminated=terminated), Line())
    assert data.return_to_go.tolist() == [3, 3, 2, 3, 4, 11, 6, 7]
    # All that it earned still ranks it.
    assert data.best_first.tolist() == [2, 0, 1]


def test_its_statistics_are_those_of_the_rows():
    data = dataset()
    rows = recorded().observation
    np.testing.assert_allclose(data.moments.mean, rows.mean(0), rtol=1e-6)
    np.testing.assert_allclose(data.moments.variance, rows.var(0), rtol=1e-6)
    assert data.best_first.tolist() == [2, 0, 1]
    assert data.reference_scores.tolist() == [0.0, 22.0]
    assert (data.num_rows, data.num_episodes) == (8, 3)


def test_statistics_of_large_rows_are_taken_piece_by_piece(monkeypatch):
    whole = dataset().moments
    monkeypatch.setattr(module, "PIECE", 6)  # three rows of the eight
    for pieced, expected in zip(Dataset.of(recorded(), Line()).moments, whole, strict=True):
        np.testing.assert_allclose(pieced, expected, rtol=1e-6)
    unknown = recorded(about=describe("line", "counted"))
    assert np.isnan(Dataset.of(unknown, Line()).reference_scores).all()


def test_nothing_is_stored_twice():
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(dataset()))
    rows = 8 * (2 * 4 + 4 + 4 + 1 + 1 + 4 + 4)  # observation … return_to_go, and the episode
    episodes = 3 * (2 * 4 + 3 * 4)
    assert held == rows + episodes + (2 + 2 + 1) * 4 + 2 * 4


def test_of_discrete_actions_the_numbers_are_drawn_as_they_are():
    whole = recorded(action=np.arange(8) % 3)
    data = Dataset.of(replace(whole, action=whole.action.astype(np.int32)), Chosen())
    batch = data.sample(jax.random.key(0), 64, 0.9, Chosen().action_space)
    assert batch.action.dtype == jnp.int32
    np.testing.assert_array_equal(batch.action, batch.observation[:, 0].astype(int) % 3)


@pytest.mark.parametrize(
    ("changes", "env", "message"),
    [
        ({"observation": np.zeros((8, 3), np.float32)}, Line(), "final_observation is"),
        (
            {
                "observation": np.zeros((8, 3), np.float32),
                "final_observation": np.zeros((3, 3), np.float32),
            },
            Line(),
            r"observations are of shape \[3\], but the environment's are of \[2\]",
        ),
        ({"action": np.full((8, 1), 7.0, np.float32)}, Line(), "8 of 8 rows, first in row 0"),
        ({"action": np.zeros((8, 2), np.float32)}, Line(), r"actions are of shape \[2\]"),
        ({}, Chosen(), r"actions are of shape \[1\]"),
        ({"action": np.zeros(8, np.float32)}, Chosen(), "whole numbers"),
        ({"action": np.full(8, 3, np.int32)}, Chosen(), "outside of the environment's bounds"),
        ({"action": np.zeros((8, 1), np.int32)}, Line(), "are whole numbers"),
        ({"reward": np.full(8, np.nan, np.float32)}, Line(), "reward is nan in row 0"),
    ],
)
def test_what_the_environment_could_not_have_made_is_refused(changes, env, message):
    with pytest.raises(JaxrlError, match=message):
        Dataset.of(recorded(**changes), env)


class Seen(Line):
    """The same of images."""

    @property
    def observation_space(self):
        return Box(0, 255, (2, 2), np.uint8)


def images(dtype, value=7, last=7):
    observation, final = np.zeros((8, 2, 2), dtype), np.zeros((3, 2, 2), dtype)
    observation[5, 1, 0], final[2, 0, 1] = value, last
    return recorded(observation=observation, final_observation=final)


@pytest.mark.parametrize(
    ("whole", "message"),
    [
        (images(np.float32, 0.5), r"observations are float32, but .* are Box\(2, 2\) uint8: whole"),
        (
            images(np.int32, 300),
            r"its observations lie outside .* in 1 of 8 rows, first in row 5: 300 \(int32\), but "
            r"must be from 0.0 to 255.0 \(Box\(2, 2\) uint8\)",
        ),
        (images(np.int32, last=-1), "its final observations lie .* 1 of 3 rows, first in row 2"),
    ],
)
def test_observations_that_a_cast_would_change_are_refused(whole, message):
    with pytest.raises(JaxrlError, match=message):
        Dataset.of(whole, Seen())


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.bool_, np.float32])
def test_observations_that_a_cast_leaves_alone_are_taken(dtype):
    whole = images(dtype, 1, 1)
    found = Dataset.of(whole, Seen())
    assert found.observation.dtype == jnp.uint8
    np.testing.assert_array_equal(found.observation, whole.observation)
    np.testing.assert_array_equal(found.final_observation, whole.final_observation)


def test_a_dataset_of_another_environment_is_refused_by_name():
    made = recorded(about=describe("line", "counted", environment="Pendulum-v1"))
    env = registry.make("probe/continuous-never-ending")
    with pytest.raises(JaxrlError, match="it is of Pendulum-v1, but the environment is probe/"):
        Dataset.of(made, env)


def test_a_dataset_of_other_options_is_said_to_be():
    task, options = "Pendulum-v1", {"g": 9.0}
    env, usual = registry.make(task, **options), registry.make(task)

    def check(made_with, env):
        about = describe("line", "counted", environment=task, environment_options=made_with)
        rows = np.zeros((8, 3), np.float32)
        whole = recorded(about=about, observation=rows, final_observation=rows[:3])
        return Dataset.of(replace(whole, action=np.zeros((8, 1), np.float32)), env)

    check(options, env)  # a warning would be an error
    check({}, usual)
    for made_with, here, words in (
        (options, usual, "line was made in Pendulum-v1 with g=9.0, .* with its usual options"),
        ({}, env, "line was made in Pendulum-v1 with its usual options, .* with g=9.0"),
    ):
        with pytest.warns(RunWarning, match=words):
            check(made_with, here)


def test_actions_that_a_file_has_rounded_are_taken():
    action = recorded().action.copy()
    action[7] = np.nextafter(np.float32(6.0), np.float32(7.0))
    batch = Dataset.of(recorded(action=action), Line()).sample(
        jax.random.key(0), 64, 0.9, Line().action_space
    )
    assert float(jnp.max(batch.action)) <= 1.0
