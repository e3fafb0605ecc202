"""A run whose numbers break: it stops with the last good state;
a population goes on without the member."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.train import loop
from jaxrl.train.build import build
from jaxrl.train.files.checkpoint import Checkpoints
from jaxrl.train.files.logs import load_evaluations, read_metrics
from jaxrl.train.program import Program
from jaxrl.train.runner import Diverged
from jaxrl.types import Mean
from tests.train.tiny import (
    ITERATIONS,
    POINTS,
    arrays,
    experiment,
    newest_state,
    records,
    same_bits,
    shared_compilations,
)

HOPELESS = 1e38  # a learning rate that breaks any network at the first step
BREAK = 11


@pytest.fixture(scope="module", autouse=True)
def shared():
    with shared_compilations():
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run in which nothing breaks."""
    return loop.train(experiment(), tmp_path_factory.mktemp("whole"))


def test_a_loss_that_is_no_number_stops_the_run_with_the_last_good_state(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(
        Diverged, match=r"loss became NaN or infinite between iterations 0 and 1 .*iteration 0"
    ):
        loop.train(experiment(learning_rate=HOPELESS), folder)
    iteration, state = newest_state(folder)
    assert iteration == 0
    assert all(np.isfinite(leaf).all() for leaf in arrays(state.policy))
    assert not read_metrics(folder)
    result = loop.resume(folder, changes={"learning_rate": 1e-3}, force=True)
    assert result.iteration == ITERATIONS


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ("observation", r"returns observation\[1\] in step 3 of an episode"),
        pytest.param("reward", "returns reward in step 3 of an episode", marks=pytest.mark.slow),
        pytest.param("reset", r"returns observation\[0\] on a reset", marks=pytest.mark.slow),
    ],
)
def test_an_environment_that_breaks_is_named_with_its_field(tmp_path, field, named):
    """It was put down to the learning rate."""
    name = "tests.envs.breaking:Breaking"
    broken = replace(experiment(name), environment_options={"field": field})
    with pytest.raises(Diverged, match=f"environment's doing: .*{name} {named}") as error:
        loop.train(broken, tmp_path / "run")
    assert "learning-rate" not in str(error.value)


def test_a_mask_that_allows_nothing_is_named(tmp_path):
    forbidding = replace(
        experiment("tests.envs.breaking:Forbidding"), environment_options={"field": "none"}
    )
    words = "environment's doing: .*returns a mask that allows no action in step 3 of an episode"
    with pytest.raises(Diverged, match=words):
        loop.train(forbidding, tmp_path / "run")


def test_a_learning_rate_that_breaks_is_named(tmp_path):
    with pytest.raises(Diverged, match="A lower --learning-rate or --max-grad-norm usually helps"):
        loop.train(experiment(learning_rate=HOPELESS), tmp_path / "run")


def breaking(monkeypatch, at: int, break_policy: bool) -> None:
    """From iteration `at` on, chunks return a loss, or a policy, that is not finite."""
    chunk = Program.chunk

    def broken(self, state, iterations):
        state, metrics = chunk(self, state, iterations)
        if int(state.iteration) >= at and break_policy:
            params = jax.tree.map(lambda leaf: leaf * jnp.inf, state.policy.params)
            state = replace(state, policy=replace(state.policy, params=params))
        elif int(state.iteration) >= at:
            metrics = metrics | {"value_loss": Mean(jnp.float32(np.inf), jnp.float32(1))}
        return state, metrics

    monkeypatch.setattr(Program, "chunk", broken)


@pytest.mark.parametrize(("break_policy", "named"), [(False, "value_loss"), (True, "policy")])
def test_divergence_in_mid_run_leaves_the_newest_checkpoint(
    tmp_path, monkeypatch, whole, break_policy, named
):
    folder, saved = tmp_path / "run", POINTS[2]
    between = f"between iterations {BREAK - 1} and {BREAK}"
    match = rf"^{named} became .* {between} .* is saved: iteration {saved} in "
    with monkeypatch.context() as patch:
        breaking(patch, BREAK, break_policy)
        with pytest.raises(Diverged, match=match):
            loop.train(experiment(), folder)
    iteration, state = newest_state(folder)
    assert iteration == saved
    assert all(np.isfinite(leaf).all() for leaf in arrays(state.policy))
    assert read_metrics(folder)[-1]["iteration"] == BREAK - 1
    loop.resume(folder)
    assert same_bits(newest_state(whole.folder), newest_state(folder))
    assert records(whole.folder) == records(folder)


def test_a_policy_that_is_no_number_at_once_is_not_trained(tmp_path, monkeypatch):
    init = Program.init

    def broken(self):
        state = init(self)
        params = jax.tree.map(lambda leaf: leaf * jnp.nan, state.policy.params)
        return replace(state, policy=replace(state.policy, params=params))

    monkeypatch.setattr(Program, "init", broken)
    with pytest.raises(
        Diverged, match="policy of iteration 0 is NaN or infinite before it is trained"
    ):
        loop.train(experiment(), tmp_path / "run")
    assert not Checkpoints(tmp_path / "run").iterations()


def test_one_diverged_setting_does_not_stop_the_others(tmp_path):
    both = experiment(sweep={"learning_rate": [1e-3, HOPELESS]}, num_seeds=2)
    match = (
        "learning_rate=1e[+]38 seed=0, learning_rate=1e[+]38 seed=1 diverged .*loss.*the others go "
        "on"
    )
    with pytest.warns(loop.RunWarning, match=match) as caught:
        result = loop.train(both, tmp_path / "run")
    assert len(caught) == 1  # said once
    assert result.iteration == ITERATIONS
    assert np.isfinite(result.returns["deterministic"][0]).all()
    assert np.isnan(result.returns["deterministic"][1]).all()
    row = read_metrics(tmp_path / "run")[-1]
    assert np.isfinite(row["loss"][0]).all() and row["loss"][1] == [None, None]
    iteration, state = newest_state(tmp_path / "run", both)
    good = jax.tree.map(lambda leaf: leaf[0], state.policy)
    assert iteration == ITERATIONS and all(np.isfinite(leaf).all() for leaf in arrays(good))
    scores = load_evaluations(tmp_path / "run")["deterministic_returns"][:, 0].mean((1, 2))
    best = Checkpoints(tmp_path / "run").restore_best(build(both).player.abstract_policies())
    assert best.iteration in np.asarray(POINTS)[scores == scores.max()]
