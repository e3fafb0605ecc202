"""Bandits: the regret of the contextual one is exact, of four modes one pays."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.envs import registry
from jaxrl.envs.suites.bandit import INNER, MODES, OUTER, fixed_states
from jaxrl.errors import JaxrlError
from jaxrl.nn.action_units import scale_action


@pytest.fixture(scope="module")
def env():
    return registry.make("bandit/contextual")


def test_the_optimal_action_is_a_small_tanh_network_times_its_scale(env):
    states = np.asarray(fixed_states(100))
    expected = 2.0 * np.tanh(np.tanh(states @ INNER) @ OUTER)
    np.testing.assert_allclose(env.optimal_action(states), expected, rtol=1e-5, atol=1e-6)
    halved = registry.make("bandit/contextual", scale=1.0)
    np.testing.assert_allclose(halved.optimal_action(states), expected / 2.0, rtol=1e-5, atol=1e-6)
    assert np.abs(expected).max() < 2.0 and expected.std(axis=0).min() > 0.4


def test_the_target_never_changes(env):
    np.testing.assert_allclose([INNER[0, 0], OUTER[-1, -1]], [0.62368673, -0.10945501], rtol=1e-6)
    first = fixed_states(3)[0]
    np.testing.assert_array_equal(first, fixed_states(3)[0])


def test_the_regret_is_the_mean_squared_distance_to_the_optimal_action(env):
    states = fixed_states(512)
    best = env.optimal_action(states)
    assert float(env.gap(states, best)) == 0.0
    assert float(env.gap(states, best + jnp.array([[0.3, -0.4]]))) == pytest.approx(0.25, rel=1e-5)


def test_an_episode_is_one_noisy_step(env):
    key_reset, key_action, key_step = jax.random.split(jax.random.key(0), 3)
    state, observation = env.reset(key_reset)
    action = env.action_space.sample(key_action)
    with jax.debug_key_reuse(False):
        keys = jax.random.split(key_step, 20_000)
    _, timestep = jax.vmap(lambda key: env.step(key, state, action))(keys)
    np.testing.assert_array_equal(state, observation)
    assert timestep.terminated.all() and env.horizon == 1
    assert float(timestep.reward.mean()) == pytest.approx(
        float(env.expected_reward(state, action)), abs=0.1
    )
    assert float(timestep.reward.std()) == pytest.approx(3.0, rel=0.03)


def test_sampled_actions_lose_their_variance(env):
    """Expected reward of N(a*, σ²) is −2 σ²:
    nothing is clipped between the policy and the reward."""
    states = fixed_states(50_000)
    sample = env.optimal_action(states) + 0.3 * jax.random.normal(jax.random.key(1), (50_000, 2))
    np.testing.assert_array_equal(scale_action(sample, env.action_space, squash=False), sample)
    assert float(env.expected_reward(states, sample).mean()) == pytest.approx(-2 * 0.3**2, rel=0.02)


def test_its_options_are_numbers_that_can_be_swept():
    quiet = registry.make("bandit/contextual", noise=0.0)
    assert [leaf.shape for leaf in jax.tree.leaves(quiet)] == [(), ()]
    state = fixed_states(1)[0]
    _, timestep = quiet.step(jax.random.key(0), state, quiet.optimal_action(state))
    assert float(timestep.reward) == 0.0
    with pytest.raises(
        JaxrlError, match="unknown option of bandit/contextual 'nose'. Did you mean noise"
    ):
        registry.make("bandit/contextual", nose=1)


def test_one_of_four_modes_pays_and_their_mean_does_not():
    env = registry.make("bandit/four-modes")
    rewards = [float(env.expected_reward(jnp.asarray(mode))) for mode in (*MODES, MODES.mean(0))]
    np.testing.assert_allclose(rewards, [0, 0, 0, 1, 0], atol=1e-6)
    near = float(env.expected_reward(jnp.array([0.8, -0.6])))  # one width away
    assert near == pytest.approx(np.exp(-0.5), rel=1e-5)
    state, observation = env.reset(jax.random.key(0))
    _, timestep = env.step(jax.random.key(1), state, jnp.asarray(MODES[3]))
    assert (float(timestep.reward), bool(timestep.terminated), float(observation[0])) == (1, 1, 0)


@pytest.mark.parametrize("width", [0.2, 0.7])
def test_what_uniform_actions_earn_on_four_modes_is_an_integral(width):
    env = registry.make("bandit/four-modes", width=width)
    side = (np.arange(1000) + 0.5) / 500 - 1
    grid = jnp.asarray(np.stack(np.meshgrid(side, side), axis=-1), jnp.float32)
    random, best = env.reference_scores
    assert random == pytest.approx(float(env.expected_reward(grid).mean()), rel=1e-3) and best == 1


@pytest.mark.parametrize("width", [0.0, -1.0])
def test_a_width_is_positive(width):
    with pytest.raises(JaxrlError, match=r"width is .*, but must lie in \(0, inf\]"):
        registry.make("bandit/four-modes", width=width)
