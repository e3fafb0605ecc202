"""What installed packages add by entry points: seen by name, imported when a name is used."""

import os
import subprocess
import sys
import textwrap
import warnings

import pytest

import jaxrl
from jaxrl.algos import registry as algorithms
from jaxrl.cli import main
from jaxrl.config import added as added_names
from jaxrl.envs import registry as environments
from jaxrl.errors import JaxrlError, RunWarning
from jaxrl.train import datasets
from jaxrl.train.experiment import versions
from jaxrl.train.output import listing

MODULES = {
    "walking/__init__.py": "",
    "walking/steps.py": """
        from jaxrl.algos.ppo import PPOConfig, ppo, ppo_agent
        from jaxrl.envs.api import Environment
        from jaxrl.types import Algorithm

        def stride(env: Environment, config: PPOConfig) -> Algorithm:
            return ppo(env, config)

        def stride_agent(env: Environment, config: PPOConfig):
            return ppo_agent(env, config)
        """,
    "walking/lane.py": "from jaxrl.envs.suites.probe import TwoStep as Lane\n",
    "walking/records.py": """
        from jaxrl.train.datasets import bandit_2d

        def build(small, seed):
            return bandit_2d.build(small=small, seed=seed)
        """,
    "walking/broken.py": "import walking.shoes\n",
    "walking/steps.toml": '["probe/two-step"]\nlearning_rate = 0.25\n',
}
POINTS = """
    [jaxrl.algorithms]
    stride = walking.steps:stride
    limp = walking.broken:limp
    none = walking.lane:Lane

    [jaxrl.environments]
    lane-v0 = walking.lane:Lane
    mud-v0 = walking.broken:Mud

    [jaxrl.datasets]
    walks = walking.records
    falls = walking.lane:Lane
    """
TRAIN = "--num-envs 2 --num-steps 4 --minibatch-size 8 --total-steps 16 --hidden-sizes 4"
TRAIN += " --num-evaluations 1 --evaluation-episodes 2 --devices 1 --quiet --folder"


