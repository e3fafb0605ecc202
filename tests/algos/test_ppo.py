"""PPO over several iterations: normalisers, schedules, counters, early stopping,
and what it refuses."""

import functools
from dataclasses import replace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from jaxrl.algos.ppo import PPOConfig, ppo, ppo_agent
from jaxrl.config import configuration, number, override, sweepable
from jaxrl.core.distributions import Categorical
from jaxrl.envs.play import play
from jaxrl.envs.registry import make
from jaxrl.envs.starts.api import Draw
from jaxrl.envs.starts.fresh import Fresh
from jaxrl.envs.vector import VectorEnv
from jaxrl.errors import JaxrlError
from jaxrl.nn.actor_critic import NetworkConfig, PolicyNetworkConfig
from jaxrl.nn.optimizers import OptimizerConfig
from jaxrl.types import View
from tests.algos.walk import (
    NUM_ITERATIONS,
    WHOLE,
    Walk,
    learner,
    make_config,
    step,
    trained,
    with_key,
)


def mean(pair):
    return float(pair.sum) / float(pair.count)


def moments_of(state):
    return jax.device_get(state.policy.observation_moments)


@functools.cache
def many_minibatches():
    """Two epochs of four minibatches, which stop at a divergence of 0.02."""
    return {"minibatch_size": WHOLE // 4, "num_epochs": 2, "target_kl": 0.02}


def test_the_first_ratio_is_one_in_every_iteration():
    _, history = trained()
    errors = [mean(metrics["first_ratio_error"]) for _, _, metrics in history]
    assert len(errors) >= 3 and max(errors) < 1e-6
    assert mean(history[-1][2]["kl"]) < 1e-6


def test_observation_moments_are_those_of_every_rollout_so_far():
    _, history = trained()
    rows = []
    for (state, rollout, _), (following, _, _) in zip(history, history[1:], strict=False):
        rows.append(rollout.observation.reshape(-1, 2).astype(np.float64))
        seen = np.concatenate(rows)
        before, after = moments_of(state), moments_of(following)
        assert before.count == len(seen) - WHOLE and after.count == len(seen)
        np.testing.assert_allclose(after.mean, seen.mean(0), rtol=1e-5)
        np.testing.assert_allclose(after.variance, seen.var(0), rtol=1e-4)


def test_acting_uses_the_moments_and_changes_nothing():
    state, _ = trained()
    algorithm = ppo(Walk(), make_config())
    before = jax.device_get(state.policy)

    @jax.jit
    def run(policy, key):
        return play(Walk(), algorithm.agent, policy, key, 8, "deterministic")

    episodes = run(algorithm.policy(state), jax.random.key(0))
    assert episodes.lengths.shape == (8,) and int(episodes.lengths.max()) <= Walk().horizon
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.policy), before)

    act, value = jax.jit(algorithm.agent.modes["deterministic"].act), jax.jit(algorithm.agent.value)
    for position in (-1.0, 0.0, 1.0):
        observation = Walk().observe(jnp.float32(position))
        scaled = (observation - before.observation_moments.mean) / np.sqrt(
            before.observation_moments.variance
        )
        distribution, expected = learner(make_config()).reader.network.apply(before.params, scaled)
        view = View(observation, jnp.float32(9.0), jnp.int32(1), jnp.ones((), bool))
        action, memory = act(state.policy, (), view, jax.random.key(0))
        assert memory == () and int(action) == int(distribution.mode())
        found = value(state.policy, (), view, jax.random.key(0))
        assert found.shape == () and float(found) == pytest.approx(float(expected), rel=1e-5)


def test_the_state_keeps_its_structure_and_holds_no_weak_types():
    _, history = trained()
    first, last = history[0][0], history[-1][0]
    assert jax.tree.structure(first) == jax.tree.structure(last)
    kinds = [
        jax.tree.map(lambda leaf: (leaf.shape, str(leaf.dtype)), state) for state in (first, last)
    ]
    assert kinds[0] == kinds[1]
    for state in (replace(first, key=None), replace(last, key=None)):
        weak = [
            jax.tree_util.keystr(path)
            for path, leaf in jax.tree.leaves_with_path(state)
            if getattr(leaf, "weak_type", False)
        ]
        assert not weak


