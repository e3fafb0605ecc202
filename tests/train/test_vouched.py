"""What a checkpoint vouches for: settings, inputs, rows of metrics, evaluations;
and that what is missing is said."""

import json
import shutil

import numpy as np
import pytest

from jaxrl import cli
from jaxrl.analysis.ranking import member_scores
from jaxrl.envs.registry import make
from jaxrl.errors import JaxrlError, RunWarning
from jaxrl.train import loop, resuming
from jaxrl.train.acting import load
from jaxrl.train.files import logs
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.folder import read_description
from jaxrl.train.files.logs import load_evaluations, read_metrics, save_evaluations
from tests.train.test_loop import STOP, Stopping
from tests.train.tiny import (
    POINTS,
    experiment,
    newest_state,
    records,
    same_bits,
    shared_compilations,
)


@pytest.fixture(scope="module", autouse=True)
def shared():
    with shared_compilations():
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from its beginning to its end."""
    return loop.train(experiment(), tmp_path_factory.mktemp("whole")).folder


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """The same run, stopped between two evaluations."""
    return loop.train(experiment(), tmp_path_factory.mktemp("begun"), console=Stopping(STOP)).folder


@pytest.fixture
def folder(begun, tmp_path):
    """A copy of it."""
    return shutil.copytree(begun, tmp_path / "run")


def edit(folder, change):
    description = read_description(folder)
    change(description)
    (folder / "config.json").write_text(json.dumps(description))


def test_a_hand_edit_is_refused_named_and_then_remembered(folder, begun):
    edit(folder, lambda description: description["config"].update(gamma=0.5))
    before = records(folder)
    with pytest.raises(
        JaxrlError, match=r"changed by hand.*\n  config\.gamma: 0\.99 -> 0\.5\n.*--force"
    ):
        loop.resume(folder)
    assert records(folder) == before
    loop.resume(folder, force=True, console=Stopping(POINTS[3]))
    assert read_description(folder)["history"][0]["changes"] == ["config.gamma: 0.99 -> 0.5"]
    loop.resume(folder)  # known from now on
    with pytest.warns(RunWarning) as caught:  # of the policy nothing but this is said
        edit(folder, lambda description: description["config"].update(gamma=0.4))
        load(folder)
    assert [str(each.message) for each in caught][0].endswith("config.gamma: 0.5 -> 0.4")


def test_settings_that_a_command_changed_are_no_hand_edit(folder):
    loop.resume(folder, changes={"gamma": 0.5}, force=True, console=Stopping(POINTS[3]))
    (step,) = read_description(folder)["history"]
    assert (step["iteration"], step["changes"]) == (STOP, ["config.gamma: 0.99 -> 0.5"])
    load(
        folder
    )  # the best policy may be older than the change: no warning, which would be an error
    loop.resume(folder)


def test_killed_right_after_a_forced_change_goes_on_with_it(folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(loop.Runner, "run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            loop.resume(folder, changes={"gamma": 0.5}, force=True)
    loop.resume(folder)
    assert read_description(folder)["config"]["gamma"] == 0.5


def without_line(number):
    def change(data):
        lines = data.splitlines(keepends=True)
        return b"".join(lines[:number] + lines[number + 1 :])

    return change


DAMAGED_ROWS = {
    "a row is missing": (
        without_line(3),
        rf"holds {STOP - 1} of the {STOP} rows up to iteration {STOP}",
    ),
    "rows are missing at the end": (
        lambda data: data[: len(data) // 2],
        "of the 11 rows up to iteration 11",
    ),
    "a line is torn in the middle": (
        lambda data: data.replace(b'{"iteration": 4,', b'{"itera', 1),
        "holds 10 of the 11",
    ),
    "a number was changed": (
        lambda data: data.replace(b'"loss": ', b'"loss": 9', 1),
        "was changed",
    ),
    "there is nothing": (lambda data: b"", "holds 0 of the 11 rows"),
}


@pytest.mark.parametrize(("change", "said"), DAMAGED_ROWS.values(), ids=DAMAGED_ROWS)
def test_rows_that_are_lost_are_said_to_be(folder, whole, change, said):
    path = folder / "metrics.jsonl"
    path.write_bytes(change(path.read_bytes()))
    with pytest.warns(RunWarning) as caught:
        loop.resume(folder)
    texts = [str(each.message) for each in caught]
    assert any(said in text and str(path) in text for text in texts), texts
    assert same_bits(newest_state(whole), newest_state(folder))
    assert any("is kept as" in text for text in texts) == (
        change is DAMAGED_ROWS["a line is torn in the middle"][0]
    )


def test_a_torn_last_line_is_what_a_kill_leaves(folder, whole):
    path = folder / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + b'{"iteration": 12, "tra')
    loop.resume(folder)  # a warning would be an error
    assert records(folder) == records(whole)


def shorten(folder):
    evaluations = load_evaluations(folder)
    save_evaluations(folder, {name: values[:-1] for name, values in evaluations.items()})


def alter(folder):
    evaluations = load_evaluations(folder)
    evaluations["deterministic_returns"][0] += 1
    save_evaluations(folder, evaluations)


DAMAGED_EVALUATIONS = {
    "shortened": (shorten, f"lacks the evaluations of iterations {POINTS[2]}"),
    "altered": (alter, "was changed"),
    "missing": (
        lambda folder: (folder / "evaluations.npz").unlink(),
        "lacks the evaluations of iterations 0, 4, 9",
    ),
    "torn": (
        lambda folder: (folder / "evaluations.npz").write_bytes(b"PK torn"),
        "is damaged: it cannot be read",
    ),
}


@pytest.mark.parametrize(("change", "said"), DAMAGED_EVALUATIONS.values(), ids=DAMAGED_EVALUATIONS)
def test_evaluations_that_are_lost_are_said_to_be_and_the_best_stays_the_best(
    folder, whole, change, said
):
    change(folder)
    with pytest.warns(RunWarning) as caught:
        loop.resume(folder)
    assert any(said in str(each.message) for each in caught)
    expected, found = (Checkpoints(each).best() for each in (whole, folder))
    assert (
        found[0]["scores"] == expected[0]["scores"]
        and found[0]["iterations"] == expected[0]["iterations"]
    )
    assert same_bits(found[1][1], expected[1][1])
    if said.startswith("is damaged"):
        assert (folder / "damaged-1-evaluations.npz").read_bytes() == b"PK torn"


def test_a_damaged_file_of_evaluations_does_not_hide_that_other_rows_are_missing(folder, capsys):
    (folder / "evaluations.npz").write_bytes(b"PK torn")
    assert cli.main(["plot", str(folder)]) == 2
    assert "evaluations.npz is damaged" in capsys.readouterr().err
    assert cli.main(["resume", str(folder), "--quiet"]) == 0
    shorten(folder)
    assert cli.main(["plot", str(folder), "--output", str(folder / "curve.png")]) == 0
    assert "evaluations.npz" in capsys.readouterr().err


def write_episodes(path, seed):
    """Three episodes of the paper's problem."""
    env, rng = make("tabular/paper"), np.random.default_rng(seed)
    actions = rng.integers(0, env.rewards.shape[2], (env.horizon, 3))
    np.savez(
        path, states=rng.integers(0, env.rewards.shape[1], (env.horizon + 1, 3)), actions=actions
    )


