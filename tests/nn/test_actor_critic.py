"""The actor-critic: heads for every space, the first policy,
and the way from a sample to an action."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.config import check
from jaxrl.core.distributions import Categorical, MultiCategorical, Normal, TanhNormal
from jaxrl.errors import JaxrlError
from jaxrl.nn.action_units import scale_action, unscale_action
from jaxrl.nn.actor_critic import (
    LOG_STD_RANGE,
    ActorCritic,
    NetworkConfig,
    check_network,
)
from jaxrl.types import Box, Discrete, MultiDiscrete

ACTIONS = {
    "discrete": (Discrete(5), Categorical, ()),
    "multi-discrete": (MultiDiscrete((2, 3)), MultiCategorical, (2,)),
    "continuous": (Box(-2.0, 2.0, (3,)), Normal, (3,)),
    "matrix": (Box(-2.0, 2.0, (2, 2)), Normal, (4,)),
}
OBSERVATIONS = {"mlp": Box(-np.inf, np.inf, (4,)), "cnn": Box(0, 1, (5, 5, 2), bool)}
SMALL = {"hidden_sizes": (8,)}
each_action = pytest.mark.parametrize("action", ACTIONS)


def network_of(action, torso="mlp", **settings):
    space = ACTIONS[action][0]
    return ActorCritic(NetworkConfig(torso=torso, **SMALL, **settings), space, OBSERVATIONS[torso])


@functools.cache
def initialised(action, **settings):
    """A network, its first parameters, and (distribution, value) for 32 wild observations."""
    network = network_of(action, **settings)
    observation = 10.0 * jax.random.normal(jax.random.key(1), (32, 4))
    output, params = jax.jit(network.init_with_output)(jax.random.key(0), observation)
    return network, params, observation, output


@each_action
@pytest.mark.parametrize("torso", OBSERVATIONS)
@pytest.mark.parametrize("shared", [False, True], ids=["separate", "shared"])
def test_every_space_and_torso_gives_a_distribution_and_a_value(action, torso, shared):
    network = network_of(action, torso, shared_torso=shared)
    space = OBSERVATIONS[torso]
    _, family, event = ACTIONS[action]

    def outputs(key, observation):
        (distribution, value), params = network.init_with_output(key, observation)
        sample = distribution.sample(key)
        alone = network.apply(params, observation, method="value")
        return (
            distribution,
            sample,
            distribution.mode(),
            distribution.log_prob(sample),
            value,
            alone,
            params,
        )

    for batch in ((), (2, 3)):
        observation = jnp.zeros((*batch, *space.shape), space.dtype)
        with jax.debug_key_reuse(False):
            found = jax.eval_shape(outputs, jax.random.key(0), observation)
        assert isinstance(found[0], family)
        assert [leaf.shape for leaf in found[1:6]] == [(*batch, *event)] * 2 + [batch] * 3
        assert ("critic_torso" in found[6]["params"]) == (not shared)


@pytest.mark.parametrize("shared", [False, True], ids=["separate", "shared"])
def test_the_critic_alone_gives_the_same_value(shared):
    network, params, observation, (_, value) = initialised("discrete", shared_torso=shared)
    alone = jax.jit(functools.partial(network.apply, method="value"))(params, observation)
    np.testing.assert_allclose(alone, value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shared", [False, True], ids=["separate", "shared"])
def test_the_policy_loss_reaches_the_critics_torso_only_where_it_is_shared(shared):
    network, params, observation, _ = initialised("discrete", shared_torso=shared)
    grad = jax.jit(
        jax.grad(lambda params: jnp.sum(network.apply(params, observation)[0].logits ** 2))
    )(params)
    torsos = [name for name in grad["params"] if name.endswith("torso")]
    assert any(bool(leaf.any()) for leaf in jax.tree.leaves(grad["params"]["actor_torso"]))
    assert (
        torsos == ["actor_torso"] if shared else sorted(torsos) == ["actor_torso", "critic_torso"]
    )
    if not shared:
        assert not any(bool(leaf.any()) for leaf in jax.tree.leaves(grad["params"]["critic_torso"]))


@pytest.mark.parametrize(
    ("action", "entropy"), [("discrete", np.log(5)), ("multi-discrete", np.log(6))]
)
def test_the_first_policy_is_nearly_uniform_whatever_it_sees(action, entropy):
    _, _, _, (distribution, _) = initialised(action)
    np.testing.assert_allclose(distribution.entropy(), entropy, atol=1e-3)


@pytest.mark.parametrize("initial_log_std", [0.0, -1.5])
@pytest.mark.parametrize("dependent", [False, True], ids=["one deviation", "state-dependent"])
def test_the_first_continuous_policy_is_centred_with_the_deviation_asked_for(
    initial_log_std, dependent
):
    settings = {"initial_log_std": initial_log_std, "state_dependent_std": dependent}
    _, _, _, (distribution, _) = initialised("continuous", **settings)
    assert float(jnp.abs(distribution.mean).max()) < 0.1
    np.testing.assert_allclose(
        distribution.log_std, initial_log_std, atol=0.1 if dependent else 1e-6
    )
    assert (float(distribution.log_std.std()) > 0.0) == dependent


def test_one_deviation_is_a_parameter_and_a_state_dependent_one_is_a_head():
    plain, dependent = (
        initialised("continuous", state_dependent_std=flag)[1]["params"] for flag in (False, True)
    )
    assert plain["log_std"].shape == (3,) and "log_std_head" not in plain
    assert dependent["log_std_head"]["kernel"].shape == (8, 3) and "log_std" not in dependent


def test_a_deviation_that_is_not_trained_is_no_parameter_and_stays():
    _, params, _, (distribution, _) = initialised(
        "continuous", train_std=False, initial_log_std=-1.25
    )
    assert not [name for name in params["params"] if name.startswith("log_std")]
    np.testing.assert_array_equal(distribution.log_std, np.full((32, 3), -1.25, np.float32))


@pytest.mark.parametrize(("raw", "bound"), [(-100.0, LOG_STD_RANGE[0]), (100.0, LOG_STD_RANGE[1])])
def test_deviations_stay_within_their_range(raw, bound):
    network, params, observation, _ = initialised("continuous")
    extreme = {"params": params["params"] | {"log_std": jnp.full(3, raw)}}
    np.testing.assert_allclose(network.apply(extreme, observation)[0].log_std, bound)


def test_squashed_actions_have_a_squashed_density():
    *_, (plain, _) = initialised("continuous")
    *_, (squashed, _) = initialised("continuous", squash_actions=True)
    assert isinstance(plain, Normal) and isinstance(squashed, TanhNormal)


def test_batched_and_single_observations_give_the_same_policy():
    network, params, observation, (distribution, value) = initialised("multi-discrete")
    single, single_value = jax.jit(network.apply)(params, observation[3])
    np.testing.assert_allclose(single.logits, distribution.logits[3], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(single_value, value[3], rtol=1e-4, atol=1e-6)


def test_boolean_observations_are_numbers():
    network, params, observation, _ = initialised("discrete")
    mask = observation > 0
    expected = network.apply(params, mask.astype(jnp.float32))[1]
    np.testing.assert_array_equal(network.apply(params, mask)[1], expected)


@pytest.mark.parametrize("squash", [False, True], ids=["clip", "tanh"])
def test_unit_actions_span_the_bounds(squash):
    space = Box((0.0, -4.0), (1.0, 4.0), (2,))
    samples = jnp.array([[-20.0, -20.0], [0.0, 0.0], [20.0, 20.0]])
    np.testing.assert_allclose(
        scale_action(samples, space, squash), [[0, -4], [0.5, 0], [1, 4]], atol=1e-6
    )


def test_clipping_is_linear_inside_and_tanh_is_not():
    space = Box(-2.0, 2.0, (1,))
    sample = jnp.array([[-1.5], [-0.5], [0.25], [1.0]])
    np.testing.assert_allclose(
        scale_action(sample, space, False)[:, 0], [-2.0, -1.0, 0.5, 2.0], rtol=1e-6
    )
    np.testing.assert_allclose(scale_action(sample, space, True), 2.0 * np.tanh(sample), rtol=1e-5)


@pytest.mark.parametrize("low", [-np.inf, 0.0])
def test_actions_without_two_bounds_pass_through_but_for_the_bound_they_have(low):
    space = Box(low, np.inf, (2,))
    sample = jnp.array([[-30.0, 4.0]])
    np.testing.assert_array_equal(scale_action(sample, space, False), np.maximum(sample, low))


def test_every_coordinate_is_scaled_by_its_own_bounds():
    space = Box((-2.0, -np.inf, 0.0), (2.0, 5.0, 1.0), (3,))
    action = scale_action(jnp.array([[0.5, 9.0, 0.0], [-7.0, -9.0, 7.0]]), space, False)
    np.testing.assert_array_equal(action, [[1.0, 5.0, 0.5], [-2.0, -9.0, 1.0]])


def test_actions_take_the_shape_and_type_of_their_space():
    space = Box(-1.0, 1.0, (2, 3), np.float16)
    action = scale_action(jnp.zeros((4, 5, 6)), space, False)
    assert action.shape == (4, 5, 2, 3) and action.dtype == jnp.float16
    row_major = scale_action(jnp.linspace(-1.0, 1.0, 6), Box(-1.0, 1.0, (2, 3)), False)
    np.testing.assert_allclose(row_major.ravel(), np.linspace(-1, 1, 6), atol=1e-6)


@pytest.mark.parametrize("squash", [False, True], ids=["clip", "tanh"])
def test_continuous_samples_become_the_nearest_whole_number(squash):
    unit = jnp.array([[-0.99], [-0.4], [0.0], [0.4], [0.99]])
    sample = jnp.arctanh(unit) if squash else unit
    whole = scale_action(sample, Box(-2, 2, (1,), np.int8), squash)
    assert whole.dtype == jnp.int8 and whole.ravel().tolist() == [-2, -1, 0, 1, 2]
    pressed = scale_action(sample, Box(0, 1, (1,), np.bool_), squash)
    assert pressed.dtype == bool and pressed.ravel().tolist() == [False, False, False, True, True]


def test_a_coordinate_of_one_value_is_no_number_too_many():
    space = Box((0.5, -1.0), (0.5, 3.0), (2,))
    units = unscale_action(jnp.array([[0.5, 2.0]]), space)
    np.testing.assert_array_equal(units, [[0.0, 0.5]])
    np.testing.assert_array_equal(scale_action(units, space, False), [[0.5, 2.0]])


@pytest.mark.parametrize(
    ("space", "sample"), [(Discrete(3), [2]), (MultiDiscrete((2, 3)), [[1, 2]])]
)
def test_whole_numbers_pass_through(space, sample):
    sample = jnp.array(sample, jnp.int32)
    assert scale_action(sample, space, False) is sample


@pytest.mark.parametrize("shape", [(4,), (5, 5)])
def test_a_cnn_without_a_grid_is_refused(shape):
    with pytest.raises(JaxrlError) as error:
        check_network(NetworkConfig(torso="cnn"), Box(0, 1, shape), Discrete(2))
    assert str(error.value) == (
        f"torso=cnn needs observations [height, width, channels], but they are {list(shape)}: use "
        "mlp."
    )


def test_a_deviation_that_depends_is_learned():
    with pytest.raises(JaxrlError, match="state_dependent_std is True, .* with train_std=True"):
        check(NetworkConfig(train_std=False, state_dependent_std=True))


@pytest.mark.parametrize("name", ["squash_actions", "state_dependent_std"])
@pytest.mark.parametrize("space", [Discrete(2), MultiDiscrete((2, 3))])
def test_continuous_options_are_refused_for_discrete_actions(name, space):
    with pytest.raises(
        JaxrlError, match=f"{name} is True, but is for continuous actions, and .* has .*Discrete"
    ):
        check_network(NetworkConfig(**{name: True}), Box(0, 1, (4,)), space)


def test_a_fixed_deviation_is_refused_where_there_is_none():
    for changes in ({"train_std": False}, {"initial_log_std": -1.0}):
        (name,) = changes
        with pytest.raises(JaxrlError, match=f"{name} is .*, but is for continuous actions"):
            check_network(NetworkConfig(**changes), Box(0, 1, (4,)), Discrete(2))
        check_network(NetworkConfig(**changes), Box(0, 1, (4,)), Box(-1, 1, (1,)))


def test_squashing_is_refused_without_bounds_to_squash_to():
    for space in (Box(-np.inf, np.inf, (2,)), Box(0.0, np.inf, (2,))):
        check_network(NetworkConfig(), Box(0, 1, (4,)), space)
        with pytest.raises(JaxrlError, match="squash_actions needs bounds to map tanh onto"):
            check_network(NetworkConfig(squash_actions=True), Box(0, 1, (4,)), space)


def test_fitting_networks_pass():
    check_network(NetworkConfig(torso="cnn"), Box(0, 1, (5, 5, 2)), Discrete(2))
    check_network(
        NetworkConfig(squash_actions=True, state_dependent_std=True),
        Box(0, 1, (4,)),
        Box(-1, 1, (1,)),
    )
