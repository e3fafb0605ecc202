"""The command line as its users meet it: every command on a tiny run,
and the help that explains it."""

import json
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxrl import cli
from jaxrl.analysis.records import modes_of
from jaxrl.envs import registry
from jaxrl.train import experiment
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.folder import read_description
from jaxrl.train.files.logs import load_evaluations, read_metrics
from tests.train.tiny import ARGUMENTS, EPISODES, ITERATIONS, POINTS, PROBE

SIZES = ARGUMENTS[2:]  # without the environment


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder of runs."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def probe(runs):
    """A finished run on the probe."""
    assert cli.main(["train", "ppo", *ARGUMENTS, "--folder", str(runs / "probe"), "--quiet"]) == 0
    return runs / "probe"


@pytest.fixture(scope="module")
def cartpole(runs):
    """A finished run on CartPole with another gravity."""
    options = [
        "--env",
        "CartPole-v1",
        "--env-options",
        "gravity=9.0",
        "--env-options",
        "force_mag=9",
        "--no-tuned",
    ]
    assert (
        cli.main(["train", "ppo", *options, *SIZES, "--folder", str(runs / "cartpole"), "--quiet"])
        == 0
    )
    return runs / "cartpole"


@pytest.fixture(scope="module")
def sweep(runs):
    """A finished sweep of two settings by two seeds."""
    over = ["--over", "learning_rate=1e-3,1e-2", "--num-seeds", "2"]
    assert (
        cli.main(["sweep", "ppo", *ARGUMENTS, *over, "--folder", str(runs / "sweep"), "--quiet"])
        == 0
    )
    return runs / "sweep"


def is_picture(path: Path) -> bool:
    with Image.open(path) as image:
        return image.size[0] > 100


def test_train_reports_where_everything_is(run, tmp_path):
    output, errors = run("train", "ppo", *ARGUMENTS, "--folder", tmp_path / "run")
    assert errors == ""
    assert f"{tmp_path / 'run'}: iteration 0 of {ITERATIONS}" in output
    assert re.search(r"deterministic \| +[\d.]+ \|", output) and re.search(
        r"stochastic +\| +[\d.]+ \|", output
    )
    assert re.search(r"training +\S+ environment steps/s, compiled in [\d.]+ s", output)
    assert f"checkpoint    {tmp_path / 'run' / 'checkpoints' / f'{ITERATIONS:09d}'}" in output
    assert is_picture(tmp_path / "run" / "plots" / "learning_curve.png")
    assert load_evaluations(tmp_path / "run")["iteration"].tolist() == POINTS


def test_train_without_a_folder_makes_one_that_says_what_it_is(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("train", "ppo", *ARGUMENTS, "--quiet") == ("", "")
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"ppo-probe-two-lengths-\d{8}-\d{6}", folder.name)


def test_overwrite_begins_again(run, probe, tmp_path):
    shutil.copytree(probe, tmp_path / "run")
    run(
        "train",
        "ppo",
        *ARGUMENTS,
        "--folder",
        tmp_path / "run",
        "--overwrite",
        "--seed",
        "3",
        "--quiet",
    )
    assert read_description(tmp_path / "run")["run"]["seed"] == 3
    assert len(read_metrics(tmp_path / "run")) == ITERATIONS


def test_environment_options_are_kept_with_the_run(cartpole):
    described = read_description(cartpole)
    assert described["environment_options"] == {"gravity": 9.0, "force_mag": 9}
    assert load_evaluations(cartpole)["deterministic_returns"].shape == (
        len(POINTS),
        1,
        1,
        EPISODES,
    )


def test_an_environment_of_ones_own_by_its_import_path(run, probe, tmp_path):
    run(
        "train",
        "ppo",
        "--env",
        "jaxrl.envs.suites.probe:TwoLengths",
        *SIZES,
        "--folder",
        tmp_path / "run",
        "--quiet",
    )
    mine, same = (
        load_evaluations(folder)["stochastic_returns"] for folder in (tmp_path / "run", probe)
    )
    np.testing.assert_array_equal(mine, same)
    # A folder that names code is a stranger's until its owner says otherwise.
    evaluate = ("eval", tmp_path / "run", "--episodes=4")
    assert "--imports jaxrl.envs.suites.probe:TwoLengths" in run(*evaluate, status=2)[1]
    for word in (["--imports", "jaxrl.envs.suites.probe:TwoLengths"], ["--trust"]):
        assert "deterministic" in run(*evaluate, *word)[0]


