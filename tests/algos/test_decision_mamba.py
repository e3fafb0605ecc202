"""Decision Mamba: losses by hand, self-evolution, two modes, and that it earns what is asked."""

import functools
import re
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.decision_mamba import (
    DecisionMambaConfig,
    decision_mamba,
    decision_mamba_agent,
)
from jaxrl.algos.parts import return_conditioned
from jaxrl.algos.parts.return_conditioned import (
    Policy,
    ReturnConditioned,
    return_scale,
    stage_updates,
)
from jaxrl.core import moments
from jaxrl.data.dataset import Dataset
from jaxrl.data.transitions import Windows
from jaxrl.errors import JaxrlError
from jaxrl.types import View
from tests.algos.asking import (
    CHEAP,
    HORIZON,
    SMALL,
    SMALL_MAMBA,
    Asking,
    dataset,
    recorded,
    returns,
)

TINY = {"width": 8, "num_layers": 1, "batch_size": 8, "warm_up_updates": 0, "max_grad_norm": np.inf}
CHOICES, NUMBERS = Asking(), Asking(continuous=True)


def config_of(**settings):
    return DecisionMambaConfig(**SMALL | SMALL_MAMBA | settings)


@functools.cache
def data(env):
    return dataset(env, lengths=(HORIZON, 3))


@functools.cache
def begun(env, **settings):
    """(rules, learner, windows) before the first gradient step, of small networks."""
    config, rng = config_of(**TINY | settings), np.random.default_rng(2)
    rules = rules_of(env, config)
    shapes = jax.eval_shape(decision_mamba_agent(env, config).init, jax.random.key(0))
    params = jax.tree.map(
        lambda leaf: jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32), shapes.params
    )
    unknown = jnp.full((), jnp.nan)
    policy = Policy(params, moments.init((2,)), return_scale=unknown, target=unknown)
    learner = rules.begin(policy)
    return rules, learner, rules.draw(learner, jax.random.key(1))


@functools.cache
def updates(env, **settings):
    """A gradient step, compiled: (learner, windows, key) -> (learner, numbers)."""
    return jax.jit(begun(env, **settings)[0].update, compiler_options=CHEAP)


def rules_of(env, config):
    found = []

    def catch(*arguments):
        found.append(ReturnConditioned(*arguments))
        return found[0]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(return_conditioned, "ReturnConditioned", catch)
        decision_mamba(env, config, dataset=data(env))
    return found[0]


def other_params(params, seed=5):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: leaf + jnp.asarray(0.3 * rng.normal(size=leaf.shape), jnp.float32), params
    )


def bits(tree):
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


def test_the_loss_and_the_first_gradient_by_hand():
    """Of continuous actions, in float64 from the predictions; padding counts nowhere."""
    rules, learner, windows = begun(NUMBERS)
    learner = replace(learner, teacher=other_params(learner.policy.params))
    learner = replace(learner, gradient_steps=jnp.int32(110))  # the third of four stages
    found, seen = jax.jit(rules.update, compiler_options=CHEAP)(learner, windows, jax.random.key(2))
    scale = 5.0
    assert float(learner.policy.return_scale) == scale

    predict = jax.jit(rules.predict, compiler_options=CHEAP)
    steps = rules.steps(windows, learner.policy.return_scale)
    mine, theirs = (
        jax.tree.map(
            lambda leaf: np.asarray(leaf, np.float64), predict(params, steps, windows.valid)
        )
        for params in (learner.policy.params, learner.teacher)
    )
    valid = np.asarray(windows.valid)
    assert not valid.all()
    share = min(0.5, 0.85 * 2 / 4)
    label = (1 - share) * np.asarray(windows.action, np.float64) + share * theirs.action
    error = mine.action - label

    def mean(values, where):
        return values[where].mean()

    def huber(error):
        size = np.abs(error)
        return np.where(size <= 1, 0.5 * error**2, size - 0.5)

    action = mean((error**2).mean(-1), valid)
    follows = valid & (np.arange(4) > 0)[None]
    observed = mean(huber(mine.observation - np.asarray(windows.observation)).mean(-1), follows)
    target = mean(huber(mine.target - np.asarray(windows.return_to_go) / scale), follows)
    assert float(seen["teacher_share"]) == pytest.approx(share)
    assert float(seen["action_loss"]) == pytest.approx(action, rel=1e-5)
    assert float(seen["observation_loss"]) == pytest.approx(observed, rel=1e-5)
    assert float(seen["return_loss"]) == pytest.approx(target, rel=1e-5)
    assert float(seen["loss"]) == pytest.approx(
        0.9 * action + 0.05 * observed + 0.05 * target, rel=1e-5
    )
    # The gradient of the head's bias, which Adam keeps a tenth of: labels are held.
    slope = mean(2 * error * (1 - mine.action**2), valid)
    first = found.optimizer.mu["params"]["action_head"]["bias"]
    np.testing.assert_allclose(first, [0.1 * 0.9 * slope], rtol=1e-4)


