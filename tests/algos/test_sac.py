"""SAC against NumPy loops in float64, on probes with known answers, and under a change of units."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.sac import SAC, SACConfig, make_networks, sac, sac_agent
from jaxrl.core.distributions import TanhNormal
from jaxrl.envs import registry
from jaxrl.errors import JaxrlError
from jaxrl.types import View
from tests.algos.reach import (
    CHEAP,
    SMALL,
    Reach,
    a_batch,
    assert_first_gradient,
    first,
    forward,
    layers,
    numpy64,
    q_values,
    slope,
)

REACH = Reach()
KEY = 9
UNUSUAL = {"initial_temperature": 0.4, "tau": 0.25}


@functools.cache
def compiled(environment=REACH, **settings):
    algorithm = sac(environment, SACConfig(**SMALL | settings))

    def run(key, iterations):
        return jax.lax.fori_loop(
            0, iterations, lambda _, state: algorithm.step(state)[0], algorithm.init(key)
        )

    return jax.jit(run, compiler_options=CHEAP)


@functools.cache
def one_update(**settings):
    """(learner, batch, learner after one gradient step, numbers)."""
    config = SACConfig(**SMALL | UNUSUAL | settings)
    learner = SAC(config, make_networks(Reach(), config), target_entropy=-3.0)
    keys = jax.random.split(jax.random.key(5), 6)
    begun = learner.begin(sac_agent(Reach(), config).init(keys[0]))
    # Targets of their own, or a target that is taken for the trained network would not show.
    other = sac_agent(Reach(), config).init(keys[1])
    begun = replace(begun, target_critic=other.critic)
    batch = a_batch(keys[2:])
    return begun, batch, *jax.jit(learner.update)(begun, batch, jax.random.key(KEY))


def drawn(actor, observation, noise):
    """(actions in [-1, 1], log π(a|s)) by the reparametrised draw, in float64."""
    mean, raw = np.split(forward(actor, observation), 2, axis=1)
    log_std = -5.0 + 0.5 * 7.0 * (np.tanh(raw) + 1.0)
    u = mean + np.exp(log_std) * noise
    log_normal = -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi)
    return np.tanh(u), (log_normal - np.log(1 - np.tanh(u) ** 2)).sum(1)


def noise_of(part):
    """The noise of the critics' or of the actor's draw, as an update splits its key."""
    key_critic, key_actor = jax.random.split(jax.random.key(KEY))
    key = {"critic": key_critic, "actor": jax.random.fold_in(key_actor, 0)}[part]
    return np.asarray(jax.random.normal(key, (16, 3)), np.float64)


def test_the_critics_descend_to_the_least_target_and_the_entropy_of_the_next_action():
    begun, batch, learner, seen = one_update()
    rows = numpy64(batch)
    noise = noise_of("critic")
    action, log_probability = drawn(layers(begun.policy.actor), rows.next_observation, noise)
    next_q = q_values(begun.target_critic, rows.next_observation, action)
    goal = rows.reward + rows.discount * (next_q.min(0) - 0.4 * log_probability)
    q = q_values(begun.policy.critic, rows.observation, rows.action)
    np.testing.assert_allclose(seen["critic_loss"], np.square(q - goal).mean(1).sum(), rtol=1e-4)
    np.testing.assert_allclose(seen["q"], q.mean(), rtol=1e-4)
    np.testing.assert_allclose(seen["entropy"], -log_probability.mean(), rtol=1e-4)
    np.testing.assert_allclose(seen["temperature"], 0.4, rtol=1e-6)
    x = np.concatenate([rows.observation, rows.action], 1)
    for index in range(2):
        network = layers(first(begun.policy.critic, index))
        expected = slope(lambda net: np.square(forward(net, x)[:, 0] - goal).mean(), network)
        assert_first_gradient(learner.critic_optimizer, index, expected)
    for old, new, target in zip(
        jax.tree.leaves(begun.target_critic),
        jax.tree.leaves(learner.policy.critic),
        jax.tree.leaves(learner.target_critic),
        strict=True,
    ):
        np.testing.assert_allclose(target, 0.75 * old + 0.25 * new, rtol=1e-5, atol=1e-6)


def test_the_actor_climbs_the_least_critic_and_its_entropy_and_moves_no_critic():
    begun, batch, learner, _ = one_update()
    rows, noise = numpy64(batch), noise_of("actor")

    def loss(actor):
        action, log_probability = drawn(actor, rows.observation, noise)
        q = q_values(learner.policy.critic, rows.observation, action)
        return (0.4 * log_probability - q.min(0)).mean()

    expected = slope(loss, layers(begun.policy.actor))
    assert_first_gradient(learner.actor_optimizer, None, expected)
    *_, delayed, _ = one_update(policy_delay=2)
    for one, same in zip(
        jax.tree.leaves((learner.policy.critic, learner.critic_optimizer)),
        jax.tree.leaves((delayed.policy.critic, delayed.critic_optimizer)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, same)
    assert int(delayed.actor_optimizer.count) == int(delayed.temperature_optimizer.count) == 0


@pytest.mark.parametrize(("form", "factor"), [("log", 1.0), ("linear", 0.4)])
def test_the_temperature_follows_the_entropy_of_the_actor_s_draw(form, factor):
    begun, batch, learner, _ = one_update(temperature_loss=form)
    rows, noise = numpy64(batch), noise_of("actor")
    _, log_probability = drawn(layers(begun.policy.actor), rows.observation, noise)
    expected = -factor * (log_probability.mean() - 3.0)
    np.testing.assert_allclose(10 * learner.temperature_optimizer.mu, expected, rtol=1e-4)
    moved = float(learner.policy.log_temperature - begun.policy.log_temperature)
    assert moved == pytest.approx(-3e-4 * np.sign(expected), rel=1e-2)


def test_a_temperature_that_is_not_trained_stays():
    begun, _, learner, _ = one_update(train_temperature=False)
    assert float(learner.policy.log_temperature) == pytest.approx(np.log(0.4))
    assert int(learner.temperature_optimizer.count) == 0


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"learning_rate": 6e-4}, "actor"),
        ({"critic_learning_rate": 6e-4}, "critic"),
        ({"temperature_learning_rate": 6e-4}, "log_temperature"),
    ],
)
def test_each_part_has_a_learning_rate_of_its_own(settings, part):
    begun, _, learner, _ = one_update(**settings)

    def largest(part):
        """The largest move of a parameter: Adam's first step is as long as the learning rate."""
        old, new = getattr(begun.policy, part), getattr(learner.policy, part)
        moves = jax.tree.map(lambda x, y: np.abs(x - y).max(), old, new)
        return max(jax.tree.leaves(moves))

    for each in ("actor", "critic", "log_temperature"):
        assert largest(each) == pytest.approx(6e-4 if each == part else 3e-4, rel=1e-2)


