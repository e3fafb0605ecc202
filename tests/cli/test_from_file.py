"""`--config FILE`: options from TOML or from a run, which give way to what is typed."""

import json
import os

import pytest

from jaxrl import cli
from jaxrl.cli import from_file
from jaxrl.cli import train as command
from jaxrl.train.files.folder import read_description
from tests.train.tiny import ARGUMENTS, PROBE, shared_compilations


@pytest.fixture(autouse=True, scope="module")
def programs_of_equal_shapes_compile_once():
    with shared_compilations():
        yield


WHOLE = """
algorithm = "ppo"
env = "CartPole-v1"
tuned = false
num-envs = 8
num_steps = 16
minibatch_size = 64
learning_rate = 1e-3
hidden_sizes = [16, 16]
anneal_learning_rate = false
target_kl = 0.1
starts = "pool"
pool_size = 32
num_seeds = 3
folder = "somewhere"
quiet = true

[env_options]
gravity = 9.0
force_mag = 9
"""


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Run `jaxrl train …` up to the point where training would begin, with a file of this text:
    the experiment, and what loop.train is given besides."""
    seen = {}

    def train(experiment, folder, **given):
        seen.update(given, made=experiment, folder=folder)

    monkeypatch.setattr(command.loop, "train", train)
    monkeypatch.setattr(command.report, "finish", lambda *_: 0)

    def read(text, *words, name="train"):
        (tmp_path / "x.toml").write_text(text)
        arguments = [name, *words, "--config", str(tmp_path / "x.toml")]
        assert cli.main(arguments) == 0
        return seen

    return read


def test_a_file_holds_the_options_of_a_run(asked):
    seen = asked(WHOLE)
    made = seen["made"]
    assert (made.algorithm, made.environment) == ("ppo", "CartPole-v1")
    assert made.environment_options == {"gravity": 9.0, "force_mag": 9}
    config = made.config
    assert (config.num_envs, config.learning_rate, config.target_kl) == (8, 1e-3, 0.1)
    assert config.network.hidden_sizes == (16, 16) and config.starts.pool_size == 32
    assert config.anneal_learning_rate is False and made.run.num_seeds == 3
    assert str(seen["folder"]) == "somewhere"
    assert made.description()["config"]["num_envs"] == 8  # as config.json says it


def test_what_is_typed_wins(asked):
    words = "--num-envs 4 --hidden-sizes 8 --no-tuned --starts fresh --num-seeds 1 --env PROBE"
    made = asked(WHOLE, "ppo", *words.replace("PROBE", "MountainCar-v0").split())["made"]
    assert made.environment == "MountainCar-v0" and made.config.num_envs == 4
    assert made.config.network.hidden_sizes == (8,) and made.run.num_seeds == 1
    assert type(made.config.starts).__name__ == "FreshConfig"
    some = asked(WHOLE, "--env-options", "gravity=5", "--env_options=length=1")["made"]
    assert some.environment_options == {"gravity": 5, "length": 1, "force_mag": 9}


def test_a_file_comes_before_tuned_settings_and_after_the_command_line(asked, monkeypatch):
    tuned = {"gamma": 0.5, "num_epochs": 7}
    monkeypatch.setattr("jaxrl.train.experiment.tuned", lambda *_: tuned)
    text = f'env = "{PROBE}"\ngamma = 0.6\n'
    config = asked(text, "ppo")["made"].config
    assert (config.gamma, config.num_epochs) == (0.6, 7)
    assert asked(text, "ppo", "--gamma=0.7")["made"].config.gamma == 0.7
    assert asked(text + "tuned = false\n", "ppo")["made"].config.num_epochs == 4
    assert asked(text + "tuned = false\n", "ppo", "--tuned")["made"].config.num_epochs == 7


def test_a_budget_in_a_file_is_one_that_was_given(asked):
    text = f'env = "{PROBE}"\nnum_envs = 512\nminibatch_size = 8192\ntuned = false\n'
    assert asked(text, "ppo")["made"].config.total_steps == 20 * 512 * 128
    assert asked(text + "total_steps = 1e5\n", "ppo")["made"].config.total_steps == 100_000


def test_what_a_sweep_varies_is_a_table(asked):
    text = f'algorithm = "ppo"\nenv = "{PROBE}"\ngamma = 0.5\n'
    text += '[over]\nlearning-rate = [1e-3, 1e-2]\nclip_epsilon = "0.1..0.3"\n'
    words = ("--samples", "4", "--over", "clip_epsilon=0.1,0.2,0.4")
    made = asked(text.replace('"0.1..0.3"', "[0.1, 0.3]"), name="sweep")["made"]
    assert made.sweep == {"learning_rate": [1e-3, 1e-2], "clip_epsilon": [0.1, 0.3]}
    made = asked(text, *words[:2], name="sweep")["made"]
    assert made.sampled == {"learning_rate": "0.001,0.01", "clip_epsilon": "0.1..0.3"}
    made = asked(text, *words[2:], name="sweep")["made"]
    assert made.sweep["clip_epsilon"] == [0.1, 0.2, 0.4]
    made = asked(text, "--clip-epsilon", "0.2", name="sweep")["made"]
    assert list(made.sweep) == ["learning_rate"] and made.config.clip_epsilon == 0.2


REFUSED = {
    "learning_rat = 1e-3": ["learning_rat", "learning_rate"],
    "lr = 1e-3": ["lr", "learning_rate"],
    'colour = "blue"': ["'colour'"],
    "pool_size = 3": ["pool_size", "starts=pool"],
    'learning_rate = "high"': ["learning_rate is 'high'", "a number"],
    'num_envs = "eight"': ["num_envs is 'eight'", "whole number"],
    "num_envs = 1.5": ["num_envs is 1.5", "whole number"],
    "hidden_sizes = 64": ["hidden_sizes is 64", "a list"],
    'hidden_sizes = ["a"]': ["hidden_sizes is 'a'", "whole number"],
    "gamma = 1.5": ["gamma is 1.5", "[0, 1]"],
    "gamma = true": ["gamma is True", "a number"],
    'activation = "rely"': ["rely", "relu"],
    'starts = "pol"': ["pol", "pool"],
    'quiet = "yes"': ["quiet is 'yes'", "True or False"],
    "folder = 3": ["folder is 3", "a path"],
    'seed = "x"': ["seed is 'x'", "whole number"],
    'sinks = "wandb"': ["sinks is 'wandb'", "list"],
    'scale_from = 4\nscale_rule = "R9"': ["R9", "R5"],
    "env = 3": ["env is 3", "text"],
    "algorithm = 3": ["algorithm is 3", "text"],
    "gamma = 0.9\nclip_epsilon = 0.1\nclip-epsilon = 0.2": ["clip_epsilon is given twice"],
    "[network]\nhidden_sizes = [3]": ["network", "table"],
    "[env_options.gravity]\nx = 3": ["gravity is a table"],
    "env_options = 3": ["env_options is 3", "table"],
    "gamma = 1979-05-27": ["gamma is the date or time 1979-05-27"],
    "[over]\ngamma = [0.5, 0.9]": ["over", "jaxrl sweep"],
    'config = "other.toml"': ["'config'"],
    "learning_rate": ["no TOML"],
    "gamma = 0.9\ngamma = 0.8": ["no TOML"],
    "\0": ["no TOML"],
    f"gamma = {'9' * 5000}": ["no TOML"],
    f"gamma = {'[' * 5000}": ["no TOML"],
    "target_noise = 1": ["'target_noise'"],
    "value_coefficient = 0.0\nvalue_clip_epsilon = 0.2": ["value_clip_epsilon is 0.2"],
    f"x = '{'y' * 2_000_000}'": ["2,000,0", "bytes"],
}


@pytest.mark.parametrize(("text", "named"), REFUSED.items(), ids=[key[:40] for key in REFUSED])
def test_a_wrong_file_is_refused_by_its_name(
    ask, nothing_compiles, tmp_path, monkeypatch, text, named
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.toml").write_text(text)
    own_env = [] if "env = " in text else ["--env", PROBE]
    own_name = [] if "algorithm" in text else ["ppo"]
    status, _, errors = ask("train", *own_name, *own_env, "--config", "wrong.toml")
    assert status == 2 and "wrong.toml" in errors
    assert [word for word in named if word not in errors] == [], errors
    assert [path.name for path in tmp_path.iterdir()] == ["wrong.toml"]


def test_what_is_no_file_is_refused(ask, nothing_compiles, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    os.mkfifo(tmp_path / "pipe.toml")
    for name, why in {
        "missing.toml": "No such file",
        "folder": "not a run folder",
        "bytes.toml": "no TOML",
        "pipe.toml": "is no file",
        "folder/config.json": "not a run folder",
    }.items():
        status, _, errors = ask("train", "ppo", "--env", PROBE, "--config", name)
        assert status == 2 and name.removesuffix("/config.json") in errors and why in errors, errors
    status, _, errors = ask("train", "--config", "missing.toml")
    assert status == 2 and "missing.toml" in errors
    assert "name an algorithm first" in ask("train", "--env", PROBE)[2]


def test_what_is_swept_is_given_once(asked, ask, nothing_compiles, tmp_path):
    text = f'algorithm = "ppo"\nenv = "{PROBE}"\ngamma = 0.5\n'
    made = asked(text, "--over", "gamma=0.8,0.9", name="sweep")["made"]
    assert made.sweep == {"gamma": [0.8, 0.9]}  # typed, and so it wins
    (tmp_path / "x.toml").write_text(text + "[over]\ngamma = [0.8, 0.9]\n")
    errors = ask("sweep", "--config", tmp_path / "x.toml")[2]
    assert "x.toml: gamma is given twice: by itself, and under over" in errors


def test_the_help_shows_what_the_file_holds(run, tmp_path):
    (tmp_path / "x.toml").write_text(f'env = "{PROBE}"\ngamma = 0.625\ntarget_kl = 0.125\n')
    output, _ = run("train", "ppo", "--config", tmp_path / "x.toml", "--help")
    assert "(default: 0.625)" in output and f"(default: {PROBE})" in output
    assert (
        "(default: 0.125)" in run("train", "ppo", "--config", tmp_path / "x.toml", "--help-all")[0]
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run, and a finished sweep."""
    folder = tmp_path_factory.mktemp("runs")
    shared = [*ARGUMENTS, "--quiet", "--no-tuned", "--starts=pool", "--pool-size=8", "--seed=3"]
    assert cli.main(["train", "ppo", *shared, "--folder", str(folder / "one")]) == 0
    drawn = ["--over", "gamma=0.9..0.99", "learning_rate=log:1e-4..1e-2", "--samples", "2"]
    assert cli.main(["sweep", "ppo", *shared, *drawn, "--folder", str(folder / "swept")]) == 0
    return folder


