"""Settings for more environments, against numbers worked out by hand."""

import inspect

import numpy as np
import pytest

from jaxrl.algos.ppo import PPOConfig, ppo
from jaxrl.core.co_scaling import RULES, co_scale
from jaxrl.envs.suites.probe import ActionReward
from jaxrl.errors import JaxrlError

# Tuned at 64 environments: 64 · 128 = 8192 transitions, 8 minibatches of 1024, 32 gradient steps an
# iteration.
TUNED = PPOConfig(
    num_steps=128, minibatch_size=1024, num_epochs=4, learning_rate=1e-3, total_steps=10_000_000
)


def gradient_steps(config):
    return config.num_epochs * config.num_envs * config.num_steps // config.minibatch_size


@pytest.mark.parametrize(
    ("rule", "minibatch_size", "learning_rate", "num_steps", "steps"),
    [
        ("R1", 1024, 1e-3, 128, 512),
        ("R2", 16_384, 1e-3, 128, 32),
        ("R3", 16_384, 4e-3, 128, 32),
        ("R4", 16_384, 16e-3, 128, 32),
        ("R5", 1024, 1e-3, 8, 32),
    ],
)
def test_from_64_to_1024_environments(rule, minibatch_size, learning_rate, num_steps, steps):
    scaled = co_scale(TUNED.replace(num_envs=1024), 64, rule)
    assert (scaled.minibatch_size, scaled.num_steps) == (minibatch_size, num_steps)
    assert scaled.learning_rate == pytest.approx(learning_rate)
    assert gradient_steps(scaled) == steps
    same = {"minibatch_size": 1024, "num_steps": 128, "learning_rate": 1e-3}
    assert scaled.replace(**same) == TUNED.replace(num_envs=1024)


@pytest.mark.parametrize("rule", RULES)
def test_as_many_environments_as_before_change_nothing(rule):
    assert co_scale(TUNED.replace(num_envs=64), 64, rule) == TUNED.replace(num_envs=64)


@pytest.mark.parametrize("rule", RULES)
def test_what_comes_out_fits_ppo(rule):
    ppo(ActionReward(), co_scale(TUNED.replace(num_envs=256), 64, rule))


def test_swept_learning_rates_scale_each():
    rates = np.array([1e-3, 2e-3], np.float32)
    scaled = co_scale(TUNED.replace(num_envs=256, learning_rate=rates), 64, "R3")
    np.testing.assert_allclose(scaled.learning_rate, [2e-3, 4e-3])


def test_refuses_what_cannot_be_scaled():
    with pytest.raises(JaxrlError) as error:
        co_scale(TUNED.replace(num_envs=100), 64, "R1")
    assert str(error.value) == (
        "scale_from is 64, but must divide num_envs, 100: scaling is by a whole number."
    )
    with pytest.raises(JaxrlError, match="scale_from is 64, but must divide num_envs, 32"):
        co_scale(TUNED.replace(num_envs=32), 64, "R1")
    with pytest.raises(
        JaxrlError,
        match="num_steps is 128, but scale_rule R5 divides it by num_envs / scale_from = 3",
    ):
        co_scale(TUNED.replace(num_envs=192), 64, "R5")
    as_users_meet_it = inspect.unwrap(co_scale)
    for number in (0, -64, 64.0, True):
        with pytest.raises(JaxrlError, match="scale_from is .* whole number of at least 1"):
            as_users_meet_it(TUNED.replace(num_envs=64), number, "R1")


def test_names_the_nearest_rule():
    with pytest.raises(JaxrlError, match="unknown scale_rule 'r1'. Did you mean R1"):
        co_scale(TUNED, 64, "r1")
    with pytest.raises(
        JaxrlError, match="unknown scale_rule 'linear'. Choose one of: R1, R2, R3, R4, R5."
    ):
        co_scale(TUNED, 64, "linear")
