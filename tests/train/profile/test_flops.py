"""Counted operations against numbers worked out by hand."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.ppo import PPOConfig, ppo
from jaxrl.envs.suites.probe import ObservationAction
from jaxrl.nn.actor_critic import NetworkConfig
from jaxrl.train.profile.flops import NOTHING, Work, count


def zeros(*shape, dtype=jnp.float32):
    return jnp.zeros(shape, dtype)


def work(function, *arguments):
    """What is counted, but the sizes of results."""
    return count(jax.make_jaxpr(function)(*arguments))._replace(weighted=0.0)


def products(function, *arguments):
    return sum(work(function, *arguments).products.values())


@pytest.mark.parametrize(
    ("function", "arguments", "expected"),
    [
        (jnp.matmul, (zeros(3, 4), zeros(4, 5)), 2 * 3 * 4 * 5),
        (jnp.matmul, (zeros(7, 3, 4), zeros(7, 4, 5)), 7 * 120),
        (jnp.dot, (zeros(6), zeros(6)), 2 * 6),
        (jax.vmap(jnp.matmul, (0, None)), (zeros(7, 3, 4), zeros(4, 5)), 7 * 120),
        (
            lambda a, b: jnp.einsum("ijk,ljk->il", a, b),
            (zeros(2, 3, 4), zeros(5, 3, 4)),
            2 * 2 * 5 * 12,
        ),
    ],
    ids=["matrices", "batch", "vectors", "vmap", "two axes"],
)
def test_a_product_takes_two_operations_a_term(function, arguments, expected):
    assert work(function, *arguments) == Work({"float32": expected}, 0, 0)


def test_the_size_of_results_is_a_mean_over_operations():
    def function(a, b):
        def body(carry, _):
            return carry + jnp.sum(a.T @ a), None  # [4, 4] of 30 rows: 960 operations

        return jax.lax.scan(body, jnp.sum(a @ b), length=3)  # [30, 5]: 1200 operations

    found = count(jax.make_jaxpr(function)(zeros(30, 4), zeros(4, 5)))
    expected = (1200 * 30 * 5 * 4 + 3 * 960 * 4 * 4 * 4) / (1200 + 3 * 960)
    assert found.product_bytes == pytest.approx(expected)
    assert NOTHING.product_bytes == 0.0


@pytest.mark.parametrize(("padding", "outputs"), [("VALID", 8 * 8), ("SAME", 10 * 10)])
def test_a_convolution_takes_two_operations_an_entry_of_the_kernel(padding, outputs):
    def convolve(image, kernel):
        return jax.lax.conv_general_dilated(
            image, kernel, (1, 1), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    assert products(convolve, zeros(2, 10, 10, 4), zeros(3, 3, 4, 16)) == 2 * (2 * outputs * 16) * (
        3 * 3 * 4
    )


def test_products_are_kept_apart_by_the_type_they_run_in():
    narrow, wide = zeros(4, 4, dtype=jnp.bfloat16), zeros(4, 4)

    def all_three(narrow, wide):
        mixed = jax.lax.dot(narrow, wide, preferred_element_type=jnp.float32)
        return narrow @ narrow, wide @ wide, mixed

    assert work(all_three, narrow, wide).products == {"bfloat16": 128, "float32": 256}


def test_products_of_whole_numbers_are_none():
    assert work(jnp.matmul, zeros(3, 4, dtype=jnp.int32), zeros(4, 5, dtype=jnp.int32)) == NOTHING


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda x: jnp.tanh(x) + 1.0, 2 * 12),
        (jnp.sum, 12),
        (lambda x: jnp.max(x, 0), 12),
        (lambda x: jax.lax.cumsum(x, 0), 12),
        (lambda x: -x[:2], 8),
        (lambda x: jnp.zeros(100).at[jnp.array([0, 1, 2, 3])].add(x[0]), 4),
        (lambda x: x.T.reshape(2, 6)[::-1].astype(jnp.bfloat16), 0),
        (lambda x: jnp.where(x > 0.0, x, 0.0), 0),
        (lambda x: jnp.sort(x, 0), 0),
        (lambda x: x.astype(jnp.int32) * 3 + 1, 0),
        (lambda x: jnp.argmax(x, 0), 0),
    ],
    ids=[
        "arithmetic",
        "sum",
        "max",
        "running sum",
        "slice",
        "scatter",
        "moves",
        "where",
        "sort",
        "integers",
        "argmax",
    ],
)
def test_other_arithmetic_takes_one_an_element(function, expected):
    assert work(function, zeros(3, 4)) == Work({}, expected, 0)


def test_a_scan_takes_its_length_times_its_body():
    def inner(carry, _):
        return carry @ carry, None

    def outer(carry, x):
        return jax.lax.scan(inner, carry, length=3)[0] + x, None

    found = work(lambda carry, xs: jax.lax.scan(outer, carry, xs)[0], zeros(4, 4), zeros(7))
    assert found == Work({"float32": 7 * 3 * 128}, 7 * 16, 0)


def test_a_loop_of_known_length_is_a_scan_and_one_of_unknown_length_counts_once():
    def loop(x, length):
        return jax.lax.fori_loop(0, length, lambda _, x: x @ x, x)

    assert work(lambda x: loop(x, 5), zeros(4, 4)) == Work({"float32": 5 * 128}, 0, 0)
    assert work(loop, zeros(4, 4), 5) == Work({"float32": 128}, 0, 1)
    # Inside a loop of known length it is still one place in the program.
    repeated = work(
        lambda x, n: jax.lax.fori_loop(0, 6, lambda _, x: loop(x, n), x), zeros(4, 4), 5
    )
    assert repeated == Work({"float32": 6 * 128}, 0, 1)


def test_a_conditional_takes_its_dearest_branch():
    def either(flag, x):
        return jax.lax.cond(flag, lambda x: x @ x, lambda x: x + 1.0, x)

    assert work(either, True, zeros(4, 4)) == Work({"float32": 128}, 0, 0)


def test_what_wraps_a_program_adds_nothing():
    @jax.jit
    def jitted(x):
        return jax.checkpoint(jax.nn.relu)(x @ x)  # relu has a derivative of its own

    assert products(jitted, zeros(4, 4)) == 128
    assert products(jax.nn.relu, zeros(4, 4)) == 0


def test_a_gradient_takes_twice_the_forward_pass_but_for_the_input():
    def loss(weights, x):
        return jnp.sum(jnp.tanh(jnp.tanh(x @ weights[0]) @ weights[1]))

    weights, x = (zeros(3, 5), zeros(5, 2)), zeros(11, 3)
    forward = 2 * 11 * (3 * 5 + 5 * 2)
    assert products(loss, weights, x) == forward
    assert products(jax.grad(loss), weights, x) == 3 * forward - 2 * 11 * 3 * 5


def test_an_iteration_of_ppo_is_that_of_the_formula():
    """A rollout, and four passes of three products a layer (two for the first,
    whose input takes no gradient)."""
    envs, steps, epochs, units = 4, 8, 4, 16
    observation, actions = 1, 2
    network = NetworkConfig(hidden_sizes=(units, units))
    sizes = {"total_steps": 32, "num_envs": envs, "num_steps": steps, "minibatch_size": 16}
    algorithm = ppo(ObservationAction(), PPOConfig(**sizes, num_epochs=epochs, network=network))
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    first, torso = observation * units, observation * units + units * units
    forward, batch = 2 * (2 * torso + units * actions + units), envs * steps
    expected = batch * forward + epochs * batch * (3 * forward - 2 * 2 * first)
    # Beside these: values of final observations, and diagnostics over the batch.
    assert 0 <= products(algorithm.step, state) - expected < 2 * batch * forward < 0.2 * expected


def test_work_of_members_adds_up():
    def member(x):
        return jnp.tanh(x @ x)

    alone, many = work(member, zeros(4, 4)), work(jax.vmap(member), zeros(6, 4, 4))
    assert many == alone.times(6) == functools.reduce(Work.__add__, [alone] * 6)
    assert many.total == 6 * (128 + 16)


def test_without_loops_products_are_those_that_xla_counts():
    def run(x, y):
        return (x @ y).T @ x

    arguments = zeros(24, 16), zeros(16, 8)
    compiled = jax.jit(run).lower(*arguments).compile()
    np.testing.assert_allclose(
        products(run, *arguments), compiled.cost_analysis()["flops"], rtol=0.01
    )
