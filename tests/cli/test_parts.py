"""Parts on the command line and in run folders: offered, kept, read back,
and not imported unasked."""

import dataclasses
import json
import shutil
import sys
import types

import numpy as np
import pytest

from jaxrl import cli
from jaxrl.algos.registry import RESERVED
from jaxrl.cli import train as command
from jaxrl.config import configuration, number, override
from jaxrl.envs.starts.api import StartsConfig
from jaxrl.envs.starts.fresh import Fresh, FreshConfig
from jaxrl.envs.starts.pool import PoolConfig
from jaxrl.train import members, turns
from jaxrl.train.experiment import Experiment
from jaxrl.train.files.folder import read_description
from jaxrl.train.runner import Diverged
from jaxrl.train.trust import Trust
from tests.train.tiny import ARGUMENTS, experiment


@configuration
class LateConfig(StartsConfig):
    """Somebody's start distribution."""

    lateness: float = number(0.5, 0, 1)

    def make(self, env, shards):
        """The environment's own after all."""
        return Fresh(env)


LateConfig.__module__ = "somebodys_starts"


@pytest.fixture
def somebodys(monkeypatch):
    module = types.ModuleType("somebodys_starts")
    module.LateConfig = LateConfig
    monkeypatch.setitem(sys.modules, "somebodys_starts", module)
    return "somebodys_starts:LateConfig"


@pytest.fixture
def made(monkeypatch):
    """Run `jaxrl train ppo …` up to the point where training would begin: the experiment."""
    seen = {}
    monkeypatch.setattr(
        command.loop, "train", lambda experiment, folder, **_: seen.update(made=experiment)
    )
    monkeypatch.setattr(command.report, "finish", lambda *_: 0)

    def read(*words, name="train"):
        function = {"train": command.train, "sweep": command.sweep}[name]
        assert function(["ppo", *ARGUMENTS, "--folder", "unused", "--quiet", *words]) == 0
        return seen["made"]

    return read


def test_the_options_of_a_part_are_read_wherever_they_stand(made):
    for words in (["--starts", "pool", "--pool-size", "64"], ["--pool_size=64", "--starts=pool"]):
        assert made(*words).config.starts == PoolConfig(pool_size=64)
    assert made("--starts", "pool", "--starts", "fresh").config.starts == FreshConfig()
    assert made("--starts=pool").config.starts == PoolConfig()


def test_tuned_parts_are_the_defaults(made, monkeypatch):
    settings = {"starts": "pool", "pool_size": 32}
    monkeypatch.setattr("jaxrl.train.experiment.tuned", lambda *_: settings)
    assert made().config.starts == PoolConfig(pool_size=32)
    assert made("--starts", "pool", "--gamma=0.5").config.starts == PoolConfig(pool_size=32)
    assert made("--pool-size=8").config.starts == PoolConfig(pool_size=8)
    assert made("--starts", "fresh").config.starts == FreshConfig()


def test_a_file_may_have_options_of_a_part_that_is_typed(made, ask, tmp_path):
    file = tmp_path / "options.toml"
    file.write_text("pool_size = 64\n")
    assert made("--config", str(file), "--starts", "pool").config.starts == PoolConfig(pool_size=64)
    file.write_text('starts = "pool"\npool_size = 64\n')
    assert made("--config", str(file), "--starts", "fresh").config.starts == FreshConfig()
    file.write_text('folder = ""\n')
    errors = ask("train", "ppo", *ARGUMENTS, "--config", file)[2]
    assert errors == f"error: {file}: folder is an empty path."


def in_turn(monkeypatch, *words):
    """The experiments that `jaxrl sweep` would train in turn, as their folders are read back."""
    found = []

    def resume(path, *, trust, **_):
        found.append(Experiment.from_description(read_description(path), path, trust))
        raise KeyboardInterrupt if len(found) == 2 else Diverged("it is not trained.")

    monkeypatch.setattr(turns.loop, "resume", resume)
    assert cli.main(["sweep", "ppo", *ARGUMENTS, *words, "--quiet"]) == 130
    return found


