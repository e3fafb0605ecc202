"""PPO's terms and diagnostics against float64 oracles, hand-worked numbers and sampling."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.losses import (
    clip_fraction,
    clipped_surrogate,
    clipped_value_loss,
    explained_variance,
    kl_estimators,
    normalize_advantage,
    ratio_diagnostics,
    unit_weight,
    weighted_mean,
)


@pytest.fixture(autouse=True)
def strict_arithmetic():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def test_clipped_surrogate_by_hand():
    ratio = jnp.array([1.5, 1.5, 0.5, 0.5, 1.1])
    advantage = jnp.array([1.0, -1.0, 1.0, -1.0, 2.0])
    loss = clipped_surrogate(jnp.log(ratio), jnp.zeros(5), advantage, 0.2)
    np.testing.assert_allclose(loss, [-1.2, 1.5, -0.5, 0.8, -2.2], rtol=1e-6)


def test_clipped_surrogate_pulls_only_where_the_clip_does_not_hold():
    ratio, advantage = jnp.array([1.5, 1.5, 0.5, 0.5]), jnp.array([1.0, -1.0, 1.0, -1.0])
    gradient = jax.grad(lambda x: jnp.sum(clipped_surrogate(x, jnp.zeros(4), advantage, 0.2)))(
        jnp.log(ratio)
    )
    np.testing.assert_allclose(gradient, [0.0, 1.5, -0.5, 0.0], rtol=1e-6)


def test_the_first_surrogate_is_the_policy_gradient():
    log_probability, advantage = jnp.array([-1.0, -2.0, -0.3]), jnp.array([3.0, -1.0, 0.5])
    gradient = jax.grad(lambda x: jnp.sum(clipped_surrogate(x, log_probability, advantage, 0.2)))
    np.testing.assert_allclose(gradient(log_probability), -advantage, rtol=1e-6)


def test_clipped_value_loss_matches_the_loop():
    value, old_value, target = np.random.default_rng(0).normal(size=(3, 200)).astype(np.float32)
    by_loop = []
    for v, old, goal in zip(value.astype(np.float64), old_value, target, strict=True):
        clipped = old + min(max(v - old, -0.3), 0.3)
        by_loop.append(0.5 * max((v - goal) ** 2, (clipped - goal) ** 2))
    loss = clipped_value_loss(*map(jnp.asarray, (value, old_value, target)), 0.3)
    np.testing.assert_allclose(loss, by_loop, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("clip_epsilon", [jnp.inf, jnp.float32(jnp.inf)], ids=["static", "traced"])
def test_an_infinite_clip_is_the_squared_error(clip_epsilon):
    drawn = np.random.default_rng(1).normal(size=(3, 50))
    value, old_value, target = jnp.asarray(drawn, jnp.float32)
    loss = jax.jit(lambda v, epsilon: clipped_value_loss(v, old_value, target, epsilon))
    np.testing.assert_array_equal(loss(value, clip_epsilon), 0.5 * (value - target) ** 2)
    gradient = jax.grad(lambda v, epsilon: jnp.sum(loss(v, epsilon)))(value, clip_epsilon)
    np.testing.assert_allclose(gradient, value - target, rtol=1e-6)


def test_kl_estimators_agree_with_the_exact_divergence():
    old = np.random.default_rng(2).normal(size=6)
    log_old = old - np.log(np.exp(old).sum())
    new = old + 0.3 * np.random.default_rng(3).normal(size=6)
    log_new = new - np.log(np.exp(new).sum())
    exact = np.sum(np.exp(log_old) * (log_old - log_new))
    k1, k3 = kl_estimators(jnp.asarray(log_new - log_old, jnp.float32))
    np.testing.assert_allclose(np.sum(np.exp(log_old) * k1), exact, rtol=1e-5)
    np.testing.assert_allclose(np.sum(np.exp(log_old) * k3), exact, rtol=1e-5)
    assert np.all(k3 >= 0)


def test_k3_keeps_its_digits_where_policies_are_close():
    k3 = kl_estimators(jnp.array([1e-3, -1e-3]))[1]
    np.testing.assert_allclose(k3, [5.00167e-7, 4.99833e-7], rtol=1e-3)


def test_clip_fraction_by_hand():
    ratio = jnp.array([0.7, 0.85, 1.0, 1.15, 1.3])
    np.testing.assert_array_equal(clip_fraction(jnp.log(ratio), 0.2), [1, 0, 0, 0, 1])


def test_explained_variance():
    value, target = jnp.asarray(np.random.default_rng(4).normal(7.0, size=(2, 4, 50)), jnp.float32)
    by_definition = 1 - np.var(target - value) / np.var(target)
    np.testing.assert_allclose(explained_variance(value, target), by_definition, rtol=1e-4)
    assert explained_variance(target, target) == 1
    np.testing.assert_allclose(explained_variance(jnp.zeros_like(target), target), 0, atol=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e4])
def test_constant_targets_explain_nothing(constant):
    value = jnp.asarray(np.random.default_rng(5).normal(size=1000), jnp.float32)
    assert explained_variance(value, jnp.full(1000, constant)) == 0


def test_normalized_advantages_have_mean_zero_and_deviation_one():
    advantage = np.random.default_rng(6).normal(3e3, 0.5, size=(64, 8)).astype(np.float32)
    normalized = np.asarray(normalize_advantage(jnp.asarray(advantage)), np.float64)
    assert abs(normalized.mean()) < 1e-5
    assert abs(normalized.std() - 1) < 1e-5
    exact = advantage.astype(np.float64)
    np.testing.assert_allclose(normalized, (exact - exact.mean()) / exact.std(), atol=1e-3)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1234.567, 1e8])
def test_constant_advantages_normalize_to_nothing(constant):
    normalized = jax.jit(normalize_advantage)(np.full(1000, constant, np.float32))
    assert np.all(np.abs(normalized) < 1e-2)


def test_advantages_on_devices_normalize_as_on_one():
    # Means that differ between devices, which averaging the devices' own variances would miss.
    drawn = np.random.default_rng(7).normal(size=(4, 32)) + 10.0 * np.arange(4)[:, None]
    advantage = jnp.asarray(drawn, jnp.float32)
    sharded = jax.vmap(lambda a: normalize_advantage(a, "devices"), axis_name="devices")(advantage)
    np.testing.assert_allclose(sharded, normalize_advantage(advantage), rtol=1e-4, atol=1e-5)


def test_what_weighs_nothing_does_not_matter():
    rng = np.random.default_rng(8)
    advantage, log_ratio = jnp.asarray(rng.normal(3.0, 2.0, (2, 400)), jnp.float32)
    counts = rng.random(400) < 0.2
    weight = unit_weight(jnp.asarray(counts, jnp.float32))
    np.testing.assert_allclose(weight, counts * 400 / counts.sum(), rtol=1e-6)
    alone = normalize_advantage(advantage[counts])
    np.testing.assert_allclose(
        normalize_advantage(advantage, weight=weight)[counts], alone, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        weighted_mean(advantage, weight), advantage[counts].mean(), rtol=1e-5
    )
    chosen, of_all = (
        ratio_diagnostics(log_ratio[counts], log_ratio[counts], 0.2),
        ratio_diagnostics(log_ratio, log_ratio, 0.2, weight),
    )
    assert all(abs(chosen[name] - of_all[name]) < 1e-5 * max(1.0, chosen[name]) for name in chosen)
    np.testing.assert_allclose(
        explained_variance(log_ratio, advantage, weight),
        explained_variance(log_ratio[counts], advantage[counts]),
        rtol=1e-4,
    )


def test_the_clip_fraction_is_of_the_ratio_that_is_clipped():
    """With PPO-EWMA that is not the one to the rollout's policy, which the KL is of."""
    moved, still = jnp.log(jnp.array([2.0, 0.5])), jnp.zeros(2)
    found = ratio_diagnostics(moved, still, 0.2)
    assert found["clip_fraction"] == 0 and found["kl"] > 0.1
    assert ratio_diagnostics(still, moved, 0.2)["clip_fraction"] == 1


def test_weights_on_devices_are_scaled_together_and_nothing_stays_nothing():
    weight = jnp.array([[1.0, 0.0], [1.0, 1.0]])
    shared = jax.vmap(lambda w: unit_weight(w, "devices"), axis_name="devices")(weight)
    np.testing.assert_allclose(shared, weight * 4 / 3, rtol=1e-6)
    assert not np.any(unit_weight(jnp.zeros(3))) and unit_weight(None) is None
    assert np.all(np.isfinite(normalize_advantage(weight[0], weight=jnp.zeros(2))))