def test_every_metric_is_documented():
    rules, learner, windows = begun(CHOICES)
    page = Path(__file__).resolve().parents[2] / "docs" / "sequence_models.md"
    table = page.read_text().partition("## Metrics")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE)
    documented = {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}
    _, seen = jax.eval_shape(rules.update, learner, windows, jax.random.key(0))
    assert documented == set(seen)


def test_labels_are_those_of_the_stored_policy_whatever_the_present_one_is():
    rules, learner, windows = begun(CHOICES)
    learner = replace(learner, gradient_steps=jnp.int32(150))
    learner = replace(learner, teacher=other_params(learner.policy.params))
    labels = jax.jit(
        lambda learner: rules._labels(learner, windows, rules.steps(windows, 5.0))[0],
        compiler_options=CHEAP,
    )
    before = labels(learner)
    moved = replace(learner.policy, params=other_params(learner.policy.params, seed=6))
    np.testing.assert_array_equal(labels(replace(learner, policy=moved)), before)
    assert (labels(replace(learner, teacher=moved.params)) != before).any()
    # Probabilities of two choices, mixed with what was done.
    np.testing.assert_allclose(before.sum(-1), 1.0, rtol=1e-5)
    assert ((before > 0.0) & (before < 1.0)).all()


def test_the_teacher_is_the_policy_of_a_stage_before():
    _, learner, windows = begun(NUMBERS)
    at = [replace(learner, gradient_steps=jnp.int32(step)) for step in (0, 49, 50, 199)]
    at = [replace(each, teacher=other_params(each.policy.params)) for each in at]
    found = [updates(NUMBERS)(each, windows, jax.random.key(step)) for step, each in enumerate(at)]
    shares = [float(seen["teacher_share"]) for _, seen in found]
    np.testing.assert_allclose(shares, [0.0, 0.0, 0.85 / 4, 0.5], rtol=1e-6)
    for (after, _), before, is_renewed in zip(found, at, (True, False, True, False), strict=True):
        expected = before.policy.params if is_renewed else before.teacher
        assert bits(after.teacher) == bits(expected)
        assert bits(after.policy.params) != bits(before.policy.params)


def test_stages_are_no_more_than_were_asked_for():
    """Of 6 steps there are 2 for each of 4 stages, so 3, and the share does not pass its end."""
    for total, stages, each in ((200, 4, 50), (6, 4, 2), (79, 40, 2), (4, 4, 1)):
        found = stage_updates(config_of(total_updates=total, stages=stages))
        assert found == each and (total - 1) // found < stages


def test_training_that_goes_on_keeps_its_scale_and_aims_for_the_best_of_the_data():
    rules, learner, _ = begun(CHOICES)
    best = data(CHOICES).return_to_go.max()
    assert learner.policy.target == best
    trained = replace(learner.policy, return_scale=jnp.float32(2e3), target=jnp.float32(1e3))
    found = rules.begin(trained).policy
    assert found.target == best and found.return_scale == 2e3


def test_the_target_is_the_best_return_before_a_termination():
    """Of two episodes the longer one earned 5, of which 1 before it went on after its goal."""
    rows = recorded(NUMBERS, num_episodes=2, lengths=(HORIZON, 3))
    terminated = rows.terminated.copy()
    terminated[0] = True
    reward = np.array([1, 1, 1, 1, 1, 0, 1, 0, 1], np.float32)
    rules = replace(
        begun(NUMBERS)[0],
        dataset=Dataset.of(replace(rows, reward=reward, terminated=terminated), NUMBERS),
    )
    assert rules.begin(begun(NUMBERS)[1].policy).policy.target == 2.0


