"""PPO with a memory, with dictionaries of observations and with masks of actions."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl.algos.ppo import PPOConfig, ppo
from jaxrl.core import moments
from jaxrl.envs.api import Environment
from jaxrl.envs.play import play
from jaxrl.envs.registry import make
from jaxrl.errors import JaxrlError
from jaxrl.nn.actor_critic import NetworkConfig
from jaxrl.nn.memory import GRUConfig
from jaxrl.nn.policy import normalized, observe
from jaxrl.nn.readers import reader_of
from jaxrl.types import Box, Dict, Discrete, Timestep, View
from tests.algos.walk import with_key

CHEAP = {"xla_backend_optimization_level": 0}
NUM_STEPS, NUM_ENVS = 5, 4


class Counted(Environment):
    """Shows a random number and the steps done; reward is the number shown; ends by time alone."""

    observation_space = Box(-np.inf, np.inf, (2,))
    action_space = Discrete(3)
    horizon = 3

    def reset(self, key):
        seen = jnp.stack([jax.random.normal(key), 0.0])
        return seen, seen

    def step(self, key, state, action):
        seen = jnp.stack([jax.random.normal(key), state[1] + 1.0])
        return seen, Timestep(seen, state[0] + action, jnp.zeros((), bool))


REMEMBERING = PPOConfig(
    total_steps=10_000,
    num_envs=NUM_ENVS,
    num_steps=NUM_STEPS,
    minibatch_size=2 * NUM_STEPS,
    num_epochs=2,
    network=NetworkConfig(hidden_sizes=(4,), memory=GRUConfig(3)),
)


@functools.cache
def remembering():
    """(learner's step, a state after two iterations that ends inside of episodes)."""
    algorithm = ppo(Counted(), REMEMBERING)
    step = jax.jit(algorithm.step, compiler_options=CHEAP)
    state = jax.jit(algorithm.init, compiler_options=CHEAP)(jax.random.key(0))
    metrics = None
    for _ in range(2):
        state, metrics = step(state)
    return step, jax.device_get(state), metrics


@functools.cache
def rolled_out():
    """What an iteration is about to see: (policy, memory before, trajectory)."""
    _, state, _ = remembering()
    learner = ppo(Counted(), REMEMBERING).step.__self__
    _, _, trajectory, _ = jax.jit(learner._rollout, compiler_options=CHEAP)(
        state, jax.random.key(7)
    )
    return learner.reader, state, jax.device_get(trajectory)


def test_the_first_ratio_is_one():
    step, state, _ = remembering()
    for seed in range(2):
        state, metrics = step(with_key(state, seed))
        assert float(metrics["first_ratio_error"].sum) <= 1e-6


def test_a_rollout_goes_on_from_the_memory_that_the_last_one_left():
    _, state, trajectory = rolled_out()
    assert not state.vector.first.any() and np.abs(state.memory).min() > 0.0
    learner = ppo(Counted(), REMEMBERING).step.__self__
    forgotten = replace(state, memory=np.zeros_like(state.memory))
    _, _, other, _ = jax.jit(learner._rollout, compiler_options=CHEAP)(forgotten, jax.random.key(7))
    running = ~np.logical_or.accumulate(trajectory.inputs.views.first, axis=0)
    difference = np.abs(trajectory.decision.value - other.decision.value)
    assert running.any() and difference[0].min() > 1e-5
    # Actions, drawn from the same numbers, may differ before; what begins anew has forgotten.
    np.testing.assert_array_equal(trajectory.inputs.memory[0], state.memory)


def test_successors_are_valued_with_the_memory_of_their_episode():
    reader, state, seen = rolled_out()
    step = jax.jit(reader.step)
    memory, views = state.memory, seen.inputs.views
    expected = np.zeros_like(seen.next_value)
    for time in range(NUM_STEPS):
        view = jax.tree.map(lambda leaf, time=time: leaf[time], views)
        memory = np.where(view.first[:, None], 0.0, memory)
        _, value, memory = step(state.policy, memory, view)
        np.testing.assert_allclose(seen.decision.value[time], value, atol=1e-6)
        # The environment's state is what it shows: the successor of an episode that time ended.
        if time + 1 < NUM_STEPS:
            expected[time] = seen.decision.value[time + 1]
    truncated = seen.transition.truncated
    assert truncated[:-1].any()
    inside = ~truncated[:-1]
    np.testing.assert_allclose(seen.next_value[:-1][inside], expected[:-1][inside], atol=1e-6)
    first_value = seen.decision.value[1:][truncated[:-1]]
    assert np.abs(seen.next_value[:-1][truncated[:-1]] - first_value).min() > 1e-6


class Fixed(Counted):
    """The same without randomness: every observation is the steps done."""

    def reset(self, key):
        return jnp.zeros(2), jnp.zeros(2)

    def step(self, key, state, action):
        return state + 1.0, Timestep(state + 1.0, jnp.ones(()), jnp.zeros((), bool))


def test_the_state_in_which_time_ran_out_is_read_after_all_before_it():
    algorithm = ppo(Fixed(), REMEMBERING)
    learner = algorithm.step.__self__
    state = jax.jit(algorithm.init, compiler_options=CHEAP)(jax.random.key(0))
    _, _, seen, _ = jax.jit(learner._rollout, compiler_options=CHEAP)(state, jax.random.key(1))
    reader, (memory, action) = learner.reader, (np.zeros((NUM_ENVS, 3)), np.zeros(NUM_ENVS))
    for time in range(Fixed.horizon + 1):
        view = View(
            observation=np.full((NUM_ENVS, 2), float(time)),
            reward=np.full(NUM_ENVS, float(time > 0)),
            action=action.astype(np.int32),
            first=np.full(NUM_ENVS, time == 0),
        )
        _, value, memory = reader.step(state.policy, memory, view)
        action = np.asarray(seen.transition.action[min(time, NUM_STEPS - 1)])
    np.testing.assert_allclose(seen.next_value[Fixed.horizon - 1], value, atol=1e-6)


def test_evaluation_remembers_an_episode_and_no_more():
    _, state, _ = remembering()
    agent = ppo(Counted(), REMEMBERING).agent
    memory = agent.memory(state.policy)
    np.testing.assert_array_equal(memory, np.zeros(3))
    act = jax.jit(agent.modes["deterministic"].act)
    view = View.at_start(jnp.ones(2), Counted.action_space)
    _, after = act(state.policy, memory, view, jax.random.key(0))
    assert np.abs(after).max() > 0.0
    _, again = act(state.policy, after, view, jax.random.key(0))  # first: begun again
    np.testing.assert_array_equal(after, again)
    value = agent.value(state.policy, memory, view, jax.random.key(0))
    assert value.shape == ()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"minibatch_size": 4}, "minibatch_size is 4.* multiple of num_steps = 5, as 5"),
        ({"num_steps": 4, "minibatch_size": 8, "num_envs": 5}, "must divide"),
        ({"num_steps": 10, "minibatch_size": 8}, "multiple of num_steps = 10, as 10"),
        ({"num_envs": 6, "total_steps": 600, "minibatch_size": 6}, "as 5 or 10"),
    ],
)
def test_minibatches_are_whole_environments(changes, words):
    with pytest.raises(JaxrlError, match=words):
        ppo(Counted(), replace(REMEMBERING, **changes))


