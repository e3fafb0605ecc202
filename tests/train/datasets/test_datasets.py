"""Datasets made by ourselves: the same bits every time, and what their definitions say of them."""

import functools
import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs.registry import make
from jaxrl.envs.suites.maze.exact import action_values
from jaxrl.envs.suites.maze.routes import distances, free_cells
from jaxrl.errors import JaxrlError
from jaxrl.train import datasets
from jaxrl.train.datasets.parts import mazes
from jaxrl.train.datasets.parts.playing import until_terminated, whole_episodes

MAZES = ("pointmaze-large-navigate", "pointmaze-large-stitch", "pointmaze-large-explore")
ROWS = dict.fromkeys((*MAZES, "pendulum-mixed"), 10_000) | {"bandit-2d": 1_000}
# Those of teachers, and the one that trains, have files of their own.
TAUGHT = {
    "halfcheetah-medium-expert",
    "halfcheetah-medium-replay",
    "hopper-medium",
    "hopper-medium-expert",
    "hopper-medium-replay",
    "walker2d-expert-narrow",
    "walker2d-medium-replay",
}
PLAYED = sorted({*datasets.names()} - TAUGHT - {"pendulum-medium-replay"})

built = functools.cache(lambda name: datasets.build(name, small=True))


def test_names_are_those_of_the_modules_and_each_says_what_it_is():
    others = {"bandit-2d", "key-to-door-random", "pendulum-medium-replay", "pendulum-mixed"}
    assert set(datasets.names()) == {*MAZES, *others, *TAUGHT}
    for name in datasets.names():
        module = importlib.import_module(f"jaxrl.train.datasets.{name.replace('-', '_')}")
        assert name == module.NAME and datasets.summary(name).endswith(".")


@pytest.mark.parametrize("name", PLAYED)
def test_a_dataset_is_whole_and_tells_where_it_is_from(name):
    recorded = built(name)
    assert len(recorded) == ROWS.get(name, len(recorded))
    about = recorded.about
    assert (about["name"], about["seed"], about["small"]) == (name, 0, True)
    env = make(about["environment"], **about["environment_options"])
    assert recorded.observation.shape[1:] == env.observation_space.shape
    assert recorded.action.shape[1:] == env.action_space.shape
    random, expert = about["reference_scores"]
    assert random < expert


def test_the_expert_of_the_mazes_is_as_fast_as_exact_values_say():
    env = make("maze/point-large")
    found = action_values(env, gamma=0.99)
    start = np.argmin(np.abs(found.position - env.start[None]).sum(-1))
    # −1 for each step but the last.
    steps = np.log(1 + 0.01 * found.value[start].max()) / np.log(0.99)
    assert steps == pytest.approx(-mazes.OPTIMUM, abs=1e-2)


@pytest.mark.parametrize("name", ["pointmaze-large-stitch", "key-to-door-random"])
def test_the_same_seed_gives_the_same_bits_and_another_one_others(name):
    again, other = (datasets.build(name, small=True, seed=seed) for seed in (0, 1))
    assert again.sha256 == built(name).sha256 != other.sha256
    assert again.about == built(name).about


@pytest.mark.parametrize("name", [*MAZES, "bandit-2d"])
def test_every_row_is_a_step_of_its_environment(name):
    recorded = built(name)
    env = make(recorded.about["environment"])
    following = np.roll(recorded.observation, -1, axis=0)
    following[recorded.ends] = recorded.final_observation
    states = recorded.observation if name in MAZES else ()
    step = jax.jit(jax.vmap(env.step, (None, 0 if name in MAZES else None, 0)))
    _, timestep = step(jax.random.key(0), states, recorded.action)
    np.testing.assert_allclose(timestep.observation, following, atol=1e-6)
    np.testing.assert_array_equal(timestep.terminated, recorded.terminated)
    np.testing.assert_allclose(timestep.reward, recorded.reward, atol=1e-6)


def cells_of(positions):
    """The numbers of the free cells of the large maze in which positions [N, 2] are, int [N]."""
    walls = make("maze/point-large").walls
    number = np.full(walls.shape, -1)
    number[tuple(free_cells(walls).T)] = np.arange((~walls).sum())
    column, row = np.floor(positions + 0.5).astype(int).T
    return number[row, column]


def test_no_short_walk_covers_the_way_and_each_is_as_long_as_it_says():
    recorded = built("pointmaze-large-stitch")
    away = distances(make("maze/point-large").walls)
    first = cells_of(recorded.observation[recorded.starts])
    last = cells_of(recorded.final_observation)
    assert away[first, last][:-1].max() <= 6 and np.mean(away[first, last] == 4) > 0.8
    assert recorded.length.max() <= 20 and 8 < recorded.length.mean() < 14
    assert recorded.reward.max() == 0.0  # some of them reach the goal


