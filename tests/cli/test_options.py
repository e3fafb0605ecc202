"""Reading options: one thing however it is spelt, the last value wins,
nothing given is dropped in silence."""

import pytest

from jaxrl.cli import options
from jaxrl.cli import train as command
from jaxrl.cli.options import assignments, member, read_value, values, whole_number
from jaxrl.errors import JaxrlError
from jaxrl.train.files.folder import fresh_folder
from tests.train.tiny import PROBE


@pytest.fixture
def trained(monkeypatch):
    """Run `jaxrl train ppo …` up to the point where training would begin: the experiment,
    and loop.train's options."""
    seen = {}
    monkeypatch.setattr(
        command.loop,
        "train",
        lambda experiment, folder, **given: seen.update(given, made=experiment),
    )
    monkeypatch.setattr(command.report, "finish", lambda *_: 0)

    def read(*words, name="train"):
        seen.clear()
        folder = ("--folder", "unused", "--quiet")
        function = {"train": command.train, "sweep": command.sweep}[name]
        assert function(["ppo", "--env", PROBE, "--no-tuned", *folder, *words]) == 0
        return seen["made"]

    return read


@pytest.mark.parametrize("text", ["100000", "1e5", "100_000", "1.0e5"])
def test_both_spellings_of_an_option_are_one(trained, text):
    """A budget that was given is kept, whichever way it is written: with =,
    it was once taken for none."""
    sizes = ("--num-envs", "512", "--minibatch-size", "8192")
    for budget in ([f"--total-steps={text}"], ["--total-steps", text], [f"--total_steps={text}"]):
        config = trained(*sizes, *budget).config
        assert (config.total_steps, type(config.total_steps)) == (100_000, int)


def test_a_budget_that_nobody_gave_is_long_enough(trained):
    config = trained("--num-envs=512", "--minibatch-size=8192").config
    assert (config.total_steps, type(config.total_steps)) == (20 * 512 * 128, int)
    assert type(trained().config.total_steps) is int


def test_every_whole_number_may_have_an_exponent(trained):
    words = [
        "--num-envs=1e1",
        "--minibatch_size",
        "1.28e2",
        "--seed=1e2",
        "--num_seeds",
        "2e0",
        "--devices=1",
    ]
    experiment = trained(*words, "--evaluation-episodes=1e1", "--hidden-sizes", "1e1", "2e1")
    assert (experiment.config.num_envs, experiment.config.minibatch_size) == (10, 128)
    assert experiment.config.network.hidden_sizes == (10, 20)
    assert (experiment.run.seed, experiment.run.num_seeds, experiment.run.devices) == (100, 2, 1)
    assert experiment.run.evaluation_episodes == 10


@pytest.mark.parametrize(
    "flags", [["--env=CartPole-v1"], ["--env", "Acrobot-v1", "--env=CartPole-v1"]]
)
def test_tuned_defaults_are_those_of_the_environment_that_is_run(trained, monkeypatch, flags):
    tuned = {"CartPole-v1": {"gamma": 0.5}, PROBE: {"gamma": 0.6}}
    monkeypatch.setattr(
        "jaxrl.train.experiment.tuned", lambda _, environment, dataset: tuned.get(environment, {})
    )
    assert trained(*flags).config.gamma == 0.99  # --no-tuned
    for spelling in ("--tuned", "--no_tuned --tuned"):
        assert trained(*flags, *spelling.split()).config.gamma == 0.5
    assert trained(*flags, "--tuned", "--no_tuned").config.gamma == 0.99


def test_values_that_are_spread_over_options_add_up(trained):
    words = [
        "--over",
        "gamma=0.9,1",
        "clip-epsilon=0.1",
        "--quiet",
        "--over=gae_lambda=0.5",
        "--env_options",
        "a=x=y",
    ]
    words += ["--env-options=b=2", "--env", "mine"]
    made = trained(*words, name="sweep")
    assert made.environment == "mine" and made.environment_options == {"a": "x=y", "b": 2}
    assert made.sweep == {"gamma": [0.9, 1.0], "clip_epsilon": [0.1], "gae_lambda": [0.5]}


def test_names_that_the_user_typed_are_trusted(trained):
    trust = trained("--env=jaxrl.envs.suites.probe:TwoLengths", "--imports", "a.b:C").trust
    assert trust.imports == ("a.b:C", "jaxrl.envs.suites.probe:TwoLengths") and not trust.trust


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12", 12),
        ("-1", -1),
        ("1e6", 10**6),
        ("2.5e1", 25),
        ("9007199254740993", 9007199254740993),
        ("3.0", 3),
    ],
)
def test_whole_numbers(text, number):
    assert whole_number(text) == number and type(whole_number(text)) is int


@pytest.mark.parametrize(
    "text", ["1.5", "1e-3", "nan", "inf", "-inf", "", "ten", "1e400", "1e30", "9" * 5000]
)
def test_no_whole_numbers(text):
    with pytest.raises(ValueError, match="whole number"):
        whole_number(text)


def test_a_name_given_twice_is_refused():
    assert assignments("--set", [["a-b=1"], ["c=x=y"]]) == {"a_b": "1", "c": "x=y"}
    with pytest.raises(JaxrlError, match="gamma is given twice: gamma=0.9 and gamma=0.8"):
        assignments("--over", (("gamma=0.9",), ("gamma=0.8",)))
    with pytest.raises(JaxrlError, match="--set needs at least one name=value"):
        assignments("--set", [[]])


def test_values():
    texts = ("3", "0.5", "True", "None", "[1, 2]", "tanh", "9" * 5000, "[" * 100_000)
    assert [read_value(text) for text in texts] == [3, 0.5, True, None, [1, 2], "tanh", *texts[-2:]]
    assert values("--set", (("a=3", "b=x"), ("c=null",))) == {"a": 3, "b": "x", "c": None}


def test_a_member_is_named_in_one_word_or_several():
    named = ("learning_rate=3e-3", "seed=2")
    for given in (
        (("learning-rate=3e-3,seed=2",),),
        (named,),
        (("learning_rate=3e-3",), ("seed=2",)),
    ):
        assert member(given) == named
    assert member(()) == ()


def test_determinism_is_asked_for_once(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_one")
    for _ in range(2):
        options.ask_for_determinism()
        assert options.os.environ["XLA_FLAGS"] == "--xla_one --xla_gpu_deterministic_ops=true"


def test_processes_that_start_together_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda _: "20260101-000000")
    folders = [fresh_folder("my.module:ppo", "probe/two-step") for _ in range(3)]
    names = [f"my.module-ppo-probe-two-step-20260101-000000{end}" for end in ("", "-2", "-3")]
    assert [folder.name for folder in folders] == names
    assert all(folder.is_dir() for folder in folders)


def test_a_link_that_leads_nowhere_is_no_place_for_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").symlink_to(tmp_path / "scratch")
    with pytest.raises(JaxrlError, match="runs, where run folders go, is a link that leads nowher"):
        fresh_folder("ppo", "CartPole-v1")
    (tmp_path / "scratch").mkdir()
    assert fresh_folder("ppo", "CartPole-v1").resolve().parent == tmp_path / "scratch"
