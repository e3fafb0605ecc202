"""What an installation promises: one version, few dependencies, exact constraints,
all files shipped."""

import re
import shutil
import subprocess
import tomllib
from glob import glob
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import jaxrl

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]
CORE = PROJECT["project"]["dependencies"]
CONSTRAINTS = [
    line
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line.strip() and not line.startswith("#")
]


def name_of(requirement: str) -> str:
    """The distribution that a requirement names, as an index spells it."""
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert match, f"not a requirement: {requirement!r}"
    return re.sub(r"[-_.]+", "-", match.group()).lower()


def pins(name: str) -> list[str]:
    return [line for line in CONSTRAINTS if name_of(line) == name]


def test_version_is_the_same_everywhere():
    citation = (ROOT / "CITATION.cff").read_text()
    assert version("jaxrl") == jaxrl.__version__
    assert re.search(rf"^version: {re.escape(jaxrl.__version__)}$", citation, re.MULTILINE)
    # What is newest in the changelog, below what is not released, has that version and that day.
    changelog = (ROOT / "CHANGELOG.md").read_text()
    unreleased, (newest, day) = re.findall(r"^## \[(.+?)\](?: - (.+))?$", changelog, re.MULTILINE)[
        :2
    ]
    assert unreleased == ("Unreleased", "") and newest == jaxrl.__version__
    assert f'date-released: "{day}"' in citation


def test_python_3_11_is_enough():
    assert PROJECT["project"]["requires-python"] == ">=3.11"


@pytest.mark.parametrize(
    "unwanted", ["distrax", "tensorflow-probability", "tfp-nightly", "hydra-core"]
)
def test_no_dependency_that_breaks_with_each_jax(unwanted):
    requirements = [*CORE, *(line for extra in EXTRAS.values() for line in extra), *CONSTRAINTS]
    assert unwanted not in map(name_of, requirements)


@pytest.mark.parametrize("requirement", CORE)
def test_core_dependencies_have_a_lower_bound_and_no_upper_one(requirement):
    assert re.fullmatch(r"[A-Za-z0-9._-]+>=[0-9.]+(,!=[0-9.]+)*", requirement)


@pytest.mark.parametrize("name", ["jax", "jaxlib"])
def test_a_jax_that_copies_replay_rings_is_excluded(name):
    (ours,) = (Requirement(line) for line in CORE if name_of(line) == name)
    assert not ours.specifier.contains("0.11.1")
    assert all(ours.specifier.contains(good) for good in ("0.10.2", "0.11.0", "0.11.2", "0.12.0"))
    assert not any("==0.11.1" in line for line in pins(name))


def make(*words):
    """What `make` would do, without doing it."""
    command = ["make", "--dry-run", "--directory", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_an_environment_has_a_pip_and_the_extras_that_are_asked_for(tmp_path):
    venv = f"VENV={tmp_path / 'new'}"
    with_uv = make(venv, "UV=/usr/bin/uv")
    assert re.search(r"/usr/bin/uv. venv .*--seed", with_uv) and "pip install" in with_uv
    both = make("install", venv, "UV=", "EXTRAS=mujoco,brax")
    assert "pip install -c constraints.txt -e '.[mujoco,brax]'" in both
    assert "-with-mujoco-brax" in both  # whose stamp is another than that of none
    assert "pip install -c constraints.txt -e .\n" in make("install", venv, "UV=")


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_without_uv_an_environment_that_it_made_gets_a_pip(tmp_path):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.touch()
    done = make("install", f"VENV={tmp_path}", "UV=")
    assert f"{python} -m ensurepip; }} && {python} -m pip install -c constraints" in done


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_the_site_is_built_strictly_with_an_extra_of_its_own(tmp_path):
    done = make("docs", f"VENV={tmp_path / 'new'}", "UV=")
    assert "pip install -c constraints.txt -e '.[docs]'" in done and "mkdocs build --strict" in done
    assert "-e '.[test]'" in make("lint", f"VENV={tmp_path / 'new'}", "UV=")


def test_gymnax_and_what_it_forgets_to_declare():
    assert "gymnax>=1.0.1" in CORE
    assert "six" in map(name_of, CORE)


def test_extras():
    expected = {
        "brax",
        "mujoco",
        "playground",
        "offline",
        "track",
        "optuna",
        "cuda12",
        "cuda13",
        "tpu",
        "bench",
        "test",
        "docs",
    }
    assert set(EXTRAS) == expected


@pytest.mark.parametrize("line", CONSTRAINTS)
def test_constraints_are_exact_and_name_no_index(line):
    marker = r'( ; python_version (<|>=) "3\.\d+")?'
    assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.+]*" + marker, line)


# The tests need extras of jaxrl itself, which has no pin.
@pytest.mark.parametrize(
    "name",
    sorted(
        {name_of(requirement) for requirement in CORE + EXTRAS["test"] + EXTRAS["docs"]} - {"jaxrl"}
    ),
)
def test_constraints_pin_what_is_installed_and_tested(name):
    markers = {line.partition(" ; ")[2] for line in pins(name)}
    both = {'python_version < "3.12"', 'python_version >= "3.12"'}
    assert markers in ({""}, both), (
        f"{name} is not pinned once for each Python version: {pins(name)}"
    )


def test_jax_and_jaxlib_move_together():
    assert [line.removeprefix("jax") for line in pins("jax")] == [
        line.removeprefix("jaxlib") for line in pins("jaxlib")
    ]


def test_types_and_tuned_settings_are_shipped():
    assert (ROOT / "jaxrl" / "py.typed").exists()
    data = PROJECT["tool"]["setuptools"]["package-data"]
    assert data == {
        "jaxrl": ["py.typed"],
        "jaxrl.algos": ["tuned/*.toml"],
        "jaxrl.analysis.page": ["page.*"],
        "jaxrl.train.pretrained": ["scores.*", "*/*/**"],
    }


def test_every_file_of_the_agents_is_shipped():
    folder = ROOT / "jaxrl" / "train" / "pretrained"
    patterns = PROJECT["tool"]["setuptools"]["package-data"]["jaxrl.train.pretrained"]
    shipped = {
        name for pattern in patterns for name in glob(pattern, root_dir=folder, recursive=True)
    }
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    data = {name for name in there if not name.endswith((".py", ".pyc"))}
    assert "scores.json" in data and data <= shipped


def test_command_line_entry_point():
    assert PROJECT["project"]["scripts"] == {"jaxrl": "jaxrl.cli:main"}
