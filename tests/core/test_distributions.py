"""Probabilities sum to 1, closed forms agree with sampling, and nothing is NaN at the edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.core.distributions import (
    Categorical,
    MultiCategorical,
    Normal,
    TanhNormal,
    allows_an_action,
    mask_logits,
)

DRAWS = 20_000


@pytest.fixture(autouse=True)
def strict_arithmetic():
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


def pairs():
    """Two members p, q of each family, with a batch of two."""
    logits = jnp.array([[0.5, -1.0, 2.0, 0.0, 0.3], [0.0, 0.0, 1.0, -1.0, 1.0]])
    mask = jnp.array([[True, False, True, True, False], [True, True, False, True, True]])
    mean, log_std = jnp.array([[0.3, -0.5], [1.0, 0.0]]), jnp.array([-0.5, 0.1])
    return {
        "categorical": (Categorical(logits), Categorical(logits[::-1])),
        "masked": (Categorical(mask_logits(logits, mask)), Categorical(mask_logits(-logits, mask))),
        "multicategorical": (MultiCategorical(logits, (2, 3)), MultiCategorical(-logits, (2, 3))),
        "normal": (Normal(mean, log_std), Normal(0.5 * mean, log_std + 0.2)),
        "tanh": (TanhNormal(mean, log_std), TanhNormal(0.5 * mean, log_std + 0.2)),
    }


each_family = pytest.mark.parametrize("family", pairs())


def draws(distribution, seed=0):
    return jax.jit(jax.vmap(distribution.sample))(jax.random.split(jax.random.key(seed), DRAWS))


def assert_is_mean(exact, values):
    """`exact` lies within five standard errors of the mean of `values` over its leading axis."""
    values = np.asarray(values, np.float64)
    error = values.std(0) / np.sqrt(len(values))
    np.testing.assert_array_less(np.abs(values.mean(0) - exact), 5 * error + 1e-6)


@each_family
def test_shapes_types_and_reproducibility(family):
    p, _ = pairs()[family]
    x = jax.jit(type(p).sample)(p, jax.random.key(0))
    assert x.shape == p.mode().shape
    assert x.dtype == p.mode().dtype == (jnp.float32 if family in ("normal", "tanh") else jnp.int32)
    assert p.log_prob(x).shape == p.entropy(jax.random.key(1)).shape == p.kl(p).shape == (2,)
    np.testing.assert_array_equal(x, p.sample(jax.random.key(0)))


@each_family
def test_entropy_is_the_mean_surprise(family):
    p, _ = pairs()[family]
    surprise = -jax.jit(jax.vmap(p.log_prob))(draws(p))
    entropy = p.entropy(None) if family != "tanh" else tanh_entropy_by_quadrature(p)
    assert_is_mean(entropy, surprise)


@each_family
def test_kl_is_the_mean_log_ratio(family):
    p, q = pairs()[family]
    x = draws(p)
    assert_is_mean(p.kl(q), jax.jit(jax.vmap(lambda x: p.log_prob(x) - q.log_prob(x)))(x))
    np.testing.assert_allclose(p.kl(p), 0, atol=1e-6)


@each_family
def test_the_batch_is_a_stack_of_single_distributions(family):
    p, _ = pairs()[family]
    x = p.sample(jax.random.key(3))
    first = jax.tree.map(lambda leaf: leaf[0] if leaf.shape[0] == 2 and leaf.ndim == 2 else leaf, p)
    np.testing.assert_allclose(first.log_prob(x[0]), p.log_prob(x)[0], rtol=1e-6)


def test_categorical_by_hand():
    p = Categorical(jnp.log(jnp.array([0.5, 0.25, 0.25])) + 3.0)
    np.testing.assert_allclose(p.log_prob(jnp.int32(1)), np.log(0.25), rtol=1e-6)
    np.testing.assert_allclose(p.entropy(), 1.5 * np.log(2), rtol=1e-6)
    np.testing.assert_allclose(
        p.kl(Categorical(jnp.zeros(3))), np.log(3) - 1.5 * np.log(2), rtol=1e-5
    )
    assert p.mode() == 0


def test_categorical_draws_follow_the_probabilities():
    p, _ = pairs()["categorical"]
    x = np.asarray(draws(p))
    probability = np.exp(jax.nn.log_softmax(p.logits))
    for action in range(5):
        assert_is_mean(probability[:, action], x == action)


def test_probabilities_sum_to_one():
    for family in ("categorical", "masked"):
        p, _ = pairs()[family]
        total = sum(np.exp(p.log_prob(jnp.full(2, action, jnp.int32))) for action in range(5))
        np.testing.assert_allclose(total, 1, rtol=1e-6)
    p, _ = pairs()["multicategorical"]
    grid = [jnp.tile(jnp.array([i, j], jnp.int32), (2, 1)) for i in range(2) for j in range(3)]
    np.testing.assert_allclose(sum(np.exp(p.log_prob(x)) for x in grid), 1, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])
def test_masked_actions_never_happen_and_poison_nothing(dtype):
    logits = jnp.array([[9e3, 0.0, 1e3, -2e3]], dtype)
    mask = jnp.array([[False, True, True, False]])
    p = Categorical(mask_logits(logits, mask))
    np.testing.assert_array_equal(jnp.exp(jax.nn.log_softmax(p.logits))[~mask], 0)
    assert set(np.unique(draws(p))) <= {1, 2}
    assert p.mode()[0] == 2

    def scalars(logits):
        p = Categorical(mask_logits(logits, mask))
        q = Categorical(mask_logits(-logits, mask))
        terms = p.entropy(), p.kl(q), p.log_prob(jnp.array([1])), p.log_prob(jnp.array([0]))
        return jnp.stack([term[0] for term in terms])

    assert np.all(np.isfinite(jax.jit(scalars)(logits)))
    gradients = jax.jit(jax.jacobian(scalars))(logits)[:, 0]
    assert np.all(np.isfinite(gradients))
    np.testing.assert_array_equal(gradients[:, ~mask[0]], 0)


def test_a_mask_that_allows_nothing_gives_nothing_to_go_on_with():
    mask = jnp.array([[False, False, True, False, True], [False, False, True, True, True]])
    np.testing.assert_array_equal(allows_an_action(mask), [True, True])
    np.testing.assert_array_equal(allows_an_action(mask, (2, 3)), [False, False])
    mask = mask.at[1, 0].set(True)
    np.testing.assert_array_equal(allows_an_action(mask, (2, 3)), [False, True])
    logits = mask_logits(jnp.zeros((2, 5)), mask, (2, 3))
    assert np.isnan(logits[0]).all() and np.isfinite(logits[1]).all()


def test_a_single_allowed_action_is_certain():
    p = Categorical(mask_logits(jnp.zeros((1, 3)), jnp.array([[False, True, False]])))
    assert p.log_prob(jnp.array([1]))[0] == p.entropy()[0] == 0
    assert np.all(draws(p) == 1)


def test_categorical_gradient_is_one_hot_minus_probabilities():
    p, _ = pairs()["categorical"]
    x = jnp.array([2, 4])
    gradient = jax.grad(lambda logits: jnp.sum(Categorical(logits).log_prob(x)))(p.logits)
    np.testing.assert_allclose(
        gradient, np.eye(5)[np.asarray(x)] - jax.nn.softmax(p.logits), atol=1e-6
    )


def test_a_column_of_actions_is_refused():
    with pytest.raises(AssertionError):
        Categorical(jnp.zeros((4, 3))).log_prob(jnp.zeros((4, 1), jnp.int32))
    with pytest.raises(AssertionError):
        Normal(jnp.zeros((4, 1)), jnp.zeros(1)).log_prob(jnp.zeros((4, 4)))


def test_multicategorical_is_a_product():
    logits = jnp.array([0.1, 0.9, -1.0, 2.0, 0.0])
    p, x = MultiCategorical(logits, (2, 3)), jnp.array([1, 0])
    left, right = Categorical(logits[:2]), Categorical(logits[2:])
    np.testing.assert_allclose(p.log_prob(x), left.log_prob(x[0]) + right.log_prob(x[1]), rtol=1e-6)
    np.testing.assert_allclose(p.entropy(), left.entropy() + right.entropy(), rtol=1e-6)
    np.testing.assert_array_equal(p.mode(), [1, 1])


def test_normal_by_hand():
    p = Normal(jnp.array([1.0, 2.0]), jnp.log(jnp.array([1.0, 2.0])))
    one_deviation_out = jnp.array([2.0, 0.0])
    np.testing.assert_allclose(
        p.log_prob(one_deviation_out), -1 - np.log(2) - np.log(2 * np.pi), rtol=1e-6
    )
    np.testing.assert_allclose(p.entropy(), np.log(2) + 1 + np.log(2 * np.pi), rtol=1e-6)
    standard = Normal(jnp.zeros(2), jnp.zeros(2))
    np.testing.assert_allclose(
        p.kl(standard), 0.5 * (1 + 1 - 1) + 0.5 * (4 + 4 - 1) - np.log(2), rtol=1e-6
    )


def test_normal_density_integrates_to_one():
    x = jnp.linspace(-12, 14, 4001)[:, None]
    p = Normal(jnp.full_like(x, 1.0), jnp.array([0.4]))
    np.testing.assert_allclose(np.trapezoid(np.exp(p.log_prob(x)), x[:, 0]), 1, rtol=1e-4)


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, -1.0), (0.7, 0.0), (-1.5, 0.5)])
def test_tanh_density_integrates_to_one_over_actions(mean, log_std):
    # On a grid of actions a, not of u: it is the density of a = tanh u that log_prob claims to be.
    action = np.tanh(np.linspace(-8, 8, 40_001))
    u = jnp.asarray(np.arctanh(action)[:, None], jnp.float32)
    density = np.exp(TanhNormal(jnp.full_like(u, mean), jnp.array([log_std])).log_prob(u))
    np.testing.assert_allclose(np.trapezoid(density, action), 1, rtol=2e-3)


def tanh_entropy_by_quadrature(p):
    """H(tanh u) = H(u) + E log(1 − tanh² u), the mean over float64 Gauss–Hermite nodes."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    u = np.asarray(p.mean)[..., None] + np.exp(np.asarray(p.log_std))[:, None] * nodes
    log_derivative = -2 * np.log(np.cosh(u)) @ (weights / weights.sum())
    return np.asarray(p.base.entropy()) + log_derivative.sum(-1)


