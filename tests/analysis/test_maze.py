"""Pictures of mazes: a panel per method, the same bytes each time, and refusals."""

import numpy as np
import pytest
from PIL import Image

from jaxrl.analysis.maze import plot_maze

WALLS = np.array([[1, 1, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]], bool)
PATH = np.array([[1.0, 1.0], [2.0, 1.0]])


def test_each_method_has_a_panel_and_the_same_paths_give_the_same_bytes(tmp_path):
    files = [
        plot_maze(
            WALLS,
            {"OFQL": [PATH, PATH + 0.1], "BC": [PATH[:1]], "none": []},
            tmp_path / name,
            goal=(2.0, 1.0),
            notes={"BC": "success 0 %"},
        )
        for name in ("a.png", "b.png")
    ]
    first, second = (file.read_bytes() for file in files)
    assert first == second
    alone = plot_maze(WALLS, {"OFQL": [PATH]}, tmp_path / "c.png")
    with Image.open(files[0]) as three, Image.open(alone) as one:
        assert three.width == 3 * one.width


def test_bad_requests_are_refused(tmp_path):
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_maze(WALLS, {}, tmp_path / "a.png")
    with pytest.raises(ValueError, match="9 methods are given, but only 8"):
        plot_maze(WALLS, {str(name): [PATH] for name in range(9)}, tmp_path / "a.png")
    with pytest.raises(ValueError, match="cannot draw"):
        plot_maze(WALLS, {"BC": [PATH]}, tmp_path / "a.jpg")