def test_without_a_share_self_evolution_is_plain_training_to_the_bit():
    """In the first stage there is none, and later of a policy that differs there is one."""
    after = []
    for settings in ({}, {"self_evolution": False, "stages": 40}):
        _, learner, windows = begun(NUMBERS, **settings)
        for step in range(3):
            update = updates(NUMBERS, **settings)
            learner, seen = update(learner, windows, jax.random.key(step))
            assert not seen.get("teacher_share", 0.0)
        after.append((bits(learner.policy.params), bits(seen["loss"])))
    assert after[0] == after[1]


def test_weights_of_linear_maps_alone_decay():
    _, learner, _ = begun(CHOICES)
    decays = return_conditioned.decayed(learner.policy.params)
    names = {path[-1].key: decay for path, decay in jax.tree_util.tree_leaves_with_path(decays)}
    assert {name for name, decay in names.items() if decay} == {"kernel"}
    assert {"A_log", "D", "scale", "bias", "taps", "timesteps"} <= set(names)


def test_returns_are_divided_by_a_round_number():
    found = [float(return_scale(jnp.float32(most))) for most in (3700, 1000, 999.9, 4.9, 0.013)]
    np.testing.assert_allclose(found, [2000, 1000, 500, 2, 0.01], rtol=1e-6)


@functools.cache
def both_modes():
    """Continuous actions of both modes along one episode, whatever they would do: [T, 2]."""
    config = config_of(**TINY | {"context": 4})
    _, learner, _ = begun(NUMBERS)
    # Larger weights, of which the past moves more.
    params = jax.tree.map(lambda leaf: 3.0 * leaf, learner.policy.params)
    agent, policy = decision_mamba_agent(NUMBERS, config), replace(learner.policy, params=params)
    rng = np.random.default_rng(0)
    views = View(
        observation=jnp.asarray(rng.normal(size=(HORIZON, 2)), jnp.float32),
        reward=jnp.asarray(rng.random(HORIZON) * (np.arange(HORIZON) > 0), jnp.float32),
        action=jnp.asarray(rng.random((HORIZON, 1)), jnp.float32),
        first=jnp.arange(HORIZON) == 0,
    )

    def act(memories, view):
        key = jax.random.key(0)
        found = [
            mode.act(policy, memory, view, key)
            for mode, memory in zip(agent.modes.values(), memories, strict=True)
        ]
        return [memory for _, memory in found], jnp.stack([action[0] for action, _ in found])

    begin = agent.memory(policy)
    return jax.jit(lambda: jax.lax.scan(act, [begin, begin], views)[1], compiler_options=CHEAP)()


def test_the_window_and_the_memory_act_alike_until_the_window_is_full():
    found = np.asarray(both_modes())
    np.testing.assert_allclose(found[:4, 0], found[:4, 1], atol=1e-5)
    assert np.ptp(found[:4, 0]) > 1e-3 and np.abs(found[4:, 0] - found[4:, 1]).max() > 1e-5


@functools.cache
def trained(env, **settings):
    config = config_of(**settings)
    algorithm = decision_mamba(env, config, dataset=dataset(env))
    run = jax.jit(
        lambda state: jax.lax.fori_loop(
            0, algorithm.budget.steps, lambda _, state: algorithm.step(state)[0], state
        )
    )
    return algorithm.policy(run(jax.jit(algorithm.init)(jax.random.key(0))))


@pytest.mark.slow
def test_what_is_asked_for_is_earned_in_both_modes():
    """Each of seven returns, by one compilation for each mode; the best without being asked."""
    policy = trained(CHOICES)
    agent = decision_mamba_agent(CHOICES, config_of())
    assert list(agent.modes) == ["target", "recurrent"]
    for mode in agent.modes:
        play = returns(CHOICES, agent, mode)
        for target in range(HORIZON + 1):
            np.testing.assert_array_equal(play(policy, jnp.float32(target)), target)
        assert play._cache_size() == 1
    assert float(policy.target) == HORIZON


