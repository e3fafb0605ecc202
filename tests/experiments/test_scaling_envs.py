"""The scaling experiment: the outer law at a small size, what is trained once,
and what the tables say."""

import importlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments import harness
from jaxrl.algos.ppo import PPOConfig, ppo
from jaxrl.envs.registry import make
from jaxrl.envs.suites.bandit import fixed_states
from jaxrl.nn.actor_critic import NetworkConfig
from jaxrl.train.output.console import Console
from jaxrl.types import View
from tests.tables import unpadded

CHEAP = {"xla_backend_optimization_level": 1}
SMALL = PPOConfig(
    num_steps=1,
    minibatch_size=64,
    learning_rate=5e-3,
    anneal_learning_rate=False,
    entropy_coefficient=0.0,
    network=NetworkConfig(hidden_sizes=(16,), initial_log_std=-1.2, train_std=False),
)


@pytest.fixture
def script(monkeypatch):
    """The experiment with nothing but tiny networks."""
    module = importlib.import_module("scaling_envs")
    tiny = NetworkConfig(hidden_sizes=(4,), train_std=False)
    monkeypatch.setattr(module, "BASE", 8)
    monkeypatch.setattr(
        module,
        "BANDIT_CONFIG",
        module.BANDIT_CONFIG.replace(num_envs=8, minibatch_size=4, network=tiny),
    )
    return module


def plateau(batch, seeds=4, iterations=150):
    """Exact regret [seeds] after so many iterations of `batch` transitions."""
    env = make("bandit/contextual", scale=0.5)
    algorithm = ppo(env, SMALL.replace(num_envs=batch, total_steps=batch * iterations))
    states = fixed_states(512)

    def regret(state):
        policy, key = (
            algorithm.policy(state),
            jax.random.key(0),
        )  # not read: the deterministic action is no draw
        views = jax.vmap(lambda seen: View.at_start(seen, env.action_space))(states)
        act = jax.vmap(algorithm.agent.modes["deterministic"].act, in_axes=(None, None, 0, None))
        return env.gap(states, act(policy, (), views, key)[0])

    def train(key):
        def body(index, carry):
            state, total = carry
            state, _ = algorithm.step(state)
            return state, total + jnp.where(index >= 0.75 * iterations, regret(state), 0.0)

        _, total = jax.lax.fori_loop(0, iterations, body, (algorithm.init(key), jnp.zeros(())))
        return total / (0.25 * iterations)

    train = jax.jit(jax.vmap(train), compiler_options=CHEAP)
    with jax.debug_key_reuse(False):
        return np.asarray(train(jax.random.split(jax.random.key(0), seeds)))


@pytest.mark.slow
def test_four_times_the_environments_lower_the_plateau():
    small, large = plateau(64), plateau(256)
    assert large.mean() <= 0.8 * small.mean()
    assert large.max() < small.min()


def tiny_budget(script, **changes):
    budget = script.QUICK._replace(
        seeds=2, batches=(4, 16), plateau=4, released=4, factors=(4,), compared=4
    )
    return budget._replace(
        environments=((2, ("R1",)), (8, ("R1", "R3"))), transitions=2048, episodes=2, **changes
    )


def test_cells_have_the_settings_of_their_names(script):
    cells = dict(script.bandit_trials(script.NORMAL._replace(factors=(4,))))
    configs = {name: cell.experiment.config for name, cell in cells.items()}
    assert configs["bandit/plateau/4096"].num_envs == 4096
    assert (
        configs["bandit/rules/4/R4"].minibatch_size == 4 * 4
        and configs["bandit/rules/4/R4"].num_envs == 4 * 8
    )
    assert configs["bandit/rules/4/R4"].learning_rate == pytest.approx(4e-3)
    assert cells["bandit/sweep/learning_rate"].experiment.sweep["learning_rate"][1] == 1e-3
    assert configs["bandit/sweep/num_epochs/8"].num_epochs == 8
    assert all(not config.anneal_learning_rate for config in configs.values())

    games = dict(script.minatar_trials(tiny_budget(script)))
    assert list(games) == [f"minatar/Breakout-MinAtar/{cell}" for cell in ("2/R1", "8/R1", "8/R3")]
    assert [cell.iterations for cell in games.values()] == [32, 8, 8]
    scaled = games["minatar/Breakout-MinAtar/8/R3"].experiment.config
    assert (scaled.minibatch_size, scaled.learning_rate) == (1024, pytest.approx(2e-3))


