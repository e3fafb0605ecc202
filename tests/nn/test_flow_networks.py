"""Networks of flows against NumPy in float64, and what a time is to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.config import check
from jaxrl.errors import JaxrlError
from jaxrl.nn.flow_networks import FlowLayersConfig, FlowNetwork, check_time_width, sinusoid
from jaxrl.nn.q_networks import QNetworkConfig

CONFIG = QNetworkConfig(hidden_sizes=(12, 9), activation="mish", layer_norm=True)


def made(times, **fields):
    """(network, parameters, observations, points, times) of 5 rows."""
    network = FlowNetwork(CONFIG, 2, **fields)
    keys = jax.random.split(jax.random.key(0), 4)
    observation, point = jax.random.normal(keys[0], (5, 3)), jax.random.normal(keys[1], (5, 2))
    drawn = tuple(jax.random.uniform(keys[2], (times, 5)))
    return network, network.init(keys[3], observation, point, *drawn), observation, point, drawn


def mish(x):
    return x * np.tanh(np.log1p(np.exp(x)))


def forward(stack, x):
    names = sorted(stack)
    for name in names:
        x = x @ np.asarray(stack[name]["kernel"], np.float64) + np.asarray(stack[name]["bias"])
        x = x if name == names[-1] else mish(x)
    return x


def test_a_sinusoid_by_hand():
    found = sinusoid(jnp.array([0.0, 0.5]), 6)
    angles = 0.5 * np.array([1.0, 0.01, 0.0001])
    np.testing.assert_allclose(found[0], [0, 0, 0, 1, 1, 1])
    np.testing.assert_allclose(found[1], [*np.sin(angles), *np.cos(angles)], rtol=1e-5)
    assert sinusoid(jnp.zeros(()), 6).shape == (6,)


def test_two_times_are_embedded_by_layers_of_their_own():
    network, params, observation, point, (start, time) = made(2, time_width=8)
    stacks = params["params"]
    embedded = [
        forward(stacks[f"TimeEmbedding_{index}"]["QLayers_0"], np.asarray(sinusoid(each, 8)))
        for index, each in enumerate((start, time))
    ]
    features = np.concatenate([point, observation, *embedded], axis=1)
    expected = forward(stacks["QLayers_0"], features)
    found = network.apply(params, observation, point, start, time)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # The embedding is a layer of twice its width and one of its width, without normalisation.
    shapes = jax.tree.map(jnp.shape, stacks["TimeEmbedding_0"]["QLayers_0"])
    assert shapes["Dense_0"]["kernel"] == (8, 16) and shapes["Dense_1"]["kernel"] == (16, 8)
    assert stacks["QLayers_0"]["Dense_0"]["kernel"].shape == (2 + 3 + 2 * 8, 12)


def test_a_time_s_layers_have_the_nonlinearity_where_no_others_do():
    found = {}
    for activation in ("mish", "relu"):
        config = FlowLayersConfig(hidden_sizes=(), activation=activation)
        check(config)
        network, point = FlowNetwork(config, 2, time_width=8), jnp.zeros((5, 2))
        params = network.init(jax.random.key(0), point, point, jnp.ones(5))
        found[activation] = network.apply(params, point, point, jnp.ones(5))
    assert np.abs(found["mish"] - found["relu"]).max() > 1e-3


def test_shared_layers_embed_both_times():
    network, params, observation, point, (start, _) = made(2, time_width=8, shared_time=True)
    assert sorted(params["params"]) == ["QLayers_0", "TimeEmbedding_0"]
    _, apart, *_ = made(2, time_width=8)
    assert sorted(apart["params"]) == ["QLayers_0", "TimeEmbedding_0", "TimeEmbedding_1"]
    same = network.apply(params, observation, point, start, start)
    assert same.shape == (5, 2)


@pytest.mark.parametrize("width", [0, 8])
def test_one_time_for_all_rows_is_as_good_as_a_time_for_each(width):
    network, params, observation, point, _ = made(1, time_width=width)
    each = network.apply(params, observation, point, jnp.full(5, 0.3))
    once = network.apply(params, observation, point, jnp.asarray(0.3))
    np.testing.assert_allclose(each, once, rtol=1e-6)
    other = network.apply(params, observation, point, jnp.asarray(0.8))
    assert np.abs(once - other).max() > 1e-3


def test_without_times_there_is_nothing_of_them():
    _, params, *_ = made(0)
    assert params["params"]["QLayers_0"]["Dense_0"]["kernel"].shape == (5, 12)


def test_weights_begin_within_pytorch_s_bounds():
    _, params, *_ = made(1, time_width=64)
    stack = params["params"]["TimeEmbedding_0"]["QLayers_0"]
    for name, inputs in (("Dense_0", 64), ("Dense_1", 128)):
        for leaf in stack[name].values():
            assert 0.9 / np.sqrt(inputs) < np.abs(leaf).max() <= 1.0 / np.sqrt(inputs)


@pytest.mark.parametrize(("width", "nearest"), [(2, "4"), (3, "4"), (7, "8")])
def test_widths_that_are_no_pairs_are_refused(width, nearest):
    with pytest.raises(JaxrlError, match=f"time_width is {width}.*as {nearest};"):
        check_time_width(width)


def test_other_widths_are_not():
    for width in (0, 4, 64):
        check_time_width(width)
