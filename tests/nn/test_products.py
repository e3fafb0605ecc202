"""Linear layers: the same products and derivatives as XLA's own, and gradients of weights whose
factors XLA's CPU back end takes fast."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxrl.nn import products
from jaxrl.nn.torsos import ACTIVATIONS, MLP

SIZES = (5, 7, 3, 1)


def layers(dot_general, weights, inputs):
    """A network of these products, with a nonlinearity whose derivative is not constant."""
    for kernel in weights:
        inputs = jnp.tanh(dot_general(inputs, kernel, (((inputs.ndim - 1,), (0,)), ((), ()))))
    return inputs


def squares(dot_general, weights, inputs):
    """A loss of it."""
    return jnp.sum(layers(dot_general, weights, inputs) ** 2)


def weights_and_inputs(shape, key=0):
    """Random ones, with inputs of `shape`."""
    *keys, last = jax.random.split(jax.random.key(key), len(SIZES))
    sizes = zip(keys, SIZES[:-1], SIZES[1:], strict=True)
    weights = [jax.random.normal(key, (before, after)) for key, before, after in sizes]
    return weights, jax.random.normal(last, shape)


def gradient(dot, weights, inputs):
    """Of both."""
    return jax.grad(squares, (1, 2))(dot, weights, inputs)


def directional(dot, weights, inputs):
    """Forwards, along the inputs alone, and along both."""
    alone = jax.jvp(lambda inputs: layers(dot, weights, inputs), (inputs,), (inputs + 1.0,))
    changes = (weights, inputs)
    return alone, jax.jvp(lambda *both: layers(dot, *both), changes, changes)


def gradient_of_directional(dot, weights, inputs):
    """As a mean flow's behaviour loss is differentiated."""

    def loss(weights):
        _, change = jax.jvp(lambda x: layers(dot, weights, x), (inputs,), (inputs + 1.0,))
        return jnp.sum(change**2)

    return jax.grad(loss)(weights)


def of_an_ensemble(dot, weights, inputs):
    """Several networks that read the same."""
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, 2.0 * leaf]), weights)
    return jax.vmap(jax.grad(squares, 1), in_axes=(None, 0, None))(dot, several, inputs)


def of_rows(dot, weights, inputs):
    """One network that is mapped over what it reads."""

    def loss(weights):
        return jnp.sum(jax.vmap(lambda row: squares(dot, weights, row))(inputs[None]))

    return jax.grad(loss)(weights)


def of_a_checkpoint(dot, weights, inputs):
    """With activations that are computed again."""
    again = jax.checkpoint(lambda weights: squares(dot, weights, inputs))
    return jax.grad(again)(weights)


def of_a_loop(dot, weights, inputs):
    """Weights that are read once per round."""

    def loss(weight):
        def round_(rows, _):
            return rows + layers(dot, [weight, weight.T], rows), None

        return jnp.sum(lax.scan(round_, inputs, None, 3)[0] ** 2)

    return jax.grad(loss)(weights[0])


@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 5), (0, 5)], ids=str)
@pytest.mark.parametrize(
    "derivative",
    [
        gradient,
        directional,
        gradient_of_directional,
        of_an_ensemble,
        of_rows,
        of_a_checkpoint,
        of_a_loop,
    ],
)
def test_products_and_derivatives_are_those_of_xlas_own(derivative, shape):
    given = weights_and_inputs(shape)
    ours, its = (
        jax.jit(lambda *given, dot=dot: derivative(dot, *given))(*given)
        for dot in (products.dot_general, lax.dot_general)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5), ours, its)


def summed_axes(dot):
    """The axes of both factors that are summed over in the gradient of a network's weights."""
    weights, inputs = weights_and_inputs((4, 5))
    jaxpr = jax.make_jaxpr(jax.grad(squares, 1), static_argnums=0)(dot, weights, inputs)
    return [
        (each.params["dimension_numbers"][0], each.outvars[0].aval.shape)
        for each in jaxpr.eqns
        if each.primitive is lax.dot_general_p
    ]


def test_no_gradient_of_weights_sums_both_factors_over_their_first_axis():
    """But for that of a column, which is a vector."""
    slow = [shape for axes, shape in summed_axes(products.dot_general) if axes == ((0,), (0,))]
    assert all(1 in shape for shape in slow), slow
    assert len([axes for axes, _ in summed_axes(lax.dot_general) if axes == ((0,), (0,))]) > 1


def test_elsewhere_than_on_a_cpu_the_products_are_xlas(monkeypatch):
    expected = summed_axes(lax.dot_general)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert summed_axes(products.dot_general) == expected


def test_where_vmap_maps_over_the_batch_the_products_are_xlas():
    with products.mapped():
        assert summed_axes(products.dot_general) == summed_axes(lax.dot_general)
        with products.mapped():
            pass
        assert products.is_mapped()
    assert not products.is_mapped()


def test_products_of_other_axes_are_xlas():
    inputs, kernel = jnp.arange(6.0).reshape(2, 3), jnp.arange(8.0).reshape(2, 4)
    found = products.dot_general(inputs, kernel, (((0,), (0,)), ((), ())))
    np.testing.assert_array_equal(found, inputs.T @ kernel)


@pytest.mark.parametrize("activation", ["relu", "tanh", "mish"])
def test_networks_are_made_of_these_products(activation):
    network, rows = MLP((8, 8), activation), jnp.ones((4, 3))
    params = network.init(jax.random.key(0), rows)
    jaxpr = jax.make_jaxpr(jax.grad(lambda params: jnp.sum(network.apply(params, rows))))(params)
    assert "optimization_barrier" in str(jaxpr)


def test_relu_is_the_greater_of_its_input_and_0_and_lets_nan_through():
    relu, inputs = ACTIVATIONS["relu"], jnp.array([-2.0, -0.0, 0.0, 1e-30, 3.0, jnp.inf, -jnp.inf])
    np.testing.assert_array_equal(relu(inputs), jnp.maximum(inputs, 0.0))
    slopes = jax.vmap(jax.grad(relu))(inputs)
    np.testing.assert_array_equal(slopes, [0, 0, 0, 1, 1, 1, 0])
    assert np.isnan(relu(jnp.nan)) and relu(jnp.bfloat16(-1.0)).dtype == jnp.bfloat16