def test_it_runs_where_reused_keys_are_errors():
    assert jax.config.jax_debug_key_reuse
    first = ppo(Walk(), make_config()).init(jax.random.key(1))
    second, _ = step(make_config(), first)
    with pytest.raises(jax.errors.KeyReuseError):
        step(make_config(), first)
    step(make_config(), second)


def test_one_compilation_serves_every_number():
    state, _ = trained()
    compiled = step._cache_size()
    changes = {
        "learning_rate": 0.5,
        "gamma": 0.5,
        "gae_lambda": 0.1,
        "clip_epsilon": 0.3,
        "max_grad_norm": 7.0,
    }
    changes |= {"value_clip_epsilon": 0.1, "entropy_coefficient": 0.5, "value_coefficient": 0.1}
    for seed, (name, value) in enumerate(changes.items()):
        step(make_config(**{name: value}), with_key(state, seed))
    assert step._cache_size() == compiled


@pytest.mark.parametrize("iteration", [0, 1, 10_000_000, 35_000_000, NUM_ITERATIONS - 1])
def test_the_learning_rate_falls_linearly_to_zero_in_a_run_of_more_than_2_to_the_31_transitions(
    iteration,
):
    assert NUM_ITERATIONS * WHOLE > 35_000_000 * WHOLE > 2**31
    state = replace(with_key(trained()[0], 0), iteration=jnp.int32(iteration))
    config = make_config(learning_rate=0.01)
    assert PPOConfig().anneal_learning_rate and config.anneal_learning_rate
    following, metrics = step(config, state)
    np.testing.assert_allclose(
        mean(metrics["learning_rate"]), 0.01 * (1 - iteration / NUM_ITERATIONS), atol=2e-9
    )
    assert int(following.iteration) == iteration + 1
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(following.policy))


@pytest.mark.parametrize("iteration", [NUM_ITERATIONS, 3 * NUM_ITERATIONS])
def test_beyond_its_budget_the_policy_stands_still(iteration):
    state = replace(with_key(trained()[0], 0), iteration=jnp.int32(iteration))
    following, metrics = step(make_config(learning_rate=0.01), state)
    assert mean(metrics["learning_rate"]) == 0.0
    jax.tree.map(np.testing.assert_array_equal, following.policy.params, state.policy.params)


def test_a_full_count_makes_the_normaliser_a_moving_average():
    state, _ = trained()
    full = state.policy.observation_moments._replace(count=jnp.float32(2.0**23))
    policy = replace(state.policy, observation_moments=full)
    state = replace(with_key(state, 0), policy=policy)
    after = moments_of(step(make_config(), state)[0])
    assert after.count == 2.0**23 and not np.array_equal(after.mean, full.mean)


def test_target_kl_stops_the_iteration_at_the_step_that_exceeds_it():
    state, _ = trained()
    config = make_config(learning_rate=0.3, max_grad_norm=np.inf, **many_minibatches())
    following, metrics = step(config, with_key(state, 0))
    assert float(metrics["taken"].count) == 8 and 1 <= float(metrics["taken"].sum) < 8
    # The optimiser counts the steps that were taken; Adam's first is of size one.
    assert int(following.optimizer[1].count) == float(metrics["taken"].sum) == 1
    deltas = jax.tree.map(
        lambda a, b: float(jnp.abs(a - b).max()), following.policy.params, state.policy.params
    )
    assert 0.0 < max(jax.tree.leaves(deltas)) <= 0.3 * (1 + 1e-5)


