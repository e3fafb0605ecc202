"""DQL against NumPy in float64: its behaviour loss, its actions and their use; and on a bandit."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.dql import DQLConfig, diffusion_policy, dql, dql_agent
from jaxrl.algos.ofql import GenerativeQ
from jaxrl.core.diffusion import variance_preserving_betas
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
from tests.algos.reach import CHEAP, assert_first_gradient, numpy64, slope

KEY, WIDTH, STEPS = 9, 8, 3
OWN = SMALL | {"time_width": WIDTH, "diffusion_steps": STEPS, "eta": 0.7}
BETA = variance_preserving_betas(STEPS)
KEPT = np.cumprod(1.0 - BETA)


def rules_of(config, environment=REACH):
    critic = Critic(config.network, len(environment.observation_space.shape))
    return GenerativeQ(config, diffusion_policy(environment, config), critic)


@functools.cache
def one_update(**settings):
    """(learner, the same after one gradient step, numbers)."""
    config = DQLConfig(**OWN | settings)
    rules, agent = rules_of(config), dql_agent(REACH, config)
    averages, trained = (agent.init(jax.random.key(seed)) for seed in (0, 1))
    learner = replace(rules.begin(trained), policy=averages)
    return learner, *jax.jit(rules.update, compiler_options=CHEAP)(
        learner, BATCH(), jax.random.key(KEY)
    )


def noise_model(params, network=None):
    """ε(s, x, n) in float64."""
    network = network or stack_of(params)

    def model(observation, point, step):
        step = np.broadcast_to(np.asarray(step, np.float64), (len(point),))
        features = [point, observation, embedded(params, 0, step, WIDTH)]
        return forward(network, np.concatenate(features, 1))

    return model


def drawn(model, observation, noise):
    """Diffusion-QL's sampling."""
    point = noise[0]
    for n in reversed(range(STEPS)):
        before = KEPT[n - 1] if n else 1.0
        guess = model(observation, point, n)
        clean = np.sqrt(1 / KEPT[n]) * point - np.sqrt(1 / KEPT[n] - 1) * guess
        mean = BETA[n] * np.sqrt(before) / (1 - KEPT[n]) * np.clip(clean, -1, 1)
        mean = mean + (1 - before) * np.sqrt(1 - BETA[n]) / (1 - KEPT[n]) * point
        deviation = np.sqrt(BETA[n] * (1 - before) / (1 - KEPT[n]))
        point = mean + (deviation * noise[STEPS - n] if n else 0.0)
    return np.clip(point, -1, 1)


def test_critics_descend_to_the_target_at_the_averaged_actor_s_actions():
    learner, _, seen = one_update()
    rows = numpy64(BATCH())
    key_critic, _ = jax.random.split(jax.random.key(KEY))
    noise = np.asarray(jax.random.normal(key_critic, (STEPS, 16, 3)), np.float64)
    action = drawn(noise_model(learner.policy.actor), rows.next_observation, noise)
    next_q = q_values(learner.policy.critic, rows.next_observation, action)
    goal = rows.reward + rows.discount * next_q.min(0)
    q = q_values(learner.critic, rows.observation, rows.action)
    np.testing.assert_allclose(seen["critic_loss"], np.square(q - goal).mean(1).sum(), rtol=1e-4)


def test_the_actor_descends_the_noise_s_error_less_one_critic_over_the_other():
    learner, after, seen = one_update()
    rows = numpy64(BATCH())
    _, key_actor = jax.random.split(jax.random.key(KEY))
    key_behavior, key_draw, key_lot = jax.random.split(key_actor, 3)
    key_noise, key_step = jax.random.split(key_behavior)
    noise = np.asarray(jax.random.normal(key_noise, (16, 3)), np.float64)
    step = np.asarray(jax.random.randint(key_step, (16,), 0, STEPS))
    assert set(step) == set(range(STEPS))
    kept = KEPT[step][:, None]
    point = np.sqrt(kept) * rows.action + np.sqrt(1 - kept) * noise
    from_noise = np.asarray(jax.random.normal(key_draw, (STEPS, 16, 3)), np.float64)
    lot = int(jax.random.randint(key_lot, (), 0, 2))

    def behavior(model):
        return np.square(model(rows.observation, point, step) - noise).mean()

    def q_of(model):
        action = drawn(model, rows.observation, from_noise)
        return q_values(after.critic, rows.observation, action)

    base = noise_model(learner.actor)
    scale = np.abs(q_of(base)[1 - lot]).mean()

    def loss(network):
        model = noise_model(learner.actor, network)
        return behavior(model) - 0.7 * q_of(model)[lot].mean() / scale

    expected = slope(loss, stack_of(learner.actor))
    kept_moments = after.actor_optimizer
    kept_moments = kept_moments._replace(mu=main_layers(kept_moments.mu))
    assert_first_gradient(kept_moments, None, expected)
    np.testing.assert_allclose(seen["behavior_loss"], behavior(base), rtol=1e-4)
    np.testing.assert_allclose(seen["policy_q"], q_of(base)[lot].mean(), rtol=1e-4, atol=1e-6)