def test_walks_to_everywhere_go_on_beyond_the_goal():
    recorded = built("pointmaze-large-navigate")
    inside = recorded.terminated.copy()
    inside[recorded.ends] = False
    assert inside.any() and np.all(recorded.length == 200)
    # Whoever is in the middle of a corridor has come from both ends: the mean action is small.
    here = cells_of(recorded.observation) == cells_of(np.array([[8.0, 5.0]]))
    along = recorded.action[here, 0]
    assert abs(along.mean()) < 0.3 < along.std()


def test_explorers_hold_a_direction_for_ten_steps():
    action = built("pointmaze-large-explore").action.reshape(50, 20, 10, 2)
    mean = action.mean(axis=2)  # over the steps of one direction
    assert np.linalg.norm(mean, axis=-1).mean() > 0.4
    assert abs(mean.reshape(-1, 2).mean(axis=0)).max() < 0.1


def test_the_bandits_actions_are_of_four_modes_in_equal_parts():
    recorded = built("bandit-2d")
    signs = (recorded.action > 0) @ np.array([1, 2])
    assert np.bincount(signs).tolist() == [250] * 4
    away = np.abs(recorded.action) - 0.8
    assert abs(away.mean()) < 0.01 and 0.04 < away.std() < 0.06
    assert recorded.reward.mean() == pytest.approx(0.25 / (1 + 0.05**2 / 0.2**2), rel=0.05)


def test_chance_opens_the_door_now_and_then():
    recorded = built("key-to-door-random")
    assert len(recorded.length) == 500 and 0.08 < recorded.episode_returns.mean() < 0.19
    assert recorded.length.max() == 16 and recorded.terminated[recorded.ends].all()
    assert not recorded.truncated.any()
    # The state is seen, but for where the key and the door are in other rooms.
    assert np.all((recorded.reward == 1) <= recorded.terminated)


def test_a_mixed_set_has_all_returns_between_the_worst_and_the_best():
    recorded = built("pendulum-mixed")
    returns, length = recorded.episode_returns, recorded.length
    assert np.all(length == 200) and not recorded.terminated.any()
    assert returns.min() < -1100 and returns.max() > -300
    # No gap of a third of the range.
    assert np.diff(np.sort(returns)).max() < np.ptp(returns) / 3
    # θ' and the angle obey the equation of motion: θ'' = 15 sin θ + 3 u, in steps of 0.05.
    speed, sine = recorded.observation[:, 2], recorded.observation[:, 1]
    following = np.clip(speed + 0.05 * (15 * sine + 3 * recorded.action[:, 0]), -8, 8)
    inside = np.delete(np.arange(len(speed) - 1), recorded.ends[:-1])
    np.testing.assert_allclose(speed[inside + 1], following[inside], atol=1e-4)


def steps(terminated):
    """Two episodes of three steps, numbered."""
    rows = jnp.arange(6.0).reshape(2, 3)
    return {
        "observation": np.asarray(rows)[..., None],
        "action": np.asarray(rows)[..., None],
        "reward": np.asarray(rows),
        "terminated": np.array(terminated),
        "next_observation": np.asarray(rows)[..., None] + 1,
    }


def test_episodes_are_packed_without_what_was_played_after_them():
    played = steps([[False, True, False], [False, False, False]])
    assert until_terminated(played).tolist() == [2, 3]
    recorded = whole_episodes(played, until_terminated(played), {})
    assert recorded.reward.tolist() == [0, 1, 3, 4, 5] and recorded.length.tolist() == [2, 3]
    assert recorded.terminated.tolist() == [False, True, False, False, False]
    assert recorded.truncated.tolist() == [False, False, False, False, True]
    assert recorded.final_observation.ravel().tolist() == [2, 6]
    cut = whole_episodes(played, np.array([3, 3]), {}, total=4)
    assert cut.reward.tolist() == [0, 1, 2, 3] and cut.length.tolist() == [3, 1]
    assert cut.truncated.tolist() == [False, False, True, True]


@pytest.mark.parametrize(
    ("name", "seed", "words"),
    [
        ("pointmaze-large-stich", 0, "unknown dataset .* Did you mean pointmaze-large-stitch"),
        ("parts", 0, "unknown dataset 'parts'"),
        ("bandit-2d", -1, "seed is -1"),
    ],
)
def test_what_there_is_none_of_is_refused(name, seed, words):
    with pytest.raises(JaxrlError, match=words):
        datasets.build(name, small=True, seed=seed)