def install(folder, name, points, files=()):
    """A distribution as an installer leaves it: its modules, and its metadata."""
    about = folder / f"{name.replace('-', '_')}-1.5.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n")
    (about / "entry_points.txt").write_text(textwrap.dedent(points))
    for path, text in dict(files).items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(textwrap.dedent(text))


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder of installed packages, with one that adds something of each kind."""
    folder = tmp_path / "site"
    folder.mkdir()
    install(folder, "walking-kit", POINTS, MODULES)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.getcwd()]))
    yield folder
    for name in [name for name in sys.modules if name.partition(".")[0] == "walking"]:
        del sys.modules[name]


def imported():
    return sorted(name for name in sys.modules if name.startswith("walking"))


def test_names_are_seen_and_nothing_is_imported(site, capsys):
    assert {"stride", "limp", "ppo"} <= set(jaxrl.algorithms())
    assert jaxrl.environments()["installed"] == ["lane-v0", "mud-v0"]
    assert {"walks", "bandit-2d"} <= set(datasets.names())
    assert main(["envs"]) == 0
    assert main(["envs", "lane"]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if "lane-v0" in line)
    assert "walking-kit" in line
    assert main(["dataset", "list"]) == 0
    assert "of the package walking-kit" in capsys.readouterr().out
    assert main(["train", "--help"]) == 0
    assert "stride" in capsys.readouterr().out
    with pytest.raises(AttributeError):
        jaxrl.NoSuchConfig  # noqa: B018
    jaxrl.make("CartPole-v1")
    assert imported() == []


def test_each_is_used_by_name(site, tmp_path, monkeypatch, capsys):
    spec = algorithms.load("stride")
    assert spec.name == "stride" and jaxrl.stride is spec.factory
    assert spec.agent.__name__ == "stride_agent"
    assert type(jaxrl.make("lane-v0")).__name__ == "TwoStep"
    assert environments.describe("lane-v0").suite == "installed"
    assert len(datasets.build("walks", small=True)) > 0
    run = tmp_path / "run"
    assert main(["train", "stride", "--env", "lane-v0", *TRAIN.split(), str(run)]) == 0
    # Its folder names nothing but what is installed: nobody has to be asked.
    assert main(["eval", str(run), "--episodes", "2"]) == 0
    assert main(["check", "lane-v0"]) == 0
    capsys.readouterr()
    assert versions("lane-v0")["walking-kit"] == versions("", "stride")["walking-kit"] == "1.5"
    assert "walking-kit" not in versions("CartPole-v1", "ppo")


def test_where_it_is_not_installed_a_run_says_so(site, tmp_path, monkeypatch, capsys):
    run = tmp_path / "run"
    assert main(["train", "stride", "--env", "lane-v0", *TRAIN.split(), str(run)]) == 0
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(site)])
    assert main(["eval", str(run)]) == 2
    assert "unknown algorithm 'stride'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("use", "name", "text"),
    [
        (algorithms.load, "limp", "algorithm 'limp' is walking.broken:limp of the package walking"),
        (environments.make, "mud-v0", "walking-kit, which cannot be imported: ModuleNotFoundError"),
        (algorithms.load, "none", "the class TwoStep, but must be a function .* walking-kit adds"),
        (datasets.build, "falls", "the class TwoStep, but must be a module with build"),
        (algorithms.load, "strid", "unknown algorithm 'strid'. Did you mean stride"),
        (environments.make, "lane-v1", "unknown environment 'lane-v1'. Did you mean lane-v0"),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_package(site, use, name, text):
    with pytest.raises(JaxrlError, match=text):
        use(name)


def test_our_own_names_win_and_it_is_said(site, monkeypatch):
    install(
        site,
        "usurper",
        """
        [jaxrl.algorithms]
        ppo = walking.broken:ppo
        [jaxrl.environments]
        CartPole-v1 = walking.broken:Cart
        [jaxrl.datasets]
        bandit-2d = walking.broken
        """,
    )
    forget()
    with pytest.warns(RunWarning, match="'ppo' is jaxrl's own, .* package usurper adds"):
        assert algorithms.load("ppo").factory is jaxrl.algos.ppo.ppo
    with pytest.warns(RunWarning, match="'CartPole-v1' is jaxrl's own, .* package usurper adds"):
        jaxrl.make("CartPole-v1")
    with pytest.warns(RunWarning, match="'bandit-2d' is jaxrl's own, .* package usurper adds"):
        datasets.names()
    with warnings.catch_warnings():  # it is said once
        warnings.simplefilter("error")
        algorithms.load("ppo")
    assert "CartPole-v1" not in jaxrl.environments()["installed"]


def test_a_name_of_two_packages_is_neither_s(site):
    install(site, "other-kit", "[jaxrl.algorithms]\nstride = other.steps:stride\n")
    forget()
    assert jaxrl.algorithms().count("stride") == 1
    both = r"packages (walking-kit and other-kit|other-kit and walking-kit): .* other\.steps:stride"
    with pytest.raises(JaxrlError, match=both):
        algorithms.load("stride")
    assert algorithms.load("walking.steps:stride").name == "walking.steps:stride"


def test_a_name_that_a_package_adds_cannot_be_registered(site):
    with pytest.raises(JaxrlError, match="'lane-v0' is already registered by the package walking"):
        jaxrl.register("lane-v0", object)


def forget():
    """Look at the metadata anew: in another process that would be so by itself."""
    added_names.__globals__["_added"].cache_clear()


@pytest.fixture(autouse=True)
def nothing_known():
    forget()
    yield
    forget()


def test_help_looks_at_no_metadata(site):
    program = (
        "import importlib.metadata as metadata, sys\n"
        "metadata.entry_points = lambda **_: sys.exit('looked for entry points')\n"
        "from jaxrl.cli import main\n"
        "sys.exit(main(['--help']))\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)


def test_a_list_that_shows_packages_needs_no_import_of_them(site, monkeypatch):
    monkeypatch.setattr(listing, "describe", lambda name: pytest.fail(f"{name} was described"))
    assert listing._row("lane-v0", True) == {"environment": "lane-v0", "package": "walking-kit"}


# ---- Settings that are tuned for an algorithm outside of jaxrl, beside its module


def test_tuned_settings_are_beside_a_package_s_module(site):
    assert algorithms.tuned("stride", "probe/two-step") == {"learning_rate": 0.25}
    assert algorithms.tuned("walking.steps:stride", "probe/two-step") == {"learning_rate": 0.25}
    assert algorithms.tuned("stride", "CartPole-v1") == {}
    (site / "walking" / "steps.toml").unlink()
    assert algorithms.tuned("stride", "probe/two-step") == {}


def test_training_begins_from_them(site, tmp_path, capsys):
    words = ["train", "walking.steps:stride", "--env", "probe/two-step", *TRAIN.split()]
    words.remove("--quiet")
    assert main([*words, str(tmp_path / "run")]) == 0
    assert "tuned settings for probe/two-step: learning_rate=0.25" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('["CartPole-v1"]\nlearning_rat = 1.0', r"\[\"CartPole-v1\"\].*Did you mean learning_rate"),
        ('["CartPole-v1"]\nnum_envs = 0', r"\[\"CartPole-v1\"\]: num_envs"),
        ("learning_rate = 1.0", "learning_rate stands outside of a table"),
        ("[CartPole", "cannot read the tuned settings"),
        (b"\xff\xfe", "cannot read the tuned settings"),
    ],
)
def test_bad_ones_are_refused_with_their_file(site, text, said):
    path = site / "walking" / "steps.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(JaxrlError, match=said) as error:
        algorithms.tuned("stride", "Acrobot-v1")
    assert str(path) in str(error.value)
