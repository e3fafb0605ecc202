"""Deep StepMix on a problem whose returns are known exactly: who acts when, what is certified,
and what is refused."""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.deep_stepmix import DeepStepMixConfig, GuidedEnv, Round, RoundPlan, deep_stepmix
from jaxrl.algos.ppo import Batch
from jaxrl.cli import main
from jaxrl.config import override
from jaxrl.core import minibatch
from jaxrl.core.safety import bernstein
from jaxrl.core.safety.mixture import Choice
from jaxrl.envs.api import Environment
from jaxrl.envs.starts.fresh import Fresh
from jaxrl.envs.vector import VectorEnv
from jaxrl.errors import JaxrlError
from jaxrl.nn.policy import Policy
from jaxrl.types import Actor, Box, Discrete, Mean, Timestep, feed_forward
from tests.algos.walk import learner
from tests.envs.acting import actor, counting

HORIZON = 8
LIGHT = {"xla_backend_optimization_level": 1}  # compiles in half the time


class Wages(Environment):
    """Eight steps, each worth its action; the observation is the step, one-hot."""

    observation_space = Box(0.0, 1.0, (HORIZON + 1,))
    action_space = Discrete(2)
    horizon = HORIZON

    def reset(self, key):
        return jnp.zeros((), jnp.int32), self.observe(jnp.zeros((), jnp.int32))

    def step(self, key, state, action):
        return state + 1, Timestep(
            self.observe(state + 1), action.astype(jnp.float32), jnp.zeros((), bool)
        )

    def observe(self, step):
        return (jnp.arange(HORIZON + 1) == step).astype(jnp.float32)


WORKER = actor(lambda observation, key: jnp.ones((), jnp.int32))
SHIRKER = actor(lambda observation, key: (jax.random.uniform(key) < 0.6).astype(jnp.int32))
CONFIG = override(
    DeepStepMixConfig(),
    {
        "total_steps": 4096 * HORIZON * 40,
        "num_envs": 4096,
        "minibatch_size": 4096,
        "hidden_sizes": (8,),
        "learning_rate": 1e-2,
        "return_high": float(HORIZON),
    },
)


def guided(config=CONFIG, num_envs=3, baseline=WORKER):
    env = Wages()
    return GuidedEnv(env, Fresh(env), num_envs, baseline=baseline, config=config)


def steps_of(vector, state, action, num_steps):
    """The transitions of so many steps of the same action, [T, N, ...], and the last state."""
    step = jax.jit(vector.step)
    seen = []
    for key in jax.random.split(jax.random.key(1), num_steps):
        state, transition = step(state, action, key)
        seen.append(transition)
    return jax.tree.map(lambda *leaves: np.stack(leaves), *seen), state


def test_the_baseline_acts_up_to_the_handover_and_only_first_episodes_are_evidence():
    vector = guided()
    state = vector.init(jax.random.key(0))
    assert np.all(np.asarray(state.handover) == HORIZON), "nothing is known: the baseline alone"
    state = dataclasses.replace(state, handover=jnp.array([0, 3, 8], jnp.int32))
    idle = jnp.zeros(3, jnp.int32)
    seen, state = steps_of(vector, state, idle, 2 * HORIZON)
    weight, reward = seen.weight, seen.reward
    steps = np.arange(2 * HORIZON)[:, None] % HORIZON
    np.testing.assert_array_equal(weight, steps >= np.array([0, 3, 8]))
    np.testing.assert_array_equal(reward, 1 - weight)
    # Hand-over steps of the candidates: 0, 2, 4, 6, 8.
    np.testing.assert_array_equal(state.earned, [[0, 0, 0, 0, 0], [0, 2, 3, 3, 3], [0, 2, 4, 6, 8]])


