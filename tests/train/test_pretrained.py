"""The agents that come with jaxrl: found by name, small, scored, and never written to."""

import importlib
import json
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxrl
from jaxrl.cli import main
from jaxrl.envs.registry import missing, suites
from jaxrl.errors import JaxrlError
from jaxrl.train import pretrained
from jaxrl.train.saved import open_policies

# They were trained with all optimisations, which tests do without.
pytestmark = pytest.mark.filterwarnings("ignore:.*was trained under other settings of JAX")

ROOT = Path(__file__).resolve().parents[2]
SCORES = json.loads((pretrained.ROOT / "scores.json").read_text())["cells"]
NAMES = [name for name in pretrained.names() if not name.startswith(pretrained.PREFIX)]
LARGEST = 1_800_000  # bytes of all but the teachers
TINY = "--num-envs 2 --num-steps 4 --minibatch-size 8 --total-steps 16 --num-evaluations 1"


def needs_mujoco(name):
    """An agent, skipped where its physics are not installed."""
    there = missing(suites()["mujoco"]) is None
    skip = pytest.mark.skipif(not there and name.endswith("-v5"), reason="no MuJoCo")
    return pytest.param(name, marks=skip)


def contents():
    """Every file of the package's folder, with what is in it."""
    files = [path for path in pretrained.ROOT.rglob("*") if path.is_file()]
    return {path: path.read_bytes() for path in files if "__pycache__" not in path.parts}


def test_there_is_one_for_each_task_that_is_trained_and_all_have_scores(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "experiments")
    tasks = importlib.import_module("pretrained").TASKS
    classic = importlib.import_module("classic_control").TASKS
    assert set(classic) < set(tasks) and len(tasks) == len(classic) + 5
    assert sorted(NAMES) == sorted(f"ppo/{task}" for task in tasks)
    assert set(SCORES) == set(tasks)
    assert jaxrl.pretrained() == pretrained.names()


@pytest.mark.parametrize("name", NAMES)
def test_a_score_says_what_it_is_of(name):
    about = SCORES[name.removeprefix("ppo/")]
    assert about["episodes"] == 100 and about["seed"] == 3_000_000
    assert np.isfinite([about["deterministic"], about["stochastic"]]).all()
    assert about["versions"]["jaxrl"] and about["asked"]["environment"] == name.removeprefix("ppo/")
    config = json.loads((pretrained.folder_of(name) / "config.json").read_text())
    assert config["config"] == about["asked"]["config"]


def test_the_documented_table_is_of_these_scores():
    rows = [
        f"| `ppo/{task}` | {about['transitions']:,} | "
        + " | ".join(
            f"{about[mode]:.1f} ± {about[mode + '_deviation']:.1f}"
            for mode in ("deterministic", "stochastic")
        )
        + " |"
        for task, about in SCORES.items()
    ]
    text = (ROOT / "docs" / "python.md").read_text()
    assert sorted(re.findall(r"^\| `ppo/.*$", text, re.MULTILINE)) == sorted(rows)


def test_they_are_small():
    sizes = {
        name: sum(
            path.stat().st_size for path in pretrained.folder_of(name).rglob("*") if path.is_file()
        )
        for name in NAMES
    }
    assert sum(sizes.values()) < LARGEST, sizes


@pytest.mark.parametrize("name", [needs_mujoco(name) for name in pretrained.names()])
def test_it_acts_without_anybody_being_trusted(name):
    before = contents()
    agent = jaxrl.load(name)
    observation = agent.env.observation_space.sample(jax.random.key(0))
    assert np.all(np.isfinite(agent.act(np.asarray(observation))))
    assert contents() == before


def test_its_score_is_found_again():
    saved = open_policies(pretrained.located("ppo/CartPole-v1"), "best", 100, 3_000_000)
    returns = saved.player.evaluate(saved.policies, saved.iteration)["stochastic"].returns
    assert np.mean(returns) == pytest.approx(SCORES["CartPole-v1"]["stochastic"], rel=0.05)


def test_commands_take_its_name(tmp_path, capsys):
    assert main(["eval", "ppo/CartPole-v1", "--episodes", "3"]) == 0
    assert "ppo/CartPole-v1: best checkpoint" in capsys.readouterr().out
    film = tmp_path / "film.gif"
    words = ["render", "ppo/CartPole-v1", "--steps", "20", "--output", str(film)]
    assert main(words) == 0 and film.stat().st_size > 0
    assert main(["eval", "--help"]) == 0
    assert "ppo/CartPole-v1" in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("ppo/CartPole-v2", "ppo/CartPole-v1"),
        ("ppo/cartpole-v1", "ppo/CartPole-v1"),
        ("pppo/CartPole-v1", "ppo/CartPole-v1"),
        ("teacher:Hopper-v5/expart", "teacher:Hopper-v5/expert"),
    ],
)
def test_a_misspelt_name_is_refused_with_the_nearest(given, nearest):
    with pytest.raises(JaxrlError, match=f"unknown .* '{given}'. Did you mean {nearest}"):
        jaxrl.load(given)


def test_a_folder_that_is_there_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(JaxrlError, match="runs/CartPole-v9 is not a run folder"):
        jaxrl.load("runs/CartPole-v9")
    (tmp_path / "ppo").mkdir()
    with pytest.raises(JaxrlError, match="ppo/mine is not a run folder"):
        jaxrl.load("ppo/mine")  # which stands beside runs of one's own
    (tmp_path / "ppo" / "CartPole-v1").mkdir()
    assert pretrained.located("ppo/CartPole-v1") == Path("ppo/CartPole-v1")
    assert not pretrained.comes_with_jaxrl("ppo/CartPole-v1")
    with pytest.raises(JaxrlError, match="ppo/CartPole-v1 is not a run folder"):
        jaxrl.load("ppo/CartPole-v1")


@pytest.mark.parametrize("by", [str, lambda name: str(pretrained.folder_of(name))])
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["resume"], "is part of jaxrl, a policy that cannot be trained on"),
        (
            ["plot", "--output", "it.png"],
            "is part of jaxrl, a policy without the records",
        ),
        (
            ["report", "--output", "it.html"],
            "is part of jaxrl, a policy without the records",
        ),
        (["plot"], "is part of jaxrl: say where to write, --output"),
        (["render"], "is part of jaxrl: say where to write, --output"),
        (["collect", "--episodes", "1"], "is part of jaxrl: say where to write, --output"),
    ],
)
def test_nothing_is_written_beside_it(by, words, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = contents()
    command, *rest = words
    assert main([command, by("ppo/CartPole-v1"), *rest]) == 2
    assert text in capsys.readouterr().err
    assert contents() == before


def test_a_run_may_begin_from_it(tmp_path, capsys):
    folder = tmp_path / "run"
    words = ["train", "ppo", "--env", "CartPole-v1", *TINY.split()]
    words += ["--init-from", "ppo/CartPole-v1"]
    words += ["--evaluation-episodes", "2", "--devices", "1", "--folder", str(folder)]
    assert main([*words, "--learning-rate", "0", "--quiet"]) == 0
    begun = jaxrl.load(folder, checkpoint="last").policy
    shipped = jaxrl.load("ppo/CartPole-v1").policy
    for ours, theirs in zip(
        jax.tree.leaves(begun.params), jax.tree.leaves(shipped.params), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