KEYS = Dict(
    {
        "position": Box(-np.inf, np.inf, (2,)),
        "coin": Box(-1.0, 1.0, (1,)),
        "action_mask": Box(0, 1, (3,), bool),
    }
)


class Masked(Environment):
    """A coin says which one of two actions is allowed, and action 2 never is; reward: action 1."""

    observation_space = KEYS
    action_space = Discrete(3)
    horizon = 4

    def seen(self, key):
        key_coin, key_position = jax.random.split(key)
        coin = jax.random.bernoulli(key_coin)
        mask = jnp.stack([jnp.ones((), bool), coin, jnp.zeros((), bool)])
        position = 5.0 + 3.0 * jax.random.normal(key_position, (2,))
        return {"position": position, "coin": 2.0 * coin[None] - 1.0, "action_mask": mask}

    def reset(self, key):
        seen = self.seen(key)
        return seen["action_mask"], seen

    def step(self, key, state, action):
        seen = self.seen(key)
        reward = (action == 1).astype(jnp.float32) - 100.0 * ~state[action]
        return seen["action_mask"], Timestep(seen, reward, jnp.zeros((), bool))


def of_keys(**changes):
    network = NetworkConfig(hidden_sizes=(4,), **changes)
    return replace(REMEMBERING, network=network, normalize_observations=True)