def test_the_entropy_to_hold_is_minus_the_number_of_actions():
    learners = {}
    for target in (None, -3.0, -1.0):
        run = compiled(target_entropy=target, temperature_learning_rate=0.05)
        learners[target] = float(run(jax.random.key(0), 2).learner.policy.log_temperature)
    assert learners[None] == learners[-3.0] != learners[-1.0]


@pytest.mark.parametrize("bounds", [(-10.0, 10.0), (0.0, 10.0)])
def test_the_units_of_the_actions_change_no_bit(bounds):
    run = jax.device_get(compiled()(jax.random.key(1), 4))
    scaled = jax.device_get(compiled(Reach(*bounds))(jax.random.key(1), 4))
    for one, other in zip(
        jax.tree.leaves((run.learner, run.experience.log)),
        jax.tree.leaves((scaled.learner, scaled.experience.log)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_the_density_is_finite_far_out_and_integrates_to_one():
    far = TanhNormal(jnp.array([20.0, -20.0]), jnp.array([0.0, 0.0]))
    assert np.isfinite(far.log_prob(jnp.array([20.0, -20.0])))
    narrow = TanhNormal(jnp.full((9999, 1), 0.3), jnp.full((9999, 1), -0.5))
    action = np.linspace(-1, 1, 10_001)[1:-1]
    density = np.exp(narrow.log_prob(jnp.arctanh(jnp.asarray(action, jnp.float32))[:, None]))
    assert np.sum(density) * (action[1] - action[0]) == pytest.approx(1.0, abs=1e-3)


def test_the_agent_acts_by_the_median_or_by_a_draw_and_values_both():
    config = SACConfig(**SMALL | UNUSUAL | {"normalize_observations": True})
    env = Reach(0.0, 10.0)
    agent = sac_agent(env, config)
    policy = agent.init(jax.random.key(0))
    kept = policy.observation_moments
    policy = replace(
        policy, observation_moments=kept._replace(mean=jnp.full(3, 0.5), variance=jnp.full(3, 4.0))
    )
    observation = np.array([[0.3, -0.2, 0.1]])
    view = View.at_start(jnp.asarray(observation[0], jnp.float32), env.action_space)
    read, actor = (observation - 0.5) / 2.0, layers(policy.actor)
    median, _ = drawn(actor, read, np.zeros((1, 3)))
    found, _ = agent.modes["deterministic"].act(policy, (), view, jax.random.key(3))
    np.testing.assert_allclose(found, 5.0 + 5.0 * median[0], rtol=1e-5)
    noise = np.asarray(jax.random.normal(jax.random.key(3), (3,)), np.float64)
    action, _ = drawn(actor, read, noise[None])
    found, _ = agent.modes["stochastic"].act(policy, (), view, jax.random.key(3))
    np.testing.assert_allclose(found, 5.0 + 5.0 * action[0], rtol=1e-5)
    noise = np.asarray(jax.random.normal(jax.random.key(3), (1, 3)), np.float64)
    action, log_probability = drawn(actor, read, noise)
    expected = q_values(policy.critic, read, action).min() - 0.4 * log_probability[0]
    np.testing.assert_allclose(
        agent.value(policy, (), view, jax.random.key(3)), expected, rtol=1e-4
    )


def test_exploring_earns_the_entropy_of_what_was_drawn():
    config = SACConfig(**SMALL | UNUSUAL)
    rules = SAC(config, make_networks(REACH, config), target_entropy=-3.0)
    learner = rules.begin(sac_agent(REACH, config).init(jax.random.key(0)))
    observation = jnp.array([[0.3, -0.2, 0.1], [-1.0, 0.5, 2.0]])
    view = View(observation, jnp.zeros(2), jnp.zeros((2, 3)), jnp.zeros(2, bool))
    noise = np.asarray(jax.random.normal(jax.random.key(3), (2, 3)), np.float64)
    action, log_probability = drawn(layers(learner.policy.actor), np.asarray(observation), noise)
    found, bonus = rules.explore(learner, view, jax.random.key(3))
    np.testing.assert_allclose(found, action, rtol=1e-4)
    np.testing.assert_allclose(bonus, -0.4 * log_probability, rtol=1e-4)


LEARNS = {
    "total_steps": 6000,
    "batch_size": 64,
    "replay_capacity": 6000,
    "warm_up": 200,
    "num_steps": 50,
    "gamma": 0.9,
    "tau": 0.05,
    "learning_rate": 3e-3,
    "critic_learning_rate": 3e-3,
    "initial_temperature": 0.01,
    "train_temperature": False,
    "hidden_sizes": (32,),
}


@functools.cache
def learned(environment_id):
    """The environment and the policy after 6,000 transitions."""
    environment = registry.make(environment_id)
    state = compiled(environment, **LEARNS)(jax.random.key(0), jnp.int32(30))
    return environment, sac_agent(environment, SACConfig(**SMALL | LEARNS)), state.learner.policy


def test_a_time_limit_is_no_end():
    environment, agent, policy = learned("probe/continuous-never-ending")
    view = View.at_start(jnp.zeros(1), environment.action_space)
    # Its entropy is counted too, at most 0.01 * log 2 a step.
    value = float(agent.value(policy, (), view, jax.random.key(0)))
    assert value == pytest.approx(10.0, rel=0.05)


def test_the_best_continuous_action_is_found():
    environment, agent, policy = learned("probe/continuous-action")
    view = View.at_start(jnp.zeros(1), environment.action_space)
    action, _ = agent.modes["deterministic"].act(policy, (), view, jax.random.key(0))
    assert float(action[0]) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train_temperature": False, "target_entropy": -1.0}, "target_entropy is -1, .*no effect"),
        (
            {"train_temperature": False, "temperature_loss": "linear"},
            "temperature_loss is 'linear'",
        ),
    ],
)
def test_settings_of_a_temperature_that_is_not_trained_are_refused(settings, words):
    with pytest.raises(JaxrlError, match=words):
        sac(Reach(), SACConfig(**SMALL | settings))


def test_a_layer_of_one_unit_is_not_standardised():
    config = SACConfig(**SMALL | {"hidden_sizes": (4, 1), "layer_norm": True})
    with pytest.raises(JaxrlError, match="hidden_sizes has a layer of 1 unit, but layer_norm"):
        jax.eval_shape(sac(Reach(), config).init, jax.random.key(0))


def test_actions_of_another_kind_are_refused():
    with pytest.raises(JaxrlError, match=r"sac needs continuous actions .* has Discrete\(2\)"):
        sac(registry.make("CartPole-v1"), SACConfig())
