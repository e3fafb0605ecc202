"""StepMix on small problems: safe, sublinear, ordered as in the paper,
degenerate where it must be; and bad input.

The long runs behind the claims of docs/results.md are experiments/stepmix.py; those marked slow
repeat the shortest.
"""

import dataclasses
import functools
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.parts.tabular_problem import ROUNDING
from jaxrl.algos.stepmix import StepMix, StepMixConfig, stepmix, stepmix_agent
from jaxrl.core import tabular
from jaxrl.core.safety import confidence
from jaxrl.core.tabular import Mixture, TabularEpisodes
from jaxrl.envs.registry import make
from jaxrl.envs.suites.probe import ActionReward
from jaxrl.errors import JaxrlError
from jaxrl.train.program import Program
from jaxrl.types import View

HUB = StepMixConfig(baseline="constant", bonus_scale=0.1)
LIGHT = {"xla_backend_optimization_level": 1}  # compiles in half the time, and is as fast
# (constraint level, bonus scale) of the members that every method is run with. At scale 0.02
# everything happens five times as soon as at the 0.1 of the reference.
SAFE, USUAL, BOLD, NO_BONUS = (0.9, 1.0), (0.9, 0.1), (0.9, 0.02), (0.9, 0.0)
TIGHT, LOOSE, FREE = (0.95, 0.02), (0.7, 0.02), (0.0, 0.02)
MEMBERS = (SAFE, USUAL, BOLD, NO_BONUS, TIGHT, LOOSE, FREE)


class Run(NamedTuple):
    """What members × seeds did, [members, seeds, episodes], and their last state."""

    state: Any
    returns: np.ndarray
    violations: np.ndarray
    optimistic: np.ndarray

    @property
    def regret(self):
        return np.cumsum(self.state.problem.optimal_value[0] - self.returns, axis=-1)


@functools.cache
def run(config, members, episodes, seeds):
    """Runs on the hub, side by side in one program."""
    env, count = make("tabular/hub"), len(members)
    levels, scales = (
        jnp.repeat(jnp.asarray(column, jnp.float32), seeds) for column in zip(*members, strict=True)
    )

    def member(level, scale, key):
        algorithm = stepmix(
            env, dataclasses.replace(config, constraint_level=level, bonus_scale=scale)
        )

        def body(state, _):
            state, metrics = algorithm.step(state)
            return state, tuple(
                metrics[name].sum for name in ("expected_return", "violation", "optimistic_share")
            )

        return jax.lax.scan(body, algorithm.init(key), None, length=episodes)

    with jax.debug_key_reuse(False):
        keys = jnp.tile(jax.random.split(jax.random.key(1), seeds), count)
        compiled = jax.jit(jax.vmap(member), compiler_options=LIGHT)
        state, seen = jax.device_get(compiled(levels, scales, keys))
    return Run(
        state, *(np.asarray(each, np.float64).reshape(count, seeds, episodes) for each in seen)
    )


def hub(method, *members):
    """The rows of these members of a method's run."""
    every = run(dataclasses.replace(HUB, method=method), MEMBERS, 3000, 4)
    rows = [MEMBERS.index(member) for member in members]
    return Run(every.state, *(each[rows] for each in every[1:]))


@pytest.mark.parametrize("method", ["stepmix", "epsmix"])
def test_no_episode_violates_the_constraint(method):
    found = hub(method, SAFE, USUAL, BOLD, TIGHT, LOOSE)
    assert found.violations.sum() == 0 and found.returns[:3].min() >= 2.25 - 1e-5


def test_without_a_bonus_most_runs_violate_it():
    assert (hub("stepmix", NO_BONUS).violations.sum(-1) > 0).mean() > 0.5


def test_optimism_without_a_constraint_violates_in_every_run():
    assert (hub("ucbvi", SAFE, USUAL).violations.sum(-1) > 0).all()


