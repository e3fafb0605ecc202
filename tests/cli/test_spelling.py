"""What is meant by a command line, although it is written as in another program."""

import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from jaxrl.algos.ppo import PPOConfig
from jaxrl.cli import options, spelling
from jaxrl.config import check, override
from jaxrl.envs.registry import make
from jaxrl.errors import JaxrlError
from tests.train.tiny import ARGUMENTS


@dataclass(frozen=True, kw_only=True)
class Group:
    """Options that stand among those of the command."""

    anneal: bool = True


@dataclass(frozen=True, kw_only=True)
class Command:
    """Options of each kind."""

    quiet: bool = False
    learning_rate: float = 0.1
    hidden_sizes: tuple[int, ...] = (64, 64)
    names: tuple[str, ...] = ()
    group: Group = field(default_factory=Group)


MEANT = {
    "--quiet true": {"quiet": True},
    "--quiet False": {"quiet": False},
    "--quiet=True": {"quiet": True},
    "--group.anneal": {"group": Group(anneal=True)},
    "--hidden-sizes 64,32": {"hidden_sizes": (64, 32)},
    "--hidden-sizes [64,1_000]": {"hidden_sizes": (64, 1000)},
    "--hidden-sizes 64 32": {"hidden_sizes": (64, 32)},
    "--hidden-sizes": {"hidden_sizes": ()},
    "--learning-rate .7": {"learning_rate": 0.7},
    "--names true false": {"names": ("true", "false")},
    "--quiet --names true": {"quiet": True, "names": ("true",)},
}


@pytest.mark.parametrize(("text", "values"), MEANT.items(), ids=list(MEANT))
def test_what_is_meant_is_read(text, values):
    assert options.parse(Command, "command", text.split()) == Command(**values)


def test_switches_of_a_group_take_a_value_too():
    words = spelling.corrected(Command, "command", ["--anneal", "False", "--no-quiet", "x"])
    assert words == ["--no-anneal", "--no-quiet", "x"]


@pytest.mark.parametrize("text", ["--hidden-sizes 64,x", "--quiet maybe"])
def test_what_is_not_meant_is_refused(text, capsys):
    with pytest.raises(SystemExit):
        options.parse(Command, "command", text.split())
    assert text.split()[1].split(",")[-1] in capsys.readouterr().err


def test_an_option_by_another_name_is_refused_with_its_own():
    with pytest.raises(JaxrlError, match="command has no --lr: it is called --learning-rate here"):
        options.parse(Command, "command", ["--lr", "1e-3"])


OTHER_NAMES = {
    "train ppo PROBE --lr 1e-3": "--learning-rate",
    "train ppo PROBE --ent-coef=0": "--entropy-coefficient",
    "train ppo PROBE --batch_size 8": "--minibatch-size",
    "train ppo --env-id CartPole-v1": "--env",
    "train sac --env Pendulum-v1 --buffer-size 1000": "--replay-capacity",
    "train sac --env Pendulum-v1 --minibatch-size 64": "--batch-size",
    "train sac --env Pendulum-v1 --alpha 0.2": "--initial-temperature",
    "train sac --env Pendulum-v1 --n-steps 3": "--n-step",
    "train ppo PROBE --n-steps 8": "--num-steps",
    "sweep ppo PROBE --over gamma=0.9,0.99 --seeds 3": "--num-seeds",
    "eval run --num-episodes 3": "--episodes",
}


@pytest.mark.parametrize(("text", "meant"), OTHER_NAMES.items())
def test_the_names_of_other_programs_are_known(ask, text, meant):
    words = []
    for word in text.split():
        words += ARGUMENTS if word == "PROBE" else [word]
    status, _, errors = ask(*words)
    assert status == 2 and f"it is called {meant} here" in errors


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (".7", 0.7),
        ("1_000", 1000),
        ("-.5", -0.5),
        ("+3", 3),
        ("5.", 5.0),
        ("1_0.5e3", 10500.0),
        ("1e3", 1000.0),
        ("[1, 2]", [1, 2]),
        ("True", True),
        ("inf", "inf"),
        ("1_", "1_"),
        (".", "."),
        ("runs/7", "runs/7"),
    ],
)
def test_values_are_read_as_python_reads_them(text, value):
    assert options.read_value(text) == value
    assert type(options.read_value(text)) is type(value)


def test_a_whole_number_may_have_an_exponent_wherever_it_is_given():
    assert override(PPOConfig(), {"total_steps": 1e6}).total_steps == 1_000_000
    with pytest.raises(JaxrlError, match="num_envs is 1.5, but must be a whole number"):
        check(override(PPOConfig(), {"num_envs": 1.5}))


def test_a_whole_number_for_a_float_is_one():
    """It was an int32 that no float could be added to, in an environment of one's own."""
    environment = make("tests.envs.priced:Priced", cost=1)
    assert environment.cost == 1.0 and isinstance(environment.cost, float)
    assert make("CartPole-v1", max_steps_in_episode=1e2).horizon == 100


def test_python_m_jaxrl_is_jaxrl():
    for module in ("jaxrl", "jaxrl.cli"):
        done = subprocess.run(
            [sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0 and done.stdout.startswith("jaxrl "), done.stderr
