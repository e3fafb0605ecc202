"""What deep StepMix certifies, on episodes whose expected return is known exactly,
for ranges of every sign.

All cases are members of one compiled program: ranges, rewards and levels are arrays.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos import stepmix
from jaxrl.algos.deep_stepmix import DeepStepMixConfig, GuidedEnv, deep_stepmix
from jaxrl.algos.parts import tabular_problem
from jaxrl.config import override
from jaxrl.core.safety import bernstein
from jaxrl.core.safety.certificate import Certificate
from jaxrl.core.tabular import TabularEpisodes
from jaxrl.envs.api import Environment
from jaxrl.envs.registry import make
from jaxrl.envs.starts.fresh import Fresh
from jaxrl.errors import JaxrlError
from jaxrl.types import Box, Discrete, Timestep
from tests.envs.acting import actor

HORIZON, ROUNDS, NUM_ENVS = 8, 16, 512
HANDOVERS = (0, 2, 4, 6, 8)


class Pay(Environment):
    """Step t pays base[t], and gain[t] more if one works; the observation is the step, one-hot."""

    base: Any
    gain: Any
    length: Any  # an episode ends by itself after so many steps
    observation_space = Box(0.0, 1.0, (HORIZON + 1,))
    action_space = Discrete(2)
    horizon = HORIZON

    def reset(self, key):
        return jnp.zeros((), jnp.int32), self.observe(0)

    def step(self, key, state, action):
        reward = self.base[state] + self.gain[state] * action
        return state + 1, Timestep(self.observe(state + 1), reward, state + 1 >= self.length)

    def observe(self, step):
        return (jnp.arange(HORIZON + 1) == step).astype(jnp.float32)


class Case(NamedTuple):
    """Rewards of eight steps, the range of returns, and how often the baseline works."""

    base: Any
    gain: Any
    low: float
    high: float
    works: float = 1.0
    length: int = HORIZON
    drift: float = 0.05  # and inf: one case is two members


def steps(early, late=None):
    """A number a step: `early` in the first half, `late` in the second."""
    return np.repeat(np.array([early, early if late is None else late], np.float32), HORIZON // 2)


CASES = {
    "every episode earns 20 to 60": Case(steps(2.5), steps(5), 20, 60),
    "that, and a baseline that often shirks": Case(steps(2.5), steps(5), 20, 60, works=0.8),
    "that, and over after three steps": Case(steps(20 / 3), steps(40 / 3), 20, 60, length=3),
    "20 to 60, all of it early": Case(steps(5, 0), steps(10, 0), 20, 60),
    "20 to 60, all of it late": Case(steps(0, 5), steps(0, 10), 20, 60),
    "-60 to -20": Case(steps(-7.5), steps(5), -60, -20),
    "-60 to -20, all of it late": Case(steps(0, -15), steps(0, 10), -60, -20, works=0.9),
    "0 to 40": Case(steps(0), steps(5), 0, 40, works=0.9),
    "gains early and losses late": Case(steps(0, -5), steps(5, 5), -20, 20),
}
# Whole episodes earn 40 to 60, but their second half -20 to 0: return_low 40 claims too much.
BROKEN = "a part of an episode earns less than nothing"
ALL = CASES | {BROKEN: Case(steps(15, -5), steps(0, 5), 40, 60, works=0.5)}
CONFIG = override(
    DeepStepMixConfig(),
    {
        "total_steps": NUM_ENVS * HORIZON * ROUNDS,
        "num_envs": NUM_ENVS,
        "minibatch_size": NUM_ENVS * HORIZON,
        "num_epochs": 1,
        "hidden_sizes": (4,),
        "learning_rate": 2e-3,
        "return_high": 1.0,
    },
)
LIGHT = {"xla_backend_optimization_level": 0}  # compiles in half the time


def play(case, key):
    """The rounds of one member: what was certified, the exact expected returns, and the metrics."""
    numbers = {"return_low": case.low, "return_high": case.high, "drift": case.drift}
    config, env = dataclasses.replace(CONFIG, **numbers), Pay(case.base, case.gain, case.length)
    baseline = actor(
        lambda observation, key: (jax.random.uniform(key) < case.works).astype(jnp.int32)
    )
    algorithm = deep_stepmix(env, config, baseline=baseline)
    network = config.network.make(env.observation_space, env.action_space)
    step = jnp.arange(HORIZON)

    def body(state, _):
        params, plan = algorithm.policy(state).params, state.vector.plan
        learner = jax.nn.softmax(network.apply(params, jnp.eye(HORIZON, HORIZON + 1))[0].logits)[
            :, 1
        ]

        def value(handover):
            works = jnp.where(step < handover, case.works, learner)
            return jnp.where(step < case.length, case.base + case.gain * works, 0.0).sum()

        values = jax.vmap(value)(jnp.array(HANDOVERS))
        after, metrics = algorithm.step(state)
        metrics = {name: mean.sum / mean.count for name, mean in metrics.items()}
        return after, (plan, values, metrics)

    return jax.lax.scan(body, algorithm.init(key), None, length=ROUNDS)[1]


@functools.cache
def played():
    """Of each case, with drift 0.05 and inf: plan, expected returns of the candidates
    [2, rounds, 5], metrics."""
    cases = [case._replace(drift=drift) for case in ALL.values() for drift in (0.05, float("inf"))]
    members = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves), jnp.float32), *cases)
    with jax.debug_key_reuse(False):
        program = jax.jit(jax.vmap(play), compiler_options=LIGHT)
        found = jax.device_get(program(members, jax.random.split(jax.random.key(0), len(cases))))
    return {
        name: jax.tree.map(lambda leaf, row=row: leaf[2 * row : 2 * row + 2], found)
        for row, name in enumerate(ALL)
    }


def of_mixture(choice, values):
    """The expected return of the mixture that was played."""
    bold, cautious = (
        np.take_along_axis(values, np.searchsorted(HANDOVERS, step)[..., None], axis=-1)[..., 0]
        for step in (choice.bold, choice.cautious)
    )
    return choice.weight * bold + (1 - choice.weight) * cautious


@pytest.mark.slow  # twenty seconds, nearly all of them compiling
@pytest.mark.parametrize("name", CASES)
def test_no_candidate_and_no_round_earns_less_than_it_was_certified_for(name):
    plan, values, metrics = played()[name]
    exact = values + 1e-4  # of these values' own float32
    assert np.all(plan.lower <= exact), "of a candidate with the present learner"
    assert np.all(metrics["lower_bound"] <= of_mixture(plan.choice, exact)), "of what was played"
    assert np.all(plan.floor <= exact) and np.all(plan.baseline_upper >= values[..., -1] - 1e-4)
    assert not np.any(metrics["outside_range"])


@pytest.mark.parametrize("name", CASES)
def test_every_round_meets_the_constraint_and_the_learner_takes_part(name):
    plan, values, _ = played()[name]
    case = CASES[name]
    needed = case.low + 0.9 * (values[..., -1] - case.low)
    assert np.all(of_mixture(plan.choice, values) >= needed - 1e-4)
    assert plan.choice.cautious[0, -1] < HORIZON or plan.choice.bold[0, -1] < HORIZON


def test_what_the_baseline_earned_before_a_handover_counts_in_full():
    """Of the greatest returns, 5 / 60, 15 / 60, ... are earned before each hand-over;
    the rest may be nothing."""
    plan, _, _ = played()["every episode earns 20 to 60"]
    np.testing.assert_allclose(plan.floor[:, -1], np.tile([20, 20, 30, 45, 60], (2, 1)), rtol=0.02)


def test_a_broken_assumption_is_counted():
    assert np.all(played()[BROKEN][2]["outside_range"] > 0.85)


def guided(env, **numbers):
    """What plans the rounds, for unit tests."""
    config = dataclasses.replace(CONFIG, **numbers)
    return GuidedEnv(env, Fresh(env), 1, baseline=None, config=config)


@pytest.mark.parametrize(
    ("low", "earned", "expected"),
    [
        (2.0, [0.0, 0.0, 1.0, 2.0, 3.0], False),
        (2.0, [0.0, 1.0, 1.0, 1.0, 1.5], True),  # the whole is below
        (2.0, [0.0, -1.0, 1.0, 2.0, 3.0], True),  # the part before step 2 is
        (2.0, [0.0, 3.0, 4.0, 4.0, 3.0], True),  # the part from step 2 is: none of these whole
        (-1.0, [0.0, -1.0, 0.0, 1.0, 0.0], False),
        (-1.0, [0.0, 2.0, 1.0, 1.0, 0.0], True),
        (-1.0, [0.0, -1.0 - 1e-7, 0.0, 0.0, 0.0], False),  # that is float32's
        (-1.0, [0.0, 3.0, 3.0, 4.0, 4.1], True),
    ],
)
def test_episodes_outside_the_range(low, earned, expected):
    env = Pay(steps(0), steps(0), HORIZON)
    assert (
        bool(guided(env, return_low=low, return_high=4.0).outside(jnp.array([earned]))[0])
        == expected
    )


class LongPay(Pay):
    """Of ten thousand steps."""

    horizon = 10_000


@pytest.mark.parametrize("reward", [0.7, 0.1])
def test_sums_in_float32_do_not_make_a_bound_false(reward):
    """0.7, ten thousand times, is 7000.6 in float32; of 0.1 it is 999.9."""
    exact = LongPay.horizon * float(np.float32(reward))
    earned = np.cumsum(np.full(LongPay.horizon, reward, np.float32), dtype=np.float32)[-1]
    high = 1.2 * exact
    vector = guided(LongPay(steps(0), steps(0), HORIZON), return_high=high)
    returns, log_term = jnp.full((16384, 1), earned), jnp.float32(5.0)

    def body(evidence, _):
        return vector.gather(evidence, returns, jnp.ones(returns.shape, bool), log_term), None

    evidence = jax.jit(lambda: jax.lax.scan(body, bernstein.nothing((1,)), None, length=20)[0])()
    lower, upper = vector.bounds(evidence, log_term)
    assert float(lower[0]) <= exact <= float(upper[0])
    assert float(upper[0] - lower[0]) < 2e-3 * high, "and they are not much wider for it"
    lower, upper = (high * float(bound[0]) for bound in bernstein.bounds(evidence, log_term))
    assert not lower <= exact <= upper, "without that they are false"


def test_a_certificate_from_data_counts_only_beyond_rounding(monkeypatch):
    env = make("tabular/hub")
    states = np.zeros((env.horizon + 1, 3), np.int32)
    episodes = TabularEpisodes(states, states[:-1])
    settings = {"constraint": "absolute", "constraint_level": 0.5}
    config = override(stepmix.StepMixConfig(), settings)
    for excess, met in ((1e-6, False), (1e-4, True)):
        found = Certificate(None, np.full(1, 0.5 + excess), np.ones(1))
        monkeypatch.setattr(tabular_problem, "_certificates", lambda *_, found=found: found)
        if met:
            tabular_problem.check_problem(env, config, dataset=episodes)
        else:
            with pytest.raises(JaxrlError, match="but the constraint is 0.5"):
                tabular_problem.check_problem(env, config, dataset=episodes)
    with pytest.raises(JaxrlError, match="with a dataset --bound must be kl"):
        tabular_problem.check_problem(
            env, override(config, {"bound": "anchored"}), dataset=episodes
        )