def test_an_input_of_other_content_is_refused_even_with_force(tmp_path, capsys):
    write_episodes(tmp_path / "episodes.npz", 0)
    train = (
        "train stepmix --env tabular/paper --constraint absolute --constraint-level 0 "
        "--total-steps 300"
    )
    train += " --num-envs 10 --num-evaluations 1 --evaluation-episodes 2 --quiet"
    data, run = str(tmp_path / "episodes.npz"), str(tmp_path / "run")
    assert cli.main([*train.split(), "--dataset", data, "--folder", run]) == 0, (
        capsys.readouterr().err
    )
    checksum = read_description(run)["inputs"]["dataset"]
    shutil.copy(data, tmp_path / "moved.npz")
    write_episodes(tmp_path / "episodes.npz", 1)
    for more in ([], ["--force"]):
        capsys.readouterr()
        assert cli.main(["resume", run, *more]) == 2
        error = capsys.readouterr().err
        assert (
            "dataset is not what the run in" in error and checksum[:12] in error and data in error
        )
    moved = ["--set", f"dataset={tmp_path / 'moved.npz'}", "--quiet"]
    assert cli.main(["resume", run, *moved]) == 0, capsys.readouterr().err


def test_evaluations_of_other_modes_are_kept_apart(folder):
    edit(folder, lambda description: description["run"].update(modes=["stochastic"]))
    with pytest.raises(JaxrlError, match="changed by hand"):
        loop.resume(folder)
    with pytest.warns(
        RunWarning, match="evaluations in the modes deterministic, stochastic are kept as"
    ):
        result = loop.resume(folder, force=True)
    assert list(result.returns) == ["stochastic"]
    evaluations = load_evaluations(folder)
    assert list(evaluations) == [
        "iteration",
        "transitions",
        "stochastic_returns",
        "stochastic_lengths",
    ]
    assert evaluations["iteration"].tolist() == [STOP, *POINTS[3:]]
    best, _ = Checkpoints(folder).best()  # chosen among those that this mode has ranked
    np.testing.assert_array_equal(
        best["scores"], member_scores(evaluations["stochastic_returns"]).max(0)
    )


