"""Mamba layers against a float64 loop; one token at a time, and packed sequences."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.errors import JaxrlError
from jaxrl.nn.mamba import (
    FIRST_STEPS,
    MambaBlock,
    MambaConfig,
    Memory,
    Mixer,
    causal_convolution,
    check_mamba,
    first_memory,
    first_steps,
)

CHEAP = {"xla_backend_optimization_level": 0}
LENGTH, WIDTH = 7, 4
SIZES = {"state_size": 3, "conv_width": 3}
CONFIGS = {
    "s6": MambaConfig(**SIZES),
    "ssd": MambaConfig(mixer="ssd", head_size=4, **SIZES),
}
each_mixer = pytest.mark.parametrize("mixer", CONFIGS)


@functools.cache
def made(mixer):
    """(the layer, its parameters, an input, a memory that is not the first, resets)."""
    layer = MambaBlock(CONFIGS[mixer])
    rng = np.random.default_rng(3)

    def drawn(leaf):
        # Weights that begin alike would hide which of them is read.
        return jnp.asarray(0.5 * rng.normal(size=leaf.shape), jnp.float32)

    memory = jax.tree.map(drawn, first_memory(CONFIGS[mixer], WIDTH))
    tokens, reset = drawn(jnp.zeros((LENGTH, WIDTH))), jnp.arange(LENGTH) == 4
    shapes = jax.eval_shape(layer.init, jax.random.key(1), tokens, memory, reset)
    params = jax.tree.map(drawn, shapes)
    return layer, params, tokens, memory, reset


@functools.cache
def compiled(mixer):
    layer = made(mixer)[0]
    return jax.jit(layer.apply, compiler_options=CHEAP)


def convolution_loop(x, kernel, bias, before, reset):
    width, inputs = len(kernel), np.concatenate([before, x])
    segment = np.concatenate([np.zeros(width - 1), np.cumsum(reset)])
    y = np.zeros_like(x)
    for t in range(len(x)):
        here = t + width - 1
        taps = [
            kernel[width - 1 - k] * inputs[here - k]
            for k in range(width)
            if segment[here - k] == segment[here]
        ]
        y[t] = bias + sum(taps)
    left = (segment == segment[-1])[:, None]
    return y, np.where(left, inputs, 0.0)[len(x) :]


@pytest.mark.parametrize("resets", [(), (0,), (3, 6)])
@pytest.mark.parametrize("width", [1, 4])
def test_the_convolution_reads_the_tokens_of_its_own_sequence_up_to_now(resets, width):
    rng = np.random.default_rng(width)
    reset = np.isin(np.arange(LENGTH), resets)
    x, kernel = rng.normal(size=(LENGTH, 2)), rng.normal(size=(width, 2))
    before, bias = rng.normal(size=(width - 1, 2)), rng.normal(size=2)
    arguments = [jnp.asarray(each, jnp.float32) for each in (x, kernel, bias, before)]
    y, left = causal_convolution(*arguments, jnp.asarray(reset))
    expected_y, expected_left = convolution_loop(x, kernel, bias, before, reset)
    np.testing.assert_allclose(y, expected_y, atol=1e-6)
    np.testing.assert_allclose(left, expected_left, atol=1e-6)


def test_a_layer_of_s6_is_what_it_says():
    """Norm, projections, convolution, scan, gate and residual, in float64 NumPy."""
    layer, params, tokens, memory, reset = made("s6")
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])
    mixer = weights["Mixer_0"]
    branch = mixer["Branch_0"]
    convolution, scan = branch["ShortConvolution_0"], branch["SelectiveScan_0"]

    def silu(x):
        return x / (1.0 + np.exp(-x))

    x = np.asarray(tokens, np.float64)
    scale = weights["RMSNorm_0"]["scale"]
    normed = scale * x / np.sqrt(np.mean(np.square(x), axis=1, keepdims=True) + 1e-5)
    entering, gate = np.split(normed @ mixer["into"]["kernel"], 2, axis=1)
    before = np.asarray(memory.inputs, np.float64)
    u, _ = convolution_loop(entering, convolution["taps"], convolution["bias"], before, reset)
    u = silu(u)
    step, B, C = np.split(u @ scan["select"]["kernel"], [1, 4], axis=1)
    delta = np.log1p(np.exp(step @ scan["step"]["kernel"] + scan["step"]["bias"]))
    A, state = -np.exp(scan["A_log"]), np.asarray(memory.state, np.float64)
    y = np.zeros_like(u)
    for t in range(LENGTH):
        state = np.where(reset[t], 0.0, np.exp(delta[t] * A)) * state
        state = state + np.outer(B[t], delta[t] * u[t])
        y[t] = C[t] @ state + scan["D"] * u[t]
    expected = x + (y * silu(gate)) @ mixer["out"]["kernel"]
    found, after = compiled("s6")(params, tokens, memory, reset)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(after.state, state, atol=1e-5)


@each_mixer
def test_one_token_at_a_time_is_the_sequence(mixer):
    layer, params, tokens, memory, reset = made(mixer)
    expected, expected_after = compiled(mixer)(params, tokens, memory, reset)

    def step(memory, token):
        y, memory = layer.apply(params, token[0][None], memory, token[1][None])
        return memory, y[0]

    run = jax.jit(
        lambda memory: jax.lax.scan(step, memory, (tokens, reset)), compiler_options=CHEAP
    )
    after, found = run(memory)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    jax.tree.map(functools.partial(np.testing.assert_allclose, atol=1e-5), after, expected_after)
    # What is kept does not grow.
    assert jax.tree.map(jnp.shape, after) == jax.tree.map(jnp.shape, memory)


@each_mixer
def test_what_a_reset_begins_is_as_if_it_were_alone(mixer):
    _, params, tokens, memory, reset = made(mixer)
    found, after = compiled(mixer)(params, tokens, memory, reset)
    garbage = jax.tree.map(lambda leaf: leaf + 5.0, memory)
    changed = tokens.at[:4].add(1.0)
    same, after_same = compiled(mixer)(params, changed, garbage, reset)
    np.testing.assert_array_equal(found[4:], same[4:])
    jax.tree.map(np.testing.assert_array_equal, after, after_same)
    assert not np.array_equal(found[:4], same[:4])


def test_steps_begin_log_uniform():
    step = np.asarray(jax.nn.softplus(first_steps(jax.random.key(0), (4000,))))
    low, high = FIRST_STEPS
    assert low * 0.99 <= step.min() < 1.1 * low and 0.9 * high < step.max() <= high * 1.01
    assert np.median(np.log(step)) == pytest.approx(0.5 * np.log(low * high), abs=0.15)


def test_first_memories_are_zeros_of_the_sizes_that_are_kept():
    assert jax.tree.map(jnp.shape, first_memory(CONFIGS["s6"], 4)) == Memory((2, 8), (3, 8))
    assert jax.tree.map(jnp.shape, first_memory(CONFIGS["ssd"], 4)) == Memory((2, 8), (3, 2, 4))
    assert not any(leaf.any() for leaf in first_memory(CONFIGS["ssd"], 4))


def test_a_mixer_adds_nothing_of_its_input():
    """The residual is the block's: without it, gates of zeros give zeros."""
    params = {"params": made("s6")[1]["params"]["Mixer_0"]}
    tokens, memory = jnp.zeros((2, WIDTH)), first_memory(CONFIGS["s6"], WIDTH)
    apply = jax.jit(Mixer(CONFIGS["s6"]).apply, compiler_options=CHEAP)
    found, _ = apply(params, tokens, memory, jnp.zeros(2, bool))
    np.testing.assert_array_equal(found, 0.0)


def test_heads_that_do_not_divide_the_channels_are_refused():
    with pytest.raises(JaxrlError, match="head_size is 5, but must divide the 8 channels"):
        check_mamba(MambaConfig(mixer="ssd", head_size=5), 4)
    check_mamba(MambaConfig(mixer="s6"), 3)