def test_a_policy_that_stays_close_takes_every_step():
    state, _ = trained()
    following, metrics = step(
        make_config(learning_rate=1e-4, **many_minibatches()), with_key(state, 0)
    )
    assert mean(metrics["taken"]) == 1.0 and int(following.optimizer[1].count) == 8
    assert 0.0 < mean(metrics["kl"]) < 0.02 and mean(metrics["first_ratio_error"]) < 1e-6


def test_the_number_of_iterations_is_what_the_budget_holds():
    algorithm = ppo(
        Walk(), PPOConfig(total_steps=1000, num_envs=4, num_steps=16, minibatch_size=32)
    )
    assert algorithm.budget == ("transitions", 64, 15, {"gradient steps": 4 * 2})


class Untouchable(Walk):
    """Fails as soon as anything is traced."""

    def reset(self, key):
        raise AssertionError("traced")

    def step(self, key, state, action):
        raise AssertionError("traced")


REFUSED = [
    ({"minibatch_size": 48}, "minibatch_size is 48, but must divide"),
    ({"minibatch_size": 128}, "minibatch_size is 128, but must divide"),
    ({"minibatch_size": 1}, "minibatch_size is 1, .* the policy would never change"),
    (
        {"num_envs": 1, "num_steps": 1, "minibatch_size": 1, "normalize_advantages": "batch"},
        r"num_envs \* num_steps is 1, but normalize_advantages=batch",
    ),
    ({"total_steps": 63}, "total_steps is 63, but one iteration alone takes"),
    ({"num_envs": 0}, "num_envs is 0"),
    ({"num_steps": -1}, "num_steps is -1"),
    ({"num_epochs": 1.5}, "num_epochs is 1.5"),
    ({"starts": "pool", "pool_size": 0}, "pool_size is 0"),
    ({"pool_size": 8}, "pool_size is an option of starts=pool, but starts is fresh"),
    ({"learning_rate": -1e-3}, "learning_rate is -0.001"),
    ({"learning_rate": np.array([1e-3, np.nan])}, "learning_rate is nan"),
    ({"gamma": 1.01}, "gamma is 1.01"),
    ({"gae_lambda": -0.5}, "gae_lambda is -0.5"),
    ({"clip_epsilon": 0.0}, r"clip_epsilon is 0, but must lie in \(0, inf\]"),
    ({"max_grad_norm": 0.0}, "max_grad_norm is 0"),
    ({"target_kl": 0.0}, "target_kl is 0"),
    (
        {"normalize_advantages": "batches"},
        "unknown normalize_advantages 'batches'. Did you mean batch",
    ),
    ({"starts": "frsh"}, "unknown starts 'frsh'. Did you mean fresh"),
    ({"scale_rewards": 1}, "scale_rewards is 1, but must be True or False"),
    ({"network": NetworkConfig(hidden_sizes=(8, 0))}, "hidden_sizes is 0"),
    (
        {"network": NetworkConfig(activation="tanhh")},
        "unknown activation 'tanhh'. Did you mean tanh",
    ),
    (
        {"network": NetworkConfig(torso="cnn")},
        r"torso=cnn needs observations \[height, width, channels\]",
    ),
    (
        {"network": NetworkConfig(squash_actions=True)},
        "squash_actions is True, but is for continuous actions",
    ),
]


@pytest.mark.parametrize(
    ("changes", "text"), REFUSED, ids=[str(changes)[:50] for changes, _ in REFUSED]
)
def test_bad_configurations_are_refused_before_anything_is_traced(changes, text):
    sizes = {"total_steps": 640, "num_envs": 4, "num_steps": 16, "minibatch_size": 32}
    with pytest.raises(JaxrlError, match=text):
        ppo(Untouchable(), PPOConfig(**sizes | changes))


class Elsewhere(Fresh):
    """Begins at 0.25, and grants three steps."""

    @property
    def shortest(self):
        return 3

    def draw(self, state, key, ended, seen, reached):
        n = len(ended)
        position = jnp.full(n, 0.25)
        limit, origin = jnp.full(n, 3, jnp.int32), jnp.zeros(n, jnp.int32)
        return state, Draw(position, jax.vmap(Walk().observe)(position), limit, origin)


