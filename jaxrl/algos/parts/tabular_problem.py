"""What StepMix is given: a baseline in a tabular MDP, and a constraint that it has to meet.

A baseline that is learnt from a dataset has to be certified by it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxrl.core import tabular
from jaxrl.core.safety import certificate, confidence
from jaxrl.core.tabular import TabularEpisodes
from jaxrl.envs.suites.tabular import TOLERANCE, TabularMDP, check_episodes, check_mdp, check_policy
from jaxrl.errors import JaxrlError, check_range
from jaxrl.types import Array

if TYPE_CHECKING:
    from jaxrl.algos.stepmix import StepMixConfig

# Error of a return in float32 per step of the horizon (tests/core/safety/test_confidence.py).
# Thresholds are raised by it, so that exact arithmetic would certify whatever float32 certifies.
ROUNDING = 2e-6


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Problem:
    """What is fixed at the start of a run."""

    baseline: Array  # [H, S, A]
    baseline_value: Array  # its expected return; of the environment itself, as is what follows
    optimal_value: Array


def make_problem(
    env: TabularMDP, config: StepMixConfig, baseline: Array | None, counts: Array | None
) -> Problem:
    """The baseline, its value and the optimal one.

    With the `counts` of a dataset the baseline is learnt from them.
    """
    best = tabular.optimal(env.transitions, env.rewards)
    if counts is not None:
        model = confidence.estimate(counts, env.rewards, config.failure_probability)
        baseline, _ = confidence.pessimistic(model, env.initial, config.bonus_scale)
    elif baseline is not None:
        baseline = jnp.asarray(baseline, env.rewards.dtype)
    elif config.baseline == "boltzmann":
        baseline = tabular.boltzmann(best.action, config.inverse_temperature)
    elif config.baseline == "epsilon-soft":
        baseline = tabular.epsilon_soft(best.action, config.baseline_epsilon)
    else:
        baseline = tabular.constant(config.baseline_action, env.rewards)
    value = tabular.expected_return(env.transitions, env.rewards, env.initial, baseline)
    return Problem(baseline, value, jnp.sum(env.initial * best.state[0]))


def counts_of(env: TabularMDP, episodes: TabularEpisodes) -> Array:
    """How often each (h, s, a, s') was seen, int32 [H, S, A, S]."""
    _, num_states, num_actions = env.rewards.shape
    return tabular.count(episodes, num_states, num_actions)


def threshold_of(config: StepMixConfig, problem: Problem) -> Array:
    """The constraint γ: the least expected return that a policy may have, []."""
    level = jnp.asarray(config.constraint_level, problem.baseline_value.dtype)
    return level * problem.baseline_value if config.constraint == "relative" else level


def raised(threshold: Array, horizon: int) -> Array:
    """The constraint that a bound in float32 has to meet.

    A bound of zero needs no data and is exact: a constraint of zero binds nothing.
    """
    return threshold + jnp.where(threshold > 0, ROUNDING * horizon, 0.0)


_problems = jax.jit(jax.vmap(make_problem, in_axes=(None, 0, None, None)))
_certificates = jax.jit(jax.vmap(certificate.certify, in_axes=(None, None, None, 0, 0, 0)))


def check_problem(
    env: TabularMDP,
    config: StepMixConfig,
    baseline: Array | None = None,
    dataset: TabularEpisodes | None = None,
) -> None:
    """Refuse a constraint that cannot be met.

    Traced numbers pass: they were checked before they were traced.
    """
    leaves = jax.tree.leaves((env, config, baseline, dataset))
    if any(isinstance(leaf, jax.core.Tracer) for leaf in leaves):
        return
    check_mdp(
        np.asarray(env.transitions, np.float64),
        np.asarray(env.rewards, np.float64),
        np.asarray(env.initial, np.float64),
    )
    check_settings(env, config, baseline, dataset)
    check_met(env, config, baseline, dataset)


def check_settings(
    env: TabularMDP,
    config: StepMixConfig,
    baseline: Array | None,
    dataset: TabularEpisodes | None,
) -> None:
    """Refuse what does not fit the problem, or the data."""
    check_range("baseline_action", config.baseline_action, 0, env.rewards.shape[-1] - 1)
    if baseline is not None:
        check_policy(baseline, env)
    if config.constraint == "relative":
        check_range(
            "constraint_level (a share of the baseline's expected return)",
            config.constraint_level,
            0,
            1,
        )
    if dataset is not None:
        check_episodes(dataset, env)
        if config.constraint == "relative":
            raise JaxrlError(
                "with a dataset the constraint must be absolute: "
                "its baseline's return is not known."
            )
        if config.bound == "anchored":
            raise JaxrlError(
                "with a dataset --bound must be kl: the anchored bounds hold for a baseline that "
                "was chosen before the data that bound it."
            )


def check_met(
    env: TabularMDP,
    config: StepMixConfig,
    baseline: Array | None,
    dataset: TabularEpisodes | None,
) -> None:
    """Refuse a constraint that some setting's baseline does not meet, as far as can be shown."""
    num_settings = max(np.size(leaf) for leaf in jax.tree.leaves(config))
    swept: Any = jax.tree.map(
        lambda leaf: np.broadcast_to(np.asarray(leaf, np.float32), num_settings), config
    )
    counts = None if dataset is None else counts_of(env, dataset)
    problems = jax.device_get(_problems(env, swept, baseline, counts))
    thresholds = np.asarray(jax.vmap(threshold_of)(swept, problems))
    for index in range(num_settings):
        certificate.check_constraint(
            float(problems.baseline_value[index]),
            float(problems.optimal_value[index]),
            float(thresholds[index]),
            tolerance=TOLERANCE,
            learnt=dataset is not None,
        )
    if dataset is not None:
        needed = np.asarray(raised(swept.constraint_level, env.horizon))
        certificates = _certificates(
            counts, env.rewards, env.initial, needed, swept.failure_probability, swept.bonus_scale
        )
        found = jax.device_get(certificates)
        for index, level in enumerate(needed):
            certificate.check_certificate(
                found.lower[index], found.factor[index], level, dataset.actions.shape[1]
            )
