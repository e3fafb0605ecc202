"""Confidence bounds: valid, equal to a loop's, tight where they must be,
and as good in float32 as in float64."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.stepmix import Loop, hub_loop
from jaxrl.algos.parts.tabular_problem import ROUNDING
from jaxrl.core import tabular
from jaxrl.core.safety import confidence
from jaxrl.core.safety.confidence import Candidates, EmpiricalModel
from jaxrl.core.safety.mixture import choose, splice

S, A, H = 4, 3, 4
FAMILIES = {"kl": (confidence.kl_bounds, 1), "anchored": (confidence.anchored_bounds, H + 1)}
each_family = pytest.mark.parametrize("family", FAMILIES)


class Case(NamedTuple):
    """A random MDP with a baseline, and counts of so many visits a pair, some of none."""

    transitions: np.ndarray
    rewards: np.ndarray
    initial: np.ndarray
    baseline: np.ndarray
    priority: np.ndarray
    counts: np.ndarray


def case(seed, visits):
    generator = np.random.default_rng(seed)
    transitions = generator.dirichlet(np.ones(S), (H, S, A))
    number = generator.poisson(visits * generator.random((H, S, A)))
    return Case(
        transitions,
        generator.random((H, S, A)),
        np.eye(S)[0],
        generator.dirichlet(np.ones(A), (H, S)),
        generator.random((H, A)).astype(np.float32),
        generator.multinomial(number, transitions),
    )


def bounds_of(family, case, dtype=jnp.float32, scale=1.0, prefixes=range(H + 1)):
    bounds, anchors = FAMILIES[family]
    arrays = [
        jnp.asarray(each, dtype)
        for each in (case.rewards, case.initial, case.baseline, case.priority)
    ]
    rewards, initial, baseline, priority = arrays
    model = confidence.estimate(jnp.asarray(case.counts, jnp.int32), rewards, 0.1, anchors=anchors)
    return bounds(
        model, initial, Candidates(baseline, jnp.asarray(prefixes, jnp.int32), priority), scale
    )


@functools.cache
def compiled(family):
    return jax.jit(functools.partial(bounds_of, family))


@each_family
@pytest.mark.parametrize("visits", [3, 300, 100_000])
def test_they_are_those_of_a_loop(family, visits):
    given = case(visits, visits)
    loop = Loop(given.transitions, given.rewards, given.baseline, 0.5 * H, bound=family)
    loop.counts = given.counts.astype(float)
    planned = loop.plan(given.priority)
    found = compiled(family)(given)
    np.testing.assert_allclose(found.lower, planned.lower, atol=1e-5)
    assert float(found.upper[0]) == pytest.approx(planned.upper, abs=1e-5)
    bold = jnp.asarray(planned.bold)
    np.testing.assert_array_equal(found.optimistic, splice(found.optimistic, bold, 0))
    choice = choose(found.lower, jnp.arange(H + 1), loop.threshold)
    assert float(choice.weight) == pytest.approx(planned.weight, abs=1e-4)
    for name, prefix in (("bold", choice.bold), ("cautious", choice.cautious)):
        expected = splice(found.optimistic, jnp.asarray(given.baseline, jnp.float32), prefix)
        np.testing.assert_allclose(getattr(planned, name), expected, atol=1e-6)


@each_family
def test_they_hold_for_every_candidate_and_random_policy(family):
    """With theory's constants, over counts that grow to a million;
    a failure is allowed once in ten runs, ever."""
    value = jax.jit(tabular.expected_return)
    lower_of = jax.jit(jax.vmap(confidence.policy_lower, in_axes=(None, None, 0, None)))
    values_of = jax.jit(jax.vmap(tabular.expected_return, in_axes=(None, None, None, 0)))
    for seed, visits in enumerate(np.geomspace(1, 1e6, 10)):
        given = case(seed, visits)
        arrays = [jnp.asarray(each, jnp.float32) for each in given[:3]]
        found = compiled(family)(given)
        best = float(arrays[2] @ tabular.optimal(*arrays[:2]).state[0])
        assert float(found.upper[0]) >= best - 1e-5
        for prefix in range(H + 1):
            policy = splice(found.optimistic, jnp.asarray(given.baseline, jnp.float32), prefix)
            assert float(found.lower[prefix]) <= float(value(*arrays, policy)) + 1e-5
        policies = jnp.asarray(
            np.random.default_rng(seed).dirichlet(np.full(A, 0.3), (100, H, S)), jnp.float32
        )
        model = confidence.estimate(jnp.asarray(given.counts, jnp.int32), arrays[1], 0.1)
        assert bool(
            (lower_of(model, arrays[2], policies, 1.0) <= values_of(*arrays, policies) + 1e-5).all()
        )


@each_family
def test_float32_loses_no_more_than_the_margin(family):
    """Of 200 models from empty to a million visits: bounds,
    and the exact bound of the mixture float32 would choose."""
    worst = 0.0
    for seed in range(200):
        given = case(seed, 10.0 ** (6 * seed / 200))
        scale = (1.0, 0.1, 0.01)[seed % 3]
        single = compiled(family)(given, scale=scale)
        with jax.enable_x64(True):
            double = _in_float64(family)(given, scale=scale)
            assert double.lower.dtype == jnp.float64
        if (np.asarray(single.optimistic) != np.asarray(double.optimistic)).any():
            # A tie that rounding broke: other policies, whose bounds are compared with other seeds
            continue
        worst = max(worst, *np.abs(np.asarray(single.lower) - np.asarray(double.lower)))
        exact = np.asarray(double.lower)
        threshold = float(exact[-1]) * 0.9
        choice = choose(single.lower, jnp.arange(H + 1), threshold + ROUNDING * H)
        weight, bold, cautious = (
            np.asarray(each, np.float64) for each in (choice.weight, choice.bold, choice.cautious)
        )
        if bool(jnp.any(single.lower >= threshold + ROUNDING * H)):
            assert weight * exact[int(bold)] + (1 - weight) * exact[int(cautious)] >= threshold
    assert worst < ROUNDING * H


@functools.cache
def _in_float64(family):
    return jax.jit(functools.partial(bounds_of, family, dtype=jnp.float64))


def test_the_rest_of_the_process_stays_in_float32():
    with jax.enable_x64(True):
        assert bounds_of("kl", case(0, 10), jnp.float64).lower.dtype == jnp.float64
    assert (
        jnp.zeros(1).dtype == jnp.float32
        and bounds_of("kl", case(0, 10)).lower.dtype == jnp.float32
    )


def test_every_candidate_needs_an_optimistic_function_of_its_own():
    """On the hub only the baseline has been played: its bound must approach its value all the same.

    With one global optimistic function, that of the optimistic policy, the last term of the bonus
    never vanishes there, however much is played: the baseline is never certified, and regret is
    linear.
    """
    loop = hub_loop()
    counts = np.zeros((5, 5, 5, 5), np.int32)
    counts[:, 0, 0, 0] = 2_000_000_000
    initial, baseline = jnp.eye(5)[0], jnp.asarray(loop.baseline, jnp.float32)
    candidates = Candidates(baseline, jnp.arange(6), jnp.ones((5, 5)))
    model = confidence.estimate(
        jnp.asarray(counts), jnp.asarray(loop.rewards, jnp.float32), 0.1, anchors=6
    )
    found = confidence.anchored_bounds(model, initial, candidates, 1.0)
    assert 2.4 < float(found.lower[-1]) <= 2.5 and 2.5 <= float(found.upper[-1]) < 2.6
    assert (
        float(found.upper[0]) > 4.0
    )  # what a global optimistic function would put into the baseline's bonus

    # The trap, written out: the same formulas with candidate 0's Ṽ for all.
    above, below = np.zeros(5), np.zeros(5)
    loop.bound, loop.counts, loop.scale = "anchored", counts.astype(float), 1.0
    for h in reversed(range(5)):
        upper, _ = loop.backup(h, above, above)
        _, lower = loop.backup(h, above, below)
        above, below = upper.max(-1), (loop.baseline[h] * lower).sum(-1)
    assert below[0] < loop.threshold < float(found.lower[-1])


def test_rates_by_hand():
    counts = jnp.zeros((1, 2, 1, 2), jnp.int32).at[0, 0, 0].set(jnp.array([1, 2]))
    model = confidence.estimate(counts, jnp.full((1, 2, 1), 0.5), 0.1, anchors=3)
    union, growth = np.log(3 * 2 * 1 * 1 * 3 / 0.1), np.log(8 * np.e * 4)
    np.testing.assert_allclose(model.kl_rate[0, 0, 0], (union + 2 * growth) / 3, rtol=1e-6)
    np.testing.assert_allclose(model.bernstein_rate[0, 0, 0], (union + growth) / 3, rtol=1e-6)
    np.testing.assert_allclose(model.transitions[0, 0, 0], [1 / 3, 2 / 3], rtol=1e-6)
    np.testing.assert_array_equal(model.visited[0, :, 0], [True, False])
    assert isinstance(model, EmpiricalModel)


def test_what_was_never_seen_is_bounded_by_its_reward_or_as_in_the_paper():
    nothing, rewards = jnp.zeros((2, 1, 1, 1), jnp.int32), jnp.full((2, 1, 1), 0.25)
    candidates = Candidates(jnp.ones((2, 1, 1)), jnp.arange(3), jnp.ones((2, 1)))
    for know, lower, upper in ((True, 0.25, 1.25), (False, 0.0, 2.0)):
        model = confidence.estimate(nothing, rewards, 0.1, know_rewards=know)
        found = confidence.kl_bounds(model, jnp.ones(1), candidates, 1.0)
        np.testing.assert_allclose(found.lower, lower)
        np.testing.assert_allclose(found.upper, upper)


def test_pessimistic_planning_earns_what_it_promises_and_keeps_to_what_was_seen():
    given = case(5, 1000)
    given.counts[:, :, 0] = 0
    arrays = [jnp.asarray(each, jnp.float32) for each in given[:3]]
    model = confidence.estimate(jnp.asarray(given.counts, jnp.int32), arrays[1], 0.1)
    policy, lower = confidence.pessimistic(model, arrays[2], 0.1)
    assert float(lower) <= float(tabular.expected_return(*arrays, policy))
    assert float(lower) == pytest.approx(
        float(confidence.policy_lower(model, arrays[2], policy, 0.1)), abs=1e-5
    )
    assert float(jnp.sum(policy[:-1, :, 0])) < 0.1 * float(jnp.sum(policy[:-1]))