def test_modes_draw_once_or_take_no_noise():
    agent = dql_agent(REACH, DQLConfig(**OWN))
    policy = agent.init(jax.random.key(0))
    observation = np.array([[0.3, -0.2, 0.1]])
    view = View.at_start(jnp.asarray(observation[0], jnp.float32), REACH.action_space)
    noise = np.asarray(jax.random.normal(jax.random.key(4), (STEPS, 1, 3)), np.float64)
    acted, _ = agent.modes["stochastic"].act(policy, (), view, jax.random.key(4))
    model = noise_model(policy.actor)
    np.testing.assert_allclose(acted, drawn(model, observation, noise)[0], atol=1e-5)
    acted, _ = agent.modes["deterministic"].act(policy, (), view, jax.random.key(5))
    np.testing.assert_allclose(acted, drawn(model, observation, 0.0 * noise)[0], atol=1e-5)


def test_the_noise_that_candidates_begin_as_is_scaled_and_that_of_later_steps_is_not():
    config = DQLConfig(**OWN | {"candidates": 5, "candidate_noise": 0.3})
    agent = dql_agent(REACH, config)
    policy = agent.init(jax.random.key(0))
    view = View.at_start(jnp.array([0.3, -0.2, 0.1]), REACH.action_space)
    found, _ = agent.modes["best"].act(policy, (), view, jax.random.key(3))
    key_noise, _ = jax.random.split(jax.random.key(3))
    noise = np.array(jax.random.normal(key_noise, (STEPS, 5, 3)), np.float64)
    noise[0] *= 0.3
    rows = np.tile([[0.3, -0.2, 0.1]], (5, 1))
    actions = drawn(noise_model(policy.actor), rows, noise)
    best = q_values(policy.critic, rows, actions).min(0).argmax()
    np.testing.assert_allclose(found, actions[best], atol=1e-4)


def test_the_defaults_are_the_authors():
    config = DQLConfig()
    assert (config.eta, config.diffusion_steps, config.q_normalization) == (1.0, 5, "other_critic")
    assert (config.time_width, config.ema, config.ema_start, config.tau) == (16, 0.995, 1000, 0.005)
    shapes = jax.eval_shape(dql_agent(REACH, config).init, jax.random.key(0))
    layers = shapes.actor["params"]["QLayers_0"]
    assert layers["Dense_0"]["kernel"].shape == (3 + 3 + 16, 256) and len(layers) == 4
    critics = shapes.critic["params"]["QLayers_0"]
    assert critics["Dense_2"]["kernel"].shape == (2, 256, 256) and len(critics) == 4


BANDIT = {
    "hidden_sizes": (64, 64),
    "layer_norm": True,
    "learning_rate": 3e-3,
    "critic_learning_rate": 3e-3,
    "ema": 0.9,
    "ema_start": 0,
    "tau": 0.05,
}


@pytest.mark.slow
def test_the_rewarded_mode_is_found():
    config = DQLConfig(**BANDIT)
    agent = dql_agent(Bandit(), config)
    learner = learned(rules_of, config, agent.init(jax.random.key(0)), 1000)
    assert shares_of_modes(agent, learner.policy)[0] > 0.8


def test_what_makes_no_sense_is_refused():
    with pytest.raises(JaxrlError, match="dql needs continuous actions"):
        dql_agent(registry.make("CartPole-v1"), DQLConfig())
    with pytest.raises(JaxrlError, match="time_width is 3"):
        dql(REACH, DQLConfig(**OWN | {"time_width": 3}), dataset=None)