def test_a_start_distribution_of_ones_own_replaces_the_configured_one():
    algorithm = ppo(Walk(), make_config(), vector=VectorEnv(Walk(), Elsewhere(Walk()), 4))
    vector = jax.jit(lambda key: algorithm.init(key).vector)(jax.random.key(0))
    np.testing.assert_array_equal(vector.observation, np.tile([212.5, 0.0625], (4, 1)))
    np.testing.assert_array_equal(vector.limit, 3)
    _, metrics = jax.eval_shape(algorithm.step, jax.eval_shape(algorithm.init, jax.random.key(0)))
    assert jax.tree.leaves(metrics)[0].shape == ()
    with pytest.raises(JaxrlError, match="num_envs is 4, but the vector has 2 environments"):
        ppo(Walk(), make_config(), vector=VectorEnv(Walk(), Elsewhere(Walk()), 2))


def test_a_pool_begins_every_environment_from_its_rows():
    algorithm = ppo(Walk(), make_config(starts="pool", pool_size=8))
    vector = jax.jit(lambda key: algorithm.init(key).vector)(jax.random.key(0))
    assert len(set(vector.origin.tolist())) == 4 and max(vector.origin.tolist()) < 8
    np.testing.assert_array_equal(vector.observation, vector.starts[1][vector.origin])


def test_a_run_begins_from_another_ones_policy_with_everything_else_fresh():
    config = make_config(ewma_center_of_mass=0.0, clip_epsilon=1e-6)
    algorithm = ppo(Walk(), config)
    first = jax.jit(algorithm.init)(jax.random.key(7))
    policy = jax.device_get(trained()[0].policy)
    begun = algorithm.begin_from(first, policy)
    jax.tree.map(np.testing.assert_array_equal, begun.policy, policy)
    assert begun.policy.observation_moments.count == 3 * WHOLE
    rest = {
        field: getattr(first, field)
        for field in ("optimizer", "reward_scaler", "vector", "iteration")
    }
    for field, expected in rest.items():
        jax.tree.map(assert_equal, getattr(begun, field), expected)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(begun.optimizer))
    # The average that holds the policy begins at it: not at the parameters that were drawn here.
    flat = ravel_pytree(policy.params)[0]
    np.testing.assert_array_equal(begun.proximal.mean, flat)
    assert not np.array_equal(first.proximal.mean, flat)
    assert jax.tree.structure(begun) == jax.tree.structure(first)
    assert kinds_of(begun) == kinds_of(first)
    # Around the newest policy, which the average of one step is, nothing is clipped.
    _, metrics = step(config, begun)
    assert metrics["clip_fraction"].sum == 0 and metrics["kl_to_previous"].sum > 0


def assert_equal(one, other):
    is_key = jnp.issubdtype(one.dtype, jax.dtypes.prng_key)
    np.testing.assert_array_equal(
        *((jax.random.key_data(each) if is_key else each) for each in (one, other))
    )


def kinds_of(state):
    return [(leaf.shape, str(leaf.dtype)) for leaf in jax.tree.leaves(state)]


def test_an_agents_first_policy_is_what_training_begins_with():
    algorithm = ppo(Walk(), make_config())
    key_params = jax.random.split(jax.random.key(3), 3)[0]  # as PPO.init splits its own
    own = ppo_agent(Walk(), make_config()).init(key_params)
    jax.tree.map(
        np.testing.assert_array_equal, own, algorithm.policy(algorithm.init(jax.random.key(3)))
    )


class Twice(nn.Module):
    """A linear policy and a linear value, whose parameters are two matrices."""

    actions: int

    def setup(self):
        self.policy_layer, self.value_layer = nn.Dense(self.actions), nn.Dense(1)

    def __call__(self, observation):
        return Categorical(self.policy_layer(observation)), self.value(observation)

    def value(self, observation):
        return jnp.squeeze(self.value_layer(observation), -1)