def test_tuned_settings_are_the_defaults_unless_refused(run, tmp_path, monkeypatch):
    tuned = {PROBE: {"learning_rate": 0.0123, "gamma": 0.5}}
    monkeypatch.setattr(
        experiment, "tuned", lambda _, environment, dataset: tuned.get(environment, {})
    )
    assert "(default: 0.0123)" in run("train", "ppo", "--env", PROBE, "--help")[0]
    assert "(default: 0.0123)" not in run("train", "ppo", "--help")[0]
    for flag, rate in (("--tuned", 0.0123), ("--no-tuned", 0.00025)):
        output, _ = run(
            "train", "ppo", *ARGUMENTS, "--folder", tmp_path / flag, flag, "--gamma", "0.9"
        )
        config = read_description(tmp_path / flag)["config"]
        assert (config["learning_rate"], config["gamma"]) == (rate, 0.9)
        assert (f"tuned settings for {PROBE}: learning_rate=0.0123" in output) == (
            flag == "--tuned"
        )


def test_sweep_trains_every_combination_at_once(run, sweep):
    described = read_description(sweep)
    assert described["sweep"] == {"learning_rate": [1e-3, 1e-2]}
    assert load_evaluations(sweep)["deterministic_returns"].shape == (len(POINTS), 2, 2, EPISODES)
    assert np.shape(read_metrics(sweep)[-1]["learning_rate"]) == (2, 2)
    assert is_picture(sweep / "plots" / "sweep.png")
    output, _ = run("eval", sweep, "--episodes", "8")
    assert len(re.findall(r"\| +0\.001 \| (deterministic|stochastic) ", output)) == 2
    assert len(re.findall(r"\| +16 \| +2 \|", output)) == 4  # 8 episodes for each of 2 seeds
    output, _ = run(
        "eval", sweep, "--episodes=8", "--member=learning-rate=1e-3", "--member", "seed=1"
    )
    assert len(re.findall(r"\| +8 \| +1 \|", output)) == 2  # both modes of one member


def test_eval_gives_the_same_table_twice_and_another_with_another_seed(run, probe):
    def table(*options):
        return " ".join(
            run("eval", probe, "--episodes", "64", *options)[0].split()
        )  # a long title is folded

    tables = [table("--seed", seed) for seed in (5, 5, 6)]
    assert tables[0] == tables[1] != tables[2]
    assert "best checkpoint, iteration" in tables[0]
    assert f"last checkpoint, iteration {ITERATIONS}" in table("--checkpoint", "last")


def test_eval_in_some_modes(run, probe, cartpole, tmp_path):
    both = run("eval", probe, "--episodes", "8")[0]
    assert len(re.findall(r"\| (deterministic|stochastic) +\|", both)) == 2
    output, _ = run("eval", probe, "--episodes", "8", "--mode", "stochastic")
    assert re.findall(r"\| (deterministic|stochastic) +\|.*", output) == ["stochastic"]
    turned, _ = run("eval", probe, "--episodes=8", "--mode=stochastic", "--mode=deterministic")
    assert re.findall(r"\| (deterministic|stochastic) +\|", turned) == [
        "stochastic",
        "deterministic",
    ]
    rows = [re.findall(r"\| (?:deterministic|stochastic) +\|.*", text) for text in (both, turned)]
    assert [line.split() for line in rows[0]] == [line.split() for line in reversed(rows[1])]
    for mode, words in (
        ("stochastc", "unknown mode of ppo 'stochastc'. Did you mean stochastic"),
        ("deterministic=3", "the mode deterministic of ppo takes no number"),
        ("target=nan", "its number must be finite"),
    ):
        for command, folder in (("eval", probe), ("render", cartpole)):
            assert words in run(command, folder, "--mode", mode, status=2)[1]
        assert (
            words
            in run(
                "train", "ppo", *ARGUMENTS, "--modes", mode, "--folder", tmp_path / "no", status=2
            )[1]
        )
    assert not (tmp_path / "no").exists()