@pytest.mark.slow
def test_what_is_asked_for_is_earned_by_the_authors_block():
    """From its first steps on, which windows that are not full come before."""
    policy = trained(CHOICES, branches="repository")
    play = returns(
        CHOICES, decision_mamba_agent(CHOICES, config_of(branches="repository")), "target"
    )
    for target in range(HORIZON + 1):
        np.testing.assert_array_equal(play(policy, jnp.float32(target)), target)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"context": 7}, "context is 7, but episodes have 6 steps at most"),
        ({"mixer": "ssd", "head_size": 5}, "head_size is 5, but must divide the 16 channels"),
        ({"self_evolution": False}, "stages is 4, which has no effect"),
        ({"stages": 1}, "stages is 1, but must be a whole number of at least 2"),
        ({"stages": 201}, "stages is 201, but there are 200 gradient steps .*choose 200 or less"),
    ],
)
def test_settings_that_do_not_fit_are_refused_by_name(settings, words):
    with pytest.raises(JaxrlError, match=words):
        decision_mamba(CHOICES, config_of(**settings), dataset=data(CHOICES))


def test_data_without_rewards_or_long_episodes_is_refused():
    short = dataset(CHOICES, lengths=(3, 2))
    with pytest.raises(JaxrlError, match="context is 4, but the longest episode .* has 3 steps"):
        decision_mamba(CHOICES, config_of(), dataset=short)
    rows = recorded(CHOICES)
    unpaid = Dataset.of(replace(rows, reward=np.zeros_like(rows.reward)), CHOICES)
    with pytest.raises(JaxrlError, match="every reward of the dataset is 0"):
        decision_mamba(CHOICES, config_of(), dataset=unpaid)


def test_a_policy_without_a_scale_of_returns_cannot_be_asked():
    agent = decision_mamba_agent(CHOICES, config_of(**TINY))
    policy = jax.jit(agent.init)(jax.random.key(0))
    for ask in (lambda: agent.memory(policy), lambda: agent.modes["target"].steer(policy, 3.0)):
        with pytest.raises(JaxrlError, match="has no scale of returns"):
            ask()


def test_the_authors_block_acts_as_it_was_trained_where_no_label_had_been_seen():
    """From the first step on, t + 1 steps are read as a window that ends there: what is recorded as
    its last action moves nothing, and what is recorded as the one before moves something."""
    rules, learner, _ = begun(NUMBERS, branches="repository", num_layers=2)
    rows, context = data(NUMBERS), rules.setup.config.context
    drawn = Windows(
        observation=rows.observation[:context],
        action=2.0 * rows.action[:context] - 1.0,
        reward=rows.reward[:context],
        return_to_go=rows.return_to_go[:context],
        step=jnp.arange(context),
        valid=jnp.ones(context, bool),
    )
    policy = replace(learner.policy, observation_moments=None, target=rows.return_to_go[0])

    @functools.partial(jax.jit, compiler_options=CHEAP)
    def predicted(moved):
        """Of the windows that end at each step, with actions moved by so much: [T]."""
        windows = jax.tree.map(lambda leaf: jnp.stack([leaf] * context), drawn)
        action = windows.action + moved[:, :, None]
        windows = replace(windows, action=action, valid=jnp.tril(windows.valid))
        steps = rules.steps(windows, policy.return_scale)
        action = rules.predict(policy.params, steps, windows.valid).action
        return jnp.diagonal(action[..., 0])

    last = jnp.eye(context)
    found = np.asarray(predicted(0 * last))
    same, other = predicted(last), predicted(jnp.roll(last, 1, axis=0))
    np.testing.assert_array_equal(found, same)
    assert (found != other)[1:].all() and np.ptp(found) > 1e-3

    views = View(
        observation=drawn.observation,
        reward=jnp.append(0.0, drawn.reward[:-1]),
        action=jnp.append(jnp.zeros((1, 1)), rows.action[: context - 1], axis=0),
        first=drawn.step == 0,
    )
    agent = rules.setup.agent()

    def act(memory, view):
        action, memory = agent.modes["target"].act(policy, memory, view, jax.random.key(0))
        return memory, action[0]

    acts = jax.jit(
        lambda: jax.lax.scan(act, agent.memory(policy), views)[1], compiler_options=CHEAP
    )
    np.testing.assert_allclose(acts(), 0.5 * (found + 1.0), atol=1e-5)


def test_the_authors_block_has_no_recurrent_mode():
    config = config_of(branches="repository")
    assert list(decision_mamba_agent(CHOICES, config).modes) == ["target"]
