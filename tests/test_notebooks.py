"""The notebooks run from top to bottom, as they are, in an empty folder."""

import json
import shlex
import sys
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import pytest

from jaxrl.cli import main

NOTEBOOKS = sorted((Path(__file__).parents[1] / "docs" / "notebooks").glob("*.ipynb"))
LARGEST = 50_000  # bytes, with whatever outputs are kept
WRITE = "%%writefile "
# What a notebook has and a test has not, or has by itself (`notebook`).
LEFT_OUT = ("%pip install ", "!cat ", "from IPython.display import Image")


def cells(path):
    """The code of a notebook, a text per cell."""
    return [
        "".join(cell["source"])
        for cell in json.loads(path.read_text())["cells"]
        if cell["cell_type"] == "code"
    ]


def as_python(cell):
    """A cell as Python: what only a notebook knows becomes a call, and nothing is installed."""
    if cell.startswith(WRITE):
        first, _, rest = cell.partition("\n")
        return f"write({first.removeprefix(WRITE)!r}, {rest!r})"
    lines = []
    for line in cell.splitlines():
        if line.startswith("!jaxrl "):
            line = f"command({shlex.split(line)[1:]!r})"
        elif line.startswith(LEFT_OUT):
            line = ""
        lines.append(line)
    return "\n".join(lines)


def command(words):
    assert main(words) == 0, words


def write(path, text):
    Path(path).write_text(text)


class Image:
    def __init__(self, path):
        assert Path(path).stat().st_size > 1_000


@pytest.fixture
def notebook(tmp_path, monkeypatch):
    """The folder and the names of a fresh notebook."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with jax.debug_key_reuse(False), jax.numpy_rank_promotion("allow"):  # as others run them
        yield {"command": command, "Image": Image, "write": write}
    plt.close("all")
    for name in ("corridor", "mine"):
        sys.modules.pop(name, None)


def test_there_are_two_and_they_are_small():
    assert [path.stem for path in NOTEBOOKS] == ["first_steps", "your_own"]
    assert all(path.stat().st_size < LARGEST for path in NOTEBOOKS)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_first_cell_installs_and_all_are_python(path):
    first, *_ = cells(path)
    assert first.startswith("%pip install ")
    for cell in cells(path):
        compile(as_python(cell), path.name, "exec")


@pytest.mark.slow
# What comes with jaxrl was trained with all optimisations, which tests do without.
@pytest.mark.filterwarnings("ignore:.*was trained under other settings of JAX")
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs_from_top_to_bottom(path, notebook, capsys):
    for number, cell in enumerate(cells(path)):
        exec(compile(as_python(cell), f"{path.name}, cell {number}", "exec"), notebook)
    assert "Traceback" not in capsys.readouterr().err