@pytest.mark.parametrize("name", ["one", "one/config.json", "swept"])
def test_a_run_is_repeated(runs, run, tmp_path, name):
    command_name = "sweep" if name == "swept" else "train"
    run(command_name, "--config", runs / name, "--folder", tmp_path / "again", "--quiet")
    before, after = (
        read_description(runs / name.split("/")[0]),
        read_description(tmp_path / "again"),
    )
    assert before == after
    names = ("metrics.jsonl", "evaluations.npz")
    assert all((tmp_path / "again" / each).exists() for each in names)
    run(
        *(command_name, "--config", runs / name, "--folder", tmp_path / "other", "--quiet"),
        *("--seed", "9", "--num-epochs=2"),
    )
    other = read_description(tmp_path / "other")
    assert other["run"] == before["run"] | {"seed": 9}
    assert other["config"] == before["config"] | {"num_epochs": 2}


def test_a_stranger_s_run_is_not_imported_unasked(runs, ask, tmp_path, monkeypatch):
    folder = tmp_path / "theirs"
    folder.mkdir()
    described = read_description(runs / "one") | {"environment": "evil:Thing"}
    (folder / "config.json").write_text(json.dumps(described))
    words = ("train", "--config", folder, "--folder", tmp_path / "mine")
    assert "'evil:Thing'" in ask(*words)[2] and "would be imported" in ask(*words)[2]
    assert not (tmp_path / "mine").exists()


def test_a_table_is_written_as_the_command_line_has_it():
    table = {"a-b": 3, "c": [0.5, 1e-3], "d": "log:1..2", "e": [[8, 8], [4]], "f": True}
    assert from_file.as_words(table, without={"c"}) == (
        ("a_b=3",),
        ("d=log:1..2",),
        ("e=[8, 8],[4]",),
        ("f=true",),
    )
