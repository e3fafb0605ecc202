"""The runner: evaluation points, records, best and last, stopping and resuming, sinks."""

import importlib.util
import json
import signal
import sys
import types

import numpy as np
import pytest

from jaxrl.errors import JaxrlError
from jaxrl.train import loop
from jaxrl.train.build import build
from jaxrl.train.files import logs
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.folder import read_description
from jaxrl.train.files.lock import locked
from jaxrl.train.files.logs import load_evaluations, read_metrics
from jaxrl.train.output.console import Console
from tests.train.tiny import (
    ITERATIONS,
    POINTS,
    experiment,
    newest_state,
    records,
    same_bits,
    shared_compilations,
)

STOP = 11  # between two evaluations


@pytest.fixture(scope="module", autouse=True)
def shared():
    with shared_compilations():
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run from its beginning to its end."""
    return loop.train(experiment(), tmp_path_factory.mktemp("whole"))


class Stopping(Console):
    """A console at whose `iteration` a signal arrives."""

    def __init__(self, iteration: int, number: int = signal.SIGTERM) -> None:
        super().__init__(quiet=True)
        self.iteration, self.number = iteration, number

    def progress(self, *arguments):
        made = super().progress(*arguments)
        update = made.update

        def updated(iteration, **results):
            update(iteration, **results)
            if iteration == self.iteration:
                self.iteration = None  # a second signal would kill
                signal.raise_signal(self.number)

        made.update = updated
        return made


@pytest.fixture(scope="module")
def halves(tmp_path_factory):
    """The same run in two parts: (result of the first, newest iteration then,
    result of the second)."""
    folder = tmp_path_factory.mktemp("halves")
    first = loop.train(experiment(), folder, console=Stopping(STOP))
    iteration, _ = newest_state(folder)
    return first, iteration, loop.resume(folder)


def test_a_run_that_was_stopped_and_resumed_is_the_run_that_was_not(whole, halves):
    first, iteration, second = halves
    assert (first.signal, first.iteration, iteration) == (signal.SIGTERM, STOP, STOP)
    assert (second.signal, second.iteration, second.trained_iterations) == (
        None,
        ITERATIONS,
        ITERATIONS - STOP,
    )
    assert newest_state(whole.folder)[0] == ITERATIONS
    assert same_bits(newest_state(whole.folder), newest_state(second.folder))
    assert records(whole.folder) == records(second.folder)


def test_a_checkpoint_of_an_evaluation_resumes_alike(whole, tmp_path):
    folder = tmp_path / "run"
    loop.train(experiment(), folder, console=Stopping(POINTS[2]))
    loop.resume(folder)
    assert same_bits(newest_state(whole.folder), newest_state(folder))
    assert records(whole.folder) == records(folder)


def test_evaluations_are_at_the_expected_points_and_rows_are_counted(whole):
    evaluations = load_evaluations(whole.folder)
    assert evaluations["iteration"].tolist() == POINTS
    assert evaluations["transitions"].tolist() == [32 * point for point in POINTS]
    assert evaluations["deterministic_returns"].shape == (len(POINTS), 1, 1, 4)
    rows = read_metrics(whole.folder)
    assert [row["iteration"] for row in rows] == list(range(1, ITERATIONS + 1))
    assert [row["transitions"] for row in rows] == [32 * row["iteration"] for row in rows]
    assert np.all(np.diff([row["seconds"] for row in rows]) > 0)
    assert all(np.isfinite(row["loss"]) for row in rows)
    assert all(row["first_ratio_error"] < 1e-5 for row in rows)


def test_the_result_tells_of_the_last_evaluation(whole):
    last = load_evaluations(whole.folder)
    np.testing.assert_array_equal(whole.returns["deterministic"], last["deterministic_returns"][-1])
    np.testing.assert_array_equal(whole.returns["stochastic"], last["stochastic_returns"][-1])
    assert whole.steps_per_second > 0 and whole.trained_iterations == ITERATIONS


def test_the_best_checkpoint_reproduces_the_best_return(whole):
    evaluations = load_evaluations(whole.folder)
    scores = evaluations["deterministic_returns"].mean((1, 2, 3))
    program = build(experiment())
    best = Checkpoints(whole.folder).restore_best(program.player.abstract_policies())
    assert evaluations["iteration"].tolist().index(best.iteration) in np.flatnonzero(
        scores == scores.max()
    )
    again = program.evaluate(best.state, best.iteration)["deterministic"]
    np.testing.assert_array_equal(
        again.returns, evaluations["deterministic_returns"][np.argmax(scores == scores.max())]
    )


def test_a_tie_goes_to_the_later_policy(whole):
    scores = load_evaluations(whole.folder)["deterministic_returns"].mean((1, 2, 3))
    best = Checkpoints(whole.folder).restore_best(build(experiment()).player.abstract_policies())
    assert best.iteration == POINTS[np.flatnonzero(scores == scores.max())[-1]]


def test_a_finished_run_has_nothing_left_to_do(whole):
    before = records(whole.folder)
    result = loop.resume(whole.folder)
    assert (result.iteration, result.trained_iterations) == (ITERATIONS, 0)
    assert records(whole.folder) == before
    np.testing.assert_array_equal(result.returns["deterministic"], whole.returns["deterministic"])


def test_evaluations_are_never_more_than_iterations():
    crowded = experiment(total_steps=3 * 32)
    runner = loop.Runner(crowded, build(crowded), "unused", (), Console(quiet=True))
    assert runner.evaluation_points == {0, 1, 2, 3}


@pytest.mark.parametrize(("iterations", "length"), [(24, 1), (199, 1), (1000, 10), (10**6, 10_000)])
def test_chunks_grow_with_the_budget(iterations, length):
    big = experiment(total_steps=iterations * 32)
    runner = loop.Runner(big, build(big), "unused", (), Console(quiet=True))
    assert runner.row_length == length
    boundaries, at = [], 0
    while at < min(iterations, 20 * length):
        at = runner._boundary(at)
        boundaries.append(at)
    assert all(b % length == 0 or b in runner.evaluation_points for b in boundaries)


def test_transitions_are_counted_beyond_32_bits(tmp_path, monkeypatch):
    huge = experiment()
    program = build(huge)
    budget = program.algorithm.budget._replace(per_step=2**40)
    program.algorithm = program.algorithm._replace(budget=budget)
    monkeypatch.setattr(loop, "build", lambda experiment: program)
    folder = loop.train(huge, tmp_path / "run", console=Stopping(4)).folder
    assert read_metrics(folder)[-1]["transitions"] == 4 * 2**40
    assert load_evaluations(folder)["transitions"].tolist() == [0, 4 * 2**40]


def test_a_run_killed_before_its_first_checkpoint_begins_again(tmp_path, whole, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            loop.train(experiment(), tmp_path / "run")
    assert not Checkpoints(tmp_path / "run").iterations()
    loop.resume(tmp_path / "run")
    assert same_bits(newest_state(whole.folder), newest_state(tmp_path / "run"))
    assert records(whole.folder) == records(tmp_path / "run")


def test_a_run_killed_between_checkpoint_and_evaluation_evaluates_again(
    tmp_path, whole, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(logs, "save_evaluations", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            loop.train(experiment(), tmp_path / "run")
    assert Checkpoints(tmp_path / "run").iterations() == [0]
    loop.resume(tmp_path / "run")
    assert records(whole.folder) == records(tmp_path / "run")


def test_a_folder_is_trained_by_one_process(tmp_path, whole):
    with (
        locked(whole.folder),
        pytest.raises(JaxrlError, match="is being trained by another process"),
    ):
        loop.resume(whole.folder)


def test_a_damaged_newest_checkpoint_falls_back_with_a_warning(tmp_path, whole):
    folder = tmp_path / "run"
    loop.train(experiment(), folder, console=Stopping(STOP))
    files = [
        path
        for path in Checkpoints(folder).newest.rglob("*")
        if path.is_file() and path.stat().st_size
    ]
    max(files, key=lambda path: path.stat().st_size).write_bytes(b"torn")
    with pytest.warns(loop.RunWarning) as caught:
        loop.resume(folder)
    damaged, kept = (str(each.message) for each in caught)
    assert f"{STOP:09d} is damaged" in damaged and damaged.endswith(
        f"going on from iteration {POINTS[2]}"
    )
    assert f"kept as {folder / 'checkpoints'}/damaged-1-{STOP:09d}" in kept
    assert same_bits(newest_state(whole.folder), newest_state(folder))
    assert records(whole.folder) == records(folder)


def test_a_changed_configuration_is_a_diff_and_needs_force(tmp_path):
    folder = tmp_path / "run"
    loop.train(experiment(), folder, console=Stopping(STOP))
    before = read_description(folder)
    with pytest.raises(JaxrlError, match=r"config\.gamma: 0\.99 -> 0\.5\n.*--force"):
        loop.resume(folder, changes={"gamma": 0.5})
    assert read_description(folder) == before
    result = loop.resume(folder, changes={"gamma": 0.5}, force=True)
    assert result.iteration == ITERATIONS
    assert read_description(folder)["config"]["gamma"] == 0.5
    loop.resume(folder)  # from now on that is its configuration


def test_other_compiler_flags_are_a_difference(whole, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_gpu_deterministic_ops=true")
    with pytest.raises(JaxrlError, match=r"versions\.xla_flags: .* -> .*deterministic"):
        loop.resume(whole.folder)


def test_a_setting_that_counts_transitions_cannot_change(tmp_path):
    folder = tmp_path / "run"
    loop.train(experiment(), folder, console=Stopping(STOP))
    with pytest.raises(JaxrlError, match="num_envs and num_steps cannot change"):
        loop.resume(folder, changes={"num_steps": 16}, force=True)


def test_sizes_that_do_not_fit_the_state_are_refused_even_with_force(tmp_path):
    folder = tmp_path / "run"
    loop.train(experiment(), folder, console=Stopping(STOP))
    with pytest.raises(JaxrlError, match="another configuration.*float32"):
        loop.resume(folder, changes={"hidden_sizes": [5]}, force=True)
    assert read_description(folder)["config"]["hidden_sizes"] == [4]


def test_sinks_receive_the_rows(tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, *_, **__):
            pass

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

        def close(self):
            written.append("closed")

    module = types.ModuleType("tensorboardX", "a stand-in")
    module.SummaryWriter = Writer
    module.__spec__ = json.__spec__
    monkeypatch.setitem(sys.modules, "tensorboardX", module)
    loop.train(experiment(), tmp_path / "run", sinks=("tensorboard",), console=Stopping(STOP))
    losses = [(value, step) for name, value, step in written[:-1] if name == "loss"]
    rows = read_metrics(tmp_path / "run")
    assert (
        losses == [(pytest.approx(row["loss"]), row["transitions"]) for row in rows]
        and len(losses) == STOP
    )
    assert written[-1] == "closed"


def test_a_sink_that_cannot_be_had_is_refused_before_anything_is_touched(
    tmp_path, whole, monkeypatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    before = records(whole.folder)
    with pytest.raises(JaxrlError, match="wandb needs the package wandb.*pip install"):
        loop.train(experiment(), tmp_path / "run", sinks=("wandb",))
    with pytest.raises(JaxrlError, match="unknown sink 'tensorbord'. Did you mean tensorboard"):
        loop.train(experiment(), whole.folder, overwrite=True, sinks=("tensorbord",))
    assert not (tmp_path / "run").exists()
    assert records(whole.folder) == before
