"""Torsos: what goes in, what comes out, and how it is initialised."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.nn import torsos


def features_of(torso, observation):
    """Shape and type of the features, without computing them."""
    return jax.eval_shape(lambda x: torso.init_with_output(jax.random.key(0), x)[0], observation)


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)], ids=str)
@pytest.mark.parametrize("event", [(), (4,), (2, 3), (2, 2, 2)], ids=str)
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.int32, bool])
def test_an_mlp_takes_any_observation_under_any_batch(batch, event, dtype):
    torso = torsos.MLP((8, 5), "tanh", len(event))
    features = features_of(torso, jnp.zeros((*batch, *event), dtype))
    assert features.shape == (*batch, 5) and features.dtype == jnp.float32


@pytest.mark.parametrize("batch", [(), (1,), (2, 3)], ids=str)
@pytest.mark.parametrize("dtype", [jnp.float32, bool])
def test_a_grid_cnn_takes_any_grid_under_any_batch(batch, dtype):
    features = features_of(torsos.GridCNN((8,), "relu"), jnp.zeros((*batch, 5, 4, 3), dtype))
    assert features.shape == (*batch, 8) and features.dtype == jnp.float32


def test_the_grid_network_is_that_of_minatar():
    torso = torsos.GridCNN((128,), "relu")
    params = jax.eval_shape(lambda: torso.init(jax.random.key(0), jnp.zeros((1, 10, 10, 4))))[
        "params"
    ]
    assert params["Conv_0"]["kernel"].shape == (3, 3, 4, 16)
    assert params["MLP_0"]["Dense_0"]["kernel"].shape == (8 * 8 * 16, 128)


def test_make_torso_builds_what_it_is_asked_for():
    assert torsos.make_torso("mlp", (3,), "relu", 2) == torsos.MLP((3,), "relu", 2)
    assert torsos.make_torso("cnn", (3,), "relu", 3) == torsos.GridCNN((3,), "relu")


@pytest.mark.parametrize("activation", torsos.ACTIVATIONS)
def test_each_activation_follows_every_hidden_layer(activation):
    torso = torsos.MLP((2, 2), activation)
    layer = {"kernel": 2.0 * jnp.eye(2), "bias": jnp.full(2, -0.5)}
    observation = jnp.array([0.7, -0.3])
    function, expected = torsos.ACTIVATIONS[activation], observation
    for _ in range(2):
        expected = function(2.0 * expected - 0.5)
    features = torso.apply({"params": {"Dense_0": layer, "Dense_1": layer}}, observation)
    np.testing.assert_allclose(features, expected, rtol=1e-6)


def test_observations_are_flattened_in_order():
    kernel = jnp.arange(12.0).reshape(6, 2)
    observation = jnp.arange(6.0).reshape(2, 3)
    params = {"params": {"Dense_0": {"kernel": kernel, "bias": jnp.zeros(2)}}}
    features = torsos.MLP((2,), "relu", 2).apply(params, observation)
    np.testing.assert_allclose(features, np.arange(6.0) @ np.asarray(kernel))


@pytest.mark.parametrize(("gain", "shape"), [(1.0, (6, 3)), (0.01, (3, 6)), (np.sqrt(2), (4, 4))])
def test_dense_starts_orthogonal_with_its_gain_and_no_bias(gain, shape):
    init = jax.jit(torsos.dense(shape[1], gain).init)
    params = init(jax.random.key(0), jnp.zeros((1, shape[0])))["params"]
    singular = np.linalg.svd(np.asarray(params["kernel"]), compute_uv=False)
    np.testing.assert_allclose(singular, gain, rtol=1e-4)
    assert not params["bias"].any()


def test_mish_is_exact_where_exponentials_are_tiny_or_huge():
    x = np.linspace(-60.0, 60.0, 4001)
    expected = x * np.tanh(np.logaddexp(0.0, x))
    slope = np.tanh(np.logaddexp(0.0, x)) + x / np.cosh(np.logaddexp(0.0, x)) ** 2 / (
        1 + np.exp(-x)
    )
    rows = jnp.asarray(x, jnp.float32)
    np.testing.assert_allclose(torsos.mish(rows), expected, rtol=1e-5, atol=1e-25)
    np.testing.assert_allclose(jax.vmap(jax.grad(torsos.mish))(rows), slope, rtol=2e-5, atol=1e-6)