def test_every_budgets_settings_fit_ppo(script, monkeypatch):
    monkeypatch.undo()
    for budget in (script.NORMAL, script.QUICK, script.FULL):
        for name, cell in [*script.bandit_trials(budget), *script.minatar_trials(budget)]:
            algorithm = ppo(make("bandit/contextual"), cell.experiment.config)
            assert algorithm.budget.steps == cell.iterations, name


def test_a_trial_of_other_settings_asks_something_else(script, tmp_path):
    trials = dict(script.bandit_trials(tiny_budget(script)))
    assert len(trials) == 7
    trial = trials["bandit/plateau/16"]
    changed = trial._replace(experiment=trial.experiment.changed({"learning_rate": 0.5}))
    found = {"asked": script.plain(trial.asked())}
    assert harness.is_finished(trial.cell(tmp_path, Console()), found)
    assert not harness.is_finished(changed.cell(tmp_path, Console()), found)
    released = trials["bandit/release"]
    assert script.cpu_hours(released) > script.cpu_hours(trial) > 0


@pytest.mark.slow
def test_a_release_goes_on_from_the_plateaus_policy(script, tmp_path):
    cell = dict(script.bandit_trials(tiny_budget(script)))["bandit/release"]
    still = {"learning_rate": 0.0, "num_envs": 16, "ewma_center_of_mass": 3.0}
    with jax.debug_key_reuse(
        False
    ):  # which does not know that the loop consumes what it is donated
        record = script.train_trial(
            cell._replace(releases={"still": still}), tmp_path / "release", Console(quiet=True)
        )
    assert np.shape(record["scores"]) == (5, 1, 2) and record["batch"] == 8
    released = record["releases"]["still"]
    assert released["iterations"] == [0, 1, 2, 3, 4] and released["batch"] == 16
    assert released["scores"] == [record["scores"][-1]] * 5
    assert np.ptp(record["scores"]) > 0 and np.shape(record["late"]["kl"]) == (1, 2)
    assert json.loads(json.dumps(record)) == record


def record_of(script, cell, regret, kl):
    """What a cell would have measured: `regret` from its first iteration on, and `kl`."""
    settings = len(cell.experiment.settings())
    config = cell.experiment.config
    scores = np.broadcast_to(regret, (3, settings, 2))
    late = {"kl_to_previous": [[kl] * 2] * settings, "gradient_steps": [[16.0] * 2] * settings}
    batch = config.num_envs * config.num_steps
    record = {"batch": batch, "iterations": [0, 2, 4], "scores": scores, "late": late}
    releases = {
        name: dict(record, scores=scores * (1.0 if name == "continue" else 0.5))
        for name in cell.releases
    }
    return script.shortened(script.plain(record | {"releases": releases})) | {"asked": cell.asked()}


def test_tables_say_what_was_met(script, tmp_path):
    report, figures = (
        importlib.import_module(name) for name in ("scaling_report", "scaling_figures")
    )
    budget = script.NORMAL._replace(batches=(256, 512, 1024, 2048, 4096), factors=(4, 16))
    script.BASE = 1024
    cells = {}
    for name, cell in [*script.bandit_trials(budget), *script.minatar_trials(budget)]:
        regret = (
            1.0 / np.sqrt(cell.experiment.config.num_envs) * (3.0 if name.endswith("R4") else 1.0)
        )
        cells[name] = record_of(script, cell, regret, 0.01)
    found = {what: (value, bound) for what, value, _, bound in report.expectations(cells)}
    assert found["regret at B = 1024 / at 256"] == (pytest.approx(0.5, rel=1e-3), 0.8)
    assert found["released by outer step 0.5 / continued"] == (pytest.approx(0.5, rel=1e-3), 0.85)
    assert found["largest / smallest KL of an iteration, B ≥ 1024, R1"][0] == pytest.approx(
        1.0, rel=1e-3
    )
    assert found["transitions per nat at B = 16384 / at 4096"][0] == pytest.approx(4.0, rel=1e-3)
    assert found["regret of R4 / of R1 at 16 times the environments"][0] == pytest.approx(
        3.0, rel=1e-3
    )

    text = unpadded(report.text(cells))
    assert "**not met**" not in text and text.count("| met |") == len(found) == 11
    assert text.count("\n| Breakout-MinAtar |") == 15
    figures.draw(cells, tmp_path / "all.png")
    assert (tmp_path / "all.png").stat().st_size > 10_000

    few = {name: cells[name] for name in ("bandit/plateau/256", "minatar/Breakout-MinAtar/16/R1")}
    assert "Expectations" not in report.text(few) and "| 256 |" in unpadded(report.text(few))
    figures.draw(few, tmp_path / "few.png")
    assert report.text({}) == "" and figures.draw({}, tmp_path / "none.png") is None
