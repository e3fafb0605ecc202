"""One iteration of PPO against an independent, slow account of it in float64 NumPy."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.losses import normalize_advantage
from tests.algos.walk import (
    NUM_ENVS,
    NUM_ITERATIONS,
    NUM_STEPS,
    learner,
    make_config,
    rollout_of,
    step,
    trained,
    with_key,
)

EPSILON = 1e-5  # Adam's


@jax.jit
def loss_of(config, policy, scaler, rollout):
    """(batch, (loss, diagnostics)) of a policy on the whole rollout, as one minibatch."""
    batch = learner(config)._estimate(scaler, rollout.trajectory)[1]
    weight = batch.advantage
    if config.normalize_advantages == "minibatch":  # done once an epoch, for all minibatches
        weight = normalize_advantage(weight)
    rows = replace(batch, advantage=weight)
    return batch, learner(config)._loss(policy, rows, batch.log_probability, jax.random.key(0))


@functools.cache
def seen():
    """The rollout from the trained state, and a policy that has moved since."""
    state, _ = trained()
    rollout = jax.device_get(rollout_of(make_config(), with_key(state, 7)))
    rng = np.random.default_rng(0)
    moved = jax.tree.map(
        lambda leaf: leaf + np.float32(0.15) * rng.normal(size=leaf.shape), state.policy.params
    )
    moved = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), moved)
    return rollout, replace(state.policy, params=moved)


# The independent account.


def network(params, moments, observation):
    """(log-probabilities [..., 3], value [...]); of NumPy arrays or of traced ones."""
    mean, variance = np.asarray(moments.mean, np.float64), np.asarray(moments.variance, np.float64)
    inputs = np.clip(
        (np.asarray(observation, np.float64) - mean) / np.sqrt(variance + 1e-8), -10, 10
    )
    xp, layers, outputs = (
        (jnp if isinstance(jax.tree.leaves(params)[0], jax.core.Tracer) else np),
        params["params"],
        [],
    )
    for torso, head in (("actor_torso", "policy_head"), ("critic_torso", "value_head")):
        first, last = layers[torso]["Dense_0"], layers[head]
        outputs.append(
            xp.tanh(inputs @ first["kernel"] + first["bias"]) @ last["kernel"] + last["bias"]
        )
    logits, value = outputs
    return logits - xp.log(xp.exp(logits).sum(-1, keepdims=True)), value[..., 0]


def double(tree):
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def successors(rollout):
    """Where each action led, by Walk's own dynamics."""
    position = (rollout.observation[..., 0].astype(np.float64) - 200.0) / 50.0
    return position + 0.5 * (rollout.sample - 1.0) + 0.05


def advantages(policy, scaler, rollout, gamma=0.99, gae_lambda=0.95):
    """GAE, with V(the observation that the action led to) at time limits."""
    params, moments, position = (
        double(policy.params),
        policy.observation_moments,
        successors(rollout),
    )
    value = network(params, moments, rollout.observation)[1]
    next_value = network(params, moments, np.stack([200.0 + 50.0 * position, position**2], -1))[1]
    reward = rollout.reward / np.sqrt(float(scaler.moments.variance) + 1e-8)
    advantage, after = np.zeros_like(value), np.zeros(NUM_ENVS)
    for t in reversed(range(NUM_STEPS)):
        delta = reward[t] + gamma * np.where(rollout.terminated[t], 0.0, next_value[t]) - value[t]
        after = delta + gamma * gae_lambda * ~(rollout.terminated[t] | rollout.truncated[t]) * after
        advantage[t] = after
    return advantage, next_value


def terms(params, moments, rollout, advantage, old, config):
    """(policy loss, value loss, entropy, ratio): the formulas of the paper,
    and of ppo2 for the values."""
    old_log_probability, old_value = old
    log_probabilities, value = network(params, moments, rollout.observation)
    xp = jnp if isinstance(value, jax.core.Tracer) else np
    index = np.asarray(rollout.sample)[..., None]
    ratio = xp.exp(xp.take_along_axis(log_probabilities, index, -1)[..., 0] - old_log_probability)
    epsilon, value_epsilon = float(config.clip_epsilon), float(config.value_clip_epsilon)
    target = advantage + old_value
    weight = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    weight = advantage if config.normalize_advantages == "none" else weight
    policy_loss = -xp.minimum(
        ratio * weight, xp.clip(ratio, 1 - epsilon, 1 + epsilon) * weight
    ).mean()
    clipped = old_value + xp.clip(value - old_value, -value_epsilon, value_epsilon)
    value_loss = 0.5 * xp.maximum((value - target) ** 2, (clipped - target) ** 2).mean()
    entropy = -(xp.exp(log_probabilities) * log_probabilities).sum(-1).mean()
    return policy_loss, value_loss, entropy, ratio