def test_a_choice_of_ones_own_is_trusted_in_a_sweep(somebodys, monkeypatch, tmp_path):
    words = ("--over", f"starts=fresh,{somebodys}", "--folder", str(tmp_path / "new"))
    fresh, own = in_turn(monkeypatch, *words)
    assert (fresh.config.starts, own.config.starts) == (FreshConfig(), LateConfig())


def test_what_a_choice_does_not_read_goes_back_to_its_default(monkeypatch, tmp_path):
    """As `jaxrl train` has it with that choice: pool_size is tuned, not typed."""
    settings = {"starts": "pool", "pool_size": 32}
    monkeypatch.setattr("jaxrl.train.experiment.tuned", lambda *_: settings)
    words = ("--over", "starts=fresh,pool", "--folder", str(tmp_path / "new"))
    fresh, pool = in_turn(monkeypatch, *words)
    assert (fresh.config.starts, pool.config.starts) == (FreshConfig(), PoolConfig(pool_size=32))


@pytest.mark.parametrize(
    "words", [["--pool-size", "64"], ["--pool-size=64"], ["--pool_size=64", "--starts", "fresh"]]
)
def test_an_option_of_another_part_is_refused(ask, nothing_compiles, words):
    status, _, errors = ask("train", "ppo", *ARGUMENTS, "--folder", "unused", *words)
    assert (status, errors) == (
        2,
        "error: pool_size is an option of starts=pool, but starts is fresh.",
    )


def test_a_part_that_is_not_there_is_refused_with_those_that_are(ask, nothing_compiles):
    status, _, errors = ask(
        "train", "ppo", *ARGUMENTS, "--folder", "unused", "--starts", "pol", "--pool-size=3"
    )
    assert (
        status == 2 and "'pol'" in errors and "'fresh', 'jumpstart', 'pool', 'replayed'" in errors
    )
    assert ask("train", "ppo", *ARGUMENTS, "--starts")[0] == 2
    assert (
        "cannot import starts 'no.such:Thing'"
        in ask("train", "ppo", *ARGUMENTS, "--starts=no.such:Thing")[2]
    )


def test_the_help_lists_the_parts_and_the_options_of_the_chosen_one(run, somebodys):
    def text(*words):
        return " ".join(run("train", "ppo", *words)[0].replace("│", " ").split())

    usual = text("--help-all")
    assert "--starts {fresh,jumpstart,pool,replayed,snapshots} Where episodes begin." in usual
    assert "fresh: The environment's own reset" in usual
    assert "pool: A pool of resets, renewed every iteration and handed out in turn." in usual
    assert "--pool-size" not in usual and "--pool-size INT Starts that the pool keeps." in text(
        "--starts=pool", "--help"
    )
    own = text("--starts", somebodys, "--help")
    assert "Somebody's start distribution." in own and "--lateness FLOAT" in own


def test_scaling_is_offered_where_there_is_something_to_scale(run, ask):
    assert "--scale-from" in run("train", "ppo", "--help-all")[0]
    assert "--scale-from" not in run("train", "stepmix", "--help-all")[0]
    assert (
        "Unrecognized options: --scale-from"
        in ask("train", "stepmix", "--env=tabular/paper", "--scale-from=3")[2]
    )


def flat(kind) -> set[str]:
    """Names of all fields of a dataclass of options and of those inside of it."""
    names: set[str] = set()
    for field in dataclasses.fields(kind):
        inner = field.default_factory
        if isinstance(inner, type) and dataclasses.is_dataclass(inner):
            names |= flat(inner)
        else:
            names.add(field.name)
    return names


def test_no_setting_may_have_the_name_of_an_option_that_every_run_has():
    names = flat(command.Sweep) | flat(command.options.Scaling) | {"help", "help_all", "algorithm"}
    assert names - {"settings", "scaling"} == RESERVED


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """A finished sweep over a number of somebody's own part, by two seeds."""
    module = types.ModuleType("somebodys_starts")
    module.LateConfig = LateConfig
    folder = tmp_path_factory.mktemp("parts") / "swept"
    words = [
        "--starts",
        "somebodys_starts:LateConfig",
        "--over",
        "lateness=0.25,0.75",
        "--num-seeds",
        "2",
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "somebodys_starts", module)
        assert (
            cli.main(["sweep", "ppo", *ARGUMENTS, *words, "--folder", str(folder), "--quiet"]) == 0
        )
    return folder