def test_a_run_is_evaluated_in_the_modes_that_it_was_asked_for(run, tmp_path):
    folder = tmp_path / "run"
    modes = ["--modes", "stochastic", "deterministic"]
    output, _ = run("train", "ppo", *ARGUMENTS, *modes, "--folder", folder)
    assert re.findall(r"\| (deterministic|stochastic) +\|", output) == [
        "stochastic",
        "deterministic",
    ]
    assert read_description(folder)["run"]["modes"] == ["stochastic", "deterministic"]
    assert modes_of(load_evaluations(folder)) == ("stochastic", "deterministic")
    scores = load_evaluations(folder)["stochastic_returns"].mean(-1)
    assert Checkpoints(folder).best()[0]["scores"] == scores.max(0).tolist()  # the first mode ranks
    assert run("resume", folder, "--quiet") == ("", "")
    assert "stochastic" in run("eval", folder, "--episodes", "4")[0]


def test_plot_draws_one_run_several_or_a_sweep(run, probe, cartpole, sweep, tmp_path):
    for folders, name in (
        ([probe], "one.png"),
        ([probe, cartpole], "two.png"),
        ([sweep], "sweep.png"),
    ):
        output, _ = run("plot", *folders, "--output", tmp_path / name)
        assert output == f"wrote {tmp_path / name}\n"
        assert is_picture(tmp_path / name)
    assert "is a sweep: draw it by itself" in run("plot", probe, sweep, status=2)[1]


def test_render_makes_a_film(run, cartpole):
    output, _ = run("render", cartpole, "--seed", "1")
    film = cartpole / "plots" / "episode.gif"
    assert output == f"wrote {film}\n"
    with Image.open(film) as image:
        assert 2 <= image.n_frames <= 500
    run(
        "render",
        cartpole,
        "--seed",
        "1",
        "--mode",
        "stochastic",
        "--output",
        cartpole / "plots" / "other.gif",
    )
    assert (cartpole / "plots" / "other.gif").read_bytes() != film.read_bytes()
    small = cartpole / "plots" / "small.gif"
    shorter = ["--seed", "1", "--steps", "6", "--frames-per-second", "15", "--width", "100"]
    run("render", cartpole, *shorter, "--output", small)
    with Image.open(small) as image:
        assert (image.n_frames, image.width) == (3, 100)


def test_envs_lists_what_there_is(run):
    output, _ = run("envs", "cart")
    assert re.search(r"CartPole-v1 +\| +Box\(4\) float32 +\| +Discrete\(2\) +\| +500", output)
    assert "Pendulum" not in output
    output, _ = run("envs", "mujoco")  # a suite
    assert re.search(
        r"Hopper-v5 +\| +Box\(11\) float32 +\| +Box\(3\) float32 +\| +1000 +\| +mujoco, mjx", output
    )
    assert "CartPole-v1" not in output


def test_envs_lists_a_suite_that_is_not_installed(run, monkeypatch):
    monkeypatch.setattr(registry.suites()["brax"], "REQUIRES", "no_such_package")
    output, _ = run("envs", "brax/ant")
    assert f"brax is not installed: {sys.executable} -m pip install 'jaxrl[brax]'\n" in output
    assert re.search(
        r"brax/ant +\| +Box\(27\) float32 +\| +Box\(8\) float32 +\| +1000 +\| +generalized, ",
        output,
    )
    monkeypatch.setattr(registry.suites()["gymnax"], "REQUIRES", "no_such_package")
    output, _ = run("envs", "cart", "--suite", "gymnax")
    assert (
        f"gymnax is not installed: {sys.executable} -m pip install no_such_package\n" in output
        and "CartPole-v1" in output
    )


def test_envs_says_what_cannot_be_learnt_without_a_memory(run):
    output, _ = run("envs", "SimpleBandit")
    assert "SimpleBandit-bsuite: cannot be learnt without a memory" in " ".join(output.split())
    assert "memory" not in run("envs", "CartPole-v1")[0]


def test_envs_of_one_suite_says_what_is_not_served(run):
    output, _ = run("envs", "--suite", "playground")
    assert "playground/CheetahRun" in output and "CartPole-v1" not in output
    assert "not served: " in output and "playground/Go1Getup" in output and "clone" in output
    assert "not served" not in run("envs", "playground")[0]


def test_resume_of_a_finished_run_says_so(run, probe):
    output, errors = run("resume", probe)
    assert errors == "" and f"{probe} is finished" in output
    assert "final evaluation" in output and "steps/s" not in output