def test_measures_are_vouched_for(folder):
    evaluations = load_evaluations(folder)
    evaluations["measure_bias"] = np.arange(3.0).reshape(3, 1, 1)
    vouched = logs.vouch(folder, evaluations, POINTS[2])
    save_evaluations(folder, evaluations)
    assert logs.lost(folder, vouched, POINTS[2]) == []
    assert logs.truncate_evaluations(folder, POINTS[1], vouched) is None
    assert load_evaluations(folder)["measure_bias"].ravel().tolist() == [0, 1]
    evaluations["measure_bias"][0] += 1
    save_evaluations(folder, evaluations)
    assert "was changed" in logs.lost(folder, vouched, POINTS[2])[0]


def test_rows_vouched_for_are_those_that_are_there(whole):
    metadata = Checkpoints(whole).vouched()
    assert metadata["rows"] == len(read_metrics(whole)) and metadata["evaluated"] == POINTS[:-1]
    best, _ = Checkpoints(whole).best()
    scores = member_scores(load_evaluations(whole)["deterministic_returns"])
    np.testing.assert_array_equal(best["scores"], scores.max(0))


def test_a_setting_that_came_later_is_a_difference_only_where_it_is_used(folder):
    new = read_description(folder)
    old = new | {"config": {name: new["config"][name] for name in new["config"] if name != "gamma"}}
    usual = resuming.default_settings("ppo")["gamma"]
    resuming.check_same(folder, old, new | {"config": new["config"] | {"gamma": usual}}, False)
    with pytest.raises(JaxrlError, match=r"config.gamma: \(absent\) -> 0.5"):
        resuming.check_same(folder, old, new | {"config": new["config"] | {"gamma": 0.5}}, False)


def test_a_version_that_came_to_be_noted_later_is_no_difference(folder):
    old = read_description(folder) | {"environment": "HalfCheetah-v5"}
    noted = old | {"versions": old["versions"] | {"gymnasium": "1.1"}}
    resuming.check_same(folder, old, noted, False)
    with pytest.raises(JaxrlError, match="versions.gymnasium: .* -> "):
        resuming.check_same(folder, noted, old, False)
    other = old | {"versions": old["versions"] | {"jax_enable_x64": "True"}}
    with pytest.raises(JaxrlError, match=r"versions.jax_enable_x64: \(absent\)"):
        resuming.check_same(folder, old, other, False)