@configuration
class TwiceConfig(PolicyNetworkConfig):
    """Somebody's network."""

    def make(self, observation_space, action_space):
        return Twice(action_space.n)


@configuration
class FrozenValueConfig(OptimizerConfig):
    """Gradient descent that leaves the value alone: an optimiser on the tree."""

    step_size: float = number(0.1)

    def make(self):
        rules = {"train": optax.sgd(self.step_size), "freeze": optax.set_to_zero()}
        labels = {"params": {"policy_layer": "train", "value_layer": "freeze"}}
        return optax.multi_transform(rules, labels)


def test_a_network_and_an_optimizer_of_ones_own_given_live_and_by_name():
    sizes = {"num_envs": 4, "num_steps": 8, "minibatch_size": 16, "num_epochs": 1}
    env = Walk()
    live = ppo(
        env,
        PPOConfig(**sizes),
        network=Twice(env.action_space.n),
        optimizer=FrozenValueConfig().make(),
    )
    named = ppo(env, PPOConfig(**sizes, network=TwiceConfig(), optimizer=FrozenValueConfig()))
    states = []
    for algorithm in (live, named):
        first = jax.jit(algorithm.init)(jax.random.key(0))
        states.append((first, jax.jit(algorithm.step)(first)[0]))
    jax.tree.map(np.testing.assert_array_equal, states[0][1].policy, states[1][1].policy)
    before, after = (state.policy.params["params"] for state in states[0])
    jax.tree.map(np.testing.assert_array_equal, before["value_layer"], after["value_layer"])
    assert (
        np.abs(np.asarray(before["policy_layer"]["kernel"]) - after["policy_layer"]["kernel"]).max()
        > 0
    )
    assert set(before) == {"policy_layer", "value_layer"}


def test_what_an_optimizer_of_ones_own_makes_idle_is_refused():
    settings = {"learning_rate": 1.0, "max_grad_norm": 2.0, "anneal_learning_rate": False}
    for name, value in settings.items():
        with pytest.raises(JaxrlError, match=f"{name} is .*only with optimizer=adam"):
            ppo(Walk(), PPOConfig(optimizer=FrozenValueConfig(), **{name: value}))


def test_the_numbers_of_an_optimizer_of_ones_own_are_leaves():
    config = PPOConfig(optimizer=FrozenValueConfig(step_size=0.5))
    assert (
        "step_size" in sweepable(config)
        and override(config, {"step_size": 0.2}).optimizer.step_size == 0.2
    )


@pytest.mark.parametrize(("compute_dtype", "rounds"), [("float32", False), ("bfloat16", True)])
def test_the_network_computes_in_the_type_that_is_asked_for(compute_dtype, rounds):
    algorithm = ppo(
        Walk(), make_config(network=NetworkConfig(hidden_sizes=(4,), compute_dtype=compute_dtype))
    )
    program = jax.make_jaxpr(algorithm.step)(jax.eval_shape(algorithm.init, jax.random.key(0)))
    assert ("bf16[" in str(program)) == rounds


def test_staggered_environments_are_granted_different_first_episodes():
    limits = [
        jax.jit(
            ppo(
                Walk(), PPOConfig(num_envs=32, num_steps=4, minibatch_size=64, stagger=stagger)
            ).init
        )(jax.random.key(0)).vector.limit
        for stagger in (False, True)
    ]
    assert len(np.unique(limits[0])) == 1 < len(np.unique(limits[1]))


