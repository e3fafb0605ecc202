import dataclasses

import numpy as np
import pytest

from jaxrl.data import quality, reference_scores
from jaxrl.data.recorded import describe
from jaxrl.errors import JaxrlError
from tests.data.toys import discrete, maze, toy


def changed(recorded, **arrays):
    return dataclasses.replace(recorded, **arrays)


def edited(name, place, value):
    """The toy with one number of an array replaced."""
    recorded = toy()
    array = getattr(recorded, name).copy()
    array[place] = value
    return changed(recorded, **{name: array})


def test_whole_episodes_are_accepted():
    for recorded in (toy(), maze(), discrete(), toy(reference_scores=(0.0, 1.0), colour="blue")):
        recorded.check()


def test_returns_and_places_of_episodes():
    recorded = changed(toy(), reward=np.asarray([1, 2, 3, 10, 5, 6, 7, 8], np.float32))
    assert recorded.episode_returns.tolist() == [6.0, 10.0, 26.0]
    assert recorded.episode_returns.dtype == np.float64
    assert recorded.starts.tolist() == [0, 3, 4]
    assert recorded.ends.tolist() == [2, 3, 7]
    assert len(recorded) == 8


def test_the_checksum_is_of_the_steps_and_not_of_the_name():
    assert toy().sha256 == changed(toy(), about=describe("other", "elsewhere")).sha256
    assert len({toy().sha256, toy(seed=1).sha256, edited("reward", 0, 9.0).sha256}) == 3


@pytest.mark.parametrize(
    ("recorded", "words"),
    [
        (edited("reward", 4, np.nan), "reward is nan in row 4"),
        (edited("observation", (5, 1), np.inf), "observation is inf in row 5"),
        (edited("action", (0, 2), -np.inf), "action is -inf in row 0"),
        (edited("final_observation", (1, 0), np.nan), "final_observation is nan in row 1"),
        (edited("truncated", 5, True), "row 5 is truncated, but the episode goes on"),
        (edited("truncated", 7, False), "last step of episode 2 is neither terminated nor"),
        (edited("length", 1, 0), "episode 1 has length 0"),
        (edited("length", 1, 3), "episodes are 10 steps in all, but there are 8"),
        (changed(toy(), reward=np.zeros(8)), "reward is float64"),
        (changed(toy(), reward=np.zeros((8, 1), np.float32)), r"reward is float32\[8, 1\]"),
        (changed(toy(), length=np.asarray([8])), "length is int64"),
        (changed(toy(), terminated=np.zeros(8, np.uint8)), "terminated is uint8"),
        (changed(toy(), action=np.zeros((7, 3), np.float32)), "action has 7 rows, but must have 8"),
        (changed(toy(), observation=np.zeros((8, 2))), "observation is float64"),
        (changed(toy(), observation=np.array([None] * 8)), "observation is object"),
        (
            changed(toy(), final_observation=np.zeros((2, 2), np.float32)),
            "final_observation has 2 rows, but must have 3",
        ),
        (
            changed(toy(), final_observation=np.zeros((3, 4), np.float32)),
            r"final_observation is float32\[4\] per episode, but observation is float32\[2\]",
        ),
        (changed(toy(), about={}), "its format is None, but must be 1"),
        (changed(toy(), about=describe("toy", "words") | {"format": 2}), "its format is 2"),
        (changed(toy(), about=describe("toy", "words") | {"name": 3}), "its name is 3"),
        (toy(reference_scores=(1.0, 1.0)), r"reference_scores are \[1.0, 1.0\]"),
        (toy(reference_scores=(1.0, float("nan"))), "no JSON"),
        (toy(colour={1, 2}), "no JSON"),
    ],
)
def test_what_is_no_dataset_is_refused_by_name(recorded, words):
    with pytest.raises(JaxrlError, match=words):
        recorded.check()


def test_nothing_at_all_is_refused():
    nothing = {
        name: array[:0] for name, array in vars(toy()).items() if isinstance(array, np.ndarray)
    }
    with pytest.raises(JaxrlError, match="no step in it"):
        changed(toy(), **nothing).check()


def test_normalised_scores_by_hand():
    """d4rl's own: get_normalized_score of 1000 for hopper is 0.3135, of -800 in Minari .5185."""
    hopper = reference_scores.d4rl("hopper-medium-replay-v2")
    assert reference_scores.normalized(1000.0, hopper.scores) == pytest.approx(
        100 * (1000 + 20.272305) / (3234.3 + 20.272305)
    )
    assert reference_scores.normalized(-800, (-1500, -150)) == pytest.approx(51.851852)
    assert reference_scores.normalized(np.asarray([2.0, 0.0, 4.0]), (0, 4)).tolist() == [50, 0, 100]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("halfcheetah_medium_replay-v2", (-280.178953, 12135.0, 1000)),
        ("hopper-expert-v0", (-20.272305, 3234.3, 1000)),
        ("Walker2d-medium-v2", (1.629008, 4592.3, 1000)),
        ("ant-medium-v2", (-325.6, 3879.7, 1000)),
        ("antmaze-umaze-diverse-v2", (0.0, 1.0, 700)),
        ("antmaze-large-play-v2", (0.0, 1.0, 1000)),
        ("Ant_maze_u-maze_noisy_multistart_False_multigoal_False_sparse_fixed", (0.0, 1.0, 700)),
        ("Ant_maze_hardest-maze_noisy_multistart_True_multigoal_False_sparse", (0.0, 1.0, 1000)),
        ("kitchen_microwave_kettle_light_slider-v0", (0.0, 4.0, 280)),
        ("mini_kitchen_microwave_kettle_light_slider-v0", (0.0, 4.0, 280)),
        ("pen-human-v1", (96.262799, 3076.8331017826877, 100)),
        ("hammer-cloned-v1", (-274.856578, 12794.134825156867, 200)),
        ("door-expert-v0", (-56.512833, 2880.5693087298737, 200)),
        ("relocate-human-v1", (-6.425911, 4233.877797728884, 200)),
        ("maze2d-open-v0", (0.01, 20.66, None)),
        ("maze2d-umaze-v1", (23.85, 161.86, 300)),
        ("maze2d-medium-sparse-v1", (13.13, 277.39, 600)),
        ("maze2d-large-dense-v1", (30.569041, 303.4857382709002, 800)),
    ],
)
def test_d4rls_table(name, expected):
    assert reference_scores.d4rl(name) == expected


def test_names_that_d4rl_does_not_have():
    for name in ("pendulum-medium-replay", "bandit-2d", "antenna-v0", "", "maze2d-eval-umaze-v1"):
        assert reference_scores.d4rl(name) is None


def test_trajectory_quality_by_hand():
    recorded = changed(toy(), reward=np.asarray([1, 2, 3, 10, 5, 6, 7, 8], np.float32))
    # Returns 6, 10 and 26 have the mean 14; 14 is a third of the way from 4 to 34.
    assert quality.trajectory_quality(recorded, (4.0, 34.0)) == pytest.approx(1 / 3)


def test_coverage_by_hand():
    """Of 8 rows 5 differ: three pairs are there twice; an action of another state is another."""
    observation = np.asarray([[0], [0], [1], [1], [2], [2], [0.0], [-0.0]], np.float32)
    action = np.asarray([0, 0, 0, 1, 5, 5, 1, 1], np.int32)
    recorded = changed(toy(), observation=observation, action=action)
    assert quality.distinct_pairs(recorded) == 5
    few = changed(recorded, action=np.zeros(8, np.int32))
    assert quality.distinct_pairs(few) == 3
    assert quality.coverage(few, recorded) == pytest.approx(3 / 5)
