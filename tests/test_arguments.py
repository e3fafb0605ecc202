"""Reading options: last value wins, names either way, nothing given is dropped in silence."""

import pytest

from jaxrl.arguments import assignments, canonical, fresh_folder, gathered, peek, read_sweep, read_value
from jaxrl.errors import JaxrlError


def test_underscores_and_exponents():
    given = ["--no_tuned", "--total_steps", "1e6", "--num-envs=8", "--learning-rate", "1e-3", "--folder", "a_b"]
    read = canonical(given, ["total_steps"])
    assert read == [
        "--no-tuned",
        "--total-steps",
        "1000000",
        "--num-envs=8",
        "--learning-rate",
        "1e-3",
        "--folder",
        "a_b",
    ]
    assert canonical(["--total-steps", "1.5e0"], ["total_steps"])[-1] == "1.5e0"
    assert canonical(["--total-steps", "sale"], ["total_steps"])[-1] == "sale"


def test_the_last_value_of_an_option_is_the_one_the_parser_takes():
    assert peek(["--env", "A", "--env=B"], "--env") == "B"
    assert peek(["--env=B", "--env", "A"], "--env") == "A"
    assert peek(["--env"], "--env") is None


def test_repeated_options_are_gathered():
    assert gathered(["--over", "a=1", "--quiet", "--over=b=2"], "--over") == ["--quiet", "--over", "a=1", "b=2"]


def test_a_name_given_twice_is_refused():
    assert assignments(["a-b=1", "c=x=y"]) == {"a_b": "1", "c": "x=y"}
    with pytest.raises(JaxrlError, match="gamma is given twice: gamma=0.9 and gamma=0.8"):
        read_sweep(["gamma=0.9", "gamma=0.8"])


def test_values_and_sweeps():
    assert [read_value(text) for text in ("3", "0.5", "True", "None", "[1, 2]", "tanh")] == [
        3,
        0.5,
        True,
        None,
        [1, 2],
        "tanh",
    ]
    assert read_sweep(["gamma=0.9,1"]) == {"gamma": [0.9, 1.0]}
    with pytest.raises(JaxrlError, match="gamma=high should be numbers between commas"):
        read_sweep(["gamma=high"])


def test_processes_that_start_together_get_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda _: "20260101-000000")
    folders = [fresh_folder("ppo", "probe/two-step") for _ in range(3)]
    assert [folder.name for folder in folders] == [
        f"ppo-probe-two-step-20260101-000000{end}" for end in ("", "-2", "-3")
    ]
    assert all(folder.is_dir() for folder in folders)