@pytest.mark.parametrize("numbers", [(0.5, 0.01), (0.1, 1.0), (2.0, 0.0)])
def test_the_loss_is_weighted_by_value_coefficient_and_entropy_coefficient(numbers):
    value_coefficient, entropy_coefficient = numbers
    config = make_config(
        value_coefficient=value_coefficient, entropy_coefficient=entropy_coefficient
    )
    _, metrics = step(config, with_key(trained()[0], 0))
    seen = {name: mean(metrics[name]) for name in ("loss", "policy_loss", "value_loss", "entropy")}
    expected = (
        seen["policy_loss"]
        + value_coefficient * seen["value_loss"]
        - entropy_coefficient * seen["entropy"]
    )
    assert seen["loss"] == pytest.approx(expected, rel=1e-4)


def test_an_outer_step_size_of_zero_leaves_the_policy_where_it_was():
    before = trained()[0]
    stayed, _ = step(make_config(outer_step_size=0.0), with_key(before, 0))
    moved, _ = step(make_config(outer_step_size=1.0), with_key(before, 0))
    flat = [ravel_pytree(state.policy.params)[0] for state in (before, stayed, moved)]
    np.testing.assert_allclose(flat[1], flat[0], rtol=1e-6)
    assert np.abs(flat[2] - flat[0]).max() > 1e-4


def shapes_of(env, network):
    """The parameters' shapes, and the jaxpr of a deterministic action, of PPO with this network."""
    algorithm = ppo(env, make_config(network=network))
    policy = algorithm.policy(jax.eval_shape(algorithm.init, jax.random.key(0)))
    view = View.at_start(jnp.zeros(env.observation_space.shape), env.action_space)
    act = algorithm.agent.modes["deterministic"].act
    return jax.tree.map(jnp.shape, policy.params), str(
        jax.make_jaxpr(act)(policy, (), view, jax.random.key(0))
    )


@pytest.mark.parametrize(
    "network",
    [
        {"torso": "cnn"},
        {"shared_torso": True},
        {"hidden_sizes": (4,)},
        {"state_dependent_std": True},
    ],
    ids=str,
)
def test_an_option_of_the_network_shapes_its_parameters(network):
    env = make("Breakout-MinAtar" if "torso" in network else "Pendulum-v1")
    usual, asked = (
        shapes_of(env, NetworkConfig(**{"hidden_sizes": (8,)} | each))[0] for each in ({}, network)
    )
    assert jax.tree.leaves(usual, is_leaf=lambda x: isinstance(x, tuple)) != jax.tree.leaves(
        asked, is_leaf=lambda x: isinstance(x, tuple)
    )


@pytest.mark.parametrize("network", [{"activation": "relu"}, {"squash_actions": True}], ids=str)
def test_an_option_of_the_network_changes_how_it_acts(network):
    env = make("Pendulum-v1")
    usual, asked = (
        shapes_of(env, NetworkConfig(**{"hidden_sizes": (8,)} | each))[1] for each in ({}, network)
    )
    assert usual != asked


@pytest.mark.parametrize("initial_log_std", [0.0, -1.25])
def test_ppos_first_policy_has_the_initial_log_std_that_is_asked_for(initial_log_std):
    config = PPOConfig(network=NetworkConfig(hidden_sizes=(4,), initial_log_std=initial_log_std))
    policy = ppo(make("Pendulum-v1"), config).agent.init(jax.random.key(0))
    found = [
        leaf
        for path, leaf in jax.tree_util.tree_leaves_with_path(policy.params)
        if "log_std" in str(path)
    ]
    np.testing.assert_array_equal(found, [[initial_log_std]])


@pytest.mark.parametrize("num_epochs", [1, 3])
def test_an_iteration_takes_num_epochs_passes_of_gradient_steps(num_epochs):
    config = make_config(num_epochs=num_epochs, minibatch_size=WHOLE // 2)
    assert ppo(Walk(), config).budget.also == {"gradient steps": 2 * num_epochs}


@pytest.mark.parametrize("scale_rewards", [False, True])
def test_scale_rewards_keeps_the_deviation_of_returns(scale_rewards):
    algorithm = ppo(Walk(), make_config(scale_rewards=scale_rewards))
    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    assert (state.reward_scaler is not None) == scale_rewards
