"""What the command line says to a bad request: one message,
before anything is compiled or written."""

import pytest

from jaxrl import cli
from tests.train.tiny import ARGUMENTS, PROBE


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run on the probe, made from the command line."""
    folder = tmp_path_factory.mktemp("cli") / "finished"
    assert cli.main(["train", "ppo", *ARGUMENTS, "--folder", str(folder), "--quiet"]) == 0
    return folder


# Bad requests: the arguments after `jaxrl train ppo`, and what the message names: what was given,
# what is allowed.
BAD_SETTINGS = {
    "--env Cartpole-v1": ["unknown environment 'Cartpole-v1'", "CartPole-v1"],
    "--env probe/two-length": ["'probe/two-length'", PROBE],
    "--env no.such.module:Env": ["no.such.module:Env", "package.module:Factory"],
    "--env jaxrl.envs.suites.probe:TwoLenghts": ["TwoLenghts", "TwoLengths"],
    "--learing-rate 1": ["--learing-rate", "--learning-rate"],
    "--learning-rate fast": ["--learning-rate", "fast", "float"],
    "--learning-rate -1": ["learning_rate is -1", "[0, inf)"],
    "--learning-rate nan": ["learning_rate is nan", "[0, inf)"],
    "--gamma 1.5": ["gamma is 1.5", "[0, 1]"],
    "--gae-lambda -0.1": ["gae_lambda is -0.1", "[0, 1]"],
    "--clip-epsilon 0": ["clip_epsilon is 0", "(0, inf]"],
    "--num-envs 0": ["num_envs is 0", "at least 1"],
    "--num-steps -4": ["num_steps is -4", "at least 1"],
    "--num-epochs 1.5": ["--num-epochs", "'1.5' is not a whole number"],
    "--hidden-sizes 4 0": ["hidden_sizes is 0", "at least 1"],
    "--minibatch-size 12": ["minibatch_size is 12", "num_envs * num_steps = 4 * 8 = 32", "8, 16"],
    "--total-steps 31": ["total_steps is 31", "4 * 8 = 32"],
    "--starts pol": ["'pol'", "'fresh', 'jumpstart', 'pool'"],
    "--torso cnn": ["torso=cnn", "[height, width, channels]"],
    "--env Pendulum-v1 --initial-log-std 3": ["initial_log_std is 3", "[-5, 2]"],
    "--squash-actions": ["squash_actions", "continuous", "Discrete"],
    "--num-seeds 0": ["num_seeds is 0", "at least 1"],
    "--evaluation-episodes -1": ["evaluation_episodes is -1", "at least 1"],
    "--num-evaluations 0": ["num_evaluations is 0", "at least 1"],
    "--seed -1": ["seed is -1", "[0, 2^31 - num_seeds)"],
    "--env-options size=3": ["takes no options", "size"],
    "--env-options size": ["'size'", "name=value"],
    "--env CartPole-v1 --env-options gravty=3": ["gravty", "gravity"],
    "--sinks wandbb": ["wandbb", "wandb"],
    "--num-envs=1e-3": ["--num-envs", "'1e-3' is not a whole number"],
    "--num_envs 1e30": ["--num-envs", "'1e30' is too large"],
    "--seed=zero": ["--seed", "'zero' is not a whole number"],
    "--scale-rule R2": ["--scale-rule is 'R2'", "--scale-from"],
    "--scale-from 3": ["scale_from is 3", "num_envs"],
    "--env-options": ["--env-options", "name=value"],
    "--env os:system": ["'os:system'", "function", "def make(...) -> Environment"],
    "--env jaxrl.envs.registry:make_": [
        "unknown environment in jaxrl.envs.registry 'make_'",
        "make",
    ],
    "--env this-is:it": ["this-is:it", "no name of a module", "package.module:Factory"],
    "--env :it": ["':it'", "package.module:Factory"],
    "--env CartPole-v1 --env-options gravity=low": ["gravity is 'low'", "number"],
    "--env bandit/contextual --env-options environment_id=3": ["environment_id"],
}


@pytest.mark.parametrize(("text", "named"), BAD_SETTINGS.items(), ids=list(BAD_SETTINGS))
def test_a_bad_setting_is_one_message_before_anything_happens(
    ask, tmp_path, nothing_compiles, text, named
):
    folder = tmp_path / "new"
    status, output, errors = ask("train", "ppo", *ARGUMENTS, "--folder", folder, *text.split())
    assert (status, output) == (2, "")
    assert [word for word in named if word not in errors] == [], errors
    assert not folder.exists()


BAD_COMMANDS = {
    "trian ppo": ["unknown command 'trian'", "Did you mean train"],
    "train": ["name an algorithm first", "jaxrl train ALGORITHM --env ID", "ppo"],
    "train pppo": ["unknown algorithm 'pppo'", "ppo"],
    "train os:system": ["'os:system'", "function", "-> Algorithm"],
    "train jaxrl.algos.ppo:PPOConfig": ["the class PPOConfig", "-> Algorithm"],
    "train CartPole-v1": ["unknown algorithm 'CartPole-v1'"],
    "train ppo CartPole-v1": ["'CartPole-v1'", "--env CartPole-v1"],
    "train ppo": ["--env"],
    "sweep ppo --env probe/memory": ["--over"],
    "sweep ppo --env probe/memory --over learning_rat=1,2": ["'learning_rat'", "learning_rate"],
    "sweep ppo --env probe/memory --over num_envs=8,1": ["num_envs=1: ", "minibatch_size"],
    "sweep ppo --env probe/memory --over activation=tanh,rely": ["activation=rely: ", "relu"],
    "sweep ppo --env probe/memory --over num_envs=8..16 --samples 2": ["num_envs=A,B"],
    "sweep ppo --env probe/memory --over num_envs=8,8": ["num_envs has a value twice"],
    "sweep ppo --env probe/memory --over num_envs=8,16 --profile": ["--profile", "several"],
    "sweep ppo --env probe/memory --over gamma=0.9..0.99": ["gamma=0.9..0.99", "--samples 16"],
    "sweep ppo --env probe/memory --over gamma=0.9,0.99 --samples 4": ["--samples", "ranges"],
    "sweep ppo --env probe/memory --over gamma=0.9..0.99 --samples 0": ["samples is 0"],
    "sweep ppo --env probe/memory --over gamma=0.9..1.5 --samples 9": ["gamma is 1.", "[0, 1]"],
    "sweep ppo --env probe/memory --over gamma=0.9..0.1 --samples 4": ["gamma=0.9..0.1", "higher"],
    "sweep ppo --env probe/memory --over gamma=0.9..x --samples 4": ["gamma=0.9..x", "log:1e-5"],
    "sweep ppo --env probe/memory --over gamma=lg:.1..1 --samples 4": ["gamma=lg:.1..1"],
    "sweep ppo --env probe/memory --over gamma=log:0..1 --samples 4": ["gamma=log:0..1", "above 0"],
    "train ppo --env probe/memory --samples 4": ["--samples"],
    "sweep ppo --env probe/memory --over gamma=0.9,1.5": ["gamma is 1.5", "[0, 1]"],
    "sweep ppo --env probe/memory --over gamma=0.9,high": ["gamma=0.9,high", "numbers"],
    "sweep ppo --env probe/memory --over gamma": ["'gamma'", "name=value"],
    "sweep ppo --env probe/memory --over": ["--over", "name=value"],
    "sweep ppo --env probe/memory --over gamma=0.9 --over=gamma=1": ["gamma is given twice"],
    "resume RUNS/finishd": ["not a run folder", "finished"],
    "resume RUNS/finished --set gama=0.9": ["'gama'", "gamma"],
    "resume RUNS/finished --set gamma": ["'gamma'", "name=value"],
    "resume RUNS/finished --set gamma=2": ["gamma is 2", "[0, 1]"],
    "resume RUNS/finished --set hidden_sizes=4": ["hidden_sizes is 4", "list"],
    "eval RUNS/nothing": ["not a run folder"],
    "eval RUNS/finished --episodes 0": ["episodes is 0", "at least 1"],
    "eval RUNS/finished --episodes 1.5": ["--episodes", "'1.5' is not a whole number"],
    "eval RUNS/finished --member seed": ["'seed'", "name=value"],
    "eval RUNS/finished --member seed=1,seed=2": ["seed is given twice"],
    "eval RUNS/finished --checkpoint worst": ["'worst'", "'best', 'last'"],
    "plot": ["at least one run folder"],
    "plot RUNS/nothing": ["not a run folder"],
    "plot RUNS/finished --output curve.bmp": ["curve.bmp", ".png, .pdf, .svg"],
    "render RUNS/finished": ["cannot draw probe/two-lengths", "classic control", "MinAtar"],
    "render RUNS/finished --steps 0": ["steps is 0", "at least 1"],
    "render RUNS/finished --frames-per-second 90": ["frames_per_second is 90", "between 1 and 50"],
    "render RUNS/finished --width 3": ["width is 3", "at least 40"],
    "envs cartpoll": ["'cartpoll'", "CartPole-v1"],
    "envs --suite gymnacks": ["unknown suite 'gymnacks'", "gymnax"],
}


@pytest.mark.usefixtures("nothing_compiles")
@pytest.mark.parametrize(("text", "named"), BAD_COMMANDS.items(), ids=list(BAD_COMMANDS))
def test_a_bad_command_is_one_message(ask, finished, tmp_path, monkeypatch, text, named):
    monkeypatch.chdir(tmp_path)
    status, _, errors = ask(*text.replace("RUNS", str(finished.parent)).split())
    assert status == 2
    assert [word for word in named if word not in errors] == [], errors
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_a_run_is_refused(ask, finished, nothing_compiles):
    before = (finished / "config.json").read_bytes()
    status, _, errors = ask("train", "ppo", *ARGUMENTS, "--folder", finished)
    assert status == 2
    assert (
        "already holds a run" in errors
        and "--overwrite" in errors
        and f"jaxrl resume {finished}" in errors
    )
    assert (finished / "config.json").read_bytes() == before


def test_a_folder_that_cannot_be_is_named(ask, tmp_path, nothing_compiles):
    (tmp_path / "file").write_text("")
    status, _, errors = ask("train", "ppo", *ARGUMENTS, "--folder", tmp_path / "file" / "run")
    assert (
        status == 2
        and f"{tmp_path / 'file' / 'run'}" in errors
        and "choose another folder" in errors
    )


def test_a_full_disk_is_named(ask, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jaxrl.train.files.checkpoint.os.rename", full)
    status, _, errors = ask("train", "ppo", *ARGUMENTS, "--folder", tmp_path / "run")
    assert status == 2 and "No space left on device" in errors and str(tmp_path / "run") in errors