def test_a_part_of_ones_own_is_swept_and_read_back_by_those_who_ask_for_it(swept, somebodys, ask):
    described = read_description(swept)
    assert described["config"]["starts"] == somebodys and described["config"]["lateness"] == 0.5
    status, _, errors = ask("eval", swept, "--episodes", 4)
    assert (
        status == 2
        and f"names its starts as '{somebodys}', which would be imported and run" in errors
    )
    assert f"--imports {somebodys}" in errors
    assert ask("resume", swept)[0] == 2
    for words in (["--imports", somebodys], ["--trust"]):
        assert (
            ask("eval", swept, "--episodes", 4, "--member", "lateness=0.75,seed=1", *words)[0] == 0
        )


def test_code_that_a_folder_names_is_not_imported_unasked(swept, tmp_path, ask, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')\n")
    folder = shutil.copytree(swept, tmp_path / "run")
    described = read_description(folder)
    config = described["config"] | {"starts": "evil:Config"}
    (folder / "config.json").write_text(json.dumps(described | {"config": config}))
    for words in (["eval", folder], ["resume", folder, "--force"], ["render", folder]):
        assert "'evil:Config'" in ask(*words)[2] and "evil" not in sys.modules


def test_the_command_of_a_member_names_its_part(somebodys):
    mine = experiment(starts=somebodys, lateness=0.75, sweep={"lateness": [0.25, 0.75]})
    words = members.command_of(mine, {"lateness": 0.25})
    assert (
        f"--starts {somebodys} " in words
        and " --lateness 0.25 " in words
        and "--pool-size" not in words
    )
    pooled = members.command_of(experiment(starts="pool", pool_size=8), {})
    assert "--starts pool" in pooled and "--pool-size 8" in pooled


def test_a_run_folder_of_before_is_read_and_goes_on(run, ask, tmp_path):
    """It held pool_size whether or not the pool was chosen."""
    folder = tmp_path / "run"
    run("train", "ppo", *ARGUMENTS, "--folder", folder, "--quiet")
    described = read_description(folder)
    old = described | {"config": {"pool_size": 1024} | described["config"]}
    (folder / "config.json").write_text(json.dumps(old))
    shutil.rmtree(folder / "checkpoints")
    (folder / "metrics.jsonl").unlink()
    (folder / "evaluations.npz").unlink()
    assert run("resume", folder, "--quiet")[1] == ""
    assert "deterministic_returns" in np.load(folder / "evaluations.npz")
    assert "pool_size" not in read_description(folder)["config"]
    pooled = old | {"config": old["config"] | {"starts": "pool", "pool_size": 64}}
    assert Experiment.from_description(pooled, folder).config.starts == PoolConfig(pool_size=64)
    wrong = old | {"config": old["config"] | {"pool_size": 64}}
    (folder / "config.json").write_text(json.dumps(wrong))
    assert "pool_size is an option of starts=pool, but starts is fresh" in ask("eval", folder)[2]


def test_settings_of_parts_are_changed_by_resume(run, tmp_path):
    folder = tmp_path / "run"
    run("train", "ppo", *ARGUMENTS, "--folder", folder, "--starts=pool", "--pool-size=8", "--quiet")
    described = Experiment.from_description(read_description(folder), folder, Trust())
    assert described.changed({"pool_size": 16, "starts": "pool"}).config.starts == PoolConfig(
        pool_size=16
    )
    assert override(described.config, {"starts": "fresh"}).starts == FreshConfig()
    _, errors = run("resume", folder, "--set", "gamma=0.5", "starts=pool", status=2)
    assert "config.gamma: 0.99 -> 0.5" in errors and "pool" not in errors.replace(str(folder), "")
