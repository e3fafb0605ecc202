"""What a dataset is said to promise, and how many episodes are said to suffice."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core import tabular
from jaxrl.core.safety.certificate import certify, check_certificate, check_constraint
from jaxrl.core.tabular import Mixture
from jaxrl.envs.registry import make
from jaxrl.errors import JaxrlError

THRESHOLD = 1.822


@functools.cache
def counts_of(episodes):
    """Transitions of a behaviour on the hub that stays for nine tenths, and else acts at random."""
    env = make("tabular/hub")
    policy = 0.9 * tabular.constant(0, env.rewards) + 0.1 / 5
    behaviour = Mixture(policy, policy, jnp.float32(1.0))
    played = tabular.play(env.transitions, env.initial, behaviour, jax.random.key(0), episodes)
    return env, tabular.count(played, 5, 5)


learn = jax.jit(certify)


@pytest.mark.slow
def test_the_promise_is_kept_and_grows_with_the_data():
    lower = []
    for episodes in (30, 1000, 30_000):
        env, counts = counts_of(episodes)
        found = learn(counts, env.rewards, env.initial, THRESHOLD)
        earned = tabular.expected_return(env.transitions, env.rewards, env.initial, found.policy)
        assert float(found.lower) <= float(earned) + 1e-5
        lower.append(float(found.lower))
    assert lower == sorted(lower) and lower[0] < THRESHOLD < lower[-1]


@pytest.mark.slow
def test_the_estimate_of_enough_is_right_to_a_factor_of_two():
    env, counts = counts_of(1000)
    found = learn(counts, env.rewards, env.initial, THRESHOLD)
    assert float(found.lower) < THRESHOLD and np.isfinite(found.factor)
    needed = 1000 * float(found.factor)
    for episodes, suffices in ((int(needed / 2), False), (int(needed * 2), True)):
        later = learn(counts_of(episodes)[1], env.rewards, env.initial, THRESHOLD)
        assert (float(later.lower) >= THRESHOLD) == suffices


def test_enough_data_needs_no_more_and_missing_actions_no_data_can_replace():
    env, counts = counts_of(30_000)
    assert float(learn(counts, env.rewards, env.initial, 1.0).factor) == 1.0
    only_stays = counts.at[:, :, 1:].set(0)
    assert np.isinf(learn(only_stays, env.rewards, env.initial, 2.6).factor)


def test_refusals_say_what_was_found_and_what_would_do():
    check_certificate(2.0, 1.0, 1.9, 10)
    with pytest.raises(
        JaxrlError, match="10 episodes show .* earns 1.5 or more, .* is 1.9; about 40 episodes like"
    ):
        check_certificate(1.5, 4.0, 1.9, 10)
    with pytest.raises(JaxrlError, match="no number of episodes like these would do"):
        check_certificate(1.5, float("inf"), 1.9, 10)
    check_constraint(2.0, 3.0, 2.0, tolerance=1e-5, learnt=False)
    check_constraint(1.0, 3.0, 2.0, tolerance=1e-5, learnt=True)
    with pytest.raises(JaxrlError, match="constraint is 3.5, but no policy earns more than 3"):
        check_constraint(2.0, 3.0, 3.5, tolerance=1e-5, learnt=True)
    with pytest.raises(
        JaxrlError, match="constraint is 2.5, but the baseline, which has to meet it, earns 2"
    ):
        check_constraint(2.0, 3.0, 2.5, tolerance=1e-5, learnt=False)