def test_a_baseline_remembers_its_episode_and_is_shown_what_was_done_in_it():
    """It works until it has counted three steps, and then does as was done in the last one,
    whoever did it.

    It is asked in every step, also where the learner acts, and begins again with each episode.
    """

    def act(count, view, key):
        return jnp.where(count < 3, 1, jnp.where(view.reward > 0, view.action, 0)).astype(jnp.int32)

    vector = guided(baseline=counting(act))
    state = vector.init(jax.random.key(0))
    state = dataclasses.replace(state, handover=jnp.array([8, 8, 2], jnp.int32))
    # Two environments of the baseline alone, the second of which was interrupted in the round
    # before.
    state = dataclasses.replace(state, memory=jnp.array([0, 5, 0], jnp.int32))
    seen, after = steps_of(vector, state, jnp.zeros(3, jnp.int32), 2 * HORIZON)
    works = np.array([[1] * HORIZON, [1] * HORIZON, [1, 1] + [0] * (HORIZON - 2)]).T
    np.testing.assert_array_equal(seen.action, np.concatenate([works, works]))
    np.testing.assert_array_equal(after.memory, HORIZON)
    np.testing.assert_array_equal(after.vector.view.first, True)
    renewed = jax.jit(lambda state: vector.begin(state.plan, jax.random.key(2)))(after)
    np.testing.assert_array_equal(renewed.memory, 0)
    assert jax.tree.structure(renewed) == jax.tree.structure(after)


def test_the_baseline_acts_in_the_mode_that_is_asked_for():
    mode = {"deterministic": 1, "stochastic": 0}
    both = actor(lambda observation, key: jnp.int32(0)).agent
    modes = {
        name: feed_forward(lambda policy, observation, key, of=of: jnp.int32(of))
        for name, of in mode.items()
    }
    baseline = Actor((), dataclasses.replace(both, modes=modes))
    for name, expected in mode.items():
        vector = guided(dataclasses.replace(CONFIG, baseline_mode=name), baseline=baseline)
        seen, _ = steps_of(vector, vector.init(jax.random.key(0)), jnp.full(3, 1 - expected), 2)
        np.testing.assert_array_equal(seen.action, expected)


def slow_bounds(samples, low, high, log_term):
    """Bounds on the expectation of one round of samples, by the definition
    (core/safety/bernstein.py), in float64."""
    guesses, squares, weight, weighted, penalty = 0.5, 0.25, 0.0, 0.0, log_term
    for index, x in enumerate(np.clip((samples - low) / (high - low), 0, 1), start=1):
        guess = guesses / index
        factor = min(np.sqrt(2 * log_term / (len(samples) * squares / index)), 0.5)
        weight, weighted = weight + factor, weighted + factor * x
        penalty += (x - guess) ** 2 * (-np.log1p(-factor) - factor)
        guesses, squares = guesses + x, squares + (x - guess) ** 2
    if not weight:
        return low, high
    lower, upper = (weighted - penalty) / weight, (weighted + penalty) / weight
    return low + (high - low) * max(lower, 0.0), low + (high - low) * min(upper, 1.0)


