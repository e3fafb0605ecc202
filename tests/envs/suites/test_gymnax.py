import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import registry
from jaxrl.envs.suites import gymnax as adapter
from jaxrl.errors import JaxrlError
from jaxrl.types import Box, Discrete

gymnax = pytest.importorskip("gymnax")

STEPS = 50
SLOW = ("Asterix-MinAtar", "Freeway-MinAtar", "Seaquest-MinAtar")  # ten seconds of compilation each
CHEAP = {"xla_backend_optimization_level": 0}
KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def keys_may_be_reused():
    """The same key must give the same start and the same step, here and in the reference."""
    with jax.debug_key_reuse(False):
        yield


@functools.cache
def player(environment_id):
    """The same random actions through the adapter and through gymnax's own `reset` and `step`."""
    reference, parameters = gymnax.make(environment_id)

    @functools.partial(jax.jit, compiler_options=CHEAP)
    def play(environment, key):
        def both(carry, key):
            ours, theirs = carry
            key_action, key_reference = jax.random.split(key)
            key_step, _ = jax.random.split(key_reference)  # as gymnax's own step does
            action = environment.action_space.sample(key_action)
            ours, timestep = environment.step(key_step, ours, action)
            _, theirs, reward, terminated, truncated, info = reference.step(
                key_reference, theirs, action, parameters
            )
            expected = info["final_observation"], reward, terminated, terminated | truncated
            return (ours, theirs), (timestep, expected)

        ours, observation = environment.reset(key)
        expected_observation, theirs = reference.reset(key, parameters)
        _, (timesteps, expected) = jax.lax.scan(both, (ours, theirs), jax.random.split(key, STEPS))
        return (observation, expected_observation), timesteps, expected

    return play


def stacked(play, environment):
    """Four plays, one after the other: a batch compiles for longer than it saves."""
    with jax.numpy_rank_promotion("allow"):
        plays = [jax.device_get(play(environment, key)) for key in jax.random.split(KEY, 4)]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *plays)


def plain(observation, like):
    """gymnax's observations as the adapter declares them."""
    observation = np.asarray(observation)
    if observation.ndim < like.ndim:
        observation = np.eye(like.shape[-1])[observation]
    return observation.astype(np.float32)


def test_every_id_of_gymnax_is_served_or_refused():
    assert set(adapter.IDS) | set(adapter.REFUSED) == set(gymnax.registered_envs)
    assert not set(adapter.IDS) & set(adapter.REFUSED)


@pytest.mark.parametrize(
    "environment_id",
    [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in adapter.IDS],
)
def test_equals_gymnax_and_ignores_its_time_limit(environment_id):
    environment = registry.make(environment_id)
    play = player(environment_id)
    (first, expected_first), timesteps, expected = stacked(play, environment)
    observation, reward, terminated, done = expected
    np.testing.assert_allclose(first, plain(expected_first, first), rtol=1e-5, atol=1e-6)

    alive = np.cumsum(done, axis=1) - done == 0  # up to and with the first end
    assert alive[:, 0].all()
    np.testing.assert_allclose(
        timesteps.observation[alive].astype(np.float32),
        plain(observation, timesteps.observation)[alive],
        rtol=1e-4,
        atol=1e-5,
    )
    np.testing.assert_allclose(
        timesteps.reward[alive], reward[alive].astype(np.float32), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_array_equal(timesteps.terminated[alive], terminated[alive])

    limit = jnp.ones_like(environment.parameters.max_steps_in_episode)
    limited = environment.replace(
        parameters=environment.parameters.replace(max_steps_in_episode=limit)
    )
    _, past_limit, _ = stacked(play, limited)
    np.testing.assert_array_equal(past_limit.terminated, timesteps.terminated)
    assert play._cache_size() == 1


def test_types_of_observations():
    assert registry.make("Breakout-MinAtar").observation_space == Box(0, 1, (10, 10, 4), np.bool_)
    assert registry.make("FrozenLake-misc").observation_space == Box(0.0, 1.0, (16,))
    assert registry.make("FourRooms-misc").observation_space == Box(1.0, 11.0, (4,))
    assert not registry.make("CartPole-v1").observation_space.bounded
    assert registry.make("Pendulum-v1").action_space == Box(-2.0, 2.0, (1,))
    assert registry.make("Acrobot-v1").action_space == Discrete(3)


def test_frozen_lake_starts_in_its_first_tile():
    _, observation = registry.make("FrozenLake-misc").reset(KEY)
    np.testing.assert_array_equal(observation, np.eye(16)[0])


def test_options_are_parameters_or_constructor_arguments():
    pole = registry.make("CartPole-v1", length=0.7, max_steps_in_episode=50)
    assert pole.horizon == 50 and pole.parameters.max_steps_in_episode == 50
    assert pole.parameters.length == jnp.float32(0.7) and not pole.parameters.length.weak_type
    assert registry.make("BernoulliBandit-misc").horizon == 100  # gymnax has 100.0
    sea = registry.make("DeepSea-bsuite", size=4)
    assert sea.horizon == 4 and sea.observation_space.shape == (4, 4)
    lake = registry.make("FrozenLake-misc", desc=["SF", "FG"], is_slippery=False)
    assert lake.observation_space.shape == (4,)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lenght": 0.7}, "Did you mean length"),
        ({"length": "long"}, "must be one number"),
        ({"length": [0.5, 0.7]}, "must be one number"),
        ({"max_steps_in_episode": 0}, "whole number of at least 1"),
        ({"max_steps_in_episode": 2.5}, "whole number of at least 1"),
    ],
)
def test_refuses_bad_options(options, message):
    with pytest.raises(JaxrlError, match=message):
        registry.make("CartPole-v1", **options)


