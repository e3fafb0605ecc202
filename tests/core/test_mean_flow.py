"""Flows along straight lines, against closed forms, finite differences and hand numbers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxrl.core.mean_flow import (
    adaptive_weight,
    average_velocity_target,
    draw_times,
    euler,
    one_step,
    squared_error,
    straight_path,
    time_pairs,
)

# Data N(M, S²) at time 0, noise N(0, 1) at time 1.
M, S = 0.4, 0.3


def spread(t):
    """Standard deviation of the points at time t."""
    return jnp.sqrt((1.0 - t) ** 2 * S**2 + t**2)


def true_velocity(x, t):
    """The flow's velocity at x [B, 1] and times [B]."""
    t = t[:, None]
    return -M + (t - (1.0 - t) * S**2) / spread(t) ** 2 * (x - (1.0 - t) * M)


def true_average(x, r, t):
    """The average velocity that leads from x at time t to where it was at time r < t."""
    r, t = r[:, None], t[:, None]
    before = (1.0 - r) * M + spread(r) / spread(t) * (x - (1.0 - t) * M)
    return (x - before) / (t - r)


def a_network(x, r, t, seed=0):
    """Some smooth function of all three, [B, D]."""
    rng = np.random.default_rng(seed)
    width = x.shape[-1]
    first = jnp.asarray(rng.normal(size=(width + 2, 7)), x.dtype)
    last = jnp.asarray(rng.normal(size=(7, width)), x.dtype)
    features = jnp.concatenate([x, r[:, None], t[:, None]], axis=1)
    return jnp.tanh(features @ first) @ last


def points(dtype, number=64, width=1, gap=0.1):
    """x, v [B, D] and times r < t [B] that are `gap` apart or more."""
    rng = np.random.default_rng(1)
    t = rng.uniform(gap, 1.0, number)
    r = rng.uniform(0.0, 1.0, number) * (t - gap)
    x, v = rng.normal(size=(2, number, width))
    return tuple(jnp.asarray(each, dtype) for each in (x, v, r, t))


@pytest.mark.parametrize(("double", "tolerance"), [(True, 1e-10), (False, 1e-5)])
def test_the_true_average_velocity_is_its_own_target(double, tolerance):
    with jax.enable_x64(double):
        x, _, r, t = points(jnp.float64 if double else jnp.float32)
        found, target = average_velocity_target(true_average, x, true_velocity(x, t), r, t)
        np.testing.assert_allclose(target, true_average(x, r, t), atol=tolerance, rtol=tolerance)
        np.testing.assert_array_equal(found, true_average(x, r, t))
        # A wrong sign of the correction, or a tangent of r, would not do.
        assert np.abs(target - true_velocity(x, t)).max() > 0.1


def test_the_target_against_finite_differences():
    with jax.enable_x64(True):
        x, v, r, t = points(jnp.float64, width=3)
        found, target = average_velocity_target(a_network, x, v, r, t)
        step = 1e-6
        ahead = a_network(x + step * v, r, t + step)
        behind = a_network(x - step * v, r, t - step)
        expected = v - (t - r)[:, None] * (ahead - behind) / (2.0 * step)
        np.testing.assert_allclose(target, expected, atol=1e-8)
        np.testing.assert_array_equal(found, a_network(x, r, t))


def test_where_both_times_are_one_the_target_is_the_velocity():
    x, v, _, t = points(jnp.float32, width=2)
    _, target = average_velocity_target(a_network, x, v, t, t)
    np.testing.assert_array_equal(target, v)


def test_no_gradient_goes_through_the_target():
    """u = θ x (1 + r t), whose gradient and du/dt are written out."""
    with jax.enable_x64(True):
        x, v, r, t = points(jnp.float64)

        def loss(theta):
            def field(x, r, t):
                return theta * x * (1.0 + r * t)[:, None]

            found, target = average_velocity_target(field, x, v, r, t)
            return squared_error(found, target, "sum").sum()

        theta, lift = 0.7, (1.0 + r * t)[:, None]
        change = v * theta * lift + theta * x * r[:, None]
        error = theta * x * lift - (v - (t - r)[:, None] * change)
        np.testing.assert_allclose(
            jax.grad(loss)(theta), (2.0 * error * x * lift).sum(), rtol=1e-12
        )


def test_the_path_by_hand():
    first, last = jnp.array([[1.0, -2.0], [0.0, 4.0]]), jnp.array([[3.0, 2.0], [1.0, 0.0]])
    point, velocity = straight_path(first, last, jnp.array([0.25, 1.0]))
    np.testing.assert_allclose(point, [[1.5, -1.0], [1.0, 0.0]])
    np.testing.assert_allclose(velocity, [[2.0, 4.0], [1.0, -4.0]])


@pytest.mark.parametrize(("ratio", "same"), [(0.0, 0), (0.27, 3), (0.3, 3), (0.5, 5), (1.0, 10)])
def test_pairs_of_times_are_ordered_and_a_share_of_them_equal(ratio, same):
    one, other = jax.random.uniform(jax.random.key(0), (2, 10))
    start, time = jax.jit(time_pairs)(one, other, jnp.float32(ratio))
    assert (start <= time).all()
    assert int((start == time).sum()) == same
    np.testing.assert_array_equal(time, np.maximum(one, other))
    np.testing.assert_array_equal(start[same:], np.minimum(one, other)[same:])