def slow_plan(config, state, rounds):
    """Bounds and threshold as a NumPy float64 loop over candidates."""
    low, high, old = config.return_low, config.return_high, state.plan
    handovers = [HORIZON * j // config.num_prefixes for j in range(config.num_prefixes + 1)]
    earned, handover = np.asarray(state.earned, np.float64), np.asarray(state.handover)
    for_baseline = np.log(2 * (len(handovers) + 1) / config.failure_probability)
    for_candidates = np.log(2 * len(handovers) * rounds / config.failure_probability)
    lower = []
    for j, step in enumerate(handovers):
        floor, upper = slow_bounds(earned[handover >= step, j], low, high, for_baseline)
        rest = min(low, 0.0) if step < HORIZON else 0.0
        floor = low if j == 0 else max(float(old.floor[j]), floor + rest)
        new_lower, new_upper = slow_bounds(earned[handover == step, -1], low, high, for_candidates)
        known = new_lower if new_upper < old.lower[j] else max(float(old.lower[j]), new_lower)
        lower.append(floor if step == HORIZON else max(floor, known - config.drift * (high - low)))
    return lower, low + config.constraint_level * (min(float(old.baseline_upper), upper) - low)


@pytest.mark.parametrize("drift", [0.05, float("inf")])
@pytest.mark.parametrize("low", [0.0, -2.0, 1.5])
def test_a_plan_is_what_a_slow_loop_finds(drift, low):
    config = dataclasses.replace(
        CONFIG, drift=drift, return_low=low, num_steps=HORIZON, constraint_level=0.7
    )
    rng, count = np.random.default_rng(0), 4000
    handover = rng.choice([4, 6, 8], count, p=[0.3, 0.4, 0.3]).astype(np.int32)
    pay = rng.random((count, HORIZON)) < np.where(np.arange(HORIZON) < handover[:, None], 0.95, 0.6)
    earned = np.stack([pay[:, :step].sum(1) for step in (0, 2, 4, 6, 8)], axis=1).astype(np.float32)
    nothing = Mean(jnp.zeros(()), jnp.zeros(()))
    # Of candidate 2 too much was believed: the new returns contradict it. Candidate 1 was not
    # played: it drifts.
    old = RoundPlan(
        Choice(jnp.int32(4), jnp.int32(6), jnp.float32(0.5), jnp.float32(5.0)),
        bernstein.nothing((5,)),
        jnp.full(5, low),
        jnp.float32(8.0),
        jnp.array([low, 5.0, 7.9, 1.0, low]),
        jnp.float32(0.0),
        nothing,
        nothing,
    )
    vector = guided(config, count)
    state = Round(
        vector=VectorEnv.init(vector, jax.random.key(0)),
        memory=(),
        handover=jnp.asarray(handover),
        in_first=jnp.zeros(count, bool),
        earned=jnp.asarray(earned),
        plan=old,
    )
    plan = vector.plan(state)
    lower, threshold = slow_plan(config, state, rounds=40)
    np.testing.assert_allclose(plan.lower, lower, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(plan.threshold, threshold, rtol=1e-5)
    assert float(plan.choice.lower) >= threshold - 1e-4
    np.testing.assert_allclose(plan.returns.sum, pay.sum(), rtol=1e-6)


@functools.cache
def trained():
    """Three seeds of forty rounds: what was planned,
    and the exact expected return of each plan, [rounds, seeds]."""
    algorithm = deep_stepmix(Wages(), CONFIG, baseline=SHIRKER)
    observations = jnp.eye(HORIZON + 1)[:HORIZON]

    def body(state, _):
        policy, choice = algorithm.policy(state), state.vector.plan.choice
        network = CONFIG.network.make(Wages().observation_space, Wages().action_space)
        works = jax.nn.softmax(network.apply(policy.params, observations)[0].logits)[:, 1]
        # The baseline earns 0.6 a step, the learner what it works.
        value = [
            jnp.where(jnp.arange(HORIZON) < step, 0.6, works).sum()
            for step in (choice.bold, choice.cautious)
        ]
        value = choice.weight * value[0] + (1 - choice.weight) * value[1]
        after, metrics = algorithm.step(state)
        return after, (
            value,
            choice,
            {name: mean.sum / mean.count for name, mean in metrics.items()},
        )

    def run(key):
        return jax.lax.scan(body, algorithm.init(key), None, length=algorithm.budget.steps)[1]

    with jax.debug_key_reuse(False):
        return jax.jit(jax.vmap(run), compiler_options=LIGHT)(
            jax.random.split(jax.random.key(0), 3)
        )


def test_no_round_is_below_the_constraint_and_the_learner_takes_over():
    value, choice, metrics = trained()
    assert np.min(value) >= 0.9 * 0.6 * HORIZON
    assert np.all(np.asarray(choice.cautious)[:, -1] == 0), (
        "in the end the learner acts from the first step"
    )
    assert np.all(np.asarray(value)[:, -1] > 0.99 * HORIZON)
    assert np.all(np.asarray(choice.cautious)[:, 0] == HORIZON), (
        "in the beginning the baseline acts"
    )
    assert np.any((np.asarray(choice.bold) > 0) & (np.asarray(choice.bold) < HORIZON)), (
        "and between them, both"
    )
    assert np.all(np.asarray(value) >= np.asarray(metrics["lower_bound"]) - 1e-3)
    assert not np.any(metrics["outside_range"])
    assert np.all(np.abs(np.asarray(metrics["round_return"]) - value) < 0.2), (
        "4,096 episodes tell it that well"
    )


def test_what_the_baseline_did_does_not_move_the_learner():
    learned = learner(CONFIG, Wages())
    state = jax.jit(learned.init, compiler_options=LIGHT)(jax.random.key(0))
    rng = np.random.default_rng(0)
    count = 64
    rows = Batch(
        jnp.asarray(rng.random((count, HORIZON + 1)), jnp.float32),
        jnp.asarray(rng.integers(0, 2, count), jnp.int32),
        *jnp.asarray(rng.normal(size=(4, count)), jnp.float32),
        None,
    )
    acted = rng.random(count) < 0.25
    mine = jax.tree.map(lambda leaf: leaf[acted], rows)
    rows = dataclasses.replace(rows, weight=jnp.asarray(acted / acted.mean(), jnp.float32))

    @functools.partial(jax.jit, compiler_options=LIGHT)
    def gradient(rows):
        loss = functools.partial(learned._loss, key=jax.random.key(0))
        return jax.grad(lambda params: loss(Policy(params, None), rows, rows.log_probability)[0])(
            state.policy.params
        )

    for found, expected in zip(
        *map(jax.tree.leaves, (gradient(rows), gradient(mine))), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert isinstance(state.policy, Policy)


@pytest.mark.parametrize(
    ("settings", "baseline", "message"),
    [
        ({}, None, "give a run folder, --baseline"),
        (
            {"return_high": float("inf")},
            WORKER,
            "return_high=inf: give what no episode can fall below",
        ),
        ({"return_low": 9.0}, WORKER, "return_low=9 and return_high=8"),
        (
            {"constraint_level": 1.2},
            WORKER,
            r"constraint_level .a share of the baseline's return. is 1.2",
        ),
        ({"num_prefixes": 9}, WORKER, "num_prefixes is 9, but an episode has 8 steps"),
        ({"starts": "pool"}, WORKER, "no --starts pool"),
        ({"stagger": True}, WORKER, "--stagger"),
        ({"minibatch_size": 5000}, WORKER, "must divide num_envs"),
        ({"drift": -1.0}, WORKER, "drift is -1"),
        (
            {"baseline_mode": "stochastics"},
            WORKER,
            "unknown mode of the baseline 'stochastics'. Did you mean stochastic",
        ),
    ],
)
def test_what_is_refused(settings, baseline, message):
    with pytest.raises(JaxrlError, match=message):
        deep_stepmix(Wages(), override(CONFIG, settings), baseline=baseline)


@pytest.mark.parametrize("horizon", [100, 200, 500, 1000])
def test_the_defaults_fit_the_usual_horizons(horizon):
    config = DeepStepMixConfig()
    minibatch.check_sizes(config.total_steps, config.num_envs, horizon, config.minibatch_size)


TINY = [
    "--num-envs",
    "4",
    "--minibatch-size",
    "16",
    "--hidden-sizes",
    "4",
    "--num-epochs",
    "1",
    "--quiet",
]
EVALUATE = ["--num-evaluations", "1", "--evaluation-episodes", "2"]


def test_the_baseline_is_a_run_folder(tmp_path, capsys):
    baseline, folder = str(tmp_path / "baseline"), tmp_path / "run"
    probe = ["--env", "probe/two-lengths", *EVALUATE, *TINY]
    assert (
        main(
            [
                "train",
                "ppo",
                *probe,
                "--num-steps",
                "8",
                "--total-steps",
                "64",
                "--folder",
                baseline,
            ]
        )
        == 0
    )
    deep = [
        "train",
        "deep_stepmix",
        *probe,
        "--return-low",
        "-9",
        "--return-high",
        "9",
        "--total-steps",
        "400",
    ]
    assert main([*deep, "--baseline", baseline, "--folder", str(folder)]) == 0
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert -9 <= last["baseline_lower_bound"] <= last["baseline_upper_bound"] <= 9
    assert main(["resume", str(folder), "--set", "total_steps=480", "--force", "--quiet"]) == 0
    capsys.readouterr()

    elsewhere = [text.replace("two-lengths", "action-reward") for text in deep]
    assert main([*elsewhere, "--baseline", baseline]) != 0
    assert (
        "a policy for probe/two-lengths, but the environment is probe/action-reward"
        in capsys.readouterr().err
    )
    assert main([*deep, "--baseline", str(tmp_path / "nowhere")]) != 0
    assert "nowhere" in capsys.readouterr().err
