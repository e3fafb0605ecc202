"""Measures of one's own: what they are given and give, that nothing else moves them,
and what is refused."""

import dataclasses
import logging
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl import cli
from jaxrl.analysis.runs import load_run
from jaxrl.errors import JaxrlError, RunWarning
from jaxrl.train import loop, program
from jaxrl.train.acting import load
from jaxrl.train.build import build
from jaxrl.train.files.folder import read_description
from jaxrl.train.files.logs import load_evaluations
from jaxrl.train.trust import Trust
from jaxrl.types import Mean
from tests.train.test_vouched import edit
from tests.train.tiny import (
    ARGUMENTS,
    POINTS,
    arrays,
    experiment,
    newest_state,
    records,
    same_bits,
    shared_compilations,
)

RATES = [1e-3, 1e-2]
HERE = "own_measures"
ALL = ("norm", "mean_clock", "draw", "entries")
OWN = Trust(imports=tuple(f"{HERE}:{name}" for name in ALL))


def norm(algorithm, state, inputs, key):
    """The Euclidean norm of a policy's parameters."""
    assert inputs == {}
    return jnp.sqrt(
        sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(algorithm.policy(state).params))
    )


def mean_clock(algorithm, state, inputs, key):
    """How far the episodes are: of rows that devices share."""
    return Mean.of(state.vector.clock)


def draw(algorithm, state, inputs, key):
    """The key alone."""
    return jax.random.uniform(key, (3,))


def entries(algorithm, state, inputs, key):
    """Two means, of which one counts nothing."""
    return Mean(jnp.array([6.0, 0.0]), jnp.array([4.0, 0.0]))


@pytest.fixture(scope="module", autouse=True)
def shared():
    with shared_compilations():
        yield


@pytest.fixture(autouse=True)
def module(monkeypatch):
    """A module of the user's."""
    found = types.ModuleType(HERE)
    vars(found).update({each.__name__: each for each in (norm, mean_clock, draw, entries)})
    monkeypatch.setitem(sys.modules, HERE, found)
    return found


def measuring(made, *names, **run):
    """An experiment that measures, and has other settings of its run."""
    settings = run | {"measures": tuple(f"{HERE}:{name}" for name in names)}
    return dataclasses.replace(made, run=dataclasses.replace(made.run, **settings))


def test_a_measure_is_what_its_function_makes_of_a_members_state():
    made = build(measuring(experiment(sweep={"learning_rate": RATES}, num_seeds=2), *ALL))
    state, _ = made.chunk(made.init(), 3)
    found = made.measure(state, 3)
    assert {name: values.shape for name, values in found.items()} == {
        "norm": (2, 2),
        "mean_clock": (2, 2),
        "draw": (2, 2, 3),
        "entries": (2, 2, 2),
    }
    assert all(values.dtype == np.float32 for values in found.values())
    policies = made.whole(made.policies(state))
    for setting, seed in np.ndindex(2, 2):
        flat = np.concatenate([leaf[setting, seed].ravel() for leaf in arrays(policies.params)])
        np.testing.assert_allclose(found["norm"][setting, seed], np.linalg.norm(flat), rtol=1e-5)
    np.testing.assert_allclose(
        found["mean_clock"], np.asarray(made.whole(state).vector.clock).mean(-1)
    )
    np.testing.assert_array_equal(found["entries"], np.broadcast_to([1.5, np.nan], (2, 2, 2)))


def test_a_members_draws_hang_on_its_seed_the_name_and_the_iteration():
    both = build(measuring(experiment(sweep={"learning_rate": RATES}, num_seeds=2), "draw", "norm"))
    alone = build(measuring(experiment(seed=1), "draw"))
    state, single = both.init(), alone.init()
    seen = both.measure(state, 4)["draw"]
    np.testing.assert_array_equal(
        seen[:, 1], np.broadcast_to(alone.measure(single, 4)["draw"][0], (2, 3))
    )
    assert np.all(seen[0, 0] != seen[0, 1]) and np.all(
        alone.measure(single, 5)["draw"] != seen[0, 1]
    )
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), program.stream("draw")), 4)
    np.testing.assert_array_equal(seen[0, 1], jax.random.uniform(key, (3,)))


