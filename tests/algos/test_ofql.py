"""OFQL against NumPy in float64, its averages and its modes, and on a bandit of four modes."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.ofql import GenerativeQ, OFQLConfig, mean_flow_policy, ofql, ofql_agent
from jaxrl.core.mean_flow import draw_times, time_pairs
from jaxrl.envs import registry
from jaxrl.errors import JaxrlError
from jaxrl.nn.q_networks import Critic
from jaxrl.types import View
from tests.algos.generative import (
    BATCH,
    REACH,
    SMALL,
    Bandit,
    embedded,
    forward,
    learned,
    main_layers,
    q_values,
    shares_of_modes,
    stack_of,
)
from tests.algos.reach import CHEAP, assert_first_gradient, first, numpy64, slope

KEY, WIDTH = 9, 8
OWN = SMALL | {"time_width": WIDTH, "eta": 0.7, "tau": 0.25}


def rules_of(config, environment=REACH):
    critic = Critic(config.network, len(environment.observation_space.shape))
    return GenerativeQ(config, mean_flow_policy(environment, config), critic)


@functools.cache
def begun(**settings):
    """A learner whose averages are not what is trained, or a mistaken one would not show."""
    config = OFQLConfig(**OWN | settings)
    rules, init = rules_of(config), jax.jit(ofql_agent(REACH, config).init, compiler_options=CHEAP)
    averages, trained = (init(jax.random.key(seed)) for seed in (0, 1))
    return replace(rules.begin(trained), policy=averages)


@functools.partial(jax.jit, compiler_options=CHEAP)
def updated(config, learner, batch):
    """A gradient step; numbers of the configuration are traced."""
    return rules_of(config).update(learner, batch, jax.random.key(KEY))


@functools.cache
def one_update(**settings):
    """(learner, the same after one gradient step, numbers)."""
    return begun(), *updated(OFQLConfig(**OWN | settings), begun(), BATCH())


def drawn(params, observation, noise):
    """clip(ε − u(ε, 0, 1; s)) in float64."""
    zeros = np.zeros(len(noise))
    return np.clip(noise - average(params)(observation, noise, zeros, zeros + 1.0), -1.0, 1.0)


def average(params, network=None):
    """u(s, x, r, t) in float64, of other main layers if they are given."""
    network = network or stack_of(params)

    def field(observation, point, start, time):
        times = (embedded(params, 0, start, WIDTH), embedded(params, 1, time, WIDTH))
        return forward(network, np.concatenate([point, observation, *times], 1))

    return field


@pytest.mark.parametrize("number", [1, 3])
def test_critics_descend_to_the_least_of_the_target_critics_best(number):
    learner, after, seen = one_update(backup_candidates=number)
    rows = numpy64(BATCH())
    key_critic, _ = jax.random.split(jax.random.key(KEY))
    noise = np.asarray(jax.random.normal(key_critic, (1, 16 * number, 3)), np.float64)[0]
    goal = np.zeros(16)
    for row in range(16):
        best = np.full(2, -np.inf)
        for candidate in range(number):
            observation = rows.next_observation[row : row + 1]
            place = row * number + candidate
            action = drawn(learner.policy.actor, observation, noise[place : place + 1])
            best = np.maximum(best, q_values(learner.policy.critic, observation, action)[:, 0])
        goal[row] = rows.reward[row] + rows.discount[row] * best.min()
    q = q_values(learner.critic, rows.observation, rows.action)
    np.testing.assert_allclose(seen["critic_loss"], np.square(q - goal).mean(1).sum(), rtol=1e-5)
    np.testing.assert_allclose(seen["q"], q.mean(), rtol=1e-4)
    x = np.concatenate([rows.observation, rows.action], 1)
    for index in range(2):
        network = stack_of(first(learner.critic, index))
        expected = slope(lambda net: np.square(forward(net, x)[:, 0] - goal).mean(), network)
        assert_first_gradient(after.critic_optimizer, index, expected)


def target_at(field, rows, noise, start, time):
    """The points at `time`, and v − (t − r) du/dt by central differences."""
    point = (1.0 - time[:, None]) * rows.action + time[:, None] * noise
    velocity, step = noise - rows.action, 1e-5
    ahead = field(rows.observation, point + step * velocity, start, time + step)
    behind = field(rows.observation, point - step * velocity, start, time - step)
    return point, velocity - (time - start)[:, None] * (ahead - behind) / (2 * step)


ACTOR_SETTINGS = [
    {},
    # Other numbers of the first: no new compilation.
    {"eta": 0.0, "flow_ratio": 0.0, "time_mean": 0.5, "time_std": 0.5},
    {
        "policy_critic": "mean",
        "q_normalization": "policy",
        "behavior_reduction": "sum",
        "adaptive_power": 0.5,
        "flow_ratio": 0.25,
    },
    {
        "policy_critic": "least",
        "q_normalization": "none",
        "time_distribution": "uniform",
        "behavior_weight": "guided",
        "guidance_temperature": 0.5,
    },
    {
        "q_normalization": "other_critic",
        "behavior_weight": "guided",
        "guidance_temperature": 0.5,
        "clip_actions": False,
    },
]


@pytest.mark.parametrize("settings", ACTOR_SETTINGS, ids=lambda each: ",".join(each) or "default")
def test_the_actor_descends_the_behaviour_loss_less_the_critics(settings):
    learner, after, seen = one_update(**settings)
    config = OFQLConfig(**OWN | settings)
    rows = numpy64(BATCH())
    _, key_actor = jax.random.split(jax.random.key(KEY))
    key_behavior, key_draw, key_lot = jax.random.split(key_actor, 3)
    key_noise, key_times = jax.random.split(key_behavior)
    noise = np.asarray(jax.random.normal(key_noise, (16, 3)), np.float64)
    times = draw_times(
        key_times, (2, 16), config.time_distribution, config.time_mean, config.time_std
    )
    start, time = (np.asarray(each, np.float64) for each in time_pairs(*times, config.flow_ratio))
    base = average(learner.actor)
    point, target = target_at(base, rows, noise, start, time)
    from_noise = np.asarray(jax.random.normal(key_draw, (1, 16, 3)), np.float64)[0]
    lot = int(jax.random.randint(key_lot, (), 0, 2))

    def q_of(action, which=lot):
        every = q_values(after.critic, rows.observation, action)
        either = every[which]
        return {"either": either, "mean": every.mean(0), "least": every.min(0)}[
            config.policy_critic
        ]

    def acted(field):
        zeros = np.zeros(16)
        action = from_noise - field(rows.observation, from_noise, zeros, zeros + 1.0)
        return np.clip(action, -1.0, 1.0) if config.clip_actions else action

    def errors(field, point, target, start, time):
        square = np.square(field(rows.observation, point, start, time) - target)
        return square.mean(1) if config.behavior_reduction == "mean" else square.sum(1)

    raw = errors(base, point, target, start, time)
    row_scale = 1.0 / (raw + 0.01) ** config.adaptive_power
    action = acted(base)
    scale = {
        "dataset": lambda: np.abs(q_of(rows.action)).mean(),
        "policy": lambda: np.abs(q_of(action)).mean(),
        "other_critic": lambda: np.abs(q_of(action, 1 - lot)).mean(),
        "none": lambda: 1.0,
    }[config.q_normalization]()
    weight = np.ones(16)
    if config.behavior_weight == "guided":
        unit = np.abs(q_of(rows.action)).mean() if config.q_normalization == "none" else scale
        weight = 1 / (1 + np.exp(-(q_of(rows.action) - q_of(action)) / unit / 0.5))

    def loss(network):
        field = average(learner.actor, network)
        behavior = errors(field, point, target, start, time) * row_scale
        return (weight * behavior).mean() - config.eta * q_of(acted(field)).mean() / scale

    expected = slope(loss, stack_of(learner.actor))
    kept = after.actor_optimizer
    kept = kept._replace(mu={"params": main_layers(kept.mu)["params"]})
    assert_first_gradient(kept, None, expected)
    np.testing.assert_allclose(seen["behavior_loss"], raw.mean(), rtol=1e-4)
    np.testing.assert_allclose(seen["policy_q"], q_of(action).mean(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(seen["clipped_actions"], (np.abs(action) >= 1.0).mean(), rtol=1e-6)
    zeros = np.zeros(16)
    at_end, its_target = target_at(base, rows, noise, zeros, zeros + 1.0)
    endpoint = errors(base, at_end, its_target, zeros, zeros + 1.0)
    np.testing.assert_allclose(seen["behavior_loss_endpoint"], endpoint.mean(), rtol=1e-4)


@pytest.mark.parametrize("by", ["dataset", "policy", "other_critic", "none"])
def test_the_weights_of_better_actions_do_not_depend_on_the_unit_of_the_rewards(by):
    settings = {"q_normalization": by, "behavior_weight": "guided", "guidance_temperature": 0.5}
    rules, rows = rules_of(OFQLConfig(**OWN | settings)), BATCH()
    critic, action = begun().critic, -rows.action
    lot = int(jax.random.randint(jax.random.key(2), (), 0, 2))
    of_data, of_policy = (
        q_values(critic, np.asarray(rows.observation), np.asarray(each))
        for each in (rows.action, action)
    )
    units = {"policy": of_policy[lot], "other_critic": of_policy[1 - lot]}
    advantage = (of_data - of_policy)[lot] / np.abs(units.get(by, of_data[lot])).mean()
    expected = 1 / (1 + np.exp(-advantage / 0.5))
    found = rules._weight(rules._signal(critic, rows, action, jax.random.key(2)))
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert found.max() - found.min() > 0.3


def test_the_actor_s_loss_moves_no_critic():
    *_, without, _ = one_update(eta=0.0)
    *_, much, _ = one_update(eta=50.0)
    for one, other in zip(
        jax.tree.leaves((without.critic, without.policy, without.critic_optimizer)),
        jax.tree.leaves((much.critic, much.policy, much.critic_optimizer)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), without.actor, much.actor)
    assert max(jax.tree.leaves(moved)) > 1e-5


def test_the_averaged_actor_follows_from_the_thousandth_step_on_and_then_at_every_fifth():
    learner, follow = begun(), jax.jit(rules_of(OFQLConfig(**OWN))._follow, compiler_options=CHEAP)

    def is_moved(steps):
        after = follow(replace(learner, gradient_steps=jnp.int32(steps)))
        assert int(after.gradient_steps) == steps + 1
        for old, new, found in zip(
            jax.tree.leaves(learner.policy.critic),
            jax.tree.leaves(learner.critic),
            jax.tree.leaves(after.policy.critic),
            strict=True,
        ):
            np.testing.assert_allclose(found, 0.75 * old + 0.25 * new, rtol=1e-5, atol=1e-6)
        kept = jax.tree.map(
            lambda x, y: bool((x == y).all()), learner.policy.actor, after.policy.actor
        )
        if all(jax.tree.leaves(kept)):
            return False
        for old, new, found in zip(
            jax.tree.leaves(learner.policy.actor),
            jax.tree.leaves(learner.actor),
            jax.tree.leaves(after.policy.actor),
            strict=True,
        ):
            np.testing.assert_allclose(found, 0.995 * old + 0.005 * new, rtol=1e-5, atol=1e-6)
        return True

    steps = [0, 5, 995, 999, 1000, 1001, 1004, 1005, 1009, 1010]
    assert [step for step in steps if is_moved(step)] == [1000, 1005, 1010]


def test_step_sizes_fall_along_a_cosine():
    learner = replace(begun(), gradient_steps=jnp.int32(3000))
    settings = {"anneal_learning_rate": True, "critic_learning_rate": 1e-3}
    after, _ = updated(OFQLConfig(**OWN | settings), learner, BATCH())

    def largest(old, new):
        return max(jax.tree.leaves(jax.tree.map(lambda x, y: np.abs(x - y).max(), old, new)))

    share = 0.5 * (1.0 + np.cos(np.pi * 3000 / 4000))
    assert largest(learner.actor, after.actor) == pytest.approx(3e-4 * share, rel=1e-2)
    assert largest(learner.critic, after.critic) == pytest.approx(1e-3 * share, rel=1e-2)


def test_gradients_are_no_longer_than_they_may_be():
    def norm(tree):
        return float(np.sqrt(sum(np.square(leaf).sum() for leaf in jax.tree.leaves(tree))))

    _, free, _ = one_update()
    *_, held, _ = one_update(max_grad_norm=1e-3)
    for name in ("actor_optimizer", "critic_optimizer"):
        assert norm(getattr(free, name).mu) > 2e-3
        assert norm(getattr(held, name).mu) == pytest.approx(1e-4, rel=1e-3)


def view_of(observation):
    return View.at_start(jnp.asarray(observation), REACH.action_space)


OBSERVATION = [0.3, -0.2, 0.1]


def test_modes_draw_once_or_take_no_noise():
    agent = ofql_agent(REACH, OFQLConfig(**OWN))
    policy, key = agent.init(jax.random.key(0)), jax.random.key(4)
    observation = np.array([OBSERVATION])
    noise = np.asarray(jax.random.normal(jax.random.key(4), (1, 1, 3)), np.float64)[0]
    acted, _ = agent.modes["stochastic"].act(policy, (), view_of(OBSERVATION), key)
    np.testing.assert_allclose(acted, drawn(policy.actor, observation, noise)[0], atol=1e-5)
    acted, _ = agent.modes["deterministic"].act(policy, (), view_of(OBSERVATION), jax.random.key(5))
    expected = drawn(policy.actor, observation, np.zeros((1, 3)))[0]
    np.testing.assert_allclose(acted, expected, atol=1e-5)
    assert list(agent.modes)[0] == "stochastic"
    value = agent.value(policy, (), view_of(OBSERVATION), jax.random.key(4))
    expected = q_values(policy.critic, observation, drawn(policy.actor, observation, noise)).min()
    np.testing.assert_allclose(value, expected, rtol=1e-4)


@pytest.mark.parametrize(("temperature", "scale"), [(0.0, 1.0), (0.7, 0.5)])
def test_the_best_of_several_draws_is_chosen_by_the_least_target_critic(temperature, scale):
    settings = {"candidates": 6, "candidate_temperature": temperature, "candidate_noise": scale}
    agent = ofql_agent(REACH, OFQLConfig(**OWN | settings))
    policy = agent.init(jax.random.key(0))
    acted, _ = agent.modes["best"].act(policy, (), view_of(OBSERVATION), jax.random.key(3))
    key_noise, key_choice = jax.random.split(jax.random.key(3))
    noise = scale * np.asarray(jax.random.normal(key_noise, (1, 6, 3)), np.float64)[0]
    rows = np.repeat([OBSERVATION], 6, axis=0)
    actions = drawn(policy.actor, rows, noise)
    values = q_values(policy.critic, rows, actions).min(0)
    values = values + temperature * np.asarray(jax.random.gumbel(key_choice, (6,)))
    np.testing.assert_allclose(acted, actions[values.argmax()], atol=1e-5)


BANDIT = {
    "hidden_sizes": (64, 64),
    "layer_norm": True,
    "time_width": 16,
    "learning_rate": 3e-3,
    "critic_learning_rate": 3e-3,
    "ema": 0.9,
    "ema_start": 0,
    "tau": 0.05,
}


@functools.cache
def on_the_bandit(eta, updates):
    config = OFQLConfig(**BANDIT | {"eta": eta})
    agent = ofql_agent(Bandit(), config)
    learner = learned(rules_of, config, agent.init(jax.random.key(0)), updates)
    return agent, learner.policy


@pytest.mark.slow
def test_all_modes_are_cloned_and_the_best_of_draws_is_of_the_rewarded_one():
    agent, policy = on_the_bandit(0.0, 2000)
    assert (shares_of_modes(agent, policy) > 0.1).all()
    assert shares_of_modes(agent, policy, "best", 100)[0] > 0.95


def test_the_rewarded_mode_is_found():
    agent, policy = on_the_bandit(1.0, 1000)
    assert shares_of_modes(agent, policy)[0] > 0.9


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"total_updates": 1000}, "total_updates is 1000, but .* begins after ema_start=1000"),
        ({"total_updates": 1500}, "of which whole iterations take 1000, but"),
        ({"ema_start": 1, "ema_interval": 5000}, "at a multiple of ema_interval=5000"),
        ({"total_updates": 500}, "less than one iteration of updates_per_iteration = 1000"),
        ({"q_normalization": "other_critic", "policy_critic": "mean"}, "policy_critic is mean"),
        ({"q_normalization": "other_critic", "num_critics": 1}, "num_critics is 1"),
        ({"policy_critic": "mean", "num_critics": 1}, "policy_critic is mean, which has no effect"),
        ({"time_width": 5}, "time_width is 5"),
        ({"time_std": 0.5, "time_distribution": "uniform"}, "time_std is 0.5, which has no effect"),
        ({"candidates": 0}, "candidates"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, words):
    with pytest.raises(JaxrlError, match=words):
        ofql(REACH, OFQLConfig(**OWN | settings), dataset=None)


def test_actions_of_another_kind_are_refused():
    with pytest.raises(JaxrlError, match="ofql needs continuous actions"):
        ofql_agent(registry.make("CartPole-v1"), OFQLConfig())
