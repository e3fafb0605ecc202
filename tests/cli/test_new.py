"""`jaxrl new`: a file that is a template to the letter, and what is refused before it is made."""

import sys
from importlib import resources
from pathlib import Path

import pytest

from jaxrl.cli.new import CLASSES, KINDS, check_path
from jaxrl.errors import JaxrlError


@pytest.fixture(autouse=True)
def working_folder(tmp_path, monkeypatch):
    """A folder of its own, of whose names no module is left that another test imported."""
    others = str(tmp_path.parent.parent)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if not path.startswith(others)])
    for name in ("mine", "corridor"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "template", "next_commands"),
    [
        (
            ["algorithm", "mine.py"],
            "a2c",
            ["jaxrl check mine:a2c", "jaxrl train mine:a2c --env CartPole-v1"],
        ),
        (["algorithm", "mine.py", "--template", "ars"], "ars", ["jaxrl check mine:ars"]),
        (
            ["environment", "mine.py"],
            "corridor",
            ["jaxrl check mine:Corridor", "jaxrl train ppo --env mine:Corridor"],
        ),
    ],
)
def test_it_writes_a_template_and_says_what_comes_next(
    run, working_folder, words, template, next_commands
):
    output, _ = run("new", *words)
    source = resources.files("jaxrl.templates") / f"{template}.py"
    assert (working_folder / "mine.py").read_text() == source.read_text()
    assert "wrote mine.py" in output and "cd " not in output
    for command in next_commands:
        assert f"  {command}" in output


def test_every_template_is_offered_and_there():
    offered = {"a2c", "ars", "corridor"}
    there = {each.name for each in resources.files("jaxrl.templates").iterdir()}
    assert {f"{name}.py" for name in offered} == {
        name for name in there if name.endswith(".py") and name != "__init__.py"
    }
    assert set(KINDS) == {"algorithm", "environment"} and set(CLASSES) <= offered


def test_into_another_folder_it_says_where_to_go(run, working_folder):
    (working_folder / "my lab").mkdir()
    output, _ = run("new", "algorithm", "my lab/mine.py")
    assert "  cd 'my lab'" in output and (working_folder / "my lab" / "mine.py").exists()


def test_it_never_overwrites(ask, working_folder):
    (working_folder / "mine.py").write_text("precious")
    (working_folder / "link.py").symlink_to("nowhere.py")
    for name in ("mine.py", "link.py"):
        status, output, errors = ask("new", "environment", name)
        assert (status, output) == (
            2,
            "",
        ) and f"{name} is there, and is never overwritten" in errors
    assert (working_folder / "mine.py").read_text() == "precious"
    assert not (working_folder / "nowhere.py").exists()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("my-own.py", "'my-own' is no name. my_own.py?"),
        ("2fast.py", "'2fast' is no name. my_2fast.py?"),
        ("class.py", "'class' is no name. my_class.py?"),
        ("mine", "mine is not the name of a Python file: mine.py?"),
        ("mine.txt", "mine.txt is not the name of a Python file: mine.py?"),
        ("random.py", "'random' is the name of a package that is installed"),
        ("optax.py", "my_optax.py?"),
        ("not/there/mine.py", "there is no folder not/there; "),
        ("not/there/mine.py", "Make it: mkdir -p not/there"),
        (".", "is a folder: name a file in it, a2c.py."),
    ],
)
def test_a_path_that_would_not_serve_is_refused(ask, working_folder, path, text):
    status, output, errors = ask("new", "algorithm", path)
    assert (status, output) == (2, "") and text in errors
    assert not list(working_folder.iterdir())


def test_a_suggestion_is_accepted():
    for wrong in ("my-own.py", "2fast.py", "class.py", "random.py"):
        with pytest.raises(JaxrlError) as refused:
            check_path(Path(wrong), "a2c.py")
        better = str(refused.value).split()[-1].rstrip("?")
        check_path(Path(better), "a2c.py")


def test_what_it_makes_is_asked_for(run, ask):
    assert run("new")[0].startswith("usage: jaxrl new algorithm|environment PATH")
    status, _, errors = ask("new", "algoritm", "mine.py")
    assert status == 2 and "Did you mean algorithm?" in errors
    status, _, errors = ask("new", "algorithm", "mine.py", "--template", "ppo")
    assert status == 2 and "a2c" in errors