@pytest.mark.parametrize("mesh", ["env=4", "seed=2", "env=2,seed=2"])
def test_devices_measure_what_one_does(mesh):
    made = experiment(num_seeds=2)
    spread = build(measuring(made, *ALL, mesh=tuple(mesh.split(","))))
    one = build(measuring(made, *ALL, devices=1))
    state, _ = one.chunk(one.init(), 2)
    dealt = spread.place(state)
    if not spread.population.is_flat:  # where a restored state lies so already
        dealt = jax.tree.map(
            lambda leaf, like: jax.device_put(leaf, like.sharding), state, spread.abstract_state()
        )
    found = spread.measure(dealt, 2)
    for name, values in one.measure(state, 2).items():
        np.testing.assert_allclose(found[name], values, rtol=1e-6, err_msg=name)


def test_a_measure_compiles_once(caplog):
    made = build(measuring(experiment(hidden_sizes=(5,)), "norm"))
    state = made.init()
    with jax.log_compiles(), caplog.at_level(logging.WARNING, "jax"):
        for iteration in range(3):
            made.measure(state, iteration)
            state, _ = made.chunk(state, 1)
    assert (
        sum(
            "Finished XLA compilation of jit(measure)" in record.message
            for record in caplog.records
        )
        == 1
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that measures, never stopped."""
    folder = tmp_path_factory.mktemp("measures") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        found = types.ModuleType(HERE)
        vars(found).update({each.__name__: each for each in (norm, mean_clock, draw, entries)})
        patch.setitem(sys.modules, HERE, found)
        loop.train(measuring(experiment(), *ALL), folder)
    return folder


def test_a_run_keeps_what_it_measured(whole):
    run, made = load_run(whole), build(experiment())
    assert run.measure("norm").shape == (len(POINTS), 1, 1) and run.measure("draw").shape == (
        len(POINTS),
        1,
        1,
        3,
    )
    state = made.init()
    for index, (begin, end) in enumerate(zip([0, *POINTS[:-1]], POINTS, strict=True)):
        state, _ = made.chunk(state, end - begin)
        flat = np.concatenate([leaf.ravel() for leaf in arrays(made.policies(state).params)])
        np.testing.assert_allclose(
            run.measure("norm")[index, 0, 0], np.linalg.norm(flat), rtol=1e-5
        )
    assert list(load_evaluations(whole))[-4:] == [f"measure_{name}" for name in ALL]
    with pytest.raises(
        ValueError, match=r"no measure 'nor'. There are: draw, entries, mean_clock, norm"
    ):
        run.measure("nor")


def test_measuring_changes_nothing_else(whole, tmp_path):
    loop.train(experiment(), tmp_path / "without")
    rows, evaluations = records(tmp_path / "without")
    assert records(whole)[0] == rows
    assert {
        name: values for name, values in records(whole)[1].items() if "measure" not in name
    } == evaluations
    assert same_bits(newest_state(whole), newest_state(tmp_path / "without"))


def stopped(folder, monkeypatch, made):
    """A run in `folder` that was interrupted after its evaluation at POINTS[2]."""
    evaluate = loop.Runner.evaluate_and_save

    def and_stop(self, state, iteration, bar):
        evaluate(self, state, iteration, bar)
        if iteration == POINTS[2]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop.Runner, "evaluate_and_save", and_stop)
        loop.train(made, folder)


def test_a_resumed_run_has_the_same_bits(whole, tmp_path, monkeypatch):
    stopped(tmp_path / "run", monkeypatch, measuring(experiment(), *ALL))
    loop.resume(tmp_path / "run", trust=OWN)
    assert records(tmp_path / "run") == records(whole)


def test_other_measures_or_shapes_are_kept_apart(tmp_path, monkeypatch, module):
    folder = tmp_path / "run"
    stopped(folder, monkeypatch, measuring(experiment(), "draw"))
    module.draw = lambda algorithm, state, inputs, key: jax.random.uniform(key, (2,))
    with pytest.warns(RunWarning, match=r"evaluations with the measures draw \[3\] are kept as"):
        made = build(measuring(experiment(), "draw"))
        made.population.compiled.pop("measure draw", None)  # which tests share by its name
        loop.resume(folder, trust=OWN)
    assert load_run(folder).measure("draw").shape[3:] == (2,)
    made.population.compiled.pop("measure draw", None)

    edit(folder, lambda description: description["run"].update(measures=[]))
    with pytest.raises(JaxrlError, match="changed by hand"):
        loop.resume(folder)
    with pytest.warns(RunWarning, match=r"evaluations with the measures draw \[2\] are kept as"):
        loop.resume(folder, force=True)
    assert not any("measure" in name for name in load_evaluations(folder))


def test_members_that_diverged_have_no_measures(tmp_path):
    made = measuring(experiment(sweep={"learning_rate": [1e-3, 1e38]}), "norm", "entries")
    with pytest.warns(RunWarning, match="diverged"):
        loop.train(made, tmp_path / "run")
    run = load_run(tmp_path / "run")
    assert (
        np.isfinite(run.measure("norm")[0]).all() and np.isfinite(run.measure("norm")[-1, 0]).all()
    )
    assert (
        np.isnan(run.measure("norm")[-1, 1]).all() and np.isnan(run.measure("entries")[-1, 1]).all()
    )


def test_a_folder_that_names_measures_is_resumed_only_if_trusted(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    stopped(folder, monkeypatch, measuring(experiment(), "norm"))
    monkeypatch.delitem(sys.modules, HERE)  # nothing that only looks at the run needs it
    load(folder)
    assert cli.main(["plot", str(folder), "--output", str(tmp_path / "curve.png")]) == 0
    assert cli.main(["eval", str(folder), "--episodes", "2"]) == 0
    with pytest.raises(
        JaxrlError, match=f"names its measure as '{HERE}:norm', which would be imported and run"
    ):
        loop.resume(folder)
    with pytest.raises(JaxrlError, match=f"cannot import measure '{HERE}:norm'"):
        loop.resume(folder, trust=OWN)


def test_the_command_line_takes_measures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (
        "def parameters(algorithm, state, inputs, key):\n"
        "    return algorithm.budget.per_step * 1.0\n"
    )
    (tmp_path / "typed_measures.py").write_text(text)
    words = ["train", "ppo", *ARGUMENTS, "--folder", "run", "--quiet"]
    assert cli.main([*words, "--measures", "typed_measures:parameters"]) == 0, (
        capsys.readouterr().err
    )
    assert read_description("run")["run"]["measures"] == ["typed_measures:parameters"]
    np.testing.assert_array_equal(
        load_run("run").measure("parameters"), np.full((len(POINTS), 1, 1), 32.0)
    )


BAD = {
    "no colon": (None, "norm", "measure 'norm' should be written package.module:function"),
    "a name that files cannot hold": (
        None,
        f"{HERE}:Norm",
        "should be written package.module:function",
    ),
    "not there": (None, f"{HERE}:nrom", rf"unknown measure in {HERE} 'nrom'. Did you mean norm"),
    "no module": (
        None,
        "no_such_module_of_mine:norm",
        "cannot import measure 'no_such_module_of_mine:norm'",
    ),
    "no function": (3.0, f"{HERE}:bad", "is of type float, but must be a function"),
    "other arguments": (lambda state: state, f"{HERE}:bad", "cannot be called as def NAME"),
    "whole numbers": (
        lambda *_: jnp.arange(3),
        f"{HERE}:bad",
        r"measure 'bad' returns int32\[3\], but must",
    ),
    "no array": (
        lambda *_: {"a": 1.0},
        f"{HERE}:bad",
        "returns of type dict, but must return an array of float32",
    ),
    "a crooked Mean": (
        lambda *_: Mean(jnp.zeros(2), jnp.zeros(())),
        f"{HERE}:bad",
        r"Mean of shapes \(2,\) and \(\)",
    ),
}


@pytest.mark.parametrize(("function", "path", "words"), BAD.values(), ids=BAD)
def test_what_cannot_be_measured_is_refused_before_there_is_a_folder(
    module, tmp_path, function, path, words
):
    module.bad = function
    made = experiment()
    made = dataclasses.replace(made, run=dataclasses.replace(made.run, measures=(path,)))
    with pytest.raises(JaxrlError, match=words):
        loop.train(made, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_two_measures_of_one_name_are_refused():
    with pytest.raises(JaxrlError, match=f"two measures are called norm: {HERE}:norm, {HERE}:norm"):
        build(measuring(experiment(), "norm", "norm"))
