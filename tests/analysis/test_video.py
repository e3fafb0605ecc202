"""Pictures of states: they move when the state moves, show what is on top, and become GIFs."""

import numpy as np
import pytest
from PIL import Image, ImageColor

from jaxrl.analysis.control import BODY, CONTROL, LIMB
from jaxrl.analysis.grids import BRICK, ENEMY, FRIEND, PLAYER, TRAIL
from jaxrl.analysis.video import (
    STRIP,
    can_draw,
    caption,
    draw_frames,
    narrowed,
    pace,
    write_gif,
)


def centre(image, colour):
    """Where a colour lies: the mean (x, y) of its pixels, from the top left."""
    rows, columns = np.nonzero((image == np.array(ImageColor.getrgb(colour))).all(axis=2))
    return columns.mean(), rows.mean()


def colour_of(image, row, column, cells=10):
    """The colour in the middle of a cell."""
    side = image.shape[0] // cells
    return tuple(image[row * side + side // 2, column * side + side // 2].tolist())


def test_the_cart_moves_with_x_and_the_pole_leans_with_theta():
    left, right, leaning = draw_frames(
        "CartPole-v1", {"x": [-1.0, 1.0, 0.0], "theta": [0.0, 0.0, 0.3], "time": 0}
    )
    assert left.shape == (200, 400, 3) and left.dtype == np.uint8
    assert centre(right, BODY)[0] - centre(left, BODY)[0] == pytest.approx(
        148, abs=2
    )  # 74 pixels a metre
    assert centre(leaning, LIMB)[0] > centre(leaning, BODY)[0] + 5


def test_the_pendulum_is_upright_at_zero_and_turns_counter_clockwise():
    up, left, down = draw_frames("Pendulum-v1", {"theta": [0.0, np.pi / 2, np.pi]})
    assert centre(up, LIMB)[1] < 150 < centre(down, LIMB)[1]
    assert centre(left, LIMB)[0] < 120


def test_the_acrobot_hangs_at_zero_and_its_second_angle_is_relative():
    frames = {"joint_angle1": [0.0, np.pi / 2, np.pi], "joint_angle2": [0.0, np.pi / 2, 0.0]}
    hanging, bent, up = draw_frames("Acrobot-v1", frames)
    assert centre(hanging, LIMB)[1] > centre(hanging, BODY)[1] > 150
    assert centre(up, LIMB)[1] < centre(up, BODY)[1] < 150
    assert centre(bent, BODY)[0] > 150 and centre(bent, LIMB)[1] < 150  # out to the right, then up


@pytest.mark.parametrize("name", ["MountainCar-v0", "MountainCarContinuous-v0"])
def test_the_car_stands_on_the_hill(name):
    start, goal, behind = draw_frames(name, {"position": [-np.pi / 6, 0.5, -1.2]})
    assert centre(start, LIMB)[1] > centre(behind, LIMB)[1] > centre(goal, LIMB)[1]
    assert centre(behind, LIMB)[0] < centre(start, LIMB)[0] < centre(goal, LIMB)[0]


def test_one_colour_a_channel_and_the_player_on_top():
    observation = np.zeros((1, 10, 10, 4), bool)
    observation[0, 1:4, :, 3] = True
    observation[0, 9, 4, 0] = observation[0, 5, 5, 1] = observation[0, 6, 6, 2] = True
    observation[0, 9, 4, 2] = True  # the trail passes beneath the paddle
    (image,) = draw_frames("Breakout-MinAtar", {"observation": observation})
    assert image.shape == (300, 300, 3)
    for place, colour in {(2, 7): BRICK, (9, 4): PLAYER, (5, 5): FRIEND, (6, 6): TRAIL}.items():
        assert colour_of(image, *place) == ImageColor.getrgb(colour)


def test_enemies_hide_trails_in_seaquest():
    observation = np.zeros((1, 10, 10, 10))
    observation[0, 3, 3, [3, 6]] = 1
    (image,) = draw_frames("Seaquest-MinAtar", {"observation": observation})
    assert colour_of(image, 3, 3) == ImageColor.getrgb(ENEMY)


def test_other_grids_of_any_depth():
    catch = np.zeros((2, 10, 5))
    catch[:, 9, 2] = 1
    catch[[0, 1], [0, 1], 1] = 1
    first, second = draw_frames("Catch-bsuite", {"observation": catch})
    assert first.shape == (300, 300, 3) and (first != second).any()
    deep = np.eye(12)[None, :, :, None] * np.eye(12)[:, None, :][None]
    (image,) = draw_frames("anything", {"observation": deep})
    assert len({colour_of(image, i, i, 12) for i in range(12)}) == 12


def test_what_can_be_drawn():
    assert all(can_draw(name, ()) for name in CONTROL)
    assert can_draw("Breakout-MinAtar", (10, 10, 4)) and can_draw("Catch-bsuite", (10, 5))
    assert not any(can_draw("HalfCheetah", shape) for shape in [(), (17,), (1, 1), (2, 3, 4, 5)])


def test_refusals_name_what_can_be_drawn():
    with pytest.raises(
        ValueError, match="cannot draw 'HalfCheetah'.*CartPole-v1.*shape \\(5, 17\\)"
    ):
        draw_frames("HalfCheetah", {"observation": np.zeros((5, 17))})
    with pytest.raises(ValueError, match=r"got the keys \['x'\]"):
        draw_frames("HalfCheetah", {"x": np.zeros(5)})
    with pytest.raises(ValueError, match="needs theta; got"):
        draw_frames("CartPole-v1", {"x": np.zeros(5)})
    with pytest.raises(ValueError, match=r"x \(5,\), theta \(4,\)"):
        draw_frames("CartPole-v1", {"x": np.zeros(5), "theta": np.zeros(4)})


def test_gif_is_whole_and_reproducible(tmp_path):
    position = np.linspace(-1.2, 0.5, 12)
    images = caption(
        draw_frames("MountainCar-v0", {"position": position}), -np.arange(12.0), "MountainCar-v0"
    )
    assert images[0].shape == (260 + STRIP, 400, 3)
    assert (images[3][-STRIP:] != images[4][-STRIP:]).any()
    path = write_gif(images, tmp_path / "films" / "car.gif", frames_per_second=25)
    assert write_gif(images, tmp_path / "again.gif", 25).read_bytes() == path.read_bytes()
    assert [file.name for file in path.parent.iterdir()] == ["car.gif"]
    with Image.open(path) as film:
        assert (film.n_frames, film.info["duration"], film.info["loop"]) == (12, 40, 0)
        film.seek(7)
        shown = np.asarray(film.convert("RGB")).astype(int)
    assert np.abs(shown - images[7]).mean() < 1


def test_a_rare_thing_keeps_its_colour(tmp_path):
    """An enemy seen in one frame of many is not repainted in a colour of the others."""
    observation = np.zeros((40, 10, 10, 4), bool)
    observation[np.arange(40), 0, np.arange(40) % 10, 0] = True
    observation[21, 5, 5, 1] = True
    path = write_gif(
        draw_frames("Asterix-MinAtar", {"observation": observation}), tmp_path / "rare.gif"
    )
    with Image.open(path) as film:
        film.seek(21)
        assert colour_of(np.asarray(film.convert("RGB")), 5, 5) == ImageColor.getrgb(ENEMY)


def test_gif_and_caption_errors(tmp_path):
    image = np.zeros((4, 4, 3), np.uint8)
    for call, words in [
        (lambda: write_gif([], tmp_path / "x.gif"), "no images"),
        (lambda: write_gif([image, image[:2]], tmp_path / "x.gif"), "different shapes"),
        (lambda: write_gif([image], tmp_path / "x.gif", 120), "between 1 and 50"),
        (lambda: caption([image], [1.0, 2.0]), "2 returns were given for 1 images"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()


@pytest.mark.parametrize(
    ("seconds", "every", "rate"),
    [
        (0.05, 1, 20),
        (0.008, 4, 31.25),
        (0.015, 2, 33.3),
        (0.02, 2, 25),
        (0.04, 1, 25),
        (0.002, 17, 29.4),
        (5.0, 1, 1),
    ],
)
def test_a_film_lasts_as_long_as_what_it_shows(seconds, every, rate):
    assert pace(seconds) == (every, pytest.approx(rate, rel=0.01))


def test_a_caption_counts_the_steps_between_images():
    images = [np.zeros((20, 300, 3), np.uint8)] * 3
    fourth, second = caption(images, [0.0] * 3, every=4)[1], caption(images, [0.0] * 3, every=2)[2]
    np.testing.assert_array_equal(fourth, second)
    assert (fourth != caption(images, [0.0] * 3)[1]).any()


def test_a_small_thing_keeps_its_colour_before_a_wide_gradient(tmp_path):
    image = np.zeros((100, 400, 3), np.uint8)
    image[..., 1], image[..., 2] = (
        np.arange(100)[:, None],
        np.arange(400) // 4,
    )  # ten thousand colours
    image[50:54, 50:54] = [200, 40, 30]
    with Image.open(write_gif([image], tmp_path / "film.gif")) as film:
        shown = np.asarray(film.convert("RGB")).astype(int)
    assert np.abs(shown[51, 51] - [200, 40, 30]).max() <= 8
    assert np.abs(shown - image).mean() < 5


def test_a_narrowed_film_keeps_its_proportions_and_is_never_widened():
    images = [np.zeros((100, 200, 3), np.uint8)] * 2
    assert [image.shape for image in narrowed(images, 50)] == [(25, 50, 3)] * 2
    for width in (None, 200, 300):
        assert narrowed(images, width)[0].shape == (100, 200, 3)


def test_fewer_frames_per_second_skip_steps_and_keep_the_time():
    assert pace(1 / 30, 10.0) == (3, 10.0)
    every, rate = pace(0.008, 10.0)
    assert every == 12 and rate == pytest.approx(1 / (12 * 0.008))