@functools.cache
def masked():
    algorithm = ppo(Masked(), of_keys())
    state = jax.jit(algorithm.init, compiler_options=CHEAP)(jax.random.key(0))
    step = jax.jit(algorithm.step, compiler_options=CHEAP)
    for _ in range(20):
        state, metrics = step(state)
    return algorithm, state, metrics


def test_what_a_mask_forbids_is_never_done_in_learning_or_acting():
    algorithm, state, metrics = masked()
    assert float(metrics["episode_return"].sum) >= 0.0
    for mode in algorithm.agent.modes:
        run = jax.jit(
            lambda policy, key, mode=mode: play(Masked(), algorithm.agent, policy, key, 64, mode)
        )
        assert float(run(state.policy, jax.random.key(0)).returns.min()) >= 0.0


def test_a_million_samples_hold_nothing_that_a_mask_forbids_and_it_has_no_gradient():
    algorithm, state, _ = masked()
    reader = algorithm.step.__self__.reader
    observation = jax.vmap(Masked().seen)(jax.random.split(jax.random.key(3), 1000))

    def sampled(key):
        distribution, _ = reader.read(state.policy, observation)
        return distribution.sample(key)

    actions = jax.jit(jax.vmap(sampled))(jax.random.split(jax.random.key(4), 1000))
    allowed = np.asarray(observation["action_mask"])
    assert allowed[np.arange(1000)[None], actions].all()

    def entropy_and_likelihood(params):
        distribution, _ = reader.read(replace(state.policy, params=params), observation)
        return (distribution.entropy() + distribution.log_prob(distribution.mode())).sum()

    gradient = jax.grad(entropy_and_likelihood)(state.policy.params)["params"]["policy_head"]
    assert np.isfinite(jax.tree.leaves(gradient)[0]).all()
    np.testing.assert_array_equal(gradient["bias"][2], 0.0)
    assert np.abs(gradient["bias"][:2]).min() > 0.0


def test_the_entropy_under_a_mask_is_that_of_the_allowed_actions():
    algorithm, state, _ = masked()
    reader = algorithm.step.__self__.reader
    observation = Masked().seen(jax.random.key(0)) | {"action_mask": jnp.array([True, True, False])}
    distribution, _ = reader.read(state.policy, observation)
    logits = np.asarray(distribution.logits, np.float64)[:2]
    p = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(distribution.entropy(), -(p * np.log(p)).sum(), rtol=1e-5)


def test_moments_of_a_dictionary_are_those_of_its_arrays_side_by_side():
    algorithm, state, _ = masked()
    policy = algorithm.agent.init(jax.random.key(0))
    observation = jax.vmap(Masked().seen)(jax.random.split(jax.random.key(5), 64))
    renewed = observe(policy, observation)
    both = jnp.concatenate([observation["coin"], observation["position"]], axis=-1)
    expected = moments.update(moments.init((3,)), both)
    kept = renewed.observation_moments
    assert sorted(kept) == ["coin", "position"]
    mean = np.concatenate([kept["coin"].mean, kept["position"].mean])
    np.testing.assert_allclose(mean, expected.mean, rtol=1e-6)
    read = normalized(renewed, observation)
    side_by_side = np.concatenate([read["coin"], read["position"]], axis=-1)
    np.testing.assert_allclose(side_by_side, moments.normalize(expected, both), atol=1e-5)
    np.testing.assert_array_equal(read["action_mask"], observation["action_mask"])
    assert float(state.policy.observation_moments["coin"].count) == 20 * NUM_STEPS * NUM_ENVS


def test_actor_and_critic_read_the_keys_that_they_are_told_to():
    network = of_keys(actor_keys=("coin",), critic_keys=("position",)).network
    reader = reader_of(network.make(KEYS, Discrete(3)))
    observation = Masked().seen(jax.random.key(0))
    params = reader.init(jax.random.key(1), KEYS, Discrete(3))
    policy = ppo(Masked(), of_keys()).agent.init(jax.random.key(0))
    policy = replace(policy, params=params)

    def outputs(changed):
        distribution, value = reader.read(policy, observation | changed)
        return np.asarray(distribution.logits), float(value)

    logits, value = outputs({})
    other, other_value = outputs({"position": jnp.full(2, -3.0)})
    np.testing.assert_array_equal(logits, other)
    assert value != other_value
    other, other_value = outputs({"coin": jnp.full(1, 0.3)})
    assert (logits[0] != other[0]) and value == other_value