def test_resume_with_other_settings_is_a_diff_unless_forced(run, probe, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(probe, folder)
    more = ["--set", "gamma=0.9", "--set", "learning_rate=0.002", "clip_epsilon=0.1"]
    _, errors = run("resume", folder, *more, status=2)
    for line in (
        "config.gamma: 0.99 -> 0.9",
        "config.learning_rate: 0.00025 -> 0.002",
        "config.clip_epsilon: 0.2 -> 0.1",
    ):
        assert line in errors
    assert "--force" in errors
    assert read_description(folder) == read_description(probe)
    run("resume", folder, *more, "--set", f"total_steps={32 * (ITERATIONS + 1)}", "--force")
    assert read_description(folder)["config"]["gamma"] == 0.9


def test_a_damaged_checkpoint_is_spoken_of_even_when_quiet(run, probe, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(probe, folder)
    (Checkpoints(folder).newest / "manifest.json").write_text("{")
    _, errors = run("eval", folder, "--checkpoint", "last", "--episodes", "4", "--quiet")
    assert errors.startswith("warning: ") and f"{ITERATIONS:09d} is damaged" in errors
    assert f"going on from iteration {POINTS[-2]}\n" in (
        errors := run("resume", folder, "--quiet")[1]
    )
    assert "it is kept as" in errors
    assert run("resume", folder, "--quiet") == ("", "")
    np.testing.assert_array_equal(
        *(load_evaluations(path)["stochastic_returns"] for path in (folder, probe))
    )


def test_config_json_by_hand(run, probe, tmp_path):
    shutil.copytree(probe, tmp_path / "run")
    described = read_description(probe)
    del described["run"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(described))
    assert "lacks 'run'" in run("eval", tmp_path / "run", status=2)[1]


def test_help_teaches(run):
    output, _ = run("train", "ppo", "--help-all")
    text = " ".join(output.replace("│", " ").split())
    for words in (
        "Proximal policy optimisation",
        "Standardise observations by running statistics, which are saved with the policy. "
        "(default: False)",
        "inf: unclipped. (default: inf)",
        "--normalize-advantages {minibatch,batch,none}",
        "Environment id (see `jaxrl envs`), or package.module:Factory; that of the dataset unless "
        "given. (required)",
        "--env-options NAME=VALUE ...",
    ):
        assert words in text
    assert "learning_rate" in " ".join(run("sweep", "ppo", "--help")[0].split())
    assert (
        "algorithms: bc, decision_mamba, decision_transformer, deep_stepmix, dql"
        in run("train", "--help")[0]
    )
    for command in ("resume", "eval", "plot", "render", "envs"):
        output, errors = run(command, "--help")
        assert f"usage: jaxrl {command}" in output and errors == ""
        assert f"jaxrl {command}" in run("--help")[0]


@pytest.mark.slow
def test_a_run_of_many_environments_is_long_enough_to_be_one(tmp_path):
    """The default budget holds no iteration of so many; a budget that was given is kept,
    and refused if it is short."""
    arguments = [
        "train",
        "ppo",
        "--env",
        PROBE,
        "--num-steps",
        "8",
        "--minibatch-size",
        "65536",
        "--no-tuned",
    ]
    arguments += [
        "--hidden-sizes",
        "4",
        "--num-epochs",
        "1",
        "--evaluation-episodes",
        "2",
        "--num-evaluations",
        "1",
    ]
    folder = tmp_path / "run"
    assert cli.main([*arguments, "--num-envs", "16384", "--folder", str(folder), "--quiet"]) == 0
    assert read_description(folder)["config"]["total_steps"] == 20 * 16384 * 8
    assert (
        cli.main(
            [
                *arguments,
                "--num-envs",
                "16384",
                "--total-steps",
                "1000",
                "--folder",
                str(tmp_path / "no"),
            ]
        )
        == 2
    )


@pytest.mark.slow
def test_scaling_rules_change_what_is_run(tmp_path):
    folder = tmp_path / "run"
    scaled = [
        "--num-envs",
        "16",
        "--scale-from",
        "4",
        "--scale-rule",
        "R4",
        "--learning-rate",
        "0.001",
    ]
    scaled += ["--total-steps", "1024", "--folder", str(folder), "--quiet"]
    assert cli.main(["train", "ppo", *ARGUMENTS, *scaled]) == 0
    config = read_description(folder)["config"]
    assert config["minibatch_size"] == 64 and config["learning_rate"] == pytest.approx(0.004)
