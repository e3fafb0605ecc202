"""The network in bfloat16: what is rounded, what stays float32,
and that nothing changes in float32."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import ClosedJaxpr, Jaxpr

from jaxrl.algos.ppo import PPOConfig, ppo
from jaxrl.envs.suites.probe import ObservationAction
from jaxrl.errors import JaxrlError
from jaxrl.nn import torsos
from jaxrl.nn.actor_critic import ActorCritic, NetworkConfig
from jaxrl.nn.products import Dense
from jaxrl.types import Box, Discrete

SPACES = {"mlp": (6,), "cnn": (5, 5, 2)}
CHEAP = {"xla_backend_optimization_level": 0}
each_torso = pytest.mark.parametrize("torso", SPACES)


def network_of(torso, compute_dtype="bfloat16", space=None, **settings):
    config = NetworkConfig(
        torso=torso, hidden_sizes=(32, 32), compute_dtype=compute_dtype, **settings
    )
    return ActorCritic(config, space or Discrete(4), Box(-1.0, 1.0, SPACES[torso]))


def observations(torso, count=64):
    return jax.random.normal(jax.random.key(1), (count, *SPACES[torso]))


def parameters(torso, compute_dtype="bfloat16", **settings):
    return jax.jit(network_of(torso, compute_dtype, **settings).init)(
        jax.random.key(0), observations(torso)
    )


def loss(network, params, observation):
    distribution, value = network.apply(params, observation)
    return jnp.mean(
        distribution.log_prob(jnp.zeros(len(observation), jnp.int32)) + jnp.square(value - 1.0)
    )


def equations(program):
    for equation in (program.jaxpr if isinstance(program, ClosedJaxpr) else program).eqns:
        yield equation
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: isinstance(x, Jaxpr)
        ):
            if isinstance(inner, ClosedJaxpr | Jaxpr):
                yield from equations(inner)


def types_of(program, *names):
    """(operands' types, result's type) of each equation of these names."""
    for equation in equations(program):
        if equation.primitive.name in names:
            yield (
                tuple(str(x.aval.dtype) for x in equation.invars),
                str(equation.outvars[0].aval.dtype),
            )


@each_torso
def test_parameters_and_gradients_are_the_float32_ones_in_kind(torso):
    narrow, wide = parameters(torso), parameters(torso, "float32")
    for one, other in zip(jax.tree.leaves(narrow), jax.tree.leaves(wide), strict=True):
        np.testing.assert_array_equal(one, other)
    assert jax.tree.structure(narrow) == jax.tree.structure(
        wide
    )  # a checkpoint of one is a checkpoint of the other
    gradient = jax.eval_shape(
        functools.partial(jax.grad(loss, 1), network_of(torso)), narrow, observations(torso)
    )
    assert {leaf.dtype.name for leaf in jax.tree.leaves(gradient)} == {"float32"}


@each_torso
@pytest.mark.parametrize(
    ("space", "settings"),
    [(Discrete(4), {}), (Box(-1, 1, (3,)), {"state_dependent_std": True}), (Box(-1, 1, (3,)), {})],
    ids=["discrete", "state-dependent", "one deviation"],
)
def test_what_leaves_the_network_is_float32(torso, space, settings):
    network = network_of(torso, space=space, **settings)

    def outputs(key, observation):
        (distribution, value), _ = network.init_with_output(key, observation)
        sample = distribution.sample(key)
        return distribution, value, distribution.log_prob(sample), distribution.entropy(key)

    with jax.debug_key_reuse(False):
        found = jax.eval_shape(outputs, jax.random.key(0), observations(torso))
    assert {leaf.dtype.name for leaf in jax.tree.leaves(found)} == {"float32"}


@each_torso
@pytest.mark.parametrize("compute_dtype", ["float32", "bfloat16"])
def test_features_have_the_type_asked_for(torso, compute_dtype):
    module = torsos.make_torso(torso, (8, 8), "swish", len(SPACES[torso]), compute_dtype)
    features = jax.eval_shape(
        lambda x: module.init_with_output(jax.random.key(0), x)[0], observations(torso)
    )
    assert features.dtype.name == compute_dtype


@each_torso
def test_products_are_narrow_forwards_and_backwards_and_the_heads_sum_in_float32(torso):
    network, params, observation = network_of(torso), parameters(torso), observations(torso)
    forward = list(
        types_of(
            jax.make_jaxpr(network.apply)(params, observation),
            "dot_general",
            "conv_general_dilated",
        )
    )
    narrow = ("bfloat16", "bfloat16")
    hidden = 2 * (2 if torso == "mlp" else 3)
    assert sorted(forward) == sorted([(narrow, "bfloat16")] * hidden + [(narrow, "float32")] * 2)

    backward = jax.make_jaxpr(functools.partial(jax.grad(loss, 1), network))(params, observation)
    found = list(types_of(backward, "dot_general", "conv_general_dilated"))
    # A head's gradient enters its two products in float32; they are small.
    assert sum(operands != narrow for operands, _ in found) == 4 and len(found) > 2 * hidden


@each_torso
def test_no_sum_is_taken_in_bfloat16(torso):
    backward = jax.make_jaxpr(functools.partial(jax.grad(loss, 1), network_of(torso)))
    sums = list(types_of(backward(parameters(torso), observations(torso)), "reduce_sum"))
    assert sums and all("bfloat16" not in operands for operands, _ in sums)


@pytest.mark.parametrize("activation", torsos.ACTIVATIONS)
@each_torso
def test_outputs_are_those_of_float32_to_three_digits(torso, activation):
    params, observation = parameters(torso, activation=activation), observations(torso)
    narrow, wide = (
        jax.jit(network_of(torso, compute_dtype, activation=activation).apply)(params, observation)
        for compute_dtype in ("bfloat16", "float32")
    )
    for one, other in ((narrow[1], wide[1]), (narrow[0].logits, wide[0].logits)):
        error, size = float(jnp.abs(one - other).max()), float(jnp.abs(other).max())
        assert (
            0.0 < error < 0.03 * size
        )  # bfloat16 has 8 bits: 0.4 % a rounding, three or four in a row


@each_torso
def test_gradients_are_those_of_float32_to_a_few_percent(torso):
    params, observation = parameters(torso), observations(torso, 1024)
    narrow, wide = (
        jax.jit(functools.partial(jax.grad(loss, 1), network_of(torso, compute_dtype)))(
            params, observation
        )
        for compute_dtype in ("bfloat16", "float32")
    )
    for one, other in zip(jax.tree.leaves(narrow), jax.tree.leaves(wide), strict=True):
        assert float(jnp.linalg.norm(one - other)) < 0.03 * float(jnp.linalg.norm(other))


def test_in_float32_a_layer_is_the_plain_one():
    """The compiler is given the same program, so results are the same to the last bit."""
    observation = jnp.zeros((7, 5))
    plain = Dense(3, kernel_init=torsos.orthogonal(0.5))
    params = jax.jit(plain.init)(jax.random.key(0), observation)

    def lowered(layer):
        def run(params, observation):
            return jax.value_and_grad(
                lambda params: jnp.sum(jnp.tanh(layer.apply(params, observation)))
            )(params)

        return jax.jit(run).lower(params, observation).as_text()

    assert lowered(torsos.dense(3, 0.5)) == lowered(torsos.head(3, 0.5)) == lowered(plain)


def test_other_types_are_refused():
    with pytest.raises(
        JaxrlError, match="unknown compute_dtype 'float16'. Did you mean bfloat16 or float32"
    ):
        ppo(ObservationAction(), PPOConfig(network=NetworkConfig(compute_dtype="float16")))


def test_ppo_learns_in_bfloat16_and_its_first_ratios_are_one():
    """The first ratio is exactly 1 where float32 sums come out alike in rollout and loss,
    as they do here."""
    network = NetworkConfig(hidden_sizes=(16,), compute_dtype="bfloat16")
    sizes = {"total_steps": 30 * 256, "num_envs": 16, "num_steps": 16, "minibatch_size": 64}
    config = PPOConfig(
        **sizes, learning_rate=0.01, gamma=0.9, entropy_coefficient=0.0, network=network
    )
    environment = ObservationAction()
    algorithm = ppo(environment, config)

    @functools.partial(jax.jit, compiler_options=CHEAP)
    def train(key):
        def body(carry, _):
            state, metrics = algorithm.step(carry)
            return state, metrics["first_ratio_error"].sum

        return jax.lax.scan(body, algorithm.init(key), length=algorithm.budget.steps)

    state, errors = train(jax.random.key(0))
    assert errors.dtype == jnp.float32 and float(errors.max()) < 1e-6
    assert not any(leaf.dtype == jnp.bfloat16 for leaf in jax.tree.leaves(state))
    seen = jnp.array([[-1.0], [1.0]])
    module = network.make(environment.observation_space, environment.action_space)
    distribution, value = module.apply(state.policy.params, seen)
    np.testing.assert_array_equal(distribution.mode(), jax.vmap(environment.optimal_action)(seen))
    np.testing.assert_allclose(value, environment.optimal_value(seen, 0.9), atol=0.15)