def test_a_memory_reads_dictionaries_and_masks_too():
    config = of_keys(memory=GRUConfig(3), actor_keys=("coin",))
    algorithm = ppo(Masked(), config)
    state, metrics = jax.jit(
        lambda key: algorithm.step(algorithm.init(key)), compiler_options=CHEAP
    )(jax.random.key(0))
    assert float(metrics["first_ratio_error"].sum) <= 1e-6
    assert float(metrics["episode_return"].sum) >= 0.0
    assert state.memory.shape == (NUM_ENVS, 3)


def right_names(critic_keys):
    """The chance of the right name for each coin after 5,000 transitions, by seed: [3, 2]."""
    env = make("dict/privileged", noise=30.0)
    config = PPOConfig(
        total_steps=5120,
        num_envs=64,
        num_steps=8,
        minibatch_size=64,
        learning_rate=3e-3,
        anneal_learning_rate=False,
        entropy_coefficient=0.0,
        network=NetworkConfig(hidden_sizes=(32, 32), actor_keys=("seen",), critic_keys=critic_keys),
    )
    algorithm = ppo(env, config)
    reader = algorithm.step.__self__.reader
    coins = {"seen": jnp.array([[-1.0], [1.0]]), "hidden": jnp.zeros((2, 1))}

    @functools.partial(jax.jit, compiler_options=CHEAP)
    def train(key):
        state = jax.lax.fori_loop(
            0, algorithm.budget.steps, lambda _, s: algorithm.step(s)[0], algorithm.init(key)
        )
        distribution, _ = reader.read(state.policy, coins)
        return jnp.exp(distribution.log_prob(jnp.array([0, 1])))

    return np.stack([train(jax.random.key(seed)) for seed in range(3)])


def test_a_critic_that_reads_more_lets_an_actor_learn_beneath_the_noise():
    """A hidden coin is worth ±30, the right name 1: who foresees the coin sees the name's worth."""
    assert right_names(("hidden", "seen")).min() > 0.95
    assert right_names(("seen",)).mean() < 0.85


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"actor_keys": ("coins",)}, "unknown key in actor_keys 'coins'.*coin"),
        ({"critic_keys": ("action_mask",)}, "unknown key in critic_keys 'action_mask'"),
        ({"torso": "cnn"}, r"torso=cnn needs .*\[1\], \[2\]"),
        ({"shared_torso": True, "actor_keys": ("coin",)}, "shared_torso lets both read the same"),
    ],
)
def test_keys_that_cannot_be_read_are_refused(changes, words):
    with pytest.raises(JaxrlError, match=words):
        ppo(Masked(), of_keys(**changes))


def test_keys_of_a_single_array_are_refused():
    config = replace(REMEMBERING, network=NetworkConfig(actor_keys=("position",)))
    with pytest.raises(JaxrlError, match="actor_keys is position, but observations are Box"):
        ppo(Counted(), config)


def test_a_coin_that_was_shown_once_is_remembered():
    env = make("probe/memory")
    config = replace(
        REMEMBERING,
        total_steps=40 * 256,
        num_envs=16,
        num_steps=16,
        minibatch_size=64,
        num_epochs=4,
        learning_rate=5e-3,
        gamma=0.9,
        network=NetworkConfig(hidden_sizes=(16,), memory=GRUConfig(16)),
    )
    algorithm = ppo(env, config)

    @functools.partial(jax.jit, compiler_options=CHEAP)
    def train(key):
        key_train, key_play = jax.random.split(key)
        state = jax.lax.fori_loop(
            0, algorithm.budget.steps, lambda _, s: algorithm.step(s)[0], algorithm.init(key_train)
        )
        return play(env, algorithm.agent, state.policy, key_play, 32, "deterministic").returns

    np.testing.assert_array_equal(train(jax.random.key(0)), np.ones(32))