def test_refuses_what_gymnax_refuses():
    with pytest.raises(JaxrlError, match="gymnax cannot make FrozenLake-misc"):
        registry.make("FrozenLake-misc", map_name="5x5")
    with pytest.raises(
        JaxrlError, match="MNISTBandit-bsuite is known to gymnax but not served: it downloads"
    ):
        registry.make("MNISTBandit-bsuite")


def test_parameters_can_be_batched():
    environment = registry.make("CartPole-v1")
    state, _ = environment.reset(KEY)

    @jax.vmap
    def step(length):
        randomised = environment.replace(parameters=environment.parameters.replace(length=length))
        return randomised.step(KEY, state, jnp.int32(1))[1].observation

    observations = step(jnp.array([0.5, 0.5, 2.0]))
    np.testing.assert_array_equal(observations[0], observations[1])
    assert observations[2, 3] != observations[0, 3]


def test_the_first_use_may_be_inside_a_trace():
    environment = registry.make("FourRooms-misc")
    adapter._build.cache_clear()
    _, traced = jax.jit(environment.reset)(KEY)
    _, eager = environment.reset(KEY)
    np.testing.assert_array_equal(traced, eager)


def test_environments_may_be_made_inside_of_a_traced_function():
    """As PureJaxRL's users write it; the spaces were read from traced parameters."""

    def first_step(key, gravity):
        environment = registry.make("CartPole-v1", gravity=gravity)
        state, _ = environment.reset(key)
        return environment.step(key, state, 1)[1].observation

    with jax.debug_key_reuse(False):
        inside = jax.jit(first_step, static_argnums=1)(jax.random.key(0), 9.8)
        np.testing.assert_allclose(first_step(jax.random.key(0), 9.8), inside, rtol=1e-6)
        traced = jax.jit(first_step)(jax.random.key(0), 20.0)
        np.testing.assert_allclose(first_step(jax.random.key(0), 20.0), traced, rtol=1e-6)
    assert not np.allclose(inside, traced)


@pytest.mark.parametrize(
    "environment_id",
    ["Pendulum-v1", "FourRooms-misc", "bandit/contextual", "tabular/hub", "probe/two-lengths"],
)
def test_every_kind_of_environment_is_made_of_concrete_arrays(environment_id):
    found = []

    def make_one(key):
        environment = registry.make(environment_id)
        assert environment.observation_space == registry.make(environment_id).observation_space
        found.append(jax.tree.leaves(environment))
        return environment.reset(key)[1]

    jax.jit(make_one)(jax.random.key(0))
    assert not any(isinstance(leaf, jax.core.Tracer) for leaf in found[0])


# (position, velocity, action) -> (position, velocity), by Gymnasium's rule, with power 0.0015 and
# gravity 0.0025: v + 0.0015 a − 0.0025 cos 3x; a car that is at −1.2 and moves left stops.
WALL = [
    (-1.19, -0.05, -1.0, -1.2, 0.0),
    (
        -1.2,
        0.0,
        -1.0,
        -1.199258,
        0.0007418961,
    ),  # −0.0015 + 0.0025 · 0.8967584: the slope is steeper
    (-1.2, 0.0, 1.0, -1.196258, 0.003741896),
    (-1.0, -0.05, 0.0, -1.047525, -0.04752502),  # nowhere near it
]


@pytest.mark.parametrize(("position", "velocity", "action", "then", "speed"), WALL)
def test_a_car_that_hits_the_left_wall_stops(position, velocity, action, then, speed):
    """gymnax 1.0.1 leaves it the speed with which it hit."""
    environment = registry.make("MountainCarContinuous-v0")
    state, _ = environment.reset(jax.random.key(0))
    state = state.replace(position=jnp.float32(position), velocity=jnp.float32(velocity))
    state, timestep = environment.step(jax.random.key(1), state, jnp.array([action]))
    np.testing.assert_allclose(
        [state.position, state.velocity], [then, speed], rtol=1e-5, atol=1e-8
    )
    np.testing.assert_allclose(timestep.observation, [state.position, state.velocity])
    assert not bool(timestep.terminated)
