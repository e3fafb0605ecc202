"""Memories: against a loop, in pieces, across episodes, and read by environments in a batch."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.nn.actor_critic import NetworkConfig
from jaxrl.nn.mamba import MambaConfig
from jaxrl.nn.memory import GRU, GRUConfig, MambaMemoryConfig
from jaxrl.nn.policy import Policy
from jaxrl.nn.readers import reader_of
from jaxrl.types import Box, Discrete, View

LENGTH, WIDTH, SIZE = 11, 3, 5
MEMORIES = {
    "gru": GRUConfig(SIZE),
    "mamba": MambaMemoryConfig(SIZE, MambaConfig(state_size=4, conv_width=3)),
    "mamba of heads": MambaMemoryConfig(4, MambaConfig(mixer="ssd", state_size=3, head_size=4)),
}
each_memory = pytest.mark.parametrize("kind", MEMORIES)
# Where episodes begin in the sequences below.
RESETS = np.isin(np.arange(LENGTH), (4, 5, 9))


@functools.cache
def made(kind):
    """(jitted apply, params, tokens, a memory that has read something) of a layer."""
    config = MEMORIES[kind]
    layer = config.make()
    tokens = jax.random.normal(jax.random.key(0), (LENGTH, WIDTH))
    no_reset = jnp.zeros(LENGTH, bool)
    params = layer.init(jax.random.key(1), tokens, config.initial(), no_reset)
    apply = jax.jit(layer.apply)
    _, memory = apply(params, tokens[::-1], config.initial(), no_reset)
    return apply, params, tokens, memory


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def test_a_gru_is_its_equations_in_float64():
    apply, params, tokens, memory = made("gru")
    weights = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params["params"])
    h, expected = np.asarray(memory, np.float64), []
    for token, reset in zip(np.asarray(tokens, np.float64), RESETS, strict=True):
        h = np.zeros(SIZE) if reset else h
        xr, xz, xn = np.split(token @ weights["inputs"]["kernel"] + weights["inputs"]["bias"], 3)
        hr, hz, hn = np.split(h @ weights["recurrent"], 3)
        n = np.tanh(xn + sigmoid(xr + hr) * (hn + weights["candidate_bias"]))
        z = sigmoid(xz + hz)
        h = (1.0 - z) * n + z * h
        expected.append(h)
    features, last = apply(params, tokens, memory, jnp.asarray(RESETS))
    np.testing.assert_allclose(features, expected, atol=1e-6)
    np.testing.assert_allclose(last, expected[-1], atol=1e-6)


def test_a_gru_is_the_one_that_flax_has():
    own = GRU(SIZE)
    theirs = nn.GRUCell(SIZE)
    token, h = jnp.arange(WIDTH, dtype=jnp.float32)[None], jnp.linspace(-1.0, 1.0, SIZE)
    params = theirs.init(jax.random.key(2), h, token[0])["params"]
    ours = {
        "inputs": {
            "kernel": jnp.concatenate([params[f"i{gate}"]["kernel"] for gate in "rzn"], 1),
            "bias": jnp.concatenate([params[f"i{gate}"]["bias"] for gate in "rzn"]),
        },
        "recurrent": jnp.concatenate([params[f"h{gate}"]["kernel"] for gate in "rzn"], 1),
        "candidate_bias": params["hn"]["bias"],
    }
    expected, _ = theirs.apply({"params": params}, h, token[0])
    found, _ = own.apply({"params": ours}, token, h, jnp.zeros(1, bool))
    np.testing.assert_allclose(found[0], expected, atol=1e-6)


def test_the_products_with_a_grus_memory_begin_orthogonal():
    _, params, _, _ = made("gru")
    for matrix in np.split(np.asarray(params["params"]["recurrent"]), 3, axis=1):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(SIZE), atol=1e-5)


@each_memory
def test_steps_one_by_one_are_the_sequence(kind):
    apply, params, tokens, memory = made(kind)
    whole, last = apply(params, tokens, memory, jnp.asarray(RESETS))
    one_by_one = []
    for token, reset in zip(tokens, RESETS, strict=True):
        feature, memory = apply(params, token[None], memory, jnp.asarray([reset]))
        one_by_one.append(feature[0])
    np.testing.assert_allclose(np.stack(one_by_one), whole, atol=2e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), memory, last)


@each_memory
def test_an_episode_reads_nothing_of_the_one_before(kind):
    apply, params, tokens, memory = made(kind)
    whole, last = apply(params, tokens, memory, jnp.asarray(RESETS))
    alone, last_alone = apply(params, tokens[4:], memory, jnp.asarray(RESETS[4:]))
    np.testing.assert_allclose(whole[4:], alone, atol=2e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), last, last_alone)
    fresh, _ = apply(params, tokens[5:], MEMORIES[kind].initial(), jnp.asarray(RESETS[5:]))
    np.testing.assert_allclose(whole[5:], fresh, atol=2e-6)
    remembered, _ = apply(params, tokens[5:], memory, jnp.zeros(LENGTH - 5, bool))
    assert np.abs(remembered[0] - fresh[0]).max() > 1e-3  # or resets would have nothing to do


STEPS, NUM_ENVS = 6, 4


@functools.cache
def read(kind):
    """A network with a memory in `NUM_ENVS` environments: (reader, policy, memories, views)."""
    config = NetworkConfig(hidden_sizes=(4,), memory=MEMORIES[kind])
    space, actions = Box(-1.0, 1.0, (WIDTH,)), Discrete(3)
    reader = reader_of(config.make(space, actions))
    policy = Policy(reader.init(jax.random.key(0), space, actions), None)
    keys = jax.random.split(jax.random.key(1), 4)
    views = View(
        observation=jax.random.normal(keys[0], (STEPS, NUM_ENVS, WIDTH)),
        reward=jax.random.normal(keys[1], (STEPS, NUM_ENVS)),
        action=jax.random.randint(keys[2], (STEPS, NUM_ENVS), 0, 3),
        first=jax.random.bernoulli(keys[3], 0.2, (STEPS, NUM_ENVS)),
    )
    memory = jax.tree.map(
        lambda leaf: jax.random.normal(jax.random.key(2), (NUM_ENVS, *leaf.shape)),
        reader.initial_memory,
    )
    return reader, policy, memory, views


def rows_of(kind, views, memory):
    reader, policy, _, _ = read(kind)
    rows = reader.rows(reader.inputs(memory, views))
    return jax.jit(reader.read)(policy, rows)


@each_memory
def test_rows_say_what_the_steps_said(kind):
    reader, policy, memory, views = read(kind)
    step = jax.jit(reader.step)
    logits, values, before = [], [], memory
    for time in range(STEPS):
        view = jax.tree.map(lambda leaf, time=time: leaf[time], views)
        distribution, value, memory = step(policy, memory, view)
        logits.append(distribution.logits)
        values.append(value)
    distribution, value = rows_of(kind, views, before)
    np.testing.assert_allclose(distribution.logits, np.stack(logits, 1), atol=2e-6)
    np.testing.assert_allclose(value, np.stack(values, 1), atol=2e-6)


def test_what_vmap_maps_over_is_written_down_once():
    """The products that write their inputs down transposed are those of batches alone."""
    reader, policy, memory, views = read("gru")
    rows = reader.rows(reader.inputs(memory, views))
    slopes = jax.grad(lambda policy: jnp.sum(reader.read(policy, rows)[1]), allow_int=True)
    assert "optimization_barrier" not in str(jax.make_jaxpr(slopes)(policy))


def test_environments_in_another_order_give_results_in_that_order():
    _, _, memory, views = read("gru")
    order = np.array([2, 0, 3, 1])
    _, value = rows_of("gru", views, memory)
    turned = jax.tree.map(lambda leaf: leaf[:, order], views)
    _, again = rows_of("gru", turned, jax.tree.map(lambda leaf: leaf[order], memory))
    np.testing.assert_array_equal(again, value[order])


@pytest.mark.parametrize("what", ["observation", "reward", "action"])
def test_a_memory_reads_observations_rewards_and_actions(what):
    _, _, memory, views = read("gru")
    changed = getattr(views, what).at[0].set(getattr(views, what)[0] * -1 + 1)
    kept = jnp.zeros_like(views.first)
    views = View(views.observation, views.reward, views.action, kept)
    other = View(**{name: getattr(views, name) for name in vars(views)} | {what: changed})
    _, value = rows_of("gru", views, memory)
    _, otherwise = rows_of("gru", other, memory)
    assert np.abs(value - otherwise)[:, -1].min() > 1e-6


def test_an_episode_begins_without_a_last_action():
    _, _, memory, views = read("gru")
    begun = jnp.ones_like(views.first)
    views = View(views.observation, views.reward, views.action, begun)
    other = View(views.observation, views.reward, (views.action + 1) % 3, begun)
    _, value = rows_of("gru", views, memory)
    _, otherwise = rows_of("gru", other, memory)
    np.testing.assert_array_equal(value, otherwise)


def test_values_of_steps_are_those_of_what_the_critic_keeps():
    reader, policy, memory, views = read("gru")
    view = jax.tree.map(lambda leaf: leaf[0], views)
    _, expected, _ = reader.step(policy, memory, view)
    kept = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), reader.critic_reads(memory, view))
    np.testing.assert_allclose(reader.value(policy, kept), [expected, expected], atol=1e-6)