def test_times_are_logit_normal_or_uniform():
    key = jax.random.key(3)
    logits = jax.scipy.special.logit(draw_times(key, (200_000,), "logit_normal", -0.4, 1.0))
    assert float(logits.mean()) == pytest.approx(-0.4, abs=0.01)
    assert float(logits.std()) == pytest.approx(1.0, abs=0.01)
    one, other = draw_times(jax.random.key(4), (2, 200_000), "logit_normal", -0.4, 1.0)
    start, time = time_pairs(one, other, 0.0)
    # The pair that a policy uses, (0, 1), is hardly ever near one that is trained.
    assert float((time - start).mean()) == pytest.approx(0.23, abs=0.01)
    assert float(((time > 0.8) & (start < 0.2)).mean()) == pytest.approx(0.012, abs=0.002)
    uniform = draw_times(jax.random.key(5), (200_000,), "uniform")
    assert float(uniform.mean()) == pytest.approx(0.5, abs=0.005)
    assert float(uniform.var()) == pytest.approx(1 / 12, abs=0.002)


def test_one_step_evaluates_the_field_from_0_to_1():
    def field(x, r, t):
        return 10.0 * r + 2.0 * t + 0.5 * x

    np.testing.assert_allclose(one_step(field, jnp.array([[4.0, -2.0]])), [[0.0, -3.0]])


def test_euler_takes_equal_steps_from_their_beginnings():
    moved = euler(lambda x, t: x, jnp.array([[1.0, -2.0]]), 4)
    np.testing.assert_allclose(moved, [[1.25**4, -2 * 1.25**4]], rtol=1e-6)
    moved = euler(lambda x, t: t + 0.0 * x, jnp.zeros((1, 1)), 4)
    np.testing.assert_allclose(moved, [[(0.0 + 0.25 + 0.5 + 0.75) / 4]])


def test_squared_errors_by_hand():
    prediction, target = jnp.array([[1.0, 2.0], [0.0, 0.0]]), jnp.array([[0.0, 4.0], [0.0, 0.3]])
    np.testing.assert_allclose(squared_error(prediction, target, "mean"), [2.5, 0.045], rtol=1e-6)
    np.testing.assert_allclose(squared_error(prediction, target, "sum"), [5.0, 0.09], rtol=1e-6)


def test_weights_of_large_errors_by_hand():
    error = jnp.array([5.0, 0.09])
    np.testing.assert_allclose(adaptive_weight(error, 1.0), [1 / 5.01, 1 / 0.10], rtol=1e-5)
    np.testing.assert_array_equal(adaptive_weight(error, 0.0), 1.0)
    gradient = jax.grad(lambda e: (adaptive_weight(e, 0.5) * e).sum())(error)
    np.testing.assert_allclose(gradient, [1 / 5.01**0.5, 1 / 0.1**0.5], rtol=1e-5)


@functools.cache
def trained(flow_ratio):
    """A small network, trained on single paths alone for a few thousand steps."""
    optimizer = optax.adam(optax.cosine_decay_schedule(5e-3, 4000))
    shapes = [(3, 48), (48, 48), (48, 1)]
    keys = jax.random.split(jax.random.key(0), len(shapes))
    params = [
        (jax.random.normal(key, shape) / np.sqrt(shape[0]), jnp.zeros(shape[1]))
        for key, shape in zip(keys, shapes, strict=True)
    ]

    def apply(params, x, r, t):
        features = jnp.concatenate([x, r[:, None], t[:, None]], axis=1)
        for index, (w, b) in enumerate(params):
            features = features @ w + b[None]
            features = jax.nn.mish(features) if index < 2 else features
        return features

    def loss(params, key):
        key_data, key_noise, key_times = jax.random.split(key, 3)
        data = M + S * jax.random.normal(key_data, (256, 1))
        noise = jax.random.normal(key_noise, (256, 1))
        start, time = time_pairs(*draw_times(key_times, (2, 256), "uniform"), flow_ratio)
        point, velocity = straight_path(data, noise, time)
        field = functools.partial(apply, params)
        found, target = average_velocity_target(field, point, velocity, start, time)
        return squared_error(found, target, "mean").mean()

    def step(carry, key):
        params, state = carry
        change, state = optimizer.update(jax.grad(loss)(params, key), state)
        return (optax.apply_updates(params, change), state), None

    keys = jax.random.split(jax.random.key(1), 4000)
    begun = (params, optimizer.init(params))
    (params, _), _ = jax.jit(lambda: jax.lax.scan(step, begun, keys))()
    return functools.partial(apply, params)


@pytest.mark.slow
def test_what_is_trained_on_single_paths_becomes_the_average_velocity():
    field = trained(0.5)
    _, _, r, t = points(jnp.float32, 500, gap=0.05)
    x = (1.0 - t)[:, None] * M + spread(t)[:, None] * jax.random.normal(jax.random.key(2), (500, 1))
    error = np.asarray(field(x, r, t) - true_average(x, r, t))
    by_velocity = np.asarray(true_velocity(x, t) - true_average(x, r, t))
    assert np.sqrt(np.mean(error**2)) < 0.08
    assert np.sqrt(np.mean(by_velocity**2)) > 0.15
    # One step from noise makes the data's distribution, where one step of the velocity does not.
    noise = jax.random.normal(jax.random.key(3), (4000, 1))
    made = one_step(lambda x, r, t: field(x, jnp.full(4000, r), jnp.full(4000, t)), noise)
    assert float(made.mean()) == pytest.approx(M, abs=0.04)
    assert float(made.std()) == pytest.approx(S, abs=0.04)
    at_once = noise - true_velocity(noise, jnp.ones(4000))
    assert float(at_once.std()) < 0.01
