"""Mixtures of neighbouring candidates: their value is linear, and their bound is the threshold."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core import tabular
from jaxrl.core.safety.mixture import choose, mixture, shares, splice
from tests.core.test_tabular import H, problem

PREFIXES = jnp.arange(H + 1)


def policies(seed):
    generator = np.random.default_rng(seed)
    return tuple(jnp.asarray(generator.dirichlet(np.ones(2), (H, 3))) for _ in range(2))


@pytest.mark.parametrize("prefix", [1, 2, 3])
def test_the_step_mixture_earns_the_mixture_of_its_neighbours(prefix):
    with jax.enable_x64(True):
        transitions, rewards, initial, _ = map(jnp.asarray, problem(prefix))
        (optimistic, baseline), rho = policies(prefix), 0.3 + 0.1 * prefix

        def value(policy):
            return float(tabular.expected_return(transitions, rewards, initial, policy))

        bold, cautious = (splice(optimistic, baseline, j) for j in (prefix - 1, prefix))
        at = jnp.arange(H)[:, None, None] == prefix - 1
        markov = jnp.where(at, rho * optimistic + (1.0 - rho) * baseline, bold)
        linear = rho * value(bold) + (1.0 - rho) * value(cautious)
        assert abs(value(markov) - linear) < 1e-10
        assert float(jnp.max(jnp.abs(markov - (rho * bold + (1.0 - rho) * cautious)))) < 1e-15


def test_the_bound_of_a_mixture_is_the_threshold():
    with jax.enable_x64(True):
        lower = jnp.array([0.3, 0.5, 1.7, 1.2])
        choice = choose(lower, PREFIXES, 1.1)
        assert (int(choice.bold), int(choice.cautious)) == (1, 2)
        assert float(choice.weight) == pytest.approx((1.7 - 1.1) / (1.7 - 0.5), abs=1e-15)
        assert abs(float(choice.lower) - 1.1) < 1e-10
        assert float(shares(choice, H)["mixed_share"]) == 1.0


def test_the_ends_of_the_chain():
    optimistic = choose(jnp.array([1.2, 1.0, 0.9, 2.0]), PREFIXES, 1.1)
    assert (int(optimistic.bold), int(optimistic.cautious), float(optimistic.weight)) == (0, 0, 1.0)
    assert float(shares(optimistic, H)["optimistic_share"]) == 1.0
    nothing = choose(jnp.array([0.2, 0.4, 0.9, 1.0]), PREFIXES, 1.1)
    assert (int(nothing.bold), int(nothing.cautious)) == (H, H) and float(nothing.lower) == 1.0
    assert float(shares(nothing, H)["baseline_share"]) == 1.0
    exact = choose(
        jnp.array([0.2, 0.4, 0.9, 1.1]), PREFIXES, 1.1
    )  # the baseline's bound is the threshold: no room
    assert float(exact.weight) == 0.0 and float(shares(exact, H)["baseline_share"]) == 1.0


def test_two_ends_are_epsmix_and_no_mixing_is_the_switch():
    lower, ends = jnp.array([0.5, 2.0]), jnp.array([0, H])
    mixed = choose(lower, ends, 1.25)
    assert (int(mixed.bold), int(mixed.cautious), float(mixed.weight)) == (0, H, 0.5)
    switch = choose(lower, ends, 1.25, mix=False)
    assert float(switch.weight) == 0.0 and float(switch.lower) == 2.0
    optimistic, baseline = policies(0)
    policy = mixture(mixed, optimistic, baseline)
    np.testing.assert_array_equal(policy.bold, optimistic)
    np.testing.assert_array_equal(policy.cautious, baseline)


def test_a_larger_slack_mixes_more_in():
    lower = jnp.array([0.0, 0.2, 1.0, 2.0])
    reached = [choose(lower, PREFIXES, threshold) for threshold in (1.9, 1.5, 1.0, 0.5, 0.0)]
    steps = [float(each.weight * each.bold + (1 - each.weight) * each.cautious) for each in reached]
    assert steps == sorted(steps, reverse=True) and steps[0] > steps[-1] == 0.0