def test_the_recorded_rollout_holds_what_the_frozen_normaliser_and_the_policy_give():
    state, _ = trained()
    rollout, _ = seen()
    log_probabilities, value = network(
        double(state.policy.params), state.policy.observation_moments, rollout.observation
    )
    expected = np.take_along_axis(log_probabilities, rollout.sample[..., None], -1)[..., 0]
    np.testing.assert_allclose(rollout.value, value, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(rollout.log_probability, expected, rtol=1e-4, atol=1e-4)


def test_the_rollout_tells_terminations_from_time_limits():
    rollout, _ = seen()
    np.testing.assert_array_equal(rollout.terminated, np.abs(successors(rollout)) > 1.5)
    assert not (rollout.terminated & rollout.truncated).any()
    np.testing.assert_allclose(rollout.reward, 3.0 * successors(rollout), atol=1e-4)


def test_advantages_bootstrap_from_the_observation_before_the_reset():
    state, _ = trained()
    rollout, _ = seen()
    next_value = rollout.next_value
    assert rollout.truncated.sum() >= 3 and rollout.terminated.sum() >= 2
    config = make_config(normalize_advantages="none")
    batch, _ = loss_of(config, state.policy, state.reward_scaler, rollout)
    advantage, expected_next = advantages(state.policy, state.reward_scaler, rollout)
    np.testing.assert_allclose(
        next_value[rollout.truncated], expected_next[rollout.truncated], rtol=1e-4, atol=1e-4
    )
    np.testing.assert_allclose(batch.advantage, advantage.ravel(), rtol=1e-4, atol=2e-4)
    np.testing.assert_allclose(
        batch.target, (advantage + rollout.value).ravel(), rtol=1e-4, atol=2e-4
    )
    after_reset = np.concatenate([rollout.value[1:], np.zeros((1, NUM_ENVS), np.float32)])
    assert np.abs(next_value - after_reset)[:-1][rollout.truncated[:-1]].max() > 0.01


@pytest.mark.parametrize("mode", ["minibatch", "batch", "none"])
@pytest.mark.parametrize("value_clip_epsilon", [0.05, np.inf])
def test_the_loss_of_a_policy_that_has_moved_agrees_with_the_formulas(mode, value_clip_epsilon):
    state, _ = trained()
    rollout, moved = seen()
    config = make_config(normalize_advantages=mode, value_clip_epsilon=value_clip_epsilon)
    _, (loss, found) = jax.device_get(loss_of(config, moved, state.reward_scaler, rollout))
    advantage, _ = advantages(state.policy, state.reward_scaler, rollout)
    old = rollout.log_probability.astype(np.float64), rollout.value.astype(np.float64)
    moments = state.policy.observation_moments
    policy_loss, value_loss, entropy, ratio = terms(
        double(moved.params), moments, rollout, advantage, old, config
    )
    tolerance = {"rtol": 1e-4, "atol": 2e-5}
    np.testing.assert_allclose(found["policy_loss"], policy_loss, **tolerance)
    np.testing.assert_allclose(found["value_loss"], value_loss, **tolerance)
    np.testing.assert_allclose(found["entropy"], entropy, **tolerance)
    np.testing.assert_allclose(found["kl"], (ratio - 1 - np.log(ratio)).mean(), **tolerance)
    np.testing.assert_allclose(
        found["clip_fraction"], (np.abs(ratio - 1) > 0.2).mean(), **tolerance
    )
    np.testing.assert_allclose(found["ratio_error"], np.abs(ratio - 1).mean(), **tolerance)
    np.testing.assert_allclose(loss, policy_loss + 0.5 * value_loss - 0.01 * entropy, **tolerance)
    assert 0.0 < found["clip_fraction"] < 1.0


@functools.cache
def gradient():
    """d loss / d params at the trained state, in float64: that of the unclipped objective,
    for the ratio is 1."""
    state, _ = trained()
    rollout, _ = seen()
    advantage, _ = advantages(state.policy, state.reward_scaler, rollout)
    old = rollout.log_probability.astype(np.float64), rollout.value.astype(np.float64)

    def loss(params):
        arguments = params, state.policy.observation_moments, rollout, advantage, old, make_config()
        policy_loss, value_loss, entropy, _ = terms(*arguments)
        return policy_loss + 0.5 * value_loss - 0.01 * entropy

    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        grad = jax.device_get(jax.jit(jax.grad(loss))(double(state.policy.params)))
    return grad, np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(grad)))


@pytest.mark.parametrize("max_grad_norm", [np.inf, 1e-3, 1e-7])
def test_one_step_is_adams_first_along_the_gradient_clipped_by_its_global_norm(max_grad_norm):
    state, _ = trained()
    grad, norm = gradient()
    config = make_config(max_grad_norm=max_grad_norm, learning_rate=0.1)
    following, metrics = step(config, with_key(state, 7))
    np.testing.assert_allclose(float(metrics["gradient_norm"].sum), norm, rtol=1e-4)
    scale, learning_rate = min(1.0, max_grad_norm / norm), 0.1 * (1.0 - 3 / NUM_ITERATIONS)
    params = jax.device_get((grad, state.policy.params, following.policy.params))
    for leaf, before, after in zip(*map(jax.tree.leaves, params), strict=True):
        direction = scale * leaf / (np.abs(scale * leaf) + EPSILON)
        moved = (np.asarray(before, np.float64) - after) / learning_rate
        np.testing.assert_allclose(moved, direction, atol=5e-3 * np.abs(direction).max() + 1e-6)