def test_tanh_entropy_is_unbiased_and_asks_for_a_key():
    p, _ = pairs()["tanh"]
    estimates = jax.vmap(p.entropy)(jax.random.split(jax.random.key(5), DRAWS))
    assert_is_mean(tanh_entropy_by_quadrature(p), estimates)
    with pytest.raises(ValueError, match="key"):
        p.entropy()


def test_tanh_is_stable_far_out():
    u = jnp.array([[-20.0], [0.0], [20.0]])

    def log_prob(u, mean, log_std):
        return jnp.sum(TanhNormal(mean, log_std).log_prob(u))

    p = TanhNormal(jnp.zeros((3, 1)), jnp.zeros(1))
    # log N(u) − log(1 − tanh² u), and 1 − tanh² 20 = 4 e^{−40} to seventeen digits.
    tail = -200 - 0.5 * np.log(2 * np.pi) - (np.log(4) - 40)
    np.testing.assert_allclose(p.log_prob(u), [tail, -0.5 * np.log(2 * np.pi), tail], rtol=1e-6)
    gradients = jax.grad(log_prob, argnums=(0, 1, 2))(u, p.mean, p.log_std)
    # d/du = −u + 2 tanh u, d/dmean = u, d/dlog_std = Σ (u² − 1).
    np.testing.assert_allclose(gradients[0], [[18.0], [0.0], [-18.0]], atol=1e-5)
    np.testing.assert_allclose(gradients[1], u, atol=1e-5)
    np.testing.assert_allclose(gradients[2], [2 * 399 - 1], rtol=1e-6)
    np.testing.assert_allclose(p.squash(u), np.tanh(u))


def test_tanh_matches_float64_where_the_naive_form_still_works():
    u = np.linspace(-5, 5, 101)
    naive = -0.5 * u**2 - 0.5 * np.log(2 * np.pi) - np.log(1 - np.tanh(u) ** 2)
    p = TanhNormal(jnp.zeros((101, 1)), jnp.zeros(1))
    np.testing.assert_allclose(
        p.log_prob(jnp.asarray(u[:, None], jnp.float32)), naive, rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("family", [Normal, TanhNormal])
def test_gradients_flow_through_continuous_draws(family):
    key = jax.random.key(6)
    mean_gradient = jax.grad(lambda mean: jnp.sum(family(mean, jnp.zeros(2)).sample(key)))(
        jnp.zeros(2)
    )
    np.testing.assert_allclose(mean_gradient, [1, 1])