def test_regret_is_sublinear_and_ordered_as_the_methods():
    ends, growth = {}, {}
    for method in ("stepmix", "epsmix", "switch"):
        found = hub(method, BOLD)
        assert found.violations.sum() == 0
        curve = found.regret.mean((0, 1))
        ends[method], growth[method] = curve[-1], curve[-1] / curve[len(curve) // 2 - 1]
    assert ends["stepmix"] < ends["epsmix"] < ends["switch"]
    assert growth["stepmix"] < 1.25 and growth["switch"] == pytest.approx(2.0, abs=0.01)
    assert (
        hub("stepmix", BOLD).optimistic[..., -300:].mean() > 0.97
        and hub("switch", BOLD).optimistic.max() == 0.0
    )


@pytest.mark.slow
def test_regret_on_the_hub_is_that_of_the_reference():
    """Means of 10 seeds of 20,000 episodes, of a prototype written independently: within 15 %."""
    for method, expected in (("stepmix", 6062), ("epsmix", 8830), ("switch", 23_100)):
        found = run(dataclasses.replace(HUB, method=method), (USUAL,), 20_000, 10)
        assert found.violations.sum() == 0
        curve = found.regret.mean((0, 1))
        assert curve[-1] == pytest.approx(expected, rel=0.15), method
        if method == "stepmix":
            assert curve[-1] / curve[9999] < 1.25


def test_more_slack_ends_the_caution_sooner():
    found = hub("stepmix", TIGHT, BOLD, LOOSE, FREE)
    cautious = (1.0 - found.optimistic).sum(-1).mean(-1)
    assert found.violations.sum() == 0
    assert (np.diff(cautious) < 0).all() and cautious[-1] == 0.0


def test_without_a_constraint_it_is_optimism_on_the_same_path():
    mine, other = hub("stepmix", FREE), hub("ucbvi", FREE)
    rows = slice(-4, None)  # FREE is the last member
    np.testing.assert_array_equal(mine.state.counts[rows], other.state.counts[rows])
    np.testing.assert_array_equal(mine.returns, other.returns)
    assert mine.optimistic.min() == 1.0


def test_a_constraint_above_the_baseline_is_never_certified_and_the_baseline_played():
    config = dataclasses.replace(
        HUB, known_baseline_value=True, constraint="absolute", constraint_level=2.6
    )
    learner = StepMix(make("tabular/hub"), config)  # which `stepmix` would refuse
    state = learner.init(jax.random.key(0))
    plan = learner.plan(state.problem, state.counts + 1000, jax.random.key(1))
    assert float(plan.value) == 2.5 and float(plan.choice.lower) < 2.6
    np.testing.assert_array_equal(plan.policy.cautious, state.problem.baseline)


def test_epsmix_is_scored_on_the_mixture_and_flips_its_coin_as_often_as_it_says():
    config = dataclasses.replace(
        HUB, method="epsmix", known_baseline_value=True, know_rewards=False, num_envs=4000
    )
    learner = StepMix(make("tabular/hub"), config)
    state = learner.init(jax.random.key(0))
    plan = state.plan
    assert 0.0 < float(plan.choice.weight) < 1.0
    assert float(plan.choice.lower) == pytest.approx(2.25 + ROUNDING * 5, abs=2e-6)
    alone = tabular.expected_return(
        learner.env.transitions, learner.env.rewards, learner.env.initial, plan.policy.bold
    )
    assert (
        float(alone) < 2.25 < float(plan.value)
    )  # what is drawn may earn less; what is chosen does not
    _, metrics = learner.step(state)
    expected = float(plan.value)
    assert float(metrics["threshold"].sum) == 2.25
    assert float(metrics["episode_return"].sum) == pytest.approx(
        expected, abs=4 * 2.5 / np.sqrt(4000)
    )
    assert float(metrics["violation"].sum) == 0.0

    coins, observation = (
        jax.random.split(jax.random.key(3), 4000),
        learner.env.reset(jax.random.key(0))[1],
    )
    agent = stepmix_agent(learner.env, config)
    act = agent.modes["stochastic"].act
    view = View.at_start(observation, learner.env.action_space)
    _, bold = jax.vmap(act, in_axes=(None, None, None, 0))(
        plan.policy, agent.memory(plan.policy), view, coins
    )
    weight = float(plan.policy.weight)
    assert float(bold.mean()) == pytest.approx(
        weight, abs=4 * np.sqrt(weight * (1 - weight) / 4000)
    )
    later = jnp.eye(10)[0].at[6].set(1.0)  # state 0 at step 1: what was drawn at step 0 stays
    view = replace(view, observation=later, first=jnp.zeros((), bool))
    for remembered in (True, False):
        coins = jax.random.split(jax.random.key(0), 100)  # of which some would fall either way
        _, kept = jax.vmap(act, in_axes=(None, None, None, 0))(
            plan.policy, jnp.asarray(remembered), view, coins
        )
        np.testing.assert_array_equal(kept, remembered)


def test_replan_doubling_keeps_a_plan_until_some_count_has_doubled():
    found = run(dataclasses.replace(HUB, replan="doubling"), (BOLD,), 40, 1)
    visits = found.state.counts.sum(-1)
    assert (found.state.planned <= visits).all() and (found.state.planned < visits).any()
    assert (2 * found.state.planned >= visits).all()


@pytest.mark.slow
def test_planning_when_counts_double_is_as_safe_and_plans_less():
    rare, always = (
        run(dataclasses.replace(HUB, replan="doubling"), (BOLD,), 3000, 4),
        hub("stepmix", BOLD),
    )
    assert rare.violations.sum() == 0
    assert ((np.diff(rare.returns[0]) != 0).sum(-1) < 1500).all()
    assert rare.regret[..., -1].mean() < 1.5 * always.regret[..., -1].mean()
    visits = rare.state.counts.sum(-1)
    assert (rare.state.planned <= visits).all() and (2 * rare.state.planned >= visits).all()


@pytest.mark.parametrize("bound", ["kl", "anchored"])
def test_plans_are_made_with_the_bound_that_is_asked_for(bound, monkeypatch):
    used = set()
    for name in ("kl_bounds", "anchored_bounds"):
        made = getattr(confidence, name)
        monkeypatch.setattr(
            confidence, name, lambda *given, name=name, made=made: used.add(name) or made(*given)
        )
    algorithm = stepmix(make("tabular/hub"), dataclasses.replace(HUB, bound=bound))
    jax.eval_shape(algorithm.init, jax.random.key(0))
    assert used == {f"{bound}_bounds"}


@functools.cache
def upper_bound():
    """(bonus scale, failure probability) -> bound on the optimal return after 400 visits each."""
    env = make("tabular/hub")
    with jax.debug_key_reuse(False):
        state = jax.jit(stepmix(env, HUB).init, compiler_options=LIGHT)(jax.random.key(0))
    state = replace(state, counts=400 * (env.transitions > 0).astype(jnp.int32))

    def bound(bonus_scale, failure_probability):
        numbers = {"bonus_scale": bonus_scale, "failure_probability": failure_probability}
        learner = StepMix(env, dataclasses.replace(HUB, **numbers))
        return learner.plan(state.problem, state.counts, jax.random.key(1)).optimistic_upper

    return jax.jit(bound, compiler_options=LIGHT)


def test_bounds_widen_with_bonus_scale_and_narrow_with_failure_probability():
    bound = upper_bound()
    usual = bound(bonus_scale=0.01, failure_probability=0.1)
    assert bound(bonus_scale=0.02, failure_probability=0.1) > usual
    assert bound(bonus_scale=0.01, failure_probability=0.5) < usual


def baseline_of(numbers, **options):
    """The baseline [H, S, A] that StepMix makes on the hub."""

    def first(numbers):
        config = dataclasses.replace(StepMixConfig(**options), **numbers)
        return StepMix(make("tabular/hub"), config).init(jax.random.key(0)).problem.baseline

    return np.asarray(jax.jit(first, compiler_options=LIGHT)(numbers), np.float64)


def test_baseline_action_is_the_one_that_a_constant_baseline_takes():
    for action in (0, 1):
        assert (
            baseline_of({}, baseline="constant", baseline_action=action)[..., action] == 1
        ).all()


def test_baseline_epsilon_is_spread_over_all_actions():
    found = baseline_of({"baseline_epsilon": 0.3}, baseline="epsilon-soft")
    actions, decided = (
        found.shape[-1],
        found.max(-1) > 0.5,
    )  # elsewhere all actions are equally good
    assert decided.any()
    np.testing.assert_allclose(found[decided].min(-1), 0.3 / actions, rtol=1e-5)
    np.testing.assert_allclose(found[decided].max(-1), 0.7 + 0.3 / actions, rtol=1e-5)


def test_inverse_temperature_multiplies_what_a_boltzmann_baseline_prefers():
    logits = [
        np.log(baseline_of({"inverse_temperature": t}, baseline="boltzmann")) for t in (1.0, 2.0)
    ]
    preferences = [each - each.mean(-1, keepdims=True) for each in logits]
    np.testing.assert_allclose(preferences[1], 2 * preferences[0], atol=1e-5)
    assert np.abs(preferences[0]).max() > 0.01


def test_anchored_bounds_leave_the_baseline_too():
    config = dataclasses.replace(HUB, bound="anchored", num_envs=4)
    found = run(config, ((0.9, 0.0005),), 600, 3)
    assert found.violations.sum() == 0 and found.optimistic[..., -50:].mean() > 0.5


@pytest.mark.slow
def test_mdps_seeds_and_levels_are_axes_of_one_program():
    mdps = [make("tabular/paper", seed=seed) for seed in range(3)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *mdps)

    def final(env, level, key):
        algorithm = stepmix(env, StepMixConfig(constraint_level=level, bonus_scale=0.05))
        return jax.lax.fori_loop(
            0, 20, lambda _, state: algorithm.step(state)[0], algorithm.init(key)
        )

    over = jax.vmap(jax.vmap(jax.vmap(final, (None, None, 0)), (None, 0, None)), (0, None, None))
    with jax.debug_key_reuse(False):
        keys, levels = jax.random.split(jax.random.key(0), 4), jnp.array([0.8, 0.95])
        every = jax.jit(over, compiler_options=LIGHT)(batch, levels, keys)
        alone = jax.jit(final, compiler_options=LIGHT)(mdps[2], levels[1], keys[3])
    assert every.counts.shape == (3, 2, 4, 3, 5, 5, 5)
    np.testing.assert_array_equal(every.counts[2, 1, 3], alone.counts)


def behaviour_episodes(num):
    env = make("tabular/hub")
    policy = 0.9 * tabular.constant(0, env.rewards) + 0.1 / 5
    mixture = Mixture(policy, policy, jnp.float32(1.0))
    return env, tabular.play(env.transitions, env.initial, mixture, jax.random.key(7), num)


def test_offline_data_give_the_baseline_and_warm_counts_or_are_refused():
    config = dataclasses.replace(HUB, constraint="absolute", constraint_level=1.822)
    env, episodes = behaviour_episodes(3000)
    program = Program(stepmix, env, config, seeds=[0, 1], inputs={"dataset": episodes})
    state, metrics = program.chunk(program.init(), 50)
    assert (np.asarray(state.counts[0]).sum((1, 2, 3, 4)) == 5 * (3000 + 50)).all()
    assert (
        np.asarray(metrics["violation"].sum).sum() == 0
        and np.asarray(state.problem.baseline_value).min() > 1.822
    )
    with pytest.raises(
        JaxrlError,
        match="10 episodes show that the baseline .* the constraint is 1.822; about [0-9,]+ ",
    ):
        stepmix(env, config, dataset=behaviour_episodes(10)[1])
    with pytest.raises(JaxrlError, match="with a dataset the constraint must be absolute"):
        stepmix(env, HUB, dataset=episodes)
    with pytest.raises(JaxrlError, match="holds no episodes"):
        stepmix(
            env, config, dataset=TabularEpisodes(episodes.states[:, :0], episodes.actions[:, :0])
        )


def test_bad_input_is_refused_by_name():
    env = make("tabular/hub")

    def given(**settings):
        return dataclasses.replace(HUB, **settings)

    for config, message in [
        (given(constraint_level=-1.0), "constraint_level is -1, but must lie in"),
        (
            given(constraint_level=1.2),
            r"constraint_level \(a share of the baseline's expected return\) is 1.2",
        ),
        (
            given(constraint="absolute", constraint_level=3.0),
            "constraint is 3, but the baseline, .*, earns 2.5",
        ),
        (
            given(constraint="absolute", constraint_level=4.0),
            "constraint is 4, but no policy earns more than 3.655",
        ),
        (
            given(constraint="absolute", constraint_level=np.array([1.0, 3.0])),
            "constraint is 3, but the baseline",
        ),
        (given(failure_probability=0.0), r"failure_probability is 0, but must lie in \(0, 1\]"),
        (given(method="stepmax"), "unknown method 'stepmax'. Did you mean stepmix or epsmix"),
        (given(baseline_action=5), r"baseline_action is 5, but must lie in \[0, 4\]"),
        (given(total_steps=4), "total_steps is 4, but one iteration of 1 episodes takes 5"),
        (given(bonus_scale=-0.1), "bonus_scale is -0.1"),
    ]:
        with pytest.raises(JaxrlError, match=message):
            stepmix(env, config)
    with pytest.raises(
        JaxrlError,
        match=r"needs an environment of arrays \(`jaxrl envs tabular`\), not ActionReward",
    ):
        stepmix(ActionReward(), HUB)
    with pytest.raises(JaxrlError, match=r"baseline\[0, 0\] sums to 5"):
        stepmix(env, HUB, baseline=np.ones((5, 5, 5)))
    with pytest.raises(JaxrlError, match="rewards is 2, but must lie in"):
        stepmix(env.replace(rewards=env.rewards * 2), HUB)
    with pytest.raises(JaxrlError, match=r"transitions\[0, .* sums to 0.5"):
        stepmix(env.replace(transitions=env.transitions / 2), HUB)
