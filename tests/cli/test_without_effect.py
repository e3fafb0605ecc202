"""Options that would be accepted and do nothing: each is refused, with what it is read with."""

import optax
import pytest

from jaxrl import cli
from jaxrl.config import configuration
from jaxrl.nn.optimizers import OptimizerConfig
from tests.train.tiny import ARGUMENTS


@configuration
class DescentConfig(OptimizerConfig):
    """Plain gradient descent."""

    def make(self):
        return optax.sgd(1e-3)


SAC = "--env Pendulum-v1 --total-steps 2000 --warm-up 100 --num-steps 50"
STEPMIX = "--env tabular/hub --total-steps 500"
TRAINING = {
    "train ppo PROBE --mesh env=2,env=1": ["mesh has env twice", "env=2", "env=1"],
    "train ppo PROBE --mesh seed=1 seed=1": ["mesh has seed twice"],
    "train ppo PROBE --scale-rule R2": ["--scale-rule", "--scale-from"],
    "train ppo PROBE --pool-size 64": ["pool_size", "starts=pool", "fresh"],
    "train ppo PROBE --overwrite": ["--overwrite is True", "--folder"],
    "train ppo PROBE --learning-rate inf": ["learning_rate is inf", "[0, inf)"],
    "train ppo PROBE --learning-rate 1e300": ["learning_rate is 1e+300", "[0, inf)"],
    "train ppo PROBE --value-coefficient 0 --value-clip-epsilon 0.2": [
        "value_clip_epsilon is 0.2",
        "value_coefficient",
    ],
    "train ppo PROBE --hidden-sizes --activation relu": ["activation is 'relu'", "hidden_sizes"],
    "train ppo PROBE --hidden-sizes --shared-torso": ["shared_torso is True", "hidden_sizes"],
    "train ppo PROBE --initial-log-std -1": ["initial_log_std is -1", "continuous", "Discrete"],
    "train ppo PROBE --no-train-std": ["train_std is False", "continuous", "Discrete"],
    "train ppo PROBE --optimizer tests.algos.test_ppo:FrozenValueConfig --learning-rate 1": [
        "learning_rate is 1",
        "optimizer=adam",
    ],
    f"train sac {SAC} --no-train-temperature --target-entropy -2": [
        "target_entropy is -2",
        "train_temperature=True",
    ],
    f"train sac {SAC} --hidden-sizes --layer-norm": ["layer_norm is True", "hidden_sizes"],
    f"train td3 {SAC} --target-noise 0 --target-noise-clip 1": [
        "target_noise_clip is 1",
        "target_noise is 0",
    ],
    f"train stepmix {STEPMIX} --baseline constant --inverse-temperature 3": [
        "inverse_temperature is 3",
        "baseline=boltzmann",
        "'constant'",
    ],
    f"train stepmix {STEPMIX} --baseline-action 2": ["baseline_action is 2", "baseline=constant"],
    f"train stepmix {STEPMIX} --baseline-epsilon .3": ["baseline_epsilon is 0.3", "epsilon-soft"],
    "train ppo --env CartPole-v1 --env-options gravity=NaN": ["gravity is nan", "finite"],
    "sweep ppo PROBE --over": ["--over"],
    "sweep ppo PROBE --over=": ["--over"],
    "sweep ppo PROBE": ["--over"],
    "sweep ppo PROBE --gamma 0.9 --over gamma=0.8,0.9": ["--gamma", "--over gamma"],
    "sweep ppo PROBE --gamma 0.99 --over gamma=0.8,0.9": ["--gamma", "--over gamma"],
    "sweep ppo PROBE --value-coefficient 0 --over value_clip_epsilon=0.1,0.2": [
        "value_clip_epsilon is 0.1, 0.2",
        "value_coefficient",
    ],
}


@pytest.mark.usefixtures("nothing_compiles")
@pytest.mark.parametrize(("text", "named"), TRAINING.items(), ids=list(TRAINING))
def test_an_option_without_effect_is_refused(ask, tmp_path, monkeypatch, text, named):
    monkeypatch.chdir(tmp_path)
    words = []
    for word in text.split():
        words += ARGUMENTS if word == "PROBE" else [word]
    status, _, errors = ask(*words)
    assert status == 2
    assert [word for word in named if word not in errors] == [], errors
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A finished run of 768 transitions, and a finished sweep."""
    folder = tmp_path_factory.mktemp("runs")
    shared = [*ARGUMENTS, "--quiet", "--folder"]
    assert cli.main(["train", "ppo", *shared, str(folder / "one")]) == 0
    over = ["--over", "learning_rate=1e-3,1e-2"]
    assert cli.main(["sweep", "ppo", *shared, str(folder / "sweep"), *over]) == 0
    return folder


SAVED = {
    "resume RUNS/sweep --set learning_rate=1 --force": ["learning_rate is swept", "0.001, 0.01"],
    "resume RUNS/one --set total_steps=64 --force": ["total_steps is 64", "768 transitions"],
    "resume RUNS/one --set gamma=0.5 --force": ["finished", "gamma: 0.99 -> 0.5", "total_steps"],
    "resume RUNS/one --mesh env=1,env=1": ["mesh has env twice"],
    "render RUNS/one --output x.mp4": ["output is x.mp4", ".gif"],
    "plot RUNS/one --output x.gif": ["x.gif", ".png, .pdf, .svg"],
    "collect RUNS/one --output x.csv": ["x.csv", ".npz"],
}


@pytest.mark.usefixtures("nothing_compiles")
@pytest.mark.parametrize(("text", "named"), SAVED.items(), ids=list(SAVED))
def test_an_option_without_effect_on_a_run_is_refused(ask, runs, text, named):
    before = (runs / "one" / "config.json").read_bytes()
    status, _, errors = ask(*text.replace("RUNS", str(runs)).split())
    assert status == 2
    assert [word for word in named if word not in errors] == [], errors
    assert (runs / "one" / "config.json").read_bytes() == before


def test_tuned_settings_that_nothing_reads_any_more_go_back_to_their_defaults(run, tmp_path):
    """What nobody has typed is not complained of; the note lists what was taken."""
    small = "--num-steps 8 --num-envs 4 --minibatch-size 16 --total-steps 64 --num-epochs 1"
    folder = tmp_path / "run"
    arguments = f"{small} --num-evaluations 1 --evaluation-episodes 2 --folder {folder}"
    own = "--optimizer tests.cli.test_without_effect:DescentConfig"
    output, _ = run("train", "ppo", "--env", "Acrobot-v1", *own.split(), *arguments.split())
    (note,) = [line for line in output.splitlines() if line.startswith("tuned settings")]
    taken = "entropy_coefficient=0.0, normalize_observations=True"
    assert note == f"tuned settings for Acrobot-v1: {taken}"
